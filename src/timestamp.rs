//! Points in time: RFC 3339 texts, and what `--since` and `--until` accept. Written and shown in UTC; a calendar
//! of our own, because that is all it takes without time zones.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A point in time, to the nanosecond. `Display` is RFC 3339 in UTC with nine digits: of equal length and in
/// order of time when sorted as text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Seconds since 1970, negative before.
    seconds: i64,
    /// 0 to 999 999 999, always forward from `seconds`.
    nanos: u32,
}

/// A text that is no point in time.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
#[error(
    "'{0}' is not a time: expected RFC 3339 (2025-01-31T12:00:00Z), seconds since 1970, or a duration (10m)"
)]
pub struct ParseTimestampError(String);

impl Timestamp {
    /// The present.
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// From seconds since 1970 and the nanoseconds after them (less than a second).
    pub fn from_unix(seconds: i64, nanos: u32) -> Self {
        Self { seconds, nanos: nanos.min(999_999_999) }
    }

    /// Whole seconds since 1970.
    pub fn unix_seconds(self) -> i64 {
        self.seconds
    }

    /// Nanoseconds after [`Self::unix_seconds`].
    pub fn nanos(self) -> u32 {
        self.nanos
    }

    /// The time that passed from `earlier` to this; zero if it is later.
    pub fn since(self, earlier: Self) -> Duration {
        let nanos = (i128::from(self.seconds) - i128::from(earlier.seconds)) * 1_000_000_000
            + i128::from(self.nanos)
            - i128::from(earlier.nanos);
        Duration::from_nanos(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
    }

    /// What a user gives to `--since` and `--until`: RFC 3339, a date alone (midnight UTC), seconds since 1970 with
    /// an optional fraction, or a Go duration (`1h30m`, `10m`, `1.5s`) before `now`.
    pub fn parse_user(text: &str, now: Self) -> Result<Self, ParseTimestampError> {
        let parsed = parse_rfc3339(text)
            .or_else(|| parse_unix(text))
            .or_else(|| parse_go_duration(text).map(|ago| now.add_nanos(-ago)))
            .or_else(|| text.len().eq(&10).then(|| parse_rfc3339(&format!("{text}T00:00:00Z")))?);
        parsed.ok_or_else(|| ParseTimestampError(text.to_owned()))
    }

    fn add_nanos(self, nanos: i64) -> Self {
        let sum = i64::from(self.nanos) + nanos % 1_000_000_000;
        let seconds = self.seconds.saturating_add(nanos / 1_000_000_000);
        Self {
            seconds: seconds.saturating_add(sum.div_euclid(1_000_000_000)),
            // The remainder is between 0 and 999 999 999.
            nanos: u32::try_from(sum.rem_euclid(1_000_000_000)).unwrap_or_default(),
        }
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let seconds = |d: Duration| i64::try_from(d.as_secs()).unwrap_or(i64::MAX);
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self { seconds: seconds(after), nanos: after.subsec_nanos() },
            Err(before) => {
                let before = before.duration();
                Self { seconds: -seconds(before), nanos: 0 }.add_nanos(-i64::from(before.subsec_nanos()))
            }
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = date_of_day(self.seconds.div_euclid(86_400));
        let second = self.seconds.rem_euclid(86_400);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let nanos = self.nanos;
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
    }
}

impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_rfc3339(text).ok_or_else(|| ParseTimestampError(text.to_owned()))
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. Years are counted from March, so that the leap day is
/// the last of its year and the lengths of the months before it follow one formula.
fn day_of_date(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // 719468 days lie between 0000-03-01 and 1970-01-01.
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// The reverse of [`day_of_date`].
fn date_of_day(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    // 146097 days are 400 years. The year is estimated, never too late, and then corrected.
    let mut year = day.div_euclid(146_097) * 400 + day.rem_euclid(146_097) / 366;
    let start = |year| day_of_date(year, 3, 1) + 719_468;
    while start(year + 1) <= day {
        year += 1;
    }
    let of_year = day - start(year);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    if month < 10 { (year, month + 3, of_month) } else { (year + 1, month - 9, of_month) }
}

/// RFC 3339, section 5.6. A leap second is the first of the next minute.
fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let number = |from: usize, len: usize| digits(bytes.get(from..from + len)?);
    let is = |at: usize, accepted: &[u8]| bytes.get(at).is_some_and(|b| accepted.contains(b));
    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
    let separated = is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":");
    let date = day_of_date(year, month, day);
    let in_range = (1..=12).contains(&month) && hour < 24 && minute < 60 && second <= 60;
    if !separated || !in_range || date_of_day(date) != (year, month, day) {
        return None;
    }
    let (nanos, zone) = fraction(&text[19..])?;
    let offset = match zone.as_bytes() {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 3600 + minutes * 60) * if *sign == b'-' { -1 } else { 1 }
        }
        _ => return None,
    };
    Some(Timestamp { seconds: date * 86_400 + hour * 3600 + minute * 60 + second - offset, nanos })
}

fn parse_unix(text: &str) -> Option<Timestamp> {
    let whole = text.split('.').next()?;
    let (nanos, rest) = fraction(&text[whole.len()..])?;
    rest.is_empty().then_some(Timestamp { seconds: digits(whole.as_bytes())?, nanos })
}

