//! The table `[forward]`.
//!
//! In: the table. Out: its struct; every mistake at its place.

use std::time::Duration;

use super::{Loader, Table};
use crate::config::keys::{forward, keys_of};
use crate::config::{ByteSize, ForwardConfig, LeasesConfig};

impl<'a> Loader<'a> {
    pub(super) fn forward(&mut self, mut table: Table<'a>) -> Option<ForwardConfig> {
        let leases = self.table(&mut table, "leases", "write `[forward.leases]`");
        self.unknown_keys(&mut table, &forward());
        let mut read = self.read::<ForwardConfig>(&mut table)?;
        let hour = Duration::from_secs(3600);
        self.time(&table, "lookup_for", read.lookup_for, Duration::ZERO..=hour);
        self.time(&table, "poll", read.poll, Duration::from_millis(200)..=Duration::from_secs(60));
        self.time(&table, "discover", read.discover, Duration::from_secs(1)..=hour);
        let inflated = ByteSize::mib(1)..=ByteSize::mib(1024);
        self.between(&table, "max_inflated", read.max_inflated, inflated, |size| size.to_string());
        if let Some(mut leases) = leases {
            self.unknown_keys(&mut leases, &keys_of::<LeasesConfig>());
            read.leases = Some(self.read::<LeasesConfig>(&mut leases)?);
            let duration = read.leases.as_ref().map(|leases| leases.duration).unwrap_or_default();
            self.time(&leases, "duration", duration, Duration::from_secs(3)..=Duration::from_secs(300));
            if read.dead_letters.is_none() {
                self.problem(
                    leases.span,
                    "`dead_letters` is missing: the disks of replicas that share a stream go with them",
                    "set it in `[forward]` to a bucket or a queue, such as \"s3://BUCKET/PREFIX\"",
                );
            }
        }
        Some(read)
    }
}
