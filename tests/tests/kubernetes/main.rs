//! Metadata from a real Kubernetes API server.

mod kit;
