//! Dates as IMAP writes them: `date` in searches, `date-time` in APPEND and INTERNALDATE (RFC 3501 §9).
//!
//! Invariants
//! - A `Date` exists in the Gregorian calendar, years 1 to 9999.
//! - A `DateTime` prints as 26 characters and reads back as itself.

use std::fmt;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAY_S: i64 = 86_400;
/// 0001-01-01 and 9999-12-31 in days from 1970-01-01.
const DAYS_MIN: i64 = -719_162;
const DAYS_MAX: i64 = 2_932_896;
/// Zones reach 14 hours on Earth; anything below a day can be written.
const ZONE_MINUTES_MAX: i16 = 24 * 60 - 1;

/// A day, without time or zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    year: u16,
    month: u8,
    day: u8,
}

impl Date {
    /// Returns the day, or `None` when the calendar has no such day.
    pub fn new(year: u16, month: u8, day: u8) -> Option<Self> {
        let good = (1..=9999).contains(&year) && (1..=12).contains(&month);
        (good && (1..=days_in(year, month)).contains(&day)).then_some(Self { year, month, day })
    }

    /// Reads `1-Feb-1994` or `01-Feb-1994`, without quotes.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut parts = text.split(|byte| *byte == b'-');
        let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || !(1..=2).contains(&day.len()) || year.len() != 4 {
            return None;
        }
        Self::new(number(year)?, parse_month(month)?, u8::try_from(number(day)?).ok()?)
    }

    /// Days from 1970-01-01 to this day; before it, below 0.
    pub fn days(self) -> i64 {
        // Counts in years that begin in March, so that the leap day is the last.
        let (year, month) = (i64::from(self.year), i64::from(self.month));
        let year = if month <= 2 { year - 1 } else { year };
        let era = year.div_euclid(400);
        let of_era = year.rem_euclid(400);
        let of_year = (153 * ((month + 9) % 12) + 2) / 5 + i64::from(self.day) - 1;
        era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
    }

    /// The day that lies `days` after 1970-01-01, or the nearest that exists here.
    pub fn from_days(days: i64) -> Self {
        let shifted = days.clamp(DAYS_MIN, DAYS_MAX) + 719_468;
        let era = shifted.div_euclid(146_097);
        let of_era = shifted.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = era * 400 + year_of_era + i64::from(month <= 2);
        Self { year: year as u16, month: month as u8, day: day as u8 }
    }

    fn month_name(self) -> &'static str {
        MONTHS.get(usize::from(self.month).wrapping_sub(1)).copied().unwrap_or("Jan")
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{:04}", self.day, self.month_name(), self.year)
    }
}

/// A moment, with the zone in which it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateTime {
    unix_s: i64,
    zone_minutes: i16,
}

impl DateTime {
    /// Moments that cannot be written are moved to the nearest that can.
    pub fn new(unix_s: i64, zone_minutes: i16) -> Self {
        let zone_minutes = zone_minutes.clamp(-ZONE_MINUTES_MAX, ZONE_MINUTES_MAX);
        let offset = i64::from(zone_minutes) * 60;
        let unix_s = unix_s.clamp(DAYS_MIN * DAY_S - offset, (DAYS_MAX + 1) * DAY_S - 1 - offset);
        Self { unix_s, zone_minutes }
    }

    pub fn utc(unix_s: i64) -> Self {
        Self::new(unix_s, 0)
    }

    pub fn unix_s(self) -> i64 {
        self.unix_s
    }

    pub fn zone_minutes(self) -> i16 {
        self.zone_minutes
    }

    /// The day it is in its own zone.
    pub fn date(self) -> Date {
        Date::from_days(self.local_s().div_euclid(DAY_S))
    }

    /// Reads ` 7-Feb-1994 21:52:25 -0800`, without quotes. The day is two characters, a space first below 10; one
    /// character alone is read too, for old clients.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut words = text.trim_ascii_start().split(|byte| *byte == b' ');
        let (date, time, zone) = (words.next()?, words.next()?, words.next()?);
        if words.next().is_some() {
            return None;
        }
        let days = Date::parse(date)?.days();
        let zone_minutes = parse_zone(zone)?;
        let local = days * DAY_S + parse_time(time)?;
        Some(Self::new(local - i64::from(zone_minutes) * 60, zone_minutes))
    }

    fn local_s(self) -> i64 {
        self.unix_s + i64::from(self.zone_minutes) * 60
    }
}

