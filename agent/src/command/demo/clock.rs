//! The wall clock as the demo's programs write it: RFC 3339 with nanoseconds, klog's and nginx's own forms,
//! the suffix of a rotated file. Comes in: the system's time. Goes out: UTC text. It never reads a time zone:
//! a container's is UTC.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// English months as nginx's access log shortens them.
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A moment in UTC, taken apart into the fields that log formats want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub unix: u64,
    /// Nanoseconds within the second.
    pub nanos: u32,
    /// Year, as in 2026.
    pub year: u64,
    /// Month, 1 to 12.
    pub month: u64,
    /// Day of the month, from 1.
    pub day: u64,
    /// Hour, 0 to 23.
    pub hour: u64,
    /// Minute, 0 to 59.
    pub minute: u64,
    /// Second, 0 to 59.
    pub second: u64,
}

impl Moment {
    /// The moment of the call.
    pub fn now() -> Moment {
        // A clock before 1970 is a machine that was just switched on: any time will do for a demo.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Moment::at(since.as_secs(), since.subsec_nanos())
    }

    /// The moment `unix` seconds and `nanos` nanoseconds after the epoch.
    pub fn at(unix: u64, nanos: u32) -> Moment {
        let (days, rest) = (unix / 86_400, unix % 86_400);
        // Days to a date by way of years that begin in March, so that the leap day comes last.
        let shifted = days + 719_468;
        let (era, of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * of_year + 2) / 153;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        Moment {
            unix,
            nanos,
            year: year_of_era + era * 400 + u64::from(month <= 2),
            month,
            day: of_year - (153 * march_month + 2) / 5 + 1,
            hour: rest / 3_600,
            minute: rest / 60 % 60,
            second: rest % 60,
        }
    }

    /// Milliseconds within the second.
    pub fn millis(&self) -> u32 {
        self.nanos / 1_000_000
    }

    /// Microseconds within the second.
    pub fn micros(&self) -> u32 {
        self.nanos / 1_000
    }

    /// `2026-11-23T20:41:58.123Z`, as Node and Python write it.
    pub fn iso_millis(&self) -> String {
        let Moment { year, month, day, hour, minute, second, .. } = self;
        format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", self.millis())
    }

    /// `23/Nov/2026:20:41:58 +0000`, nginx's `$time_local`.
    pub fn nginx_local(&self) -> String {
        let Moment { year, day, hour, minute, second, .. } = self;
        let month = MONTHS[(self.month - 1) as usize];
        format!("{day:02}/{month}/{year}:{hour:02}:{minute:02}:{second:02} +0000")
    }

    /// `2026/11/23 20:41:58`, nginx's error log and Go's standard logger.
    pub fn slashes(&self) -> String {
        let Moment { year, month, day, hour, minute, second, .. } = self;
        format!("{year}/{month:02}/{day:02} {hour:02}:{minute:02}:{second:02}")
    }

    /// `1123 20:41:58.123456`, what follows klog's letter.
    pub fn klog(&self) -> String {
        let Moment { month, day, hour, minute, second, .. } = self;
        format!("{month:02}{day:02} {hour:02}:{minute:02}:{second:02}.{:06}", self.micros())
    }

    /// `20261123-204158`, which kubelet appends to the name of a log that it rotates.
    pub fn rotation_suffix(&self) -> String {
        let Moment { year, month, day, hour, minute, second, .. } = self;
        format!("{year}{month:02}{day:02}-{hour:02}{minute:02}{second:02}")
    }
}

/// Go's `RFC3339Nano`, which containerd puts before every line: zeros at the end of the fraction are left
/// out.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Moment { year, month, day, hour, minute, second, .. } = self;
        write!(f, "{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if self.nanos != 0 {
            let fraction = format!("{:09}", self.nanos);
            write!(f, ".{}", fraction.trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_come_out_right_around_leap_days() {
        for (unix, date) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_795_466_518, "2026-11-23T20:41:58Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(Moment::at(unix, 0).to_string(), date);
        }
    }

    #[test]
    fn each_program_finds_its_own_form() {
        let moment = Moment::at(1_795_466_518, 120_450_000);
        assert_eq!(moment.to_string(), "2026-11-23T20:41:58.12045Z");
        assert_eq!(moment.iso_millis(), "2026-11-23T20:41:58.120Z");
        assert_eq!(moment.nginx_local(), "23/Nov/2026:20:41:58 +0000");
        assert_eq!(moment.klog(), "1123 20:41:58.120450");
        assert_eq!(moment.rotation_suffix(), "20261123-204158");
    }
}
