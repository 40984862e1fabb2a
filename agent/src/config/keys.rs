//! Which keys there are, and where each belongs.
//!
//! In: a struct of the configuration, or a key. Out: the struct's keys, or what to say of a key that stands in the
//! wrong table. No list of keys is kept by hand but those that are put together by hand.

use serde::de::value::Error as NoValue;
use serde::de::{DeserializeOwned, Deserializer, Error, Visitor};

use super::routes::MatchConfig;
use super::{
    AnnotationsConfig, CloudWatchConfig, Config, DrainConfig, ElasticsearchConfig, FileConfig, FilesConfig,
    ForwardConfig, HealthConfig, IndexSetup, LogConfig, MetadataConfig, Rate, RateLimitConfig, ReadingConfig,
    RetainConfig, RouteConfig, StdoutConfig, SubscriptionConfig, TlsConfig,
};

/// What `type` of an output may be.
pub const TYPES: [&str; 5] = ["elasticsearch", "opensearch", "cloudwatch", "file", "stdout"];
/// The field of [`ElasticsearchConfig`] that stands for [`TARGETS`]; no key of the file.
pub const TARGET: &str = "target";
/// The keys of which an Elasticsearch output has exactly one.
pub const TARGETS: [&str; 2] = ["data_stream", "index"];

/// The tables of the file, and the list of tables.
pub const TABLES: [&str; 10] =
    ["log", "drain", "health", "metadata", "annotations", "retain", "forward", "routes", "files", "outputs"];

/// The keys above the first table, and the tables.
pub fn top_level() -> Vec<&'static str> {
    [keys_of::<Config>(), TABLES.to_vec()].concat()
}

/// The keys of an Elasticsearch output that other outputs do not have.
pub fn elasticsearch() -> Vec<&'static str> {
    let in_place = |key| if key == TARGET { TARGETS.to_vec() } else { vec![key] };
    keys_of::<ElasticsearchConfig>().into_iter().flat_map(in_place).chain(["auth", "tls", "setup"]).collect()
}

/// The keys of a CloudWatch output that other outputs do not have.
pub fn cloudwatch() -> Vec<&'static str> {
    [keys_of::<CloudWatchConfig>(), vec!["subscription"]].concat()
}

/// The keys of `[forward]`.
pub fn forward() -> Vec<&'static str> {
    [keys_of::<ForwardConfig>(), vec!["leases"]].concat()
}

/// The keys of every output.
pub fn reading() -> Vec<&'static str> {
    [keys_of::<ReadingConfig>(), vec!["rate_limit"]].concat()
}

/// Where a key that is out of place belongs; `None` for a key that belongs nowhere.
pub fn place_of(key: &str) -> Option<String> {
    let is_of = |keys: Vec<&str>| keys.contains(&key);
    let place = if is_of(top_level()) {
        "for the whole agent: move it above the first `[…]`"
    } else if is_of(reading()) || key == "type" {
        "for an output: move it under its `[outputs.NAME]`"
    } else if is_of(elasticsearch()) {
        "for outputs of type `elasticsearch`"
    } else if is_of(cloudwatch()) {
        "for outputs of type `cloudwatch`"
    } else if is_of(keys_of::<SubscriptionConfig>()) {
        "for where events of a CloudWatch output go on to: move it under its `[outputs.NAME.subscription]`"
    } else if is_of(keys_of::<FileConfig>()) {
        "for outputs of type `file`"
    } else if is_of(keys_of::<IndexSetup>()) {
        "for how indices are made: move it under its `[outputs.NAME.setup]`"
    } else if is_of(keys_of::<FilesConfig>()) {
        "for host files: move it under a `[files.NAME]`"
    } else if is_of(keys_of::<RouteConfig>()) {
        "for routes: move it under a `[[routes]]`"
    } else if is_of(keys_of::<MatchConfig>()) {
        "for which logs a route is for: move it into the `match` of a `[[routes]]`"
    } else if is_of(keys_of::<TlsConfig>()) {
        "for TLS: move it into the `tls` of an output of type `elasticsearch`"
    } else if is_of(keys_of::<RateLimitConfig>()) || is_of(keys_of::<Rate>()) {
        "for a limit: move it under an `[outputs.NAME.rate_limit]`"
    } else if is_of(keys_of::<RetainConfig>()) {
        "for what is kept of unread files: move it under `[retain]`"
    } else if is_of(keys_of::<DrainConfig>()) {
        "for a node that is going away: move it under `[drain]`"
    } else if is_of(keys_of::<HealthConfig>()) {
        "for the agent's own records: move it under `[health]`"
    } else if is_of(keys_of::<MetadataConfig>()) {
        "for what is told of pods: move it under `[metadata]`"
    } else if is_of(keys_of::<AnnotationsConfig>()) {
        "for what pods may say of their logs: move it under `[annotations]`"
    } else if is_of(forward()) {
        "for what carries logs on from CloudWatch: move it under `[forward]`"
    } else if is_of(keys_of::<LogConfig>()) || is_of(keys_of::<StdoutConfig>()) {
        "for `[log]` or outputs of type `stdout`"
    } else {
        return None;
    };
    Some(format!("`{key}` is {place}"))
}

/// The keys of a struct as its derived deserializer has them, so that no second list has to be kept.
pub fn keys_of<T: DeserializeOwned>() -> Vec<&'static str> {
    struct Asking<'a>(&'a mut Vec<&'static str>);
    impl<'de> Deserializer<'de> for Asking<'_> {
        type Error = NoValue;
        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, NoValue> {
            Err(NoValue::custom("only a struct has keys"))
        }
        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            keys: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, NoValue> {
            self.0.extend_from_slice(keys);
            Err(NoValue::custom("the keys were all that was wanted"))
        }
        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }
    let mut keys = Vec::new();
    // It fails by design, once it has the keys.
    let _ = T::deserialize(Asking(&mut keys));
    keys
}
