//! What went wrong, in one line for people.
//!
//! In: an error of the HTTP client, or the body of a reply that is no success. Out: a line without addresses' paths,
//! without line ends, not long. Never judges what is to be done.

use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use reqwest::Url;

use super::tls;

/// How much of a body is shown, in characters.
const SHOWN: usize = 300;

/// How much of a body is looked at, in bytes.
const READ: usize = 64 << 10;

/// Why a request got no reply. `timeout` is how long it had.
pub fn no_reply(error: &reqwest::Error, timeout: Duration) -> String {
    if let Some(tls) = tls_error(error) {
        return tls::explained(tls);
    }
    let cause = innermost(error);
    match (error.is_connect(), error.is_timeout()) {
        (true, true) => {
            "cannot connect: no answer in time; is the address right, and does a firewall let it through?"
                .to_owned()
        }
        // Said by tokio-rustls alone, without a type: what a server does that expected something else than TLS.
        (true, false) if cause == "tls handshake eof" => {
            "the server hung up during the TLS handshake: does it want http:// in `endpoints`?".to_owned()
        }
        (true, false) => format!("cannot connect: {cause}"),
        (false, true) => format!("no reply within {timeout:?}"),
        (false, false) => format!("the connection broke: {cause}"),
    }
}

/// The proxy that the environment names for a server, which the HTTP client goes by of itself: host, port, and the variable
/// that says so. Never the credentials in it.
pub fn proxy(server: &Url, env: impl Fn(&str) -> Option<String>) -> Option<String> {
    let first = |names: [&'static str; 2]| {
        let set = |name| env(name).filter(|value| !value.is_empty()).map(|value| (name, value));
        names.into_iter().find_map(set)
    };
    let own = if server.scheme() == "https" {
        ["HTTPS_PROXY", "https_proxy"]
    } else {
        ["HTTP_PROXY", "http_proxy"]
    };
    let (variable, value) = first(own).or_else(|| first(["ALL_PROXY", "all_proxy"]))?;
    let host = server.host_str()?.trim_matches(['[', ']']);
    let host = host.to_ascii_lowercase();
    let is_it = |entry: &str| {
        let entry = entry.trim().trim_start_matches('.').to_ascii_lowercase();
        if let Ok(address) = host.parse() {
            return entry == "*" || is_within(address, &entry);
        }
        let ends = || host.strip_suffix(&*entry).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        entry == "*" || (!entry.is_empty() && ends())
    };
    if first(["NO_PROXY", "no_proxy"]).is_some_and(|(_, without)| without.split(',').any(is_it)) {
        return None;
    }
    // Without a scheme it is HTTP.
    let whole = Url::parse(&value).ok().filter(Url::has_host);
    let proxy = whole.or_else(|| Url::parse(&format!("http://{value}")).ok())?;
    Some(format!("{}:{} of {variable}", proxy.host_str()?, proxy.port_or_known_default().unwrap_or(0)))
}

/// Whether an address is this one, or in this range (`10.0.0.0/8`).
fn is_within(address: IpAddr, range: &str) -> bool {
    let (base, length) = range.split_once('/').map_or((range, None), |(base, length)| (base, Some(length)));
    let (address, base, bits) = match (address, base.parse()) {
        (IpAddr::V4(address), Ok(IpAddr::V4(base))) => {
            (u128::from(address.to_bits()), u128::from(base.to_bits()), 32)
        }
        (IpAddr::V6(address), Ok(IpAddr::V6(base))) => (address.to_bits(), base.to_bits(), 128),
        _ => return false,
    };
    let Ok(length) = length.map_or(Ok(bits), str::parse::<u32>) else { return false };
    (address ^ base).checked_shr(bits.saturating_sub(length)).unwrap_or(0) == 0
}

/// What rustls said, if it was TLS that failed.
pub fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(tls);
        }
        // What an I/O error wraps is not its source, but its source's owner.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

/// The last cause, which is the one that says something: reqwest's own text is about itself.
pub fn innermost(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = cause.to_string();
        source = cause.source();
    }
    text
}

