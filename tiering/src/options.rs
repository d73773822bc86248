//! Settings of the daemon, as plain data.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};
use whimbrel_fleet::{HostPort, naming};
use whimbrel_runtime::unit::{Size, Span};

use crate::{committer::FOLLOWED_FOR, store::Location};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Options {
    /// Node id of the broker beside it.
    pub node_id: i32,
    pub region: String,
    /// Compared with the bucket's marker. Without it the controller is asked.
    pub fleet_id: Option<String>,
    /// The broker's data directory: slices to upload lie below it.
    pub data_dir: PathBuf,
    /// Cached blocks; may be removed whenever the daemon is down.
    pub cache_dir: PathBuf,
    /// Hard limit of the cache. The default holds half a minute of the fastest consumer, so that several
    /// that read the same history meet in it.
    pub cache_bytes: Size,
    /// `file:///dir` or `s3://bucket/prefix?endpoint=http://..&region=..`
    pub bucket: String,
    /// tonic, for the broker. Port 0 picks one.
    pub rpc_listen: String,
    pub admin_listen: String,
    /// The broker's rpc address.
    pub broker: HostPort,
    pub controllers: Vec<HostPort>,
    /// Who `tier verify --repair` is to the fleet's brokers, where they ask: a file of Kafka's client properties.
    pub client_config: Option<PathBuf>,
    /// Deadline of a small request; transfers get a second more per MiB. Longer than any store's own
    /// retry advice, shorter than what an operator waits.
    pub request_timeout: Span,
    /// How long an unlinked object stays: longer than twice any fetch, so that no reader meets a gap.
    pub delete_grace: Span,
    /// Buckets of other regions, as URLs like `bucket`, by region: what the own one does not have is read from there.
    /// Credentials that may read suffice; a URL may name a `profile` of its own.
    pub borrow: BTreeMap<String, String>,
    /// After so long without a word of the region that borrows from this bucket its hold is void: longer than a
    /// restart or a cut of the link, far shorter than what a bucket grows by.
    pub hold_silence: Span,
    /// How often retention is looked at. Kafka's log.retention.check.interval.ms is 5 minutes; ours costs
    /// one request to the broker per partition.
    pub retention_interval: Span,
    /// How often the bucket is verified without being asked; 0s is never. A day: damage is found while other
    /// copies still have what was lost.
    pub verify_interval: Span,
    /// Percent of the objects that such a verification looks at, drawn at random: all in three weeks or so.
    pub verify_sample: u8,
    /// Bytes of blocks that it reads back and compares, and how many a second. Slow enough not to be felt.
    pub verify_bytes: Size,
    pub verify_rate: Size,
    /// Requests that it makes at most: two for each object, one for each shard.
    pub verify_max_requests: u64,
    /// The bucket's description of the fleet is at most so much older than a change: seconds, as consistent cuts are.
    pub meta_interval: Span,
    /// How long older descriptions are kept, so that a restore to an instant finds the topics of then. As long as
    /// consistent cuts are kept.
    pub restore_window: Span,
    /// How often the broker is asked what compaction has left of its logs; 0s is never, and the bucket then keeps
    /// compacted topics as they were written.
    pub compaction_interval: Span,
    /// Percent of what the bucket has of a compacted log that must be gone from the log before the rest goes up
    /// again. At half no byte goes up more than about twice.
    pub compaction_ratio: u8,
    /// The least time between two such uploads of a partition: its old objects stay for the grace, and requests
    /// cost too.
    pub compaction_every: Span,
    /// What the provider charges; list prices of Amazon S3 without it.
    pub prices: Option<PathBuf>,
    /// After so long without an answer another daemon of the region takes over what one owns of the bucket.
    /// Longer than a restart, far shorter than what a disk has room for.
    pub peer_silence: Span,
    /// Allows listeners that are not on loopback although they have neither TLS nor authentication.
    pub insecure_bind: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            node_id: 0,
            region: String::new(),
            fleet_id: None,
            data_dir: PathBuf::new(),
            cache_dir: PathBuf::new(),
            cache_bytes: Size::mib(10 << 10),
            bucket: String::new(),
            rpc_listen: "127.0.0.1:0".to_owned(),
            admin_listen: "127.0.0.1:0".to_owned(),
            broker: HostPort::new("127.0.0.1", 0),
            controllers: Vec::new(),
            client_config: None,
            request_timeout: Span::secs(30),
            delete_grace: Span::secs(600),
            borrow: BTreeMap::new(),
            hold_silence: Span::secs(900),
            retention_interval: Span::secs(60),
            verify_interval: Span::secs(86_400),
            verify_sample: 5,
            verify_bytes: Size::mib(10 << 10),
            verify_rate: Size::mib(16),
            verify_max_requests: 100_000,
            meta_interval: Span::secs(5),
            restore_window: Span::secs(604_800),
            compaction_interval: Span::secs(60),
            compaction_ratio: 50,
            compaction_every: Span::secs(3_600),
            prices: None,
            peer_silence: Span::secs(10),
            insecure_bind: false,
        }
    }
}

