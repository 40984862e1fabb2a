//! Times as the container runtime writes them.
//!
//! In: nanoseconds since the Unix epoch. Out: RFC 3339 text with nine decimals in UTC, as containerd writes at
//! the head of each line, and back again, for the delay of a record. It never reads a time zone.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nanos(pub u64);

const SECOND: u64 = 1_000_000_000;

impl Nanos {
    /// The time of day of this machine.
    pub fn now() -> Nanos {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Nanos(since.as_secs() * SECOND + u64::from(since.subsec_nanos()))
    }

    /// Whole seconds since the epoch.
    pub fn seconds(self) -> u64 {
        self.0 / SECOND
    }

    /// Whole milliseconds since the epoch, as Node.js programs log them.
    pub fn millis(self) -> u64 {
        self.0 / 1_000_000
    }
}

/// Formats times, remembering the last second: consecutive lines mostly share it, and the calendar is the dear part.
pub struct Stamp {
    second: u64,
    text: [u8; 30],
}

impl Stamp {
    /// A stamp that has formatted nothing yet.
    pub fn new() -> Stamp {
        Stamp { second: u64::MAX, text: *b"0000-00-00T00:00:00.000000000Z" }
    }

    /// The 30 bytes of `time`, such as `2026-11-23T20:41:00.123456789Z`.
    pub fn text(&mut self, time: Nanos) -> &str {
        let second = time.seconds();
        if second != self.second {
            self.second = second;
            let (year, month, day) = civil_from_days((second / 86_400) as i64);
            digits(&mut self.text[0..4], year as u64);
            digits(&mut self.text[5..7], month);
            digits(&mut self.text[8..10], day);
            digits(&mut self.text[11..13], second % 86_400 / 3_600);
            digits(&mut self.text[14..16], second % 3_600 / 60);
            digits(&mut self.text[17..19], second % 60);
        }
        digits(&mut self.text[20..29], time.0 % SECOND);
        std::str::from_utf8(&self.text).expect("only ASCII is ever written here")
    }
}

fn digits(place: &mut [u8], mut value: u64) {
    for byte in place.iter_mut().rev() {
        *byte = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Reads RFC 3339 with up to nine decimals and `Z` or an offset; `None` for anything else.
pub fn parse(text: &[u8]) -> Option<Nanos> {
    if text.len() < 20 || text[4] != b'-' || text[7] != b'-' || !matches!(text[10], b'T' | b' ') {
        return None;
    }
    if text[13] != b':' || text[16] != b':' {
        return None;
    }
    let days = days_from_civil(number(&text[0..4])? as i64, number(&text[5..7])?, number(&text[8..10])?);
    let clock = number(&text[11..13])? * 3_600 + number(&text[14..16])? * 60 + number(&text[17..19])?;
    let mut rest = &text[19..];
    let mut nanos = 0;
    if let Some(fraction) = rest.strip_prefix(b".") {
        let length = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if !(1..=9).contains(&length) {
            return None;
        }
        nanos = number(&fraction[..length])? * 10u64.pow(9 - length as u32);
        rest = &fraction[length..];
    }
    let east = match rest {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), hour @ .., b':', m1, m2] if hour.len() == 2 => {
            let offset = (number(hour)? * 3_600 + number(&[*m1, *m2])? * 60) as i64;
            if *sign == b'+' { offset } else { -offset }
        }
        _ => return None,
    };
    let seconds = u64::try_from(days * 86_400 + clock as i64 - east).ok()?;
    Some(Nanos(seconds.checked_mul(SECOND)? + nanos))
}

fn number(text: &[u8]) -> Option<u64> {
    text.iter()
        .try_fold(0u64, |value, byte| byte.is_ascii_digit().then(|| value * 10 + u64::from(byte - b'0')))
}

/// The date of a day counted from 1970-01-01 (Howard Hinnant's `civil_from_days`).
fn civil_from_days(days: i64) -> (i64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097) as u64;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era as i64 + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// The inverse of [`civil_from_days`].
fn days_from_civil(year: i64, month: u64, day: u64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400) as u64;
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day.saturating_sub(1);
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    era * 146_097 + of_era as i64 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times_are_written_as_containerd_writes_them() {
        let mut stamp = Stamp::new();
        assert_eq!(stamp.text(Nanos(0)), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(stamp.text(Nanos(1_709_210_096_000_000_007)), "2024-02-29T12:34:56.000000007Z");
        assert_eq!(stamp.text(Nanos(1_709_210_096_999_999_999)), "2024-02-29T12:34:56.999999999Z");
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut stamp = Stamp::new();
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..10_000 {
            let time = Nanos(random.u64(0..4_000_000_000 * SECOND));
            assert_eq!(parse(stamp.text(time).as_bytes()), Some(time));
        }
    }

    #[test]
    fn offsets_and_short_fractions_are_understood() {
        let expected = Some(Nanos(1_709_210_096_500_000_000));
        for text in ["2024-02-29T12:34:56.5Z", "2024-02-29T21:34:56.5+09:00", "2024-02-29T08:04:56.500-04:30"]
        {
            assert_eq!(parse(text.as_bytes()), expected, "{text}");
        }
        for text in
            ["", "2024-02-29", "2024-02-29T12:34:56", "2024-02-29T12:34:56.Z", "yesterday, at about noon"]
        {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }
}