/// A body that is no success: the reason that Elasticsearch gives, the title of a page, or its first words.
pub fn body(content_type: &str, body: &[u8]) -> String {
    let body = &body[..body.len().min(READ)];
    let text = String::from_utf8_lossy(body);
    let trimmed = text.trim_start();
    if content_type.contains("html") || trimmed.starts_with('<') {
        // As many lower-case bytes as there were: the places are the same.
        let lower = trimmed.to_ascii_lowercase();
        let title = lower.find("<title").and_then(|tag| {
            let start = tag + lower[tag..].find('>')? + 1;
            Some(line(&trimmed[start..start + lower[start..].find("</title")?]))
        });
        return match title.filter(|title| !title.is_empty()) {
            Some(title) => format!(
                "a page (\"{title}\"), as of a proxy or load balancer, and not the server's own reply"
            ),
            None => "a page, as of a proxy or load balancer, and not the server's own reply".to_owned(),
        };
    }
    if let Ok(value) = serde_json::from_str::<serde_json::Value>(trimmed) {
        let error = &value["error"];
        let reason = match (error["type"].as_str(), error["reason"].as_str()) {
            (Some(kind), Some(reason)) => Some(format!("{kind}: {reason}")),
            _ => [error, &value["message"], &value["Message"]]
                .into_iter()
                .find_map(|text| text.as_str().map(str::to_owned)),
        };
        if let Some(reason) = reason {
            return line(&reason);
        }
    }
    if trimmed.is_empty() { "nothing more".to_owned() } else { line(trimmed) }
}

/// Text on one line and not long, without what would move a terminal's cursor.
pub fn line(text: &str) -> String {
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    let joined = words.join(" ");
    match joined.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &joined[..end]),
        None => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_named_by_its_variable_and_without_its_credentials() {
        let of = |server: &str, set: &[(&str, &str)]| {
            let of = |name: &str| set.iter().find(|(key, _)| *key == name);
            let env = |name: &str| of(name).map(|(_, value)| (*value).to_owned());
            proxy(&Url::parse(server).expect("a URL"), env)
        };
        let (plain, tls) = ("http://search.example:9200", "https://search.example:9200");
        let http = ("HTTP_PROXY", "http://me:secret@proxy.example:3128");
        assert_eq!(of(plain, &[]), None);
        assert_eq!(of(plain, &[http]).as_deref(), Some("proxy.example:3128 of HTTP_PROXY"));
        assert_eq!(of(tls, &[http]), None);
        assert_eq!(of(tls, &[("https_proxy", "10.0.0.1:80")]).as_deref(), Some("10.0.0.1:80 of https_proxy"));
        assert_eq!(of(tls, &[http, ("ALL_PROXY", "p:1")]).as_deref(), Some("p:1 of ALL_PROXY"));
        for (without, named) in [
            ("search.example", false),
            (".example, x", false),
            ("*", false),
            ("arch.example", true),
            ("", true),
        ] {
            assert_eq!(of(plain, &[http, ("NO_PROXY", without)]).is_some(), named, "{without}");
        }
        for (without, named) in [
            ("10.0.0.0/8", false),
            ("10.1.2.3", false),
            ("0.0.0.0/0", false),
            ("2.3", true),
            ("10.2.0.0/16", true),
        ] {
            let of = of("http://10.1.2.3:9200", &[http, ("NO_PROXY", without)]);
            assert_eq!(of.is_some(), named, "{without}");
        }
    }

    #[test]
    fn bodies_become_one_line() {
        for (content_type, text, said) in [
            (
                "application/json",
                r#"{"error":{"root_cause":[],"type":"security_exception","reason":"missing\nkey"},"status":401}"#,
                "security_exception: missing key",
            ),
            ("application/json", r#"{"error":"no handler found"}"#, "no handler found"),
            (
                "application/json",
                r#"{"message":"The security token has expired"}"#,
                "The security token has expired",
            ),
            (
                "text/html; charset=utf-8",
                "<html>\r\n<head><TITLE>502 Bad\nGateway</TITLE></head>",
                "a page (\"502 Bad Gateway\"), as of a proxy or load balancer, and not the server's own reply",
            ),
            (
                "",
                "<!doctype html><p>no",
                "a page, as of a proxy or load balancer, and not the server's own reply",
            ),
            ("text/plain", "Unauthorized\n\x1b[2J", "Unauthorized [2J"),
            ("text/plain", "", "nothing more"),
        ] {
            assert_eq!(body(content_type, text.as_bytes()), said);
        }
        assert_eq!(line(&"é".repeat(1000)).chars().count(), SHOWN + 1);
        assert!(body("text/html", "<title>\u{130}".as_bytes()).starts_with("a page,"));
    }
}
