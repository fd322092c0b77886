//! Moments: `--since` and `--until`.

use super::Invalid;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment as docker takes it: seconds since 1970 with a fraction, RFC 3339 (without an offset: UTC; without a
/// time: midnight), or a span such as `1h30m` before `now`.
pub fn moment(text: &str, now: SystemTime) -> Result<SystemTime, Invalid> {
    let found = match text {
        _ if text.contains('-') && !text.starts_with('-') => rfc3339(text),
        _ if text.ends_with(|c: char| c.is_ascii_digit()) => {
            seconds(text).and_then(|since| UNIX_EPOCH.checked_add(since))
        }
        _ => span(text).and_then(|ago| now.checked_sub(ago)),
    };
    found.ok_or_else(|| {
        Invalid::new("expected a time").fix("as in 2026-01-31T15:04:05Z, 1769871845 or 10m (ten minutes ago)")
    })
}

/// A time between two looks: milliseconds, or a span in Go's form.
pub fn interval(text: &str) -> Result<Duration, Invalid> {
    let plain = text.parse().ok().map(Duration::from_millis);
    plain.or_else(|| span(text)).ok_or_else(|| Invalid::new("expected a time such as 250ms"))
}

/// `12.25` as whole seconds and nanoseconds.
fn seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let plain = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if !plain(whole) || !plain(fraction) || fraction.len() > 9 {
        return None;
    }
    Some(Duration::new(whole.parse().ok()?, format!("{fraction:0<9}").parse().ok()?))
}

/// A duration in Go's form.
fn span(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let number = seconds(number)?;
        let step = match &tail[..end] {
            "h" => number.checked_mul(3600)?,
            "m" => number.checked_mul(60)?,
            "s" => number,
            "ms" => number / 1000,
            "us" | "µs" => number / 1_000_000,
            "ns" => number / 1_000_000_000,
            _ => return None,
        };
        total = total.checked_add(step)?;
        rest = &tail[end..];
    }
    (!text.is_empty()).then_some(total)
}

fn rfc3339(text: &str) -> Option<SystemTime> {
    let (date, time) = match text.split_once(['T', 't', ' ']) {
        Some((date, time)) => (date, time),
        None => text.split_once('Z').map_or((text, ""), |(date, _)| (date, "")),
    };
    let mut parts = date.splitn(3, '-');
    let (year, month, day) = (part(parts.next()?, 4)?, part(parts.next()?, 2)?, part(parts.next()?, 2)?);
    let (clock, offset) = match time.find(['Z', 'z', '+', '-']) {
        Some(at) => (&time[..at], offset(&time[at..])?),
        None => (time, 0),
    };
    let mut fields = clock.splitn(3, ':');
    let hour = fields.next().filter(|f| !f.is_empty()).map_or(Some(0), |f| part(f, 2))?;
    let minute = fields.next().map_or(Some(0), |f| part(f, 2))?;
    let second = fields.next().map_or(Some(Duration::ZERO), seconds)?;
    let in_range = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second.as_secs() < 61;
    let since =
        days_since_1970(year, month, day) * 86_400 + i64::from(hour) * 3600 + i64::from(minute) * 60 - offset;
    match in_range {
        true => UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(since).ok()?))?.checked_add(second),
        false => None,
    }
}

fn part(text: &str, digits: usize) -> Option<u32> {
    (text.len() == digits && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

/// `Z`, `+02:00`, `-0930` in seconds east of Greenwich.
fn offset(text: &str) -> Option<i64> {
    if text.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let digits = text[1..].replace(':', "");
    let number = i64::from(part(&digits, 4)?);
    Some(sign * (number / 100 * 3600 + number % 100 * 60))
}

/// Days from 1970-01-01 in the Gregorian calendar: years counted from March, so that the leap day is the last.
fn days_since_1970(year: u32, month: u32, day: u32) -> i64 {
    let (year, month, day) = (i64::from(year), i64::from(month), i64::from(day));
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, nanos: u32) -> SystemTime {
        UNIX_EPOCH + Duration::new(seconds, nanos)
    }

    #[test]
    fn moments_are_dates_numbers_and_spans() {
        let now = at(2_000_000_000, 0);
        let table = [
            ("1136073845.000000001", at(1_136_073_845, 1)),
            ("0", at(0, 0)),
            ("2006-01-02T15:04:05Z", at(1_136_214_245, 0)),
            ("2006-01-02T15:04:05.5+02:00", at(1_136_207_045, 500_000_000)),
            ("2006-01-02T15:04", at(1_136_214_240, 0)),
            ("2006-01-02", at(1_136_160_000, 0)),
            ("2024-02-29T00:00:00-01:30", at(1_709_170_200, 0)),
            ("1970-01-01", at(0, 0)),
            ("10m", at(2_000_000_000 - 600, 0)),
            ("1h30m1.5s", at(2_000_000_000 - 5402, 500_000_000)),
        ];
        for (text, expected) in table {
            assert_eq!(moment(text, now), Ok(expected), "{text}");
        }
        for bad in
            ["", "yesterday", "10", "2006-13-01", "2006-1-1", "5x", "-5m", "1e9", "2006-01-02T25:00", "m"]
        {
            assert!(bad == "10" || moment(bad, now).is_err(), "{bad}");
        }
    }
}
