//! The `Date:` field (RFC 5322 §3.3, obsolete forms §4.3).

use crate::token::Cursor;

/// A moment and the zone its author wrote it in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub unix: i64,
    /// Minutes east of UTC.
    pub zone_minutes: i32,
}

impl Date {
    /// Days since 1970-01-01 of the date as written. SENTON and its kin disregard time and zone (RFC 3501 §6.4.4).
    pub fn day(self) -> i64 {
        (self.unix + i64::from(self.zone_minutes) * 60).div_euclid(86_400)
    }
}

/// Days from 1970-01-01 to this date of the Gregorian calendar. `month` counts from 1; values out of range count on.
pub fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    // Years begin in March, so that the leap day is the last one.
    let month = i64::from(month);
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Reads a date. `None` unless day, month and year are there; time and zone may be missing.
pub fn parse(value: &[u8]) -> Option<Date> {
    let mut cursor = Cursor::new(value);
    cursor.skip_cfws();
    if cursor.peek()?.is_ascii_alphabetic() {
        // The day of the week says nothing new, and is sometimes wrong.
        cursor.atom()?;
        cursor.skip_cfws();
        cursor.eat(b',');
        cursor.skip_cfws();
    }
    let day = number(&mut cursor, 2)?;
    separator(&mut cursor);
    let month = month(&letters(&mut cursor))?;
    separator(&mut cursor);
    let year = year(&mut cursor)?;
    cursor.skip_cfws();
    let time = time(&mut cursor).unwrap_or((0, 0, 0));
    cursor.skip_cfws();
    let zone_minutes = zone(&mut cursor);
    let (hour, minute, second) = time;
    if !(1..=days_in(year, month)).contains(&day) || hour > 24 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second);
    let unix = days_from_civil(i64::from(year), month, day) * 86_400 + seconds - i64::from(zone_minutes) * 60;
    Some(Date { unix, zone_minutes })
}

fn separator(cursor: &mut Cursor<'_>) {
    cursor.skip_cfws();
    // `01-Jan-2024`, as some mailers write.
    cursor.eat(b'-');
    cursor.skip_cfws();
}

/// A number of at most `digits_max` digits.
fn number(cursor: &mut Cursor<'_>, digits_max: usize) -> Option<u32> {
    let mut value = 0;
    let mut digits = 0;
    while let Some(digit) = cursor.peek().filter(u8::is_ascii_digit) {
        if digits == digits_max {
            return None;
        }
        value = value * 10 + u32::from(digit - b'0');
        digits += 1;
        cursor.bump();
    }
    (digits > 0).then_some(value)
}

fn letters(cursor: &mut Cursor<'_>) -> Vec<u8> {
    let mut text = Vec::new();
    while let Some(letter) = cursor.peek().filter(u8::is_ascii_alphabetic) {
        text.push(letter.to_ascii_lowercase());
        cursor.bump();
    }
    text
}

fn month(name: &[u8]) -> Option<u32> {
    const MONTHS: [&[u8]; 12] =
        [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];
    let index = MONTHS.iter().position(|month| name.starts_with(month))?;
    u32::try_from(index + 1).ok()
}

/// Two digits are 2000 to 2049 or 1950 to 1999, three are counted from 1900 (RFC 5322 §4.3).
fn year(cursor: &mut Cursor<'_>) -> Option<u32> {
    let before = cursor.rest().len();
    let year = number(cursor, 4)?;
    match before - cursor.rest().len() {
        1 | 2 => Some(if year < 50 { 2000 + year } else { 1900 + year }),
        3 => Some(1900 + year),
        _ => Some(year),
    }
}

fn days_in(year: u32, month: u32) -> u32 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn time(cursor: &mut Cursor<'_>) -> Option<(u32, u32, u32)> {
    let mut part = |first: bool| {
        if !first {
            cursor.skip_cfws();
            if !cursor.eat(b':') && !cursor.eat(b'.') {
                return None;
            }
            cursor.skip_cfws();
        }
        number(cursor, 2)
    };
    let hour = part(true)?;
    let minute = part(false)?;
    Some((hour, minute, part(false).unwrap_or(0)))
}

/// Minutes east of UTC. Unknown zones are UTC (RFC 5322 §4.3: "-0000").
fn zone(cursor: &mut Cursor<'_>) -> i32 {
    let sign = match cursor.peek() {
        Some(b'+') => 1,
        Some(b'-') => -1,
        _ => return named_zone(&letters(cursor)),
    };
    cursor.bump();
    let Some(digits) = number(cursor, 4).and_then(|digits| i32::try_from(digits).ok()) else { return 0 };
    let (hours, minutes) = (digits / 100, digits % 100);
    if hours > 23 || minutes > 59 { 0 } else { sign * (hours * 60 + minutes) }
}

fn named_zone(name: &[u8]) -> i32 {
    let hours = match name {
        b"edt" => -4,
        b"est" | b"cdt" => -5,
        b"cst" | b"mdt" => -6,
        b"mst" | b"pdt" => -7,
        b"pst" => -8,
        // Everything else, military letters included, is "-0000".
        _ => 0,
    };
    hours * 60
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unix(value: &str) -> Option<i64> {
        parse(value.as_bytes()).map(|date| date.unix)
    }

    #[test]
    fn dates_of_rfc_5322_are_read() {
        assert_eq!(unix("Fri, 21 Nov 1997 09:55:06 -0600"), Some(880_127_706));
        assert_eq!(
            unix(
                "Thu,\r\n      13\r\n        Feb\r\n          1969\r\n      23:32\r\n               -0330 (Newfoundland Time)"
            ),
            Some(-27_723_480)
        );
        assert_eq!(unix("21 Nov 97 09:55:06 GMT"), Some(880_106_106));
        assert_eq!(unix("Fri, 21 Nov 1997 09(comment):   55  :  06 -0600"), Some(880_127_706));
        assert_eq!(unix("Mon, 1 Jan 2024 00:00:00 EST"), Some(1_704_085_200));
        assert_eq!(unix("1-Jan-2024"), Some(1_704_067_200));
        assert_eq!(unix("29 Feb 2024 00:00 +0000"), Some(1_709_164_800));
        assert_eq!(unix("1 Jan 103 00:00 +0000"), Some(1_041_379_200));
    }

    #[test]
    fn the_day_is_the_one_written() {
        let late = parse(b"Sun, 31 Dec 2023 23:30:00 -0800").unwrap();
        assert_eq!(late.day(), days_from_civil(2023, 12, 31));
        let early = parse(b"Mon, 1 Jan 2024 00:30:00 +1200").unwrap();
        assert_eq!(early.day(), days_from_civil(2024, 1, 1));
    }

    #[test]
    fn nonsense_is_no_date() {
        for value in [
            "",
            "yesterday",
            "32 Jan 2024",
            "30 Feb 2024",
            "1 Foo 2024",
            "1 Jan",
            "1 Jan 2024 99:00",
            "1 Jan 20244",
            "((((",
        ] {
            assert_eq!(unix(value), None, "{value}");
        }
    }

    #[test]
    fn days_count_from_1970() {
        assert_eq!(days_from_civil(1970, 1, 1), 0);
        assert_eq!(days_from_civil(2000, 3, 1), 11_017);
        assert_eq!(days_from_civil(1, 1, 1), -719_162);
    }
}
