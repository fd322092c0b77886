//! Sizes and times in docker's words (go-units).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `1.23MB`: three digits at most, decimal units.
pub fn size(bytes: u64) -> String {
    scaled(bytes, 3, 1000, &["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

/// `1.234MiB`: four digits at most, binary units.
pub fn size_binary(bytes: u64) -> String {
    scaled(bytes, 4, 1024, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

fn scaled(bytes: u64, digits: u32, step: u64, units: &[&str]) -> String {
    let mut divisor = 1;
    let mut units = units.iter();
    let mut unit = units.next().unwrap_or(&"");
    while bytes / divisor >= step {
        let Some(next) = units.next() else { break };
        unit = next;
        divisor *= step;
    }
    // Go's %.3g, rounded half up on exact integers: as many decimals as the digits before the point leave.
    let decimals = digits.saturating_sub((bytes / divisor).checked_ilog10().unwrap_or(0) + 1);
    let scale = 10u128.pow(decimals);
    let rounded = (u128::from(bytes) * scale * 2 + u128::from(divisor)) / (u128::from(divisor) * 2);
    let fraction = format!("{:0width$}", rounded % scale, width = decimals as usize);
    match fraction.trim_end_matches('0') {
        "" => format!("{}{unit}", rounded / scale),
        fraction => format!("{}.{fraction}{unit}", rounded / scale),
    }
}

/// `Less than a second`, `5 seconds`, `About an hour`, `3 weeks`.
pub fn duration(span: Duration) -> String {
    let seconds = span.as_secs();
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match seconds {
        0 => "Less than a second".into(),
        1 => "1 second".into(),
        2..=59 => format!("{seconds} seconds"),
        _ if minutes == 1 => "About a minute".into(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".into(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// `3 minutes ago`; a moment that is still to come (another clock) is now.
pub fn ago(then: SystemTime, now: SystemTime) -> String {
    format!("{} ago", duration(now.duration_since(then).unwrap_or_default()))
}

/// A date and a time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Civil {
    year: i64,
    month: i64,
    day: i64,
    hour: u64,
    minute: u64,
    second: u64,
    nanos: u32,
}

impl Civil {
    /// In UTC. Years are counted from March, so that the leap day is the last of its year; 146097 days are the 400 years
    /// after which the Gregorian calendar repeats itself.
    fn of(moment: SystemTime) -> Self {
        let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = since.as_secs();
        let days = i64::try_from(seconds / 86_400).unwrap_or(0) + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        Self {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month,
            day: day_of_year - (153 * month_from_march + 2) / 5 + 1,
            hour: seconds / 3600 % 24,
            minute: seconds / 60 % 60,
            second: seconds % 60,
            nanos: since.subsec_nanos(),
        }
    }
}

/// `2026-01-31T15:04:05.000000001Z`, the fraction left out where it is zero.
pub fn rfc3339(moment: SystemTime) -> String {
    let Civil { year, month, day, hour, minute, second, nanos } = Civil::of(moment);
    let fraction = match nanos {
        0 => String::new(),
        _ => format!(".{nanos:09}").trim_end_matches('0').to_owned(),
    };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

/// `2026-01-31 15:04:05 +0000 UTC`, as docker's listings show a moment.
pub fn date(moment: SystemTime) -> String {
    let Civil { year, month, day, hour, minute, second, .. } = Civil::of(moment);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} +0000 UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, expected) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1024, "1.02kB"),
            (1_234_567, "1.23MB"),
            (116_800_000, "117MB"),
            (7_797_760, "7.8MB"),
            (52_428_800, "52.4MB"),
            (1_000_000_000_000, "1TB"),
            (u64::MAX, "18.4EB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
        assert_eq!(size_binary(64 << 20), "64MiB");
        assert_eq!(size_binary(1234 << 10), "1.205MiB");
    }

    #[test]
    fn durations_are_dockers() {
        for (seconds, expected) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (45, "45 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (180, "3 minutes"),
            (3600, "About an hour"),
            (2 * 3600, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (14 * 86_400, "2 weeks"),
            (90 * 86_400, "3 months"),
            (3 * 365 * 86_400, "3 years"),
        ] {
            assert_eq!(duration(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn moments_are_written_in_utc() {
        let at = |seconds, nanos| UNIX_EPOCH + Duration::new(seconds, nanos);
        assert_eq!(rfc3339(at(0, 0)), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(at(1_709_208_000, 500_000_000)), "2024-02-29T12:00:00.5Z");
        assert_eq!(rfc3339(at(951_782_400, 1)), "2000-02-29T00:00:00.000000001Z");
        assert_eq!(date(at(4_102_444_799, 0)), "2099-12-31 23:59:59 +0000 UTC");
        assert_eq!(ago(at(10, 0), at(15, 0)), "5 seconds ago");
        assert_eq!(ago(at(20, 0), at(15, 0)), "Less than a second ago");
    }
}
