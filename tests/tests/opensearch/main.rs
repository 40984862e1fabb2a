//! End-to-end tests against a real OpenSearch, one server for all of them; and proof of the kit itself on it.

mod connect;
mod crashes;
mod delivery;
mod exchanges;
mod faults;
mod kit;
mod torture;
