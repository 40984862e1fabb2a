//! What other agents speak: OTLP by HTTP, and lines of JSON as VictoriaLogs takes them.
//!
//! In: a request's body, packed as its `Content-Encoding` says. Out: how many records it holds, exactly, and the reply of
//! a server that took them all. A body that is not wholly understood is an error, and counts for nothing.

use crate::bulk::string_after;
use crate::clock::{self, Nanos};
use crate::sink;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use memchr::memmem;
use std::io::Read;

/// A protocol beside that of bulk requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `POST /v1/logs`, protobuf.
    Otlp,
    /// `POST /insert/jsonline`: an object a line.
    JsonLines,
}

impl Protocol {
    /// That of a path, if it is one of these.
    pub fn of(path: &str) -> Option<Protocol> {
        match path {
            "/v1/logs" => Some(Protocol::Otlp),
            "/insert/jsonline" => Some(Protocol::JsonLines),
            _ => None,
        }
    }

    /// The records of a body.
    pub fn count(self, body: &[u8]) -> Result<u64, String> {
        match self {
            Protocol::Otlp => log_records(body),
            Protocol::JsonLines => json_lines(body),
        }
    }

    /// The times of those records of a body, which has been counted, that `wanted` says: of lines of JSON only.
    pub fn times(self, body: &[u8], wanted: impl Fn(&[u8]) -> bool) -> Vec<Nanos> {
        if self == Protocol::Otlp {
            return Vec::new();
        }
        let lines = body.split(|byte| *byte == b'\n').filter(|line| wanted(line));
        lines.filter_map(|line| clock::parse(string_after(line, b"\"_time\":")?)).collect()
    }

    /// What a server answers that took everything: an `ExportLogsServiceResponse` without a word, thus of no bytes, or
    /// nothing at all.
    pub fn accepted(self) -> Response {
        match self {
            Protocol::Otlp => ([(header::CONTENT_TYPE, "application/x-protobuf")], "").into_response(),
            Protocol::JsonLines => "".into_response(),
        }
    }
}

/// Appends the body that was packed as `encoding` says.
pub fn unpack(encoding: &[u8], wire: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    match encoding {
        b"identity" => out.extend_from_slice(wire),
        b"gzip" => sink::inflate(wire, out)?,
        b"zstd" => {
            let mut decoder =
                ruzstd::decoding::StreamingDecoder::new(wire).map_err(|error| error.to_string())?;
            decoder.read_to_end(out).map_err(|error| format!("broken zstd: {error}"))?;
            if !decoder.get_ref().is_empty() {
                return Err("bytes after the zstd frame".into());
            }
        }
        other => return Err(format!("unknown Content-Encoding {}", String::from_utf8_lossy(other))),
    }
    Ok(())
}

/// Lines that are objects with a message, as far as their ends tell: a server would parse them.
fn json_lines(body: &[u8]) -> Result<u64, String> {
    let text = body.strip_suffix(b"\n").ok_or("the last line has no end")?;
    let mut count = 0;
    for line in text.split(|byte| *byte == b'\n') {
        if !line.starts_with(b"{") || !line.ends_with(b"}") || memmem::find(line, b"\"_time\"").is_none() {
            return Err(format!(
                "no object with a time: {}",
                String::from_utf8_lossy(&line[..line.len().min(120)])
            ));
        }
        count += 1;
    }
    Ok(count)
}

/// An `ExportLogsServiceRequest` holds ResourceLogs in its field 1, these ScopeLogs in their field 2, and these LogRecords
/// in their field 2.
fn log_records(body: &[u8]) -> Result<u64, String> {
    let mut count = 0;
    each_field(body, 1, &mut |resource| {
        each_field(resource, 2, &mut |scope| {
            each_field(scope, 2, &mut |record| {
                count += 1;
                // Its fields must be sound too: 5 is the body.
                let mut has_body = false;
                each_field(record, 5, &mut |_| {
                    has_body = true;
                    Ok(())
                })?;
                if has_body { Ok(()) } else { Err("a log record without a body".into()) }
            })
        })
    })?;
    Ok(count)
}

/// Calls `visit` with each value of the field `number` (of bytes) of a protobuf message, and passes over all others.
fn each_field(
    mut message: &[u8],
    number: u64,
    visit: &mut dyn FnMut(&[u8]) -> Result<(), String>,
) -> Result<(), String> {
    while !message.is_empty() {
        let key = varint(&mut message)?;
        match key & 7 {
            0 => {
                varint(&mut message)?;
            }
            1 => message = message.get(8..).ok_or("a cut field")?,
            2 => {
                let length = usize::try_from(varint(&mut message)?).unwrap_or(usize::MAX);
                let (value, rest) = message.split_at_checked(length).ok_or("a cut field")?;
                message = rest;
                if key >> 3 == number {
                    visit(value)?;
                }
            }
            5 => message = message.get(4..).ok_or("a cut field")?,
            other => return Err(format!("a field of the unknown type {other}")),
        }
    }
    Ok(())
}

fn varint(message: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first().ok_or("a cut number")?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("a number of too many bytes".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, value: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(value.len()).unwrap()], value].concat()
    }

    #[test]
    fn log_records_are_counted_and_a_cut_body_is_none() {
        let record = [vec![0x09, 1, 2, 3, 4, 5, 6, 7, 8, 0x10, 0x91, 1], field(5, b"\x0a\x01a")].concat();
        let scope = [field(1, b""), field(2, &record), field(2, &record)].concat();
        let body = field(1, &[field(1, b""), field(2, &scope), field(2, &scope)].concat());
        assert_eq!(Protocol::Otlp.count(&[body.clone(), body.clone()].concat()), Ok(8));
        assert!(Protocol::Otlp.count(&body[..body.len() - 1]).is_err());
        assert!(Protocol::Otlp.count(&field(1, &field(2, &field(2, b"")))).is_err());
    }

    #[test]
    fn lines_are_counted_and_must_be_objects_to_their_end() {
        let line = "{\"_time\":\"2026-11-23T15:54:01Z\",\"_msg\":\"a\"}\n";
        assert_eq!(Protocol::JsonLines.count(line.repeat(3).as_bytes()), Ok(3));
        assert!(Protocol::JsonLines.count(line.trim_end().as_bytes()).is_err());
        assert!(Protocol::JsonLines.count(b"{\"_time\":1}\ntext\n").is_err());
        assert!(Protocol::JsonLines.count(b"").is_err());
    }

    #[test]
    fn times_are_those_of_the_lines_that_are_wanted() {
        let body = "{\"_time\":\"1970-01-01T00:00:01Z\",\"_msg\":\"a\"}\n{\"_time\":\"1970-01-01T00:00:02Z\",\"_msg\":\"b\"}\n";
        let times = Protocol::JsonLines.times(body.as_bytes(), |line| line.ends_with(b"\"b\"}"));
        assert_eq!(times, [Nanos(2_000_000_000)]);
    }

    #[test]
    fn bodies_are_unpacked_as_they_say() {
        // Of the reference tool: `printf hello | zstd`.
        let packed = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58, 0x29, 0x00, 0x00, b'h', b'e', b'l', b'l', b'o'];
        let mut out = Vec::new();
        unpack(b"zstd", &packed, &mut out).unwrap();
        unpack(b"identity", b"!", &mut out).unwrap();
        assert_eq!(out, b"hello!");
        assert!(unpack(b"zstd", &packed[..12], &mut out).is_err());
        assert!(unpack(b"zstd", &packed.repeat(2), &mut out).is_err());
        assert!(unpack(b"br", b"", &mut out).is_err());
    }
}
