//! Sizes and times as people write them.
//!
//! In: `"64MiB"`, `"10MB"`, `512`, `"250ms"`, `"24h"`. Out: [`ByteSize`] and [`Duration`]. A number without a unit is
//! a count of bytes; a time without one is refused, since nobody agrees on what it would mean.

use std::fmt;
use std::time::Duration;

use glob::Pattern;
use serde::de::{Deserialize, Deserializer, Error, Visitor};

use super::diagnostic::{Refusal, without_credentials};
use super::schema::form;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// The units of sizes that are printed, largest first. A size is printed in the largest that divides it.
const SIZES: [(&str, u64); 6] =
    [("GiB", 1 << 30), ("MiB", MIB), ("KiB", KIB), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];

/// The units of times, largest first.
const TIMES: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A number of bytes, written `"64MiB"`, `"10MB"` or as a plain integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(u64);

impl ByteSize {
    /// So many bytes.
    pub const fn new(bytes: u64) -> ByteSize {
        ByteSize(bytes)
    }

    /// So many times 1024 bytes.
    pub const fn kib(count: u64) -> ByteSize {
        ByteSize(count * KIB)
    }

    /// So many times 1024 × 1024 bytes.
    pub const fn mib(count: u64) -> ByteSize {
        ByteSize(count * MIB)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The number of bytes as a length in memory; a size beyond the address space becomes its end.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// Reads `"64MiB"`, `"64Mi"`, `"10MB"`, `"512 B"` or `"512"`, whatever the case of the letters.
    ///
    /// # Errors
    /// What is not such a size, has a fraction, or does not fit 64 bits.
    pub fn parse(text: &str) -> Result<ByteSize, Refusal> {
        let refuse = || {
            Refusal::new(
                format!("{} is not a size", quoted(text)),
                "write a whole number and a unit: B, KiB, MiB, GiB, TiB (1024) or kB, MB, GB, TB (1000), as in \"64MiB\"",
            )
        };
        let (number, unit) = number_and_unit(text).ok_or_else(refuse)?;
        let factor = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kib" | "ki" => KIB,
            "mib" | "mi" => MIB,
            "gib" | "gi" => 1 << 30,
            "tib" | "ti" => 1 << 40,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            _ => return Err(refuse()),
        };
        number.checked_mul(factor).map(ByteSize).ok_or_else(refuse)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SIZES.iter().find(|(_, factor)| self.0 > 0 && self.0.is_multiple_of(*factor)) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Size;
        impl Visitor<'_> for Size {
            type Value = ByteSize;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"64MiB\"")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<ByteSize, E> {
                ByteSize::parse(text).map_err(refused)
            }
            fn visit_u64<E: Error>(self, bytes: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(bytes))
            }
            fn visit_i64<E: Error>(self, bytes: i64) -> Result<ByteSize, E> {
                u64::try_from(bytes).map(ByteSize).map_err(|_| {
                    refused(Refusal::new("a size cannot be negative", "write a size such as \"64MiB\""))
                })
            }
        }
        deserializer.deserialize_any(Size)
    }
}

form!(
    ByteSize,
    "Size",
    "A number of bytes: a whole number and a unit, `B`, `KiB`, `MiB`, `GiB`, `TiB` (1024) or `kB`, `MB`, `GB`, `TB` (1000), as \
     in `\"64MiB\"`; or the plain number, as in `65536`.",
    {
        "type": ["string", "integer"],
        "pattern": "^[0-9]+ ?([Bb]|([KkMmGgTt][Ii]?[Bb])|([KkMmGgTt][Ii]))?$",
        "minimum": 0,
    }
);

/// A [`Duration`] as it is written, for the schema.
pub struct Time;

form!(
    Time,
    "Time",
    "A whole number and a unit, `ms`, `s`, `m`, `h` or `d`, as in `\"30s\"`. It has no default unit.",
    { "type": "string", "pattern": "^[0-9]+ ?(ms|s|m|h|d)$" }
);

/// Reads a time such as `"250ms"`, `"5s"`, `"2m"`, `"24h"` or `"7d"`.
///
/// # Errors
/// What is not a whole number with one of these units, or does not fit 64 bits of milliseconds.
pub fn parse_duration(text: &str) -> Result<Duration, Refusal> {
    let refuse = |help: &str| Refusal::new(format!("{} is not a time", quoted(text)), help);
    const HELP: &str = "write a whole number and a unit: ms, s, m, h or d, as in \"30s\"";
    let (number, unit) = number_and_unit(text).ok_or_else(|| refuse(HELP))?;
    if unit.is_empty() {
        return Err(refuse(&format!("add the unit: \"{number}s\", or one of ms, m, h, d")));
    }
    TIMES
        .iter()
        .find(|(name, _)| *name == unit)
        .and_then(|(_, factor)| number.checked_mul(*factor))
        .map(Duration::from_millis)
        .ok_or_else(|| refuse(HELP))
}

/// A time as it would be written in a configuration; what is below a millisecond is left out.
pub fn show_duration(time: Duration) -> String {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    // Days are what nobody writes for a day or two: 24h reads better.
    let units = if millis < 3 * 86_400_000 { &TIMES[1..] } else { &TIMES[..] };
    match units.iter().find(|(_, factor)| millis > 0 && millis.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", millis / factor),
        None => "0s".to_owned(),
    }
}

