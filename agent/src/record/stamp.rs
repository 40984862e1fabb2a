//! Times that programs write themselves: in a field, or at the beginning of a line.
//!
//! In: the fields of a record, and the time that its runtime wrote. Out: the time that the program wrote, in nanoseconds
//! since the epoch; or that there is none, or one that is too far from the runtime's to be meant. It is judged by the record
//! alone: the same record has the same time whenever it is read. Never asks a clock.

use std::time::Duration;

use super::condition::member;
use super::fields::text_of;
use super::time::{NANOS_A_SECOND, Parts, seconds_of, year_of};

/// Members of an application's JSON that are looked for a time, in this order.
const MEMBERS: [&str; 5] = ["@timestamp", "timestamp", "time", "ts", "datetime"];

/// The layouts that are known: ISO 8601 and RFC 3339 with a blank or a `T`, Go's and nginx's with `/`, access logs', syslog's,
/// klog's.
const KNOWN: [&str; 7] = [
    "%Y-%m-%dT%H:%M:%S%.f%?z",
    "%Y-%m-%d %H:%M:%S%.f%?z",
    "%Y/%m/%d %H:%M:%S%.f%?z",
    "%d/%b/%Y:%H:%M:%S%.f%?z",
    "%b %e %H:%M:%S%.f%?z",
    "%a, %d %b %Y %H:%M:%S%?z",
    "%m%d %H:%M:%S%.f",
];

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// Where a record's time is, and how it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// The names on the way to the field; none: wherever it usually is.
    field: Option<Vec<String>>,
    format: Format,
    /// Minutes east of UTC where none are written.
    zone: i32,
    /// How much before, and behind, the runtime's time it may be, in nanoseconds.
    bounds: (i64, i64),
}

/// How a time is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// In one of the ways that are known.
    Known(Vec<Pattern>),
    /// A number since the epoch, so many of which are a second.
    Epoch(i64),
    /// By a pattern.
    Pattern(Pattern),
}

impl Format {
    /// By its name: `auto`, `rfc3339`, `epoch_s`, `epoch_ms`, `epoch_us`, `epoch_ns`, or a pattern.
    ///
    /// # Errors
    /// It is none of these: why.
    pub fn parse(text: &str) -> Result<Format, String> {
        Ok(match text {
            "auto" => Format::Known(KNOWN.into_iter().map(Pattern::parse).collect::<Result<_, _>>()?),
            "rfc3339" => Format::Pattern(Pattern::parse(KNOWN[0])?),
            "epoch_s" => Format::Epoch(1),
            "epoch_ms" => Format::Epoch(1_000),
            "epoch_us" => Format::Epoch(1_000_000),
            "epoch_ns" => Format::Epoch(NANOS_A_SECOND),
            text if text.contains('%') => Format::Pattern(Pattern::parse(text)?),
            _ => return Err("it is neither a known format nor a pattern".to_owned()),
        })
    }
}

/// A pattern of a time, by the letters of `strptime`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Vec<Item>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Item {
    Literal(u8),
    /// Blanks, at least one.
    Blanks,
    Year,
    YearOfCentury,
    Month,
    MonthName,
    Day,
    Hour,
    /// Of twelve.
    HalfHour,
    Minute,
    Second,
    /// Digits of a fraction.
    Fraction,
    /// The same with the sign before them, or nothing.
    MaybeFraction,
    Zone,
    /// The same, or nothing.
    MaybeZone,
    /// `AM` or `PM`.
    Half,
    /// The name of a day of the week.
    Weekday,
    /// Seconds since the epoch.
    Epoch,
}

