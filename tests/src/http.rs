//! Just enough of HTTP/1.1 for loopback: requests to the servers, and both sides of the faulty proxy.
//!
//! What comes in and goes out: whole messages. It never does TLS, pipelining or streaming, and a client's connection
//! carries one request. Any ordinary client would do; this one brings no crate whose features would
//! change how the agent is built in the same workspace.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long a reply may take; an overloaded server needs seconds for a first index.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a client asks.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET`, `POST`, ….
    pub method: String,
    /// The path with its query, as on the wire.
    pub target: String,
    /// Names in lower case, values as they came.
    pub headers: Vec<(String, String)>,
    /// The body, still compressed if it came so.
    pub body: Vec<u8>,
}

/// What a server answers.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// Names in lower case, values as they came.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// The body, inflated if it is gzip.
    ///
    /// # Errors
    /// When it claims to be gzip and is not.
    pub fn plain_body(&self) -> io::Result<Vec<u8>> {
        if self.header("content-encoding") != Some("gzip") {
            return Ok(self.body.clone());
        }
        let mut plain = Vec::new();
        flate2::read::MultiGzDecoder::new(&self.body[..]).read_to_end(&mut plain)?;
        Ok(plain)
    }
}

impl Reply {
    /// A JSON reply.
    pub fn json(status: u16, body: &serde_json::Value) -> Reply {
        let headers = vec![("content-type".into(), "application/json".into())];
        Reply { status, headers, body: body.to_string().into_bytes() }
    }
}

/// Sends one request with a JSON (or, for `_bulk`, NDJSON) body and reads the whole reply.
///
/// # Errors
/// When nobody listens there, the connection breaks, or 60 s pass without a byte.
pub fn send(address: SocketAddr, method: &str, target: &str, body: &[u8]) -> io::Result<Reply> {
    let kind = if target.contains("_bulk") { "application/x-ndjson" } else { "application/json" };
    let headers = vec![("content-type".to_owned(), kind.to_owned())];
    forward(address, &Request { method: method.into(), target: target.into(), headers, body: body.to_vec() })
}

/// Sends `request` over a connection of its own and reads the whole reply.
///
/// # Errors
/// As [`send`].
pub fn forward(address: SocketAddr, request: &Request) -> io::Result<Reply> {
    forward_within(address, request, PATIENCE)
}

/// The same with another patience: so long may pass without a byte.
///
/// # Errors
/// As [`send`].
pub fn forward_within(address: SocketAddr, request: &Request, patience: Duration) -> io::Result<Reply> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_nodelay(true)?;
    // Not `connection: close`: a server that finds a request too large would then close before it has read all of it, and
    // its answer would be lost in the reset.
    let mut head = format!("{} {} HTTP/1.1\r\nhost: {address}\r\n", request.method, request.target);
    write_headers(&mut head, &request.headers, request.body.len());
    (&stream).write_all(head.as_bytes())?;
    (&stream).write_all(&request.body)?;
    let mut reader = BufReader::new(stream);
    let line = read_line(&mut reader)?.ok_or_else(|| invalid("no reply"))?;
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| invalid(&format!("not a status line: {line:?}")))?;
    let headers = read_headers(&mut reader)?;
    let body = if request.method == "HEAD" { Vec::new() } else { read_body(&mut reader, &headers)? };
    Ok(Reply { status, headers, body })
}

/// Reads the next request of a client's connection; `None` when the client has closed it. `writer` is its other
/// direction, for a client that wants to be told to go on.
///
/// # Errors
/// When the connection breaks, or what comes is not HTTP.
pub fn read_request(reader: &mut impl BufRead, writer: &mut impl Write) -> io::Result<Option<Request>> {
    let Some(line) = read_line(reader)? else { return Ok(None) };
    let mut words = line.split(' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Err(invalid(&format!("not a request line: {line:?}")));
    };
    let (method, target) = (method.to_owned(), target.to_owned());
    let headers = read_headers(reader)?;
    if header(&headers, "expect").is_some() {
        writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let bodied = ["content-length", "transfer-encoding"].iter().any(|name| header(&headers, name).is_some());
    let body = if bodied { read_body(reader, &headers)? } else { Vec::new() };
    Ok(Some(Request { method, target, headers, body }))
}

/// A reply as it goes to a client, whose connection stays open.
pub fn message_of(reply: &Reply) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {} reason\r\n", reply.status);
    write_headers(&mut head, &reply.headers, reply.body.len());
    let mut message = head.into_bytes();
    message.extend_from_slice(&reply.body);
    message
}

fn header<'h>(headers: &'h [(String, String)], name: &str) -> Option<&'h str> {
    headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// Headers that speak of the body's framing or of the connection are ours to write, not to pass on.
fn write_headers(head: &mut String, headers: &[(String, String)], length: usize) {
    for (name, value) in headers {
        if !["host", "connection", "content-length", "transfer-encoding", "expect"].contains(&name.as_str()) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    head.push_str(&format!("content-length: {length}\r\n\r\n"));
}

fn read_line(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    line.truncate(line.trim_end_matches(['\r', '\n']).len());
    Ok(Some(line))
}

fn read_headers(reader: &mut impl BufRead) -> io::Result<Vec<(String, String)>> {
    let mut headers = Vec::new();
    loop {
        let line = read_line(reader)?.ok_or_else(|| invalid("the connection ended within the headers"))?;
        if line.is_empty() {
            return Ok(headers);
        }
        let (name, value) =
            line.split_once(':').ok_or_else(|| invalid(&format!("not a header: {line:?}")))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

fn read_body(reader: &mut impl BufRead, headers: &[(String, String)]) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if header(headers, "transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        loop {
            let line = read_line(reader)?.ok_or_else(|| invalid("the connection ended within a chunk"))?;
            let size = line.split(';').next().and_then(|hex| usize::from_str_radix(hex.trim(), 16).ok());
            let size = size.ok_or_else(|| invalid(&format!("not a chunk's size: {line:?}")))?;
            let start = body.len();
            body.resize(start + size, 0);
            reader.read_exact(&mut body[start..])?;
            read_line(reader)?;
            if size == 0 {
                return Ok(body);
            }
        }
    }
    match header(headers, "content-length") {
        Some(length) => {
            body.resize(length.parse().map_err(|_| invalid(&format!("not a length: {length:?}")))?, 0);
            reader.read_exact(&mut body)?;
        }
        None => {
            reader.read_to_end(&mut body)?;
        }
    }
    Ok(body)
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_body_is_put_together() {
        let headers = vec![("transfer-encoding".to_owned(), "chunked".to_owned())];
        let body = read_body(&mut &b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\nrest"[..], &headers).unwrap();
        assert_eq!(body, b"abcde");
    }

    #[test]
    fn a_body_that_ends_early_is_an_error() {
        let headers = vec![("content-length".to_owned(), "10".to_owned())];
        assert!(read_body(&mut &b"short"[..], &headers).is_err());
    }
}