/// A duration as Go's time.ParseDuration reads it (`1h2m3.5s`, `-7ms`), in nanoseconds; a lone `0` is none here.
pub fn parse_go_duration(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let mut sum: i64 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let whole = &rest[..rest.bytes().take_while(u8::is_ascii_digit).count()];
        let (fraction, after) = fraction(&rest[whole.len()..])?;
        let fraction_given = after.len() < rest.len() - whole.len();
        let unit_len = after.bytes().take_while(|b| !b.is_ascii_digit() && *b != b'.').count();
        let unit: i64 = match &after[..unit_len] {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" | "µs" | "μs" => 1_000,
            "ns" => 1,
            _ => return None,
        };
        let whole = match whole {
            "" if fraction_given => 0,
            _ => digits(whole.as_bytes())?.checked_mul(unit)?,
        };
        // At most one unit, hence less than an hour.
        let part = i128::from(fraction) * i128::from(unit) / 1_000_000_000;
        sum = sum.checked_add(whole)?.checked_add(i64::try_from(part).ok()?)?;
        rest = &after[unit_len..];
    }
    Some(sign * sum)
}

/// `.123456789` at the start of `text` as nanoseconds, and what follows. Digits beyond the ninth are dropped.
fn fraction(text: &str) -> Option<(u32, &str)> {
    let Some(after_dot) = text.strip_prefix('.') else { return Some((0, text)) };
    let len = after_dot.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = after_dot.split_at(len);
    if digits.is_empty() {
        return None;
    }
    let nanos = digits.bytes().chain(std::iter::repeat(b'0')).take(9);
    Some((nanos.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0')), rest))
}

fn digits(text: &[u8]) -> Option<i64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times_read_and_print() {
        for (text, seconds, nanos, printed) in [
            ("1970-01-01T00:00:00Z", 0, 0, "1970-01-01T00:00:00.000000000Z"),
            ("2000-02-29T12:30:45.5Z", 951_827_445, 500_000_000, "2000-02-29T12:30:45.500000000Z"),
            ("2025-01-31t23:59:59.123456789z", 1_738_367_999, 123_456_789, "2025-01-31T23:59:59.123456789Z"),
            ("2025-02-01T01:29:59+01:30", 1_738_367_999, 0, "2025-01-31T23:59:59.000000000Z"),
            (
                "2024-12-31 19:00:00.1234567891-05:00",
                1_735_689_600,
                123_456_789,
                "2025-01-01T00:00:00.123456789Z",
            ),
            ("2016-12-31T23:59:60Z", 1_483_228_800, 0, "2017-01-01T00:00:00.000000000Z"),
            ("1969-12-31T23:59:59.9Z", -1, 900_000_000, "1969-12-31T23:59:59.900000000Z"),
            ("0001-01-01T00:00:00Z", -62_135_596_800, 0, "0001-01-01T00:00:00.000000000Z"),
            ("9999-12-31T23:59:59Z", 253_402_300_799, 0, "9999-12-31T23:59:59.000000000Z"),
        ] {
            let time: Timestamp = text.parse().unwrap();
            assert_eq!(time, Timestamp::from_unix(seconds, nanos), "{text}");
            assert_eq!(time.to_string(), printed);
        }
    }

    #[test]
    fn every_day_of_five_centuries_has_one_date_after_the_other() {
        let mut previous = date_of_day(-100_000);
        for day in -99_999..100_000 {
            let date = date_of_day(day);
            assert!(date > previous, "{date:?}");
            assert_eq!(day_of_date(date.0, date.1, date.2), day);
            previous = date;
        }
    }

    #[test]
    fn what_is_no_rfc_3339_time_is_refused() {
        for text in [
            "",
            "2025-01-31",
            "2025-01-31T12:00:00",
            "2025-02-29T00:00:00Z",
            "2025-13-01T00:00:00Z",
            "2025-00-01T00:00:00Z",
            "2025-01-32T00:00:00Z",
            "2025-01-01T24:00:00Z",
            "2025-01-01T00:60:00Z",
            "2025-01-01T00:00:00.Z",
            "2025-01-01T00:00:00+0100",
            "2025-01-01T00:00:00+24:00",
            "2025-01-01T00:00:00Zx",
            "2025/01/01T00:00:00Z",
            "+025-01-01T00:00:00Z",
            "2025-01-01T00:00:0ö",
        ] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }

    #[test]
    fn users_give_times_dates_seconds_and_durations() {
        let now = Timestamp::from_unix(1_000_000, 500);
        for (text, seconds, nanos) in [
            ("1970-01-02T00:00:00Z", 86_400, 0),
            ("1970-01-02", 86_400, 0),
            ("0", 0, 0),
            ("1136073600.000000001", 1_136_073_600, 1),
            ("10m", 999_400, 500),
            ("1h30m", 994_600, 500),
            ("1.5s", 999_998, 500_000_500),
            ("500ns", 1_000_000, 0),
            ("1µs", 999_999, 999_999_500),
            ("-10s", 1_000_010, 500),
            (".5m", 999_970, 500),
            ("10", 10, 0),
        ] {
            assert_eq!(Timestamp::parse_user(text, now), Ok(Timestamp::from_unix(seconds, nanos)), "{text}");
        }
        for text in [
            "",
            ".",
            ".m",
            "yesterday",
            "1d",
            "m",
            "-",
            "1h-3m",
            "10 m",
            "99999999999999999999s",
            "2025-01-3x",
        ] {
            assert!(Timestamp::parse_user(text, now).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_between_times_are_never_negative() {
        let (a, b) = (Timestamp::from_unix(1, 900_000_000), Timestamp::from_unix(3, 0));
        assert_eq!(b.since(a), Duration::from_millis(1100));
        assert_eq!(a.since(b), Duration::ZERO);
    }

    #[test]
    fn the_clock_and_the_file_system_agree_with_us() {
        let (before, now, after) = (SystemTime::now(), Timestamp::now(), SystemTime::now());
        assert!(Timestamp::from(before) <= now && now <= Timestamp::from(after));
        let old = UNIX_EPOCH - Duration::from_millis(1500);
        assert_eq!(Timestamp::from(old), Timestamp::from_unix(-2, 500_000_000));
    }
}
