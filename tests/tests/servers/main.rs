//! Every behaviour of the bulk output against every real server: OpenSearch 2.19, Elasticsearch 7.17 and 8.19.
//!
//! Each behaviour is a function of the server's kind; [`on_every_server!`] makes of it one test for each. A test ends by
//! adding up what was written, answered and stored, and appends that to the table that `tests/run servers` prints.

/// Makes of each named function a test in each of the modules `opensearch`, `elasticsearch7` and `elasticsearch8`.
macro_rules! on_every_server {
    ($($behaviour:ident),+ $(,)?) => {
        on_every_server!(@ opensearch, OpenSearch, $($behaviour),+);
        on_every_server!(@ elasticsearch7, Elasticsearch7, $($behaviour),+);
        on_every_server!(@ elasticsearch8, Elasticsearch8, $($behaviour),+);
    };
    (@ $module:ident, $kind:ident, $($behaviour:ident),+) => {
        mod $module {
            $(#[test]
            fn $behaviour() {
                super::$behaviour(taffrail_tests::server::Kind::$kind);
            })+
        }
    };
}

mod blocked;
mod busy;
mod dashboards;
mod dead_letters;
mod delivery;
mod options;
mod refused;
mod rollover;
mod setup;
mod trial;