/// Reads a [`Duration`] for a field of a configuration.
///
/// # Errors
/// As [`parse_duration`], or another type than a string.
pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    text(deserializer, "a time such as \"30s\"", parse_duration)
}

/// The same for a field that may be left out.
pub(super) fn some_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

/// Reads a string and makes a checked value of it. The check runs inside the visit of the value, so that the
/// deserializer can say where in the file the value stands, in lists as well.
pub(super) fn text<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    expecting: &'static str,
    parse: fn(&str) -> Result<T, Refusal>,
) -> Result<T, D::Error> {
    struct Text<T> {
        expecting: &'static str,
        parse: fn(&str) -> Result<T, Refusal>,
    }
    impl<T> Visitor<'_> for Text<T> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.expecting)
        }
        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            without_variables(text).and_then(|()| (self.parse)(text)).map_err(refused)
        }
    }
    deserializer.deserialize_any(Text { expecting, parse })
}

/// Refuses a value with a `${NAME}` in it, as Vector and Fluent Bit put variables into values. Here it would stay what it
/// is: the name of a server, a folder or an index. The value is not repeated, which may be a secret's neighbour.
pub(super) fn without_variables(text: &str) -> Result<(), Refusal> {
    if text.contains("${") {
        return Err(variables());
    }
    Ok(())
}

/// What is said of a variable within a value.
pub(super) fn variables() -> Refusal {
    Refusal::new(
        "the environment's variables are not put into values",
        "write the value itself, and placeholders without `$`; a secret is named as { env = \"NAME\" }, and `node` is the \
         environment's NODE_NAME by default",
    )
}

/// A refusal on its way through serde, which carries one string only: two lines.
pub(super) fn refused<E: Error>(refusal: Refusal) -> E {
    E::custom(format_args!("{}\n{}", refusal.message, refusal.help))
}

/// A pattern of names or paths; `written` is all that the file has there, and `help` how to write it.
pub(super) fn pattern(pattern: &str, written: &str, help: &str) -> Result<Pattern, Refusal> {
    Pattern::new(pattern)
        .map_err(|error| Refusal::new(format!("{} is not a pattern: {}", quoted(written), error.msg), help))
}

/// A value in quotes for a message, on one line and not too long.
pub(super) fn quoted(text: &str) -> String {
    // Before it is cut, else a password could be cut off from the `@` that tells of it.
    let text = without_credentials(text);
    let shown: String = text.chars().take(60).collect();
    let more = if shown.len() < text.len() { "…" } else { "" };
    format!("`{}{more}`", shown.escape_debug())
}

/// Splits `"64 MiB"` into 64 and `MiB`. At most one space; no sign, no fraction.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.strip_prefix(' ').unwrap_or(unit)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_read_and_printed() {
        for (text, bytes, shown) in [
            ("64MiB", 64 << 20, "64MiB"),
            ("64Mi", 64 << 20, "64MiB"),
            ("10MB", 10_000_000, "10MB"),
            ("512KiB", 512 << 10, "512KiB"),
            ("512 kib", 512 << 10, "512KiB"),
            ("2TiB", 2 << 40, "2048GiB"),
            ("1000", 1000, "1kB"),
            ("1001", 1001, "1001B"),
            ("0", 0, "0B"),
        ] {
            assert_eq!(ByteSize::parse(text), Ok(ByteSize(bytes)), "{text}");
            assert_eq!(ByteSize(bytes).to_string(), shown);
        }
        for text in ["", "MiB", "1.5GiB", "-1", "64M", "64  MiB", "99999999999TiB", "1 MiB ", "٣MiB"] {
            assert!(ByteSize::parse(text).is_err(), "{text}");
        }
        let told = ByteSize::parse("-1").map_err(|refusal| refusal.help);
        assert!(told.is_err_and(|help| help.contains("GiB, TiB (1024)") && help.contains("GB, TB (1000)")));
    }

    #[test]
    fn times_are_read_and_printed() {
        for (text, millis, shown) in [
            ("250ms", 250, "250ms"),
            ("5s", 5_000, "5s"),
            ("2m", 120_000, "2m"),
            ("24h", 86_400_000, "24h"),
            ("1d", 86_400_000, "24h"),
            ("7d", 604_800_000, "7d"),
            ("90s", 90_000, "90s"),
            ("0s", 0, "0s"),
        ] {
            let time = Duration::from_millis(millis);
            assert_eq!(parse_duration(text), Ok(time), "{text}");
            assert_eq!(show_duration(time), shown);
        }
        for text in ["", "s", "5", "5 minutes", "1h30m", "-5s", "1.5s", "999999999999999999d", "5S"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert_eq!(
            parse_duration("5").map_err(|refusal| refusal.to_string()),
            Err("`5` is not a time; add the unit: \"5s\", or one of ms, m, h, d".to_owned())
        );
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(bytes: u64, millis in 0..u64::MAX / 1000) {
            prop_assert_eq!(ByteSize::parse(&ByteSize(bytes).to_string()), Ok(ByteSize(bytes)));
            let time = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&show_duration(time)), Ok(time));
        }

        #[test]
        fn no_text_is_too_strange(text in ".*") {
            let _ = (ByteSize::parse(&text), parse_duration(&text));
        }
    }
}
