//! When a line was seen: TAI64N as multilog writes it, or the date and time of day in UTC.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// What stands at the beginning of each line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stamp {
    /// Nothing: whoever keeps the log stamps its lines.
    #[default]
    None,
    /// `@4000000065a0b1c21d6f3454 `, which tai64nlocal(1) reads.
    Tai64n,
    /// `2024-01-12T03:28:40.493827Z ` (RFC 3339).
    Iso,
}

impl Stamp {
    /// Appends the stamp of this moment, and a blank.
    pub fn append(self, time: SystemTime, out: &mut Vec<u8>) {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (seconds, nanos) = (since.as_secs().min(LAST_SECOND), since.subsec_nanos());
        let written = match self {
            Stamp::None => Ok(()),
            Stamp::Tai64n => write!(out, "@{:016x}{nanos:08x} ", seconds.saturating_add(TAI)),
            Stamp::Iso => {
                let (year, month, day) = date(seconds / DAY);
                let (hour, minute, second) =
                    (seconds % DAY / 3600, seconds / 60 % 60, seconds % 60);
                write!(
                    out,
                    "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:06}Z ",
                    nanos / 1000
                )
            }
        };
        // Writing to a Vec cannot fail.
        written.ok();
    }
}

/// Year, month and day of the Gregorian calendar: in years that begin in March, the day that a leap year has more is the last one.
fn date(days_since_1970: u64) -> (u64, u64, u64) {
    let days = days_since_1970.saturating_add(DAYS_BEFORE_1970);
    let (era, day) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    // Leap days so far are no days of a year: one in 4 years, none in 100, one in 400.
    let leaps = (day / 1_460).saturating_add(day / 146_096).saturating_sub(day / 36_524);
    let year = day.saturating_sub(leaps) / 365;
    let before = year.saturating_mul(365).saturating_add(year / 4).saturating_sub(year / 100);
    let day = day.saturating_sub(before);
    // Five months from March on have 153 days, and so have the next five.
    let month = day.saturating_mul(5).saturating_add(2) / 153;
    let day = day.saturating_sub(month.saturating_mul(153).saturating_add(2) / 5);
    let (month, next_year) =
        if month < 10 { (month.saturating_add(3), 0) } else { (month.saturating_sub(9), 1) };
    let year = era.saturating_mul(400).saturating_add(year).saturating_add(next_year);
    (year, month, day.saturating_add(1))
}

/// TAI64's label of 1970, and the ten seconds that daemontools adds to a clock of POSIX (tai64n.c).
const TAI: u64 = (1 << 62) + 10;

const DAY: u64 = 86_400;
const DAYS_OF_400_YEARS: u64 = 146_097;

/// From the first of March of the year 0.
const DAYS_BEFORE_1970: u64 = 719_468;

/// The end of the year 9999, which has four digits.
const LAST_SECOND: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]
    use std::time::Duration;

    use super::*;

    fn stamp(stamp: Stamp, seconds: u64, nanos: u32) -> String {
        let mut text = Vec::new();
        stamp.append(UNIX_EPOCH + Duration::new(seconds, nanos), &mut text);
        String::from_utf8(text).unwrap()
    }

    // RFC 3339 5.8 and appendix A; `date -u -d @N`.
    #[test]
    fn dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000000Z "),
            (951_782_399, "2000-02-28T23:59:59.000000Z "),
            (951_782_400, "2000-02-29T00:00:00.000000Z "),
            (951_868_800, "2000-03-01T00:00:00.000000Z "),
            (1_705_030_120, "2024-01-12T03:28:40.000000Z "),
            (1_709_164_799, "2024-02-28T23:59:59.000000Z "),
            (4_107_542_399, "2100-02-28T23:59:59.000000Z "),
            (4_107_542_400, "2100-03-01T00:00:00.000000Z "),
            (253_402_300_799, "9999-12-31T23:59:59.000000Z "),
            (u64::MAX >> 1, "9999-12-31T23:59:59.000000Z "),
        ] {
            assert_eq!(stamp(Stamp::Iso, seconds, 0), text);
        }
        assert!(stamp(Stamp::Iso, 0, 999_999_999).ends_with(".999999Z "));
    }

    #[test]
    fn every_day_of_four_hundred_years_follows_the_one_before() {
        let mut last = (1969, 12, 31);
        for day in 0..DAYS_OF_400_YEARS {
            let (year, month, number) = date(day);
            let follows = if number > 1 {
                (year, month, number - 1) == last
            } else {
                let month_before = if month == 1 { (year - 1, 12) } else { (year, month - 1) };
                let leap = (last.0 % 4 == 0 && last.0 % 100 != 0) || last.0 % 400 == 0;
                let days = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
                let length = days[usize::try_from(last.1).unwrap() - 1];
                (month_before, length) == ((last.0, last.1), last.2)
            };
            assert!(follows, "{last:?} {year}-{month}-{number}");
            last = (year, month, number);
        }
        assert_eq!(last, (2369, 12, 31));
    }

    // tai64n.c: 4611686018427387914 + seconds, in 16 digits, then nanoseconds in 8.
    #[test]
    fn labels() {
        assert_eq!(stamp(Stamp::Tai64n, 0, 0), "@400000000000000a00000000 ");
        assert_eq!(stamp(Stamp::Tai64n, 1_705_030_120, 493_827_156), "@4000000065a0b1f21d6f3454 ");
        assert_eq!(stamp(Stamp::None, 1, 2), "");
    }
}