impl Pattern {
    /// Reads `%Y-%m-%d %H:%M:%S` and the like.
    ///
    /// # Errors
    /// A letter that is not known, or a pattern that does not say enough.
    pub fn parse(text: &str) -> Result<Pattern, String> {
        let (mut items, mut rest) = (Vec::new(), text.as_bytes());
        while let Some((first, behind)) = rest.split_first() {
            rest = behind;
            if first.is_ascii_whitespace() {
                items.push(Item::Blanks);
                continue;
            }
            if *first != b'%' {
                items.push(Item::Literal(*first));
                continue;
            }
            let (letter, behind) = rest.split_first().ok_or("it ends with a `%`")?;
            rest = behind;
            let item = match letter {
                b'Y' => Item::Year,
                b'y' => Item::YearOfCentury,
                b'm' => Item::Month,
                b'b' | b'B' | b'h' => Item::MonthName,
                b'd' | b'e' => Item::Day,
                b'H' | b'k' => Item::Hour,
                b'I' | b'l' => Item::HalfHour,
                b'M' => Item::Minute,
                b'S' => Item::Second,
                b'f' | b'N' | b'L' => Item::Fraction,
                b'z' | b'Z' => Item::Zone,
                b'p' | b'P' => Item::Half,
                b'a' | b'A' => Item::Weekday,
                b's' => Item::Epoch,
                b'%' => Item::Literal(b'%'),
                b'.' | b'?' => {
                    let (kind, behind) = rest.split_first().ok_or("it ends within a letter")?;
                    rest = behind;
                    match (letter, kind) {
                        (b'.', b'f') => Item::MaybeFraction,
                        (b'?', b'z') => Item::MaybeZone,
                        _ => return Err(format!("`%{}{}` is not known", *letter as char, *kind as char)),
                    }
                }
                b'F' => {
                    items.extend([Item::Year, Item::Literal(b'-'), Item::Month, Item::Literal(b'-')]);
                    Item::Day
                }
                b'T' => {
                    items.extend([Item::Hour, Item::Literal(b':'), Item::Minute, Item::Literal(b':')]);
                    Item::Second
                }
                other => return Err(format!("`%{}` is not known", *other as char)),
            };
            items.push(item);
        }
        let has = |any: &[Item]| items.iter().any(|item| any.contains(item));
        let is_date = has(&[Item::Month, Item::MonthName]) && has(&[Item::Day]);
        let is_time = is_date && has(&[Item::Hour, Item::HalfHour]);
        if !is_time && !has(&[Item::Epoch]) {
            return Err("it does not say month, day and hour".to_owned());
        }
        Ok(Pattern(items))
    }

    /// The time that a text begins with, and how many bytes it takes. A year that is not written is the one that brings it
    /// nearest to `near`.
    fn read(&self, text: &[u8], zone: i32, near: i64) -> Option<(i64, usize)> {
        let mut at = 0;
        let (mut year, mut half, mut offset) = (None, None, zone);
        let mut parts = Parts { year: 0, month: 0, day: 0, hour: 0, minute: 0, second: 0 };
        let mut nanos = 0;
        for item in &self.0 {
            let rest = text.get(at..)?;
            at += match item {
                Item::Literal(byte) => (rest.first() == Some(byte)).then_some(1)?,
                Item::Blanks => Some(blanks(rest)).filter(|count| *count > 0)?,
                Item::Year => take(rest, 4..=4, |number| year = Some(number))?,
                Item::YearOfCentury => take(rest, 2..=2, |number| {
                    year = Some(number + if number < 69 { 2000 } else { 1900 });
                })?,
                Item::Month => take(rest, 1..=2, |number| parts.month = number)?,
                Item::MonthName => month(rest, &mut parts.month)?,
                Item::Day => {
                    let pad = usize::from(rest.first() == Some(&b' '));
                    pad + take(&rest[pad..], 1..=2, |number| parts.day = number)?
                }
                Item::Hour | Item::HalfHour => {
                    let pad = usize::from(rest.first() == Some(&b' '));
                    pad + take(&rest[pad..], 1..=2, |number| parts.hour = number)?
                }
                Item::Minute => take(rest, 2..=2, |number| parts.minute = number)?,
                Item::Second => take(rest, 2..=2, |number| parts.second = number)?,
                Item::Fraction => fraction(rest, &mut nanos)?,
                Item::MaybeFraction => match rest {
                    [b'.' | b',', digits @ ..] => 1 + fraction(digits, &mut nanos)?,
                    _ => 0,
                },
                Item::Zone => blanks(rest) + zone_of(&rest[blanks(rest)..], &mut offset)?,
                Item::MaybeZone => {
                    let pad = blanks(rest).min(1);
                    zone_of(&rest[pad..], &mut offset).map_or(0, |length| pad + length)
                }
                Item::Half => {
                    half = Some(match rest.first()?.to_ascii_uppercase() {
                        b'A' => 0,
                        b'P' => 12,
                        _ => return None,
                    });
                    rest.get(1)?.eq_ignore_ascii_case(&b'M').then_some(2)?
                }
                Item::Weekday => Some(letters(rest)).filter(|count| *count >= 3)?,
                Item::Epoch => {
                    let digits = digits(rest);
                    let seconds: i64 = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
                    let nanos = seconds.checked_mul(NANOS_A_SECOND)?;
                    return Some((nanos, at + digits));
                }
            };
        }
        if let Some(half) = half {
            (1..=12).contains(&parts.hour).then_some(())?;
            parts.hour = parts.hour % 12 + half;
        }
        let of_year = |year: u32| {
            let seconds = seconds_of(&Parts { year, ..parts })? - i64::from(offset) * 60;
            seconds.checked_mul(NANOS_A_SECOND)?.checked_add(nanos)
        };
        let time = match year {
            Some(year) => of_year(year)?,
            None => {
                let own = year_of(near);
                let years = own.saturating_sub(1)..=own + 1;
                years.filter_map(of_year).min_by_key(|time| time.abs_diff(near))?
            }
        };
        Some((time, at))
    }
}

