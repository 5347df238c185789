//! Dates: moments as people write them into payloads.
//!
//! A date is RFC 3339 (`2024-05-01T12:30:00.25+02:00`), or that without its zone, which is then
//! UTC, or a plain day (`2024-05-01`), which is its first moment in UTC. Days become numbers with
//! the arithmetic of Howard Hinnant, *chrono-compatible low-level date algorithms*, 2013.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

const SECONDS_PER_DAY: i64 = 86_400;

/// A moment between the years 0 and 9999, to the nanosecond. Later moments are greater.
///
/// ```
/// use nearbit::filter::Date;
///
/// let noon: Date = "2024-05-01T12:00:00+02:00".parse()?;
/// assert!(noon > "2024-05-01".parse()?);
/// assert_eq!(noon.to_string(), "2024-05-01T10:00:00Z");
/// # Ok::<(), nearbit::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Date {
    /// Since the beginning of 1970, UTC, without leap seconds.
    seconds: i64,
    /// Below 10^9.
    nanos: u32,
}

impl Date {
    /// The beginning of the year 0: no date stands before it.
    pub(super) const FIRST: Self = Self { seconds: -719_528 * SECONDS_PER_DAY, nanos: 0 };

    /// The date that `text` is; `None` where it is something else. Of a fraction of a second nine
    /// digits count; a leap second is the first moment of the next minute.
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut rest = Reader(text.as_bytes());
        let (year, month, day) = (rest.number(4)?, rest.after(b'-', 2)?, rest.after(b'-', 2)?);
        if !(1..=12).contains(&month) || !(1..=days_of(year, month)).contains(&day) {
            return None;
        }
        let mut date = Self { seconds: day_number(year, month, day) * SECONDS_PER_DAY, nanos: 0 };
        if rest.0.is_empty() {
            return Some(date);
        }
        rest.one_of(b"Tt ")?;
        let (hour, minute, second) = (rest.number(2)?, rest.after(b':', 2)?, rest.after(b':', 2)?);
        if hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        if rest.one_of(b".").is_some() {
            date.nanos = rest.fraction()?;
        }
        let offset = match rest.one_of(b"Zz+-") {
            None | Some(b'Z' | b'z') => 0,
            Some(sign) => {
                let (hours, minutes) = (rest.number(2)?, rest.after(b':', 2)?);
                if hours > 23 || minutes > 59 {
                    return None;
                }
                (hours * 60 + minutes) * if sign == b'-' { -60 } else { 60 }
            }
        };
        date.seconds += hour * 3600 + minute * 60 + second - offset;
        let years = day_number(0, 1, 1)..day_number(10_000, 1, 1);
        let in_range = years.contains(&date.seconds.div_euclid(SECONDS_PER_DAY));
        (rest.0.is_empty() && in_range).then_some(date)
    }
}

impl FromStr for Date {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::read(text).ok_or_else(|| {
            let message = "expected a date as in 2024-05-01 or 2024-05-01T12:30:00Z";
            Error::invalid("date", format!("{message}, got {text:?}"))
        })
    }
}

impl fmt::Display for Date {
    /// RFC 3339 in UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil(self.seconds.div_euclid(SECONDS_PER_DAY));
        let second = self.seconds.rem_euclid(SECONDS_PER_DAY);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if self.nanos > 0 {
            write!(f, ".{}", format!("{:09}", self.nanos).trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

/// What is left of a text.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn one_of(&mut self, allowed: &[u8]) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        allowed.contains(&first).then(|| {
            self.0 = rest;
            first
        })
    }

    /// A number of exactly so many digits.
    fn number(&mut self, digits: usize) -> Option<i64> {
        let (number, rest) = self.0.split_at_checked(digits)?;
        self.0 = rest;
        number.iter().try_fold(0, |sum, digit| {
            digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0'))
        })
    }

    fn after(&mut self, before: u8, digits: usize) -> Option<i64> {
        self.one_of(&[before])?;
        self.number(digits)
    }

    /// Digits behind the point, as nanoseconds.
    fn fraction(&mut self) -> Option<u32> {
        let len = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.0.split_at(len);
        self.0 = rest;
        let digit = |i: usize| digits.get(i).map_or(0, |digit| u32::from(digit - b'0'));
        (len > 0).then(|| (0..9).fold(0, |sum, i| sum * 10 + digit(i)))
    }
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since the beginning of 1970.
fn day_number(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March here, so that the day that comes and goes is the last.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Year, month and day of a day's number.
fn civil(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let of_era = day.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn seconds(text: &str) -> i64 {
        Date::read(text).unwrap_or_else(|| panic!("{text:?} should be a date")).seconds
    }

    #[test]
    fn moments_by_hand() {
        assert_eq!(seconds("1970-01-01"), 0);
        assert_eq!(seconds("1969-12-31T23:59:59Z"), -1);
        assert_eq!(seconds("2000-03-01"), 951_868_800);
        assert_eq!(seconds("2024-02-29T12:00:00+02:00"), seconds("2024-02-29t10:00:00z"));
        assert_eq!(seconds("2024-02-29 10:00:00"), seconds("2024-02-29T04:30:00-05:30"));
        assert_eq!(seconds("2016-12-31T23:59:60Z"), seconds("2017-01-01"));
        let date = Date::read("2024-05-01T00:00:00.1234567891Z").unwrap();
        assert_eq!(date.to_string(), "2024-05-01T00:00:00.123456789Z");
    }

    /// Every day that there is, one after the other, against the lengths of the months.
    #[test]
    fn days_follow_one_another() {
        let mut number = day_number(0, 1, 1);
        for year in 0..10_000 {
            for month in 1..=12 {
                for day in [1, days_of(year, month)] {
                    let expected = number + day - 1;
                    assert_eq!(day_number(year, month, day), expected);
                    assert_eq!(civil(expected), (year, month, day));
                }
                number += days_of(year, month);
            }
        }
        assert_eq!(day_number(1970, 1, 1), 0);
        assert_eq!(Date::read("0000-01-01"), Some(Date::FIRST));
    }

    #[test]
    fn what_is_no_date() {
        for text in [
            "",
            "2024",
            "2024-05",
            "2024-5-1",
            "2024-13-01",
            "2024-00-01",
            "2023-02-29",
            "1900-02-29",
            "2024-05-32",
            "2024-05-00",
            "2024-05-01T",
            "2024-05-01T24:00:00Z",
            "2024-05-01T12:60:00Z",
            "2024-05-01T12:00:61Z",
            "2024-05-01T12:00:00.Z",
            "2024-05-01T12:00:00+2",
            "2024-05-01T12:00:00+24:00",
            "2024-05-01T12:00:00Zulu",
            "2024-05-01x",
            "+024-05-01",
            "0000-01-01T00:00:00+00:01",
            "9999-12-31T23:59:60Z",
            "２０２４-05-01",
            "20240501",
        ] {
            assert_eq!(Date::read(text), None, "{text:?}");
        }
    }
}
