//! Who may ask what is for people of this node.
//!
//! In: the head of a request to `listen`. Out: a refusal, or none. A page somewhere can have a browser ask a loopback port
//! (by a name of its own that it lets lead there: DNS rebinding), and read the answer; no page can choose the Host header.
//! So a request must name the loopback, or the address that is listened at, and come from no other page.

use std::net::{IpAddr, SocketAddr};

use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, Method, StatusCode};

/// Whether a request is answered.
///
/// # Errors
/// How it is refused, and what to do.
pub fn admit(
    method: &Method,
    headers: &HeaderMap,
    listening: SocketAddr,
) -> Result<(), (StatusCode, &'static str)> {
    if *method != Method::GET && *method != Method::HEAD {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "only GET: there is nothing to be changed here"));
    }
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let mut hosts = headers.get_all(HOST).iter();
    let is_one = hosts.next().is_some() && hosts.next().is_none();
    if !is_one || !text(HOST).is_some_and(|host| is_ours(host, listening)) {
        return Err((
            StatusCode::FORBIDDEN,
            "ask by an address such as http://127.0.0.1:9600 or http://localhost:9600",
        ));
    }
    let is_own = |origin: &str| origin.strip_prefix("http://").is_some_and(|host| is_ours(host, listening));
    if headers.contains_key(ORIGIN) && !text(ORIGIN).is_some_and(is_own) {
        return Err((StatusCode::FORBIDDEN, "other pages may not ask"));
    }
    Ok(())
}

/// Whether a host, with or without a port, is the loopback, or an address where more than that is listened at. The port
/// may be another: `kubectl port-forward` has its own.
fn is_ours(host: &str, listening: SocketAddr) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    if name.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    match bare.parse::<IpAddr>() {
        // A number cannot be rebound.
        Ok(address) => address.is_loopback() || !listening.ip().is_loopback(),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(host: &str, origin: Option<&str>, listening: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        origin.into_iter().for_each(|origin| {
            headers.insert(ORIGIN, origin.parse().unwrap());
        });
        admit(&Method::GET, &headers, listening.parse().unwrap()).is_ok()
    }

    #[test]
    fn only_the_loopback_and_the_address_listened_at_are_ours() {
        let loopback = "127.0.0.1:9600";
        for host in ["127.0.0.1:9600", "localhost:8080", "LOCALHOST", "[::1]:9600", "127.0.0.1"] {
            assert!(asked(host, None, loopback), "{host}");
        }
        for host in [
            "evil.example:9600",
            "localhost.evil.example",
            "10.0.0.7:9600",
            "127.0.0.1.evil.example",
            "",
            "[::1",
            "a@127.0.0.1",
        ] {
            assert!(!asked(host, None, loopback), "{host}");
        }
        assert!(asked("10.0.0.7:9600", None, "0.0.0.0:9600") && !asked("evil.example", None, "0.0.0.0:9600"));
    }

    #[test]
    fn other_pages_and_other_methods_are_refused() {
        let loopback = "127.0.0.1:9600";
        assert!(asked("localhost:9600", Some("http://localhost:9600"), loopback));
        for origin in ["http://evil.example", "null", "https://localhost.evil", "file://"] {
            assert!(!asked("localhost:9600", Some(origin), loopback), "{origin}");
        }
        let refused = admit(&Method::POST, &HeaderMap::new(), loopback.parse().unwrap()).unwrap_err();
        assert_eq!(refused.0, StatusCode::METHOD_NOT_ALLOWED);
        assert!(admit(&Method::GET, &HeaderMap::new(), loopback.parse().unwrap()).is_err());
    }
}