fn blanks(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

fn digits(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

fn letters(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_alphabetic()).count()
}

/// A number of so many digits, and how many they were.
fn take(text: &[u8], count: std::ops::RangeInclusive<usize>, set: impl FnOnce(u32)) -> Option<usize> {
    let found = digits(&text[..text.len().min(*count.end())]);
    if !count.contains(&found) {
        return None;
    }
    set(text[..found].iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0')));
    Some(found)
}

/// Digits of a fraction; beyond the ninth they say nothing.
fn fraction(text: &[u8], nanos: &mut i64) -> Option<usize> {
    let found = digits(text);
    if found == 0 {
        return None;
    }
    *nanos = (0..9).fold(0, |number, place| {
        number * 10 + text[..found].get(place).map_or(0, |digit| i64::from(digit - b'0'))
    });
    Some(found)
}

fn month(text: &[u8], month: &mut u32) -> Option<usize> {
    let name = text.get(..3)?.to_ascii_lowercase();
    *month = (1..).zip(MONTHS).find(|(_, known)| known.as_bytes() == name)?.0;
    Some(letters(text))
}

/// `Z`, `UTC`, `GMT`, `+09`, `+0900` or `+09:00`.
fn zone_of(text: &[u8], offset: &mut i32) -> Option<usize> {
    let sign = match text.first()? {
        b'+' => 1,
        b'-' => -1,
        _ => {
            let name = &text[..letters(text)];
            // A word that only begins so is no zone: the one that is said stays.
            if !matches!(name, b"Z" | b"z" | b"UTC" | b"GMT") {
                return None;
            }
            *offset = 0;
            return Some(name.len());
        }
    };
    let (mut hours, mut minutes) = (0, 0);
    let mut at = 1 + take(&text[1..], 2..=2, |number| hours = number)?;
    let colon = usize::from(text.get(at) == Some(&b':'));
    if let Some(taken) = take(text.get(at + colon..).unwrap_or_default(), 2..=2, |number| minutes = number) {
        at += colon + taken;
    }
    if hours > 23 || minutes > 59 {
        return None;
    }
    *offset = sign * (hours * 60 + minutes) as i32;
    Some(at)
}

/// Minutes east of UTC of an offset such as `+09:00`; none of anything else.
pub fn parse_zone(text: &str) -> Option<i32> {
    let mut offset = 0;
    let length = zone_of(text.as_bytes(), &mut offset)?;
    (length == text.len()).then_some(offset)
}

impl Stamp {
    /// The field's name, or none for wherever a time usually is; how it is written; minutes east of UTC where it does not say;
    /// and how much before and behind the runtime's it may be.
    pub fn new(field: Option<&str>, format: Format, zone: i32, (past, ahead): (Duration, Duration)) -> Stamp {
        let nanos = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        let field = field.map(|name| name.split('.').map(str::to_owned).collect());
        Stamp { field, format, zone, bounds: (nanos(past), nanos(ahead)) }
    }

    /// The time of a record of which these fields were made, not closed yet, with JSON under `app`; `merged`: it will not stay
    /// there. `parsed` is what the form of its line says is one, and `written` the runtime's.
    pub fn of(&self, document: &[u8], merged: bool, parsed: Option<&[u8]>, written: i64) -> Option<i64> {
        let time = match &self.field {
            Some(path) => self.read(&text_of(field(document, path, merged)?), true, written),
            None => self.usual(document, parsed, written),
        }?;
        let (past, ahead) = self.bounds;
        (written.saturating_sub(past)..=written.saturating_add(ahead)).contains(&time).then_some(time)
    }

    fn usual(&self, document: &[u8], parsed: Option<&[u8]>, written: i64) -> Option<i64> {
        let parsed = parsed.and_then(|parsed| self.read(&String::from_utf8_lossy(parsed), true, written));
        let of_member = |name: &&str| {
            let value = member(document, &["app", name])?;
            self.read(&text_of(value), true, written)
        };
        let found = parsed.or_else(|| MEMBERS.iter().find_map(of_member));
        // A number that a line begins with is seldom a time.
        found.or_else(|| self.read(&text_of(member(document, &["message"])?), false, written))
    }

    /// The time that a text begins with. `numbers`: where it is a number too, if any format does.
    fn read(&self, text: &str, numbers: bool, near: i64) -> Option<i64> {
        let text = text.as_bytes();
        match &self.format {
            Format::Epoch(unit) => epoch(text, Some(*unit)),
            Format::Pattern(pattern) => end(text, pattern.read(text, self.zone, near)?),
            Format::Known(patterns) => {
                if numbers && let Some(time) = epoch(text, None) {
                    return Some(time);
                }
                let text = behind_opening(text);
                patterns.iter().find_map(|pattern| end(text, pattern.read(text, self.zone, near)?))
            }
        }
    }
}

/// Where what a path leads to stands, which may have the dots in its name. Where JSON is `merged`, a field at the top and one
/// under `app` are one.
fn field<'a>(document: &'a [u8], path: &[String], merged: bool) -> Option<&'a [u8]> {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let (is_apps, name) = match &path[..] {
        ["app", name @ ..] => (true, name),
        name => (false, name),
    };
    let dotted = name.join(".");
    let within = |object: &'a [u8]| member(object, name).or_else(|| member(object, &[&dotted]));
    let (at_top, in_app) = (|| within(document), || within(member(document, &["app"])?));
    match (is_apps, merged) {
        (true, true) => in_app().or_else(at_top),
        (true, false) => in_app(),
        (false, true) => at_top().or_else(in_app),
        (false, false) => at_top(),
    }
}

