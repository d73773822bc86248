//! Raft: openraft's types for us, its storage in sqlite and its messages over tonic.

mod log;
mod machine;
mod network;
mod pending;
mod proposer;
mod service;
mod store;

use openraft::{BasicNode, Config, SnapshotPolicy};

use crate::{
    options::Options,
    state::{Applied, Command},
};

pub(crate) use log::LogStore;
pub(crate) use machine::Machine;
pub(crate) use network::Network;
pub(crate) use pending::Pending;
pub(crate) use proposer::{NotProposed, Proposer};
pub(crate) use service::RaftService;
pub(crate) use store::{OpenError, Store};

openraft::declare_raft_types!(
    pub(crate) TypeConfig:
        D = Command,
        R = Applied,
        NodeId = u64,
        Node = BasicNode,
        Entry = openraft::Entry<TypeConfig>,
        SnapshotData = Vec<u8>,
);

pub(crate) type Raft = openraft::Raft<TypeConfig>;
pub(crate) type Entry = openraft::Entry<TypeConfig>;
pub(crate) type LogId = openraft::LogId<u64>;
pub(crate) type Vote = openraft::Vote<u64>;
pub(crate) type Membership = openraft::StoredMembership<u64, BasicNode>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<u64, BasicNode>;
pub(crate) type StorageError = openraft::StorageError<u64>;

/// Longest message between voters, and longest command with room to spare.
pub(crate) const MESSAGE_BYTES: usize = 16 << 20;
/// Longest command: three of them and their wrapping still fit a message.
pub(crate) const COMMAND_BYTES: usize = 5 << 20;
/// A snapshot is taken after so many commands; the state is small and the log then stays so too.
const SNAPSHOT_EVERY: u64 = 2_000;
/// Entries kept below a snapshot for followers that are a little behind.
const KEEP_ENTRIES: u64 = 500;

/// openraft's settings from ours.
pub(crate) fn config(options: &Options) -> Config {
    Config {
        cluster_name: "whimbrel".to_owned(),
        heartbeat_interval: options.heartbeat_ms,
        election_timeout_min: options.election_min_ms,
        election_timeout_max: options.election_max_ms,
        install_snapshot_timeout: 30_000,
        max_payload_entries: 64,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_EVERY),
        max_in_snapshot_log_to_keep: KEEP_ENTRIES,
        ..Config::default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use openraft::testing::{StoreBuilder, Suite};
    use tempfile::TempDir;

    use super::*;

    struct Fresh;

    impl StoreBuilder<TypeConfig, LogStore, Machine, TempDir> for Fresh {
        async fn build(&self) -> Result<(TempDir, LogStore, Machine), StorageError> {
            let dir = tempfile::tempdir().unwrap();
            let (store, found) = Store::open(dir.path(), 1, Some("f")).unwrap();
            let pending = Arc::new(Pending::default());
            let machine =
                Machine::load(store.clone(), Arc::clone(&pending), found.snapshot).unwrap();
            Ok((dir, LogStore::new(store, pending), machine))
        }
    }

    #[test]
    fn the_storage_keeps_openrafts_contract() {
        Suite::test_all(Fresh).unwrap();
    }
}
