//! Times as kubelet and the container runtime write them. What comes in: nanoseconds since 1970. What goes out: text, in
//! UTC. No calendar library: this is all that the kit needs of one.

use std::time::{SystemTime, UNIX_EPOCH};

const SECOND: u64 = 1_000_000_000;

/// Now, in nanoseconds since 1970.
///
/// # Panics
/// When the machine's clock stands before 1970.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    since.as_secs() * SECOND + u64::from(since.subsec_nanos())
}

/// The time of a CRI line: `2026-11-23T15:54:01.123456789Z`, always with nine digits, so that text order is time order.
pub fn rfc3339(nanos: u64) -> String {
    let (year, month, day, hour, minute, second) = civil(nanos);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:09}Z", nanos % SECOND)
}

/// The nanoseconds since 1970 of a time that [`rfc3339`] wrote; `None` for any other text.
pub fn parse(text: &str) -> Option<u64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    // The other way round than `civil`: days from the first of March of year 0.
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let seconds = ((days - 719_468) * 24 + number(11, 13)?) * 3_600 + number(14, 16)? * 60 + number(17, 19)?;
    let nanos = seconds * SECOND + number(20, 29)?;
    (rfc3339(nanos) == text).then_some(nanos)
}

/// The ending that kubelet gives a rotated file: `20261123-155401`.
pub fn rotation_suffix(nanos: u64) -> String {
    let (year, month, day, hour, minute, second) = civil(nanos);
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}")
}

/// What `{date}` in an index name becomes: `2026.11.23`.
pub fn index_date(nanos: u64) -> String {
    let (year, month, day, ..) = civil(nanos);
    format!("{year:04}.{month:02}.{day:02}")
}

/// Year, month, day, hour, minute, second of the proleptic Gregorian calendar (Howard Hinnant's `civil_from_days`, for
/// days after 1970 only).
fn civil(nanos: u64) -> (u64, u64, u64, u64, u64, u64) {
    let seconds = nanos / SECOND;
    let days = seconds / 86_400 + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months counted from March, so that the leap day is the last of the year.
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_the_runtime_and_kubelet_write_them() {
        let cases = [
            (0, "1970-01-01T00:00:00.000000000Z", "19700101-000000"),
            (1_709_251_199_000_000_001, "2024-02-29T23:59:59.000000001Z", "20240229-235959"),
            (1_795_449_241_120_000_000, "2026-11-23T15:54:01.120000000Z", "20261123-155401"),
            (4_102_444_800_999_999_999, "2100-01-01T00:00:00.999999999Z", "21000101-000000"),
        ];
        for (nanos, time, suffix) in cases {
            assert_eq!(rfc3339(nanos), time);
            assert_eq!(rotation_suffix(nanos), suffix);
            assert_eq!(parse(time), Some(nanos));
        }
        assert_eq!([parse("2026-11-23T15:54:01Z"), parse("2026-02-30T15:54:01.120000000Z")], [None, None]);
        assert_eq!(index_date(1_795_449_241_120_000_000), "2026.11.23");
    }
}
