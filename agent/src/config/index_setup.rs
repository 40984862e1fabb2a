//! The table `setup` of an Elasticsearch output: how the indices that it fills are made and how long they are kept.
//!
//! In: `[outputs.NAME.setup]`, or `setup = true`. Out: an [`IndexSetup`], each field a key.

use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::{ByteSize, units};

/// `[outputs.NAME.setup]`: what `taffrail setup elasticsearch` makes, or the agent itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct IndexSetup {
    /// Whether an agent does it when it starts; `setup = true` says the same. Default `false`: `taffrail setup elasticsearch`
    /// does it.
    pub at_start: bool,
    /// How long documents are kept after the index that they are in has been rolled over, or made where it never is: 1 h to
    /// 3650 days. Default: for ever.
    #[serde(deserialize_with = "units::some_duration")]
    #[schemars(with = "units::Time")]
    pub keep: Option<Duration>,
    /// At what size of a primary shard a data stream begins a new index, in bytes, 1 MiB to 1 TiB. Default `"50GiB"`.
    pub rollover_size: ByteSize,
    /// At what age of its index a data stream begins a new one, 1 h to 365 days. Default `"7d"`.
    #[serde(deserialize_with = "units::duration")]
    #[schemars(with = "units::Time")]
    pub rollover_age: Duration,
    /// Primary shards of an index, 1 to 1024. Default 1.
    #[schemars(range(min = 1, max = 1024))]
    pub shards: u32,
    /// Copies of each shard, 0 to 16. Default 1.
    #[schemars(range(min = 0, max = 16))]
    pub replicas: u32,
}

/// `setup = true` needs no table.
pub fn or_the_word(generator: &mut SchemaGenerator) -> Schema {
    let table = generator.subschema_for::<IndexSetup>();
    json_schema!({ "anyOf": [{ "type": "boolean" }, table] })
}

impl Default for IndexSetup {
    fn default() -> IndexSetup {
        IndexSetup {
            at_start: false,
            keep: None,
            rollover_size: ByteSize::mib(50 << 10),
            rollover_age: Duration::from_secs(7 * 86_400),
            shards: 1,
            replicas: 1,
        }
    }
}
