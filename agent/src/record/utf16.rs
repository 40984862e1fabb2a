//! Content in UTF-16, as Windows programs and PowerShell print it.
//!
//! In: one record's content, which whoever split lines at the byte 0x0A may have torn from half a character. Out: its
//! text, or that it is something else. Never: looks at more than two bytes of an ordinary record, or takes for UTF-16
//! what reads no worse as UTF-8 with NULs in it.

/// Which byte of a unit comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// The low one: by far the commonest.
    Little,
    /// The high one.
    Big,
}

/// The text of a body in UTF-16; none if it is not.
pub(super) fn read(content: &[u8]) -> Option<String> {
    if may_be(content) { decode(content) } else { None }
}

/// Whether content begins as UTF-16 may: with a byte order mark, or a NUL among its first two bytes (the high byte of a
/// Latin letter, or of the newline before).
#[inline]
pub(super) fn may_be(content: &[u8]) -> bool {
    matches!(content, [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, ..] | [_, 0, ..])
}

/// The text of content that [`may_be`] UTF-16, without its byte order mark. None if it is not: it has half of a
/// surrogate pair, a control character other than a tab or a carriage return, or half a character that no newline
/// explains; or it reads as UTF-8 too.
///
/// A newline is `0A 00` in little-endian order and `00 0A` in big-endian: split at its 0A, a line has the NUL of the
/// newline before it at its beginning, or that of its own at its end. A line that has both, and is not of Latin letters
/// alone, could be either; it is read as little-endian.
#[cold]
pub(super) fn decode(content: &[u8]) -> Option<String> {
    match content {
        [0xff, 0xfe, rest @ ..] => return text(rest, Order::Little),
        [0xfe, 0xff, rest @ ..] => return text(without_last_nul(rest).unwrap_or(rest), Order::Big),
        _ => {}
    }
    let found = if content.len() % 2 == 1 {
        let little = content.strip_prefix(b"\0").and_then(|rest| text(rest, Order::Little));
        little.or_else(|| text(without_last_nul(content)?, Order::Big))
    } else {
        let order = if content.first() == Some(&0) { Order::Big } else { Order::Little };
        text(content, order)
    }?;
    // Bytes such as `a\0bc` are valid both ways: then most characters must be Latin, and bring a NUL each.
    let latin = found.chars().filter(|character| *character <= 'ÿ').count();
    let mostly_latin = found.is_empty() || latin * 2 > found.chars().count();
    (mostly_latin || !is_utf8_text(content)).then_some(found)
}

/// Content of odd length without the NUL at its end.
fn without_last_nul(content: &[u8]) -> Option<&[u8]> {
    if content.len() % 2 == 1 { content.strip_suffix(b"\0") } else { None }
}

fn text(bytes: &[u8], order: Order) -> Option<String> {
    let (units, []) = bytes.as_chunks::<2>() else { return None };
    let units = units.iter().map(|unit| match order {
        Order::Little => u16::from_le_bytes(*unit),
        Order::Big => u16::from_be_bytes(*unit),
    });
    let mut text = String::new();
    for character in char::decode_utf16(units) {
        let character = character.ok()?;
        if character.is_control() && !matches!(character, '\t' | '\r') {
            return None;
        }
        // At the beginning it is the mark of the byte order.
        if !(text.is_empty() && character == '\u{feff}') {
            text.push(character);
        }
    }
    Some(text)
}