/// A time that does not go on as a word or a number.
fn end(text: &[u8], (time, length): (i64, usize)) -> Option<i64> {
    (!text.get(length).is_some_and(u8::is_ascii_alphanumeric)).then_some(time)
}

/// What stands before a time at the beginning of a line: blanks, syslog's priority and version, a bracket, klog's letter.
fn behind_opening(text: &[u8]) -> &[u8] {
    let mut text = text.trim_ascii_start();
    if let [b'<', rest @ ..] = text
        && let count @ 1..=3 = digits(rest)
        && rest.get(count) == Some(&b'>')
    {
        text = &rest[count + 1..];
        text = text.strip_prefix(b"1 ").unwrap_or(text);
    }
    match text {
        [b'[' | b'(', rest @ ..] => rest,
        [b'I' | b'W' | b'E' | b'F', rest @ ..] if digits(rest) == 4 => rest,
        _ => text,
    }
}

/// A number since the epoch, whole or with a fraction. Without a unit it is told by how large it is.
fn epoch(text: &[u8], unit: Option<i64>) -> Option<i64> {
    let text = text.trim_ascii();
    let whole_length = digits(text);
    let (whole, rest) = text.split_at(whole_length);
    let mut fraction_nanos = 0;
    let is_whole = match rest {
        [] => true,
        [b'.', rest @ ..] if fraction(rest, &mut fraction_nanos) == Some(rest.len()) => false,
        _ => return None,
    };
    let number: i64 = std::str::from_utf8(whole).ok()?.parse().ok()?;
    // Seconds up to the year 5138, and the others from 1973 on.
    let told = [(100_000_000_000, 1), (100_000_000_000_000, 1_000), (100_000_000_000_000_000, 1_000_000)];
    let told = told.iter().find(|(below, _)| number < *below).map_or(NANOS_A_SECOND, |(_, unit)| *unit);
    let unit = unit.unwrap_or(told);
    let nanos = number.checked_mul(NANOS_A_SECOND / unit)?;
    if is_whole { Some(nanos) } else { nanos.checked_add(fraction_nanos / unit) }
}

#[cfg(test)]
#[path = "stamp_tests.rs"]
mod tests;
