//! How the agent tells how it is: metrics, health, its page's JSON, `tap` and `top`.

mod browser;
mod dashboards;
mod health;
mod metrics;
mod page;
mod tap;
mod transcripts;