/// Whether bytes are something to be read as UTF-8, NULs aside.
fn is_utf8_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| {
        text.chars()
            .all(|character| !character.is_control() || matches!(character, '\0' | '\t' | '\r' | '\x1b'))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(content: &[u8]) -> Option<String> {
        if may_be(content) { decode(content) } else { None }
    }

    #[test]
    fn what_is_utf16() {
        let cases: [(&[u8], &str); 15] = [
            (b"\xff\xfe", ""),
            (b"\xff\xfea\0\r\0", "a\r"),
            (b"\xff\xfe-N", "中"),
            (b"\xfe\xff\0a\0", "a"),
            (b"\xfe\xff\0a", "a"),
            (b"\xfe\xffN-\0", "中"),
            // Between the newlines of a text in little-endian order.
            (b"\0", ""),
            (b"\0a\0b\0", "ab"),
            (b"\0-N\x87e", "中文"),
            (b"\0\0N\x87e", "一文"),
            (b"\0=\xd8\xa2\xde", "🚢"),
            (b"\0\xff\xfea\0", "a"),
            // Without a mark, and without a newline.
            (b"a\0\xe9\0", "aé"),
            (b"\0a\0\xe9", "aé"),
            (b"{\0\"\0-N\"\0:\x001\0}\0", "{\"中\":1}"),
        ];
        for (content, expected) in cases {
            assert_eq!(read(content).as_deref(), Some(expected), "{}", content.escape_ascii());
        }
    }

    #[test]
    fn what_is_not() {
        let cases: [&[u8]; 17] = [
            b"",
            b"a",
            b"plain text",
            b"ends with a NUL\0",
            "日本語".as_bytes(),
            b"\0\0",
            b"\0\0\0\0\0",
            // Control characters: escapes of a terminal too.
            b"\x1b\0[\x002\0J\0",
            b"\xff\xfe\x85\0",
            // Half a pair, half a character.
            b"\xff\xfe\x3d\xd8",
            b"\xff\xfea\0b",
            b"\xfe\xff\0ab",
            b"a\0b",
            // Texts in UTF-8 with NULs in them.
            b"a\0bc",
            b"\0./a\0./b\0./c\0",
            b"\0PATH=/bin",
            b"x\0y=1\0HOME=/root\0",
        ];
        for content in cases {
            assert_eq!(read(content), None, "{}", content.escape_ascii());
        }
    }

    /// Text that a split at the byte 0x0A tears only at its newlines.
    fn line(characters: impl Strategy<Value = char>) -> impl Strategy<Value = String> {
        let torn = |character: &char| {
            let mut units = [0; 2];
            character.encode_utf16(&mut units).iter().any(|unit| unit.to_le_bytes().contains(&b'\n'))
        };
        let whole = characters
            .prop_filter("it would not be read", move |c| !c.is_control() && *c != '\u{feff}' && !torn(c));
        (prop::collection::vec(whole, 0..12), prop::sample::select(vec!["", "\r"]))
            .prop_map(|(line, end)| line.into_iter().collect::<String>() + end)
    }

    fn any_line() -> impl Strategy<Value = String> {
        let others = prop_oneof![range('\u{4e00}', '\u{9fff}'), range('\u{400}', '\u{4ff}'), any::<char>()];
        line(prop_oneof![latin(), others])
    }

    fn latin() -> impl Strategy<Value = char> {
        prop_oneof![range(' ', '~'), range('\u{a0}', 'ÿ')]
    }

    fn range(first: char, last: char) -> proptest::char::CharStrategy<'static> {
        proptest::char::range(first, last)
    }

    fn lines_of(first: &str, rest: &[String], encode: fn(u16) -> [u8; 2]) -> Vec<Vec<u8>> {
        let text = rest.iter().fold(format!("\u{feff}{first}\n"), |text, line| text + line + "\n");
        let bytes: Vec<u8> = text.encode_utf16().flat_map(encode).collect();
        bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
    }

    proptest! {
        #[test]
        fn little_endian_text_is_read_line_by_line(
            first in any_line(),
            rest in prop::collection::vec(any_line(), 0..5),
        ) {
            let torn = lines_of(&first, &rest, u16::to_le_bytes);
            prop_assert_eq!(torn.len(), rest.len() + 2);
            prop_assert_eq!(read(&torn[0]), Some(first));
            for (line, bytes) in rest.iter().zip(&torn[1..]) {
                // A few letters of other scripts, and the NUL before them: this could be text in UTF-8.
                if read(bytes).is_some() || !is_utf8_text(bytes) {
                    prop_assert_eq!(read(bytes), Some(line.clone()));
                }
            }
            prop_assert_eq!(&torn[rest.len() + 1], b"\0");
        }

        #[test]
        fn big_endian_text_is_read_line_by_line(
            first in any_line(),
            rest in prop::collection::vec(line(latin()), 0..5),
        ) {
            let torn = lines_of(&first, &rest, u16::to_be_bytes);
            prop_assert_eq!(torn.len(), rest.len() + 2);
            for (line, bytes) in [first].iter().chain(&rest).zip(&torn) {
                prop_assert_eq!(read(bytes), Some(line.clone()));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            for content in [&bytes[..], &[&[0xff, 0xfe], &bytes[..]].concat(), &[&[0], &bytes[..]].concat()] {
                let _ = (may_be(content), decode(content));
            }
        }
    }
}
