//! The table `[forward]`.
//!
//! In: the table. Out: its struct; every mistake at its place.

use std::time::Duration;

use super::{Loader, Table};
use crate::config::keys::keys_of;
use crate::config::{ByteSize, ForwardConfig};

impl<'a> Loader<'a> {
    pub(super) fn forward(&mut self, mut table: Table<'a>) -> Option<ForwardConfig> {
        self.unknown_keys(&mut table, &keys_of::<ForwardConfig>());
        let read = self.read::<ForwardConfig>(&mut table)?;
        let hour = Duration::from_secs(3600);
        self.time(&table, "lookup_for", read.lookup_for, Duration::ZERO..=hour);
        self.time(&table, "poll", read.poll, Duration::from_millis(200)..=Duration::from_secs(60));
        self.time(&table, "discover", read.discover, Duration::from_secs(1)..=hour);
        let inflated = ByteSize::mib(1)..=ByteSize::mib(1024);
        self.between(&table, "max_inflated", read.max_inflated, inflated, |size| size.to_string());
        Some(read)
    }
}
