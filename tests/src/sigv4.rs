//! A verifier of Signature Version 4, written from AWS's published algorithm ("Create a signed AWS API request").

use aws_lc_rs::{digest, hmac};

/// A request, as it came.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// `GET`, `POST`, ….
    pub method: &'a str,
    /// The path with its query, as on the wire.
    pub target: &'a str,
    /// Names in lower case.
    pub headers: &'a [(String, String)],
    /// The body, as it came.
    pub body: &'a [u8],
}

impl Request<'_> {
    fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

/// What a request was signed as.
#[derive(Debug, PartialEq, Eq)]
pub struct Signed {
    /// Whose key.
    pub key_id: String,
    /// For which region.
    pub region: String,
    /// For which service.
    pub service: String,
    /// Which headers, in their order.
    pub headers: Vec<String>,
}

/// Checks the signature of a request; `secret` gives the secret key of a key id.
///
/// # Errors
/// What is wrong with it.
pub fn verify(request: &Request<'_>, secret: impl Fn(&str) -> Option<String>) -> Result<Signed, String> {
    let header = request.header("authorization");
    let rest = header.strip_prefix("AWS4-HMAC-SHA256 ").ok_or(format!("not signed: {header:?}"))?;
    let field = |name: &str| {
        let fields = rest.split(',').filter_map(|field| field.trim().split_once('='));
        fields.filter(|(key, _)| *key == name).map(|(_, value)| value).next().ok_or(format!("no {name}"))
    };
    let credential: Vec<&str> = field("Credential")?.split('/').collect();
    let [key_id, date, region, service, "aws4_request"] = credential[..] else {
        return Err(format!("not a scope: {credential:?}"));
    };
    let names: Vec<&str> = field("SignedHeaders")?.split(';').collect();
    if !names.contains(&"host") || !names.is_sorted() {
        return Err(format!("host must be signed, and names sorted: {names:?}"));
    }
    // Every x-amz header must be signed, since the service acts on them.
    if let Some((name, _)) =
        request.headers.iter().find(|(name, _)| name.starts_with("x-amz-") && !names.contains(&name.as_str()))
    {
        return Err(format!("{name} is not signed"));
    }
    let time = request.header("x-amz-date");
    if !time.starts_with(date) || time.len() != 16 {
        return Err(format!("{time:?} is not of {date}"));
    }
    let hash = hex(digest::digest(&digest::SHA256, request.body).as_ref());
    let said = request.header("x-amz-content-sha256");
    if (service == "aoss" && said.is_empty()) || (!said.is_empty() && said != hash) {
        return Err(format!("x-amz-content-sha256 is {said:?}, the body's is {hash}"));
    }

    let (path, query) = request.target.split_once('?').unwrap_or((request.target, ""));
    let mut query: Vec<String> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            format!("{}={}", encode(&decode(key), false), encode(&decode(value), false))
        })
        .collect();
    query.sort();
    let headers: String = names
        .iter()
        .map(|name| {
            format!("{name}:{}\n", request.header(name).split_whitespace().collect::<Vec<_>>().join(" "))
        })
        .collect();
    // Every service but S3 encodes the path, as it is sent, once more.
    let canonical = format!(
        "{}\n{}\n{}\n{headers}\n{}\n{hash}",
        request.method,
        encode(path.as_bytes(), true),
        query.join("&"),
        names.join(";")
    );
    let scope = format!("{date}/{region}/{service}/aws4_request");
    let hashed = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{hashed}");

    let secret = secret(key_id).ok_or(format!("unknown key {key_id}"))?;
    let key = [date, region, service, "aws4_request"]
        .iter()
        .fold(format!("AWS4{secret}").into_bytes(), |key, part| mac(&key, part.as_bytes()));
    let signature = hex(&mac(&key, to_sign.as_bytes()));
    if field("Signature")? != signature {
        return Err(format!("the signature is wrong for\n{canonical}"));
    }
    let headers = names.into_iter().map(str::to_owned).collect();
    Ok(Signed { key_id: key_id.into(), region: region.into(), service: service.into(), headers })
}

fn mac(key: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn encode(bytes: &[u8], path: bool) -> String {
    bytes
        .iter()
        .map(|&byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            b'/' if path => "/".to_owned(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

fn decode(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let digits = [bytes.clone().next(), bytes.clone().nth(1)];
        match (byte, digits) {
            (b'%', [Some(high), Some(low)]) => {
                let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or(0) as u8;
                out.push(digit(high) << 4 | digit(low));
                bytes.nth(1);
            }
            _ => out.push(byte),
        }
    }
    out
}

/// The example of AWS's documentation: a GET of IAM's ListUsers, with its published signature.
#[test]
fn the_published_example_verifies() {
    let headers = [
        ("host", "iam.amazonaws.com"),
        ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
        ("x-amz-date", "20150830T123600Z"),
        (
            "authorization",
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date, \
             Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
        ),
    ];
    let headers: Vec<_> =
        headers.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let target = "/?Action=ListUsers&Version=2010-05-08";
    let request = Request { method: "GET", target, headers: &headers, body: b"" };
    let secret = |_: &str| Some("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned());
    let signed = verify(&request, secret).expect("the example");
    assert_eq!((&*signed.region, &*signed.service), ("us-east-1", "iam"));
    let other = format!("{target}x");
    verify(&Request { target: &other, ..request }, secret).expect_err("another query");
}
