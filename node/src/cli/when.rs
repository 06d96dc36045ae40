//! Moments, as they are printed and as they are typed.

use codec::imap::date::{Date, DateTime};

const DAY_S: i64 = 86_400;

/// `2026-11-24 03:40:00`, UTC.
pub(crate) fn text(unix_s: i64) -> String {
    let days = unix_s.div_euclid(DAY_S);
    let of_day = unix_s.rem_euclid(DAY_S);
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", of_day / 3600, of_day / 60 % 60, of_day % 60)
}

/// As it was written, with its zone: `2026-11-24 04:40:00 (+0100)`.
pub(crate) fn text_in_zone(unix_s: i64, zone_minutes: i32) -> String {
    let sign = if zone_minutes < 0 { '-' } else { '+' };
    let minutes = zone_minutes.unsigned_abs();
    let local = unix_s.saturating_add(i64::from(zone_minutes) * 60);
    format!("{} ({sign}{:02}{:02})", text(local), minutes / 60, minutes % 60)
}

/// RFC 5322 §3.3, UTC.
pub(crate) fn rfc5322(unix_s: i64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let weekday = usize::try_from(unix_s.div_euclid(DAY_S).rem_euclid(7)).unwrap_or(0);
    let moment = DateTime::utc(unix_s).to_string();
    // ` 4-Nov-2026 03:40:00 +0000`
    format!("{}, {}", DAYS[weekday], moment.trim_start().replacen('-', " ", 2))
}

/// Reads a day (`1-Feb-2026` or `2026-02-01`), a UNIX time, or a time back from now (`30d`, `2 weeks`): the first
/// second of it.
pub(crate) fn parse(typed: &str, now_unix_s: i64) -> Option<i64> {
    if let Some(day) = day(typed) {
        return Some(day.days().saturating_mul(DAY_S));
    }
    if typed.len() > 6
        && let Ok(unix_s) = typed.parse::<i64>()
    {
        return Some(unix_s);
    }
    let unit_at = typed.find(|character: char| !character.is_ascii_digit())?;
    let (number, unit) = typed.split_at(unit_at);
    let unit_s = match unit.trim().to_ascii_lowercase().as_str() {
        "s" | "sec" | "secs" | "second" | "seconds" => 1,
        "m" | "min" | "mins" | "minute" | "minutes" => 60,
        "h" | "hour" | "hours" => 3600,
        "d" | "day" | "days" => DAY_S,
        "w" | "week" | "weeks" => 7 * DAY_S,
        _ => return None,
    };
    Some(now_unix_s.saturating_sub(number.parse::<i64>().ok()?.saturating_mul(unit_s)))
}

/// A day, as IMAP or as ISO 8601 writes it.
pub(crate) fn day(typed: &str) -> Option<Date> {
    Date::parse(typed.as_bytes()).or_else(|| {
        let mut parts = typed.splitn(3, '-');
        let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
        let fits = year.len() == 4 && month.len() == 2 && day.len() == 2;
        fits.then(|| Date::new(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?)).flatten()
    })
}

/// Year, month and day of a day since 1970-01-01. Years begin in March here, so that the leap day is the last.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days.saturating_add(719_468);
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_printed_in_utc() {
        assert_eq!(text(0), "1970-01-01 00:00:00");
        assert_eq!(text(1_795_491_600), "2026-11-24 03:40:00");
        assert_eq!(text(-1), "1969-12-31 23:59:59");
        assert_eq!(text_in_zone(0, -90), "1969-12-31 22:30:00 (-0130)");
        assert_eq!(rfc5322(1_795_491_600), "Tue, 24 Nov 2026 03:40:00 +0000");
        assert_eq!(rfc5322(0), "Thu, 1 Jan 1970 00:00:00 +0000");
    }

    #[test]
    fn days_times_and_intervals_can_be_typed() {
        assert_eq!(parse("2026-11-24", 0), Some(1_795_478_400));
        assert_eq!(parse("24-Nov-2026", 0), Some(1_795_478_400));
        assert_eq!(parse("1795491600", 0), Some(1_795_491_600));
        assert_eq!(parse("2 weeks", 2_000_000), Some(2_000_000 - 14 * 86_400));
        assert_eq!(parse("30d", 30 * 86_400), Some(0));
        for bad in ["", "d", "12", "2026-13-01", "1 fortnight", "99999999999999999999d"] {
            assert_eq!(parse(bad, 0), None, "{bad}");
        }
    }
}