/// Two blocks being read and four being fetched have to fit.
pub const MIN_CACHE: Size = Size::mib(64);

impl Options {
    /// Everything that is wrong, with cause and fix; empty when the daemon can be started with it.
    pub fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        if !naming::is_valid_label(&self.region) {
            found.push(format!(
                "region `{}` is not a name of lower-case letters, digits and `-`",
                self.region
            ));
        }
        if let Err(error) = Location::parse(&self.bucket) {
            found.push(error.to_string());
        }
        for (name, dir) in [("data-dir", &self.data_dir), ("cache-dir", &self.cache_dir)] {
            if dir.as_os_str().is_empty() {
                found.push(format!("{name} is not set"));
            }
        }
        if self.cache_bytes < MIN_CACHE {
            found.push(format!(
                "cache-bytes {} is less than {MIN_CACHE}",
                self.cache_bytes
            ));
        }
        if self.verify_sample == 0 || self.verify_sample > 100 {
            found.push(format!(
                "verify-sample {} is not a percentage from 1 to 100",
                self.verify_sample
            ));
        }
        if self.meta_interval.0.is_zero() {
            found.push("meta-interval is zero".to_owned());
        }
        // A reader's root may be half as old as the grace, and that of a shard that another daemon owns is read now
        // and then.
        let root_age = FOLLOWED_FOR.saturating_add(self.request_timeout.0);
        if self.delete_grace.0 < root_age * 2 {
            found.push(format!(
                "delete-grace {} is less than {}, twice the age of a root that is followed with request-timeout {}",
                self.delete_grace,
                Span(root_age * 2),
                self.request_timeout
            ));
        }
        found.extend(self.lender_problems());
        if self.hold_silence.0.is_zero() {
            found.push("hold-silence is zero".to_owned());
        }
        if self.compaction_ratio == 0 || self.compaction_ratio > 99 {
            found.push(format!(
                "compaction-ratio {} is not a percentage from 1 to 99",
                self.compaction_ratio
            ));
        }
        if self.controllers.is_empty() && self.fleet_id.is_none() {
            found.push("neither controllers nor fleet-id is set".to_owned());
        }
        found
    }

    fn lender_problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (region, bucket) in &self.borrow {
            if !naming::is_valid_label(region) || *region == self.region {
                found.push(format!("borrow: `{region}` is not another region"));
            }
            if let Err(error) = Location::parse(bucket) {
                found.push(format!("borrow.{region}: {error}"));
            }
        }
        if !self.borrow.is_empty() && self.controllers.is_empty() {
            found.push(
                "borrow: without controllers nobody can be asked to hold anything".to_owned(),
            );
        }
        found
    }

    /// The listeners that are open to the network without anybody having asked for it.
    pub fn exposed(&self) -> Vec<String> {
        let open = |listen: &&String| {
            !self.insecure_bind && !listen.parse::<HostPort>().is_ok_and(|at| at.is_loopback())
        };
        [&self.rpc_listen, &self.admin_listen]
            .into_iter()
            .filter(open)
            .cloned()
            .collect()
    }
}
