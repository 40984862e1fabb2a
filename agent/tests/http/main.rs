//! The client of the `elasticsearch` output against real sockets: authentication, TLS, signatures, proxies, endpoints.

mod auth;
mod aws;
mod child;
mod endpoints;
mod kit;
mod proxy;
#[path = "../../../tests/src/sigv4.rs"]
mod sigv4;
mod tls;
