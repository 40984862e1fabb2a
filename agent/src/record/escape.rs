//! Text into JSON strings.
//!
//! In: any bytes. Out: the inside of a JSON string, valid UTF-8 whatever came in. Never: writes the quotes around it,
//! or goes byte by byte where nothing needs escaping.

/// Appends `bytes` to `out` as the inside of a JSON string, without the quotes. What is not valid UTF-8 becomes U+FFFD,
/// one for each piece that `String::from_utf8_lossy` would replace. Returns whether there was any.
pub fn append_escaped(out: &mut Vec<u8>, bytes: &[u8]) -> bool {
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            append_str(out, text);
            false
        }
        Err(_) => {
            append_lossy(out, bytes);
            true
        }
    }
}

/// `append_escaped` for bytes that are known to hold invalid UTF-8.
pub(super) fn append_lossy(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        append_str(out, chunk.valid());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// `append_escaped` for what is known to be valid UTF-8.
#[inline]
pub(crate) fn append_str(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    out.reserve(bytes.len());
    let mut from = 0;
    loop {
        let to = plain_until(bytes, from);
        out.extend_from_slice(&bytes[from..to]);
        let Some(&byte) = bytes.get(to) else { return };
        append_escape(out, byte);
        from = to + 1;
    }
}

/// Appends the escape of one quote, backslash or control character.
fn append_escape(out: &mut Vec<u8>, byte: u8) {
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\t' => b't',
        b'\r' => b'r',
        0x08 => b'b',
        0x0c => b'f',
        _ => {
            let digit = |value: u8| b"0123456789abcdef"[usize::from(value & 0xf)];
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// Where the plain run that begins at `from` ends: the place of the first byte that cannot stand for itself in a JSON
/// string (quote, backslash, control character), or the length.
#[inline]
pub(super) fn plain_until(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    // Eight bytes a step. Sixteen by vector instructions gain 10% on plain text, but cost JSON 20%: most of its strings
    // are names and short values, which end within the first step or two.
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let special = special_bytes(u64::from_le_bytes(*chunk));
        if special != 0 {
            return at + special.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while let Some(&byte) = bytes.get(at) {
        if byte < b' ' || byte == b'"' || byte == b'\\' {
            break;
        }
        at += 1;
    }
    at
}

/// The highest bit of each byte that is a quote, a backslash or a control character. Only the lowest of the bits is
/// to be trusted: a subtraction may borrow from the bytes above the first that was found.
#[inline]
fn special_bytes(eight: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = ONES * 0x80;
    let quote = eight ^ (ONES * b'"' as u64);
    let backslash = eight ^ (ONES * b'\\' as u64);
    let control = eight.wrapping_sub(ONES * b' ' as u64) & !eight;
    let quote = quote.wrapping_sub(ONES) & !quote;
    let backslash = backslash.wrapping_sub(ONES) & !backslash;
    (quote | backslash | control) & HIGHS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escaped(bytes: &[u8]) -> (String, bool) {
        let mut out = Vec::new();
        let invalid = append_escaped(&mut out, bytes);
        (String::from_utf8(out).unwrap(), invalid)
    }

    #[test]
    fn escapes() {
        let cases: [(&[u8], &str, bool); 10] = [
            (b"", "", false),
            (b"plain", "plain", false),
            (b"say \"hi\"", r#"say \"hi\""#, false),
            (br"C:\temp", r"C:\\temp", false),
            (b"a\tb\nc\rd\x08e\x0cf", r"a\tb\nc\rd\be\ff", false),
            (b"\x1b[31mred\x1b[0m\x00\x1f\x7f", "\\u001b[31mred\\u001b[0m\\u0000\\u001f\x7f", false),
            ("日本語 \u{2028}🚢".as_bytes(), "日本語 \u{2028}🚢", false),
            (b"latin1 \xe9t\xe9", "latin1 \u{fffd}t\u{fffd}", true),
            (b"cut \xe6\x97", "cut \u{fffd}", true),
            (b"\xed\xa0\x80\"", "\u{fffd}\u{fffd}\u{fffd}\\\"", true),
        ];
        for (bytes, expected, invalid) in cases {
            assert_eq!(escaped(bytes), (expected.to_owned(), invalid));
        }
    }

    #[test]
    fn every_byte_at_every_place_of_a_chunk() {
        for byte in 0..=255_u8 {
            for place in 0..24 {
                let mut bytes = [b'a'; 24];
                bytes[place] = byte;
                let plain = byte >= b' ' && byte != b'"' && byte != b'\\';
                assert_eq!(plain_until(&bytes, 0), if plain { 24 } else { place }, "{byte} at {place}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_reader_gets_back_what_was_escaped(bytes: Vec<u8>, text: String) {
            for bytes in [&bytes[..], text.as_bytes()] {
                let (inside, invalid) = escaped(bytes);
                let read: String = serde_json::from_str(&format!("\"{inside}\"")).unwrap();
                prop_assert_eq!(&read, &String::from_utf8_lossy(bytes));
                prop_assert_eq!(invalid, std::str::from_utf8(bytes).is_err());
            }
        }

        #[test]
        fn a_run_ends_at_its_first_special_byte(bytes in prop::collection::vec(b'\x1c'..=b'%', 0..40)) {
            let expected = bytes.iter().position(|byte| *byte < b' ' || *byte == b'"' || *byte == b'\\');
            prop_assert_eq!(plain_until(&bytes, 0), expected.unwrap_or(bytes.len()));
        }
    }
}