/// Without quotes.
impl fmt::Display for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date = self.date();
        let second = self.local_s().rem_euclid(DAY_S);
        let sign = if self.zone_minutes < 0 { '-' } else { '+' };
        let zone = self.zone_minutes.unsigned_abs();
        write!(
            f,
            "{:>2}-{}-{:04} {:02}:{:02}:{:02} {sign}{:02}{:02}",
            date.day,
            date.month_name(),
            date.year,
            second / 3600,
            second / 60 % 60,
            second % 60,
            zone / 60,
            zone % 60,
        )
    }
}

fn days_in(year: u16, month: u8) -> u8 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 31,
    }
}

fn number(digits: &[u8]) -> Option<u16> {
    let all = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    all.then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten()
}

fn parse_month(name: &[u8]) -> Option<u8> {
    let index = MONTHS.iter().position(|month| month.as_bytes().eq_ignore_ascii_case(name))?;
    u8::try_from(index + 1).ok()
}

/// `21:52:25` in seconds. A leap second counts as the first of the next minute.
fn parse_time(text: &[u8]) -> Option<i64> {
    let mut parts = text.split(|byte| *byte == b':');
    let mut part = |max: u16| {
        let digits = parts.next().filter(|digits| digits.len() == 2)?;
        number(digits).filter(|value| *value <= max).map(i64::from)
    };
    let (hour, minute, second) = (part(23)?, part(59)?, part(60)?);
    parts.next().is_none().then_some(hour * 3600 + minute * 60 + second)
}

/// `-0800` in minutes.
fn parse_zone(text: &[u8]) -> Option<i16> {
    let (sign, digits) = text.split_first()?;
    if digits.len() != 4 {
        return None;
    }
    let value = i16::try_from(number(digits)?).ok()?;
    let (hours, minutes) = (value / 100, value % 100);
    if hours > 23 || minutes > 59 {
        return None;
    }
    match sign {
        b'+' => Some(hours * 60 + minutes),
        b'-' => Some(-(hours * 60 + minutes)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_time_reads_and_prints_as_rfc_3501_writes_it() {
        // RFC 3501 §6.3.11 and §7.4.2.
        for (text, unix_s) in [
            ("07-Feb-1994 21:52:25 -0800", 760_686_745),
            ("17-Jul-1996 02:44:25 -0700", 837_596_665),
            (" 1-Jan-1970 00:00:00 +0000", 0),
            ("29-Feb-2000 23:59:59 +0530", 951_848_999),
        ] {
            let moment = DateTime::parse(text.as_bytes()).unwrap();
            assert_eq!(moment.unix_s(), unix_s, "{text}");
            assert_eq!(DateTime::parse(moment.to_string().as_bytes()), Some(moment));
            assert_eq!(moment.to_string().len(), 26);
        }
        assert_eq!(DateTime::utc(0).to_string(), " 1-Jan-1970 00:00:00 +0000");
    }

    #[test]
    fn days_that_do_not_exist_are_refused() {
        for bad in [
            "",
            "1-Feb",
            "29-Feb-1900",
            "31-Apr-2024",
            "0-Jan-2024",
            "1-Foo-2024",
            "1-Jan-24",
            "001-Jan-2024",
            "1-Jan-0000",
        ] {
            assert_eq!(Date::parse(bad.as_bytes()), None, "{bad}");
        }
        for bad in [
            "1-Jan-2024",
            "1-Jan-2024 24:00:00 +0000",
            "1-Jan-2024 00:00:00 0000",
            "1-Jan-2024 0:00:00 +0000",
            "1-Jan-2024 00:00:00 +0060",
            "1-Jan-2024 00:00:00 +2400",
            "1-Jan-2024 00:00:00 +0000 ",
        ] {
            assert_eq!(DateTime::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn days_count_both_ways() {
        assert_eq!(Date::new(1970, 1, 1).unwrap().days(), 0);
        assert_eq!(Date::new(1, 1, 1).unwrap().days(), DAYS_MIN);
        assert_eq!(Date::new(9999, 12, 31).unwrap().days(), DAYS_MAX);
        for days in (DAYS_MIN..=DAYS_MAX).step_by(97) {
            let date = Date::from_days(days);
            assert_eq!(date.days(), days);
            assert_eq!(Date::parse(date.to_string().as_bytes()), Some(date));
        }
    }

    #[test]
    fn moments_beyond_the_calendar_are_moved_into_it() {
        for unix_s in [i64::MIN, i64::MAX] {
            for zone in [i16::MIN, -90, 0, i16::MAX] {
                let moment = DateTime::new(unix_s, zone);
                assert_eq!(DateTime::parse(moment.to_string().as_bytes()), Some(moment));
            }
        }
    }
}
