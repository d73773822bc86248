//! What clients did and saw, on one clock.
//!
//! Every value is written once, to one partition. An outcome says `Acked` or `Refused` only where that is
//! certain; everything else is `Unknown`, which may or may not have happened. The final read is made when all
//! faults are over, from offset 0 to the end of every partition.

use std::{path::Path, sync::Arc};

use parking_lot::Mutex;
use serde::Serialize;
use whimbrel_runtime::Clock;

/// One partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Key {
    pub topic: String,
    pub partition: i32,
}

/// A record's content, unique in its history.
pub type Value = u64;

/// How a write ended for the client that made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Outcome {
    Acked {
        offset: i64,
    },
    /// The cluster said that it did not do it.
    Refused {
        why: String,
    },
    /// Timeout, disconnect, or an error that does not tell.
    Unknown {
        why: String,
    },
}

#[derive(Clone, Debug, Serialize)]
pub struct Send {
    pub process: String,
    /// Known where the client is bound to one region's broker.
    pub region: Option<String>,
    pub key: Key,
    pub value: Value,
    pub invoked_ns: u64,
    pub completed_ns: u64,
    pub outcome: Outcome,
}

/// One record that a consumer was given.
#[derive(Clone, Debug, Serialize)]
pub struct Poll {
    pub process: String,
    pub key: Key,
    pub offset: i64,
    pub value: Value,
    pub at_ns: u64,
}

/// A committed move of the failover group to another region.
#[derive(Clone, Debug, Serialize)]
pub struct Promotion {
    pub epoch: u32,
    pub from: String,
    pub to: String,
    /// When it was asked for, and when it was answered as done.
    pub asked_ns: u64,
    pub done_ns: u64,
    /// Until when the old home may have served reads of its own lineage: it had not heard of the move. A lease
    /// guards what is acknowledged, not what is read.
    pub heard_ns: u64,
    /// Records that may be lost, as stated before; `None` where no bound was known and that was accepted.
    pub bound: Option<u64>,
    /// Where each partition went on. Partitions that are not named lost nothing.
    pub offsets: Vec<(Key, i64)>,
}

impl Promotion {
    pub fn cut(&self, key: &Key) -> Option<i64> {
        self.offsets
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, offset)| *offset)
    }
}

/// From its lease's end until `until_ns`, a region may acknowledge nothing that it receives.
#[derive(Clone, Debug, Serialize)]
pub struct LeaseEnd {
    pub region: String,
    pub from_ns: u64,
    pub until_ns: u64,
}

/// A record of the final read.
#[derive(Clone, Debug, Serialize)]
pub struct Final {
    pub key: Key,
    pub offset: i64,
    pub value: Value,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct History {
    pub sends: Vec<Send>,
    pub polls: Vec<Poll>,
    /// In the order of their epochs.
    pub promotions: Vec<Promotion>,
    pub lease_ends: Vec<LeaseEnd>,
    pub final_read: Vec<Final>,
}

impl History {
    pub fn acked(&self) -> impl Iterator<Item = (&Send, i64)> {
        self.sends.iter().filter_map(|s| match s.outcome {
            Outcome::Acked { offset } => Some((s, offset)),
            _ => None,
        })
    }

    /// For looking at afterwards.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        std::fs::write(
            path,
            serde_json::to_vec(self).map_err(std::io::Error::other)?,
        )
    }
}

/// Where the clients of one scenario write their history. Clones share it.
#[derive(Clone, Debug)]
pub struct Recorder {
    clock: Clock,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    history: History,
    next_value: Value,
}

impl Recorder {
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            shared: Arc::default(),
        }
    }

    pub fn now_ns(&self) -> u64 {
        self.clock.boot_ns()
    }

    /// A value that nobody wrote before.
    pub fn next_value(&self) -> Value {
        let mut shared = self.shared.lock();
        shared.next_value += 1;
        shared.next_value
    }

    pub fn send(&self, send: Send) {
        self.shared.lock().history.sends.push(send);
    }

    pub fn poll(&self, poll: Poll) {
        self.shared.lock().history.polls.push(poll);
    }

    pub fn promotion(&self, promotion: Promotion) {
        self.shared.lock().history.promotions.push(promotion);
    }

    /// By now every broker has heard of every move.
    pub fn heard(&self) {
        let now_ns = self.now_ns();
        for promotion in &mut self.shared.lock().history.promotions {
            promotion.heard_ns = promotion.heard_ns.max(now_ns);
        }
    }

    pub fn lease_end(&self, end: LeaseEnd) {
        self.shared.lock().history.lease_ends.push(end);
    }

    pub fn final_read(&self, records: Vec<Final>) {
        self.shared.lock().history.final_read = records;
    }

    /// Looks at the history so far.
    pub fn with<T>(&self, look: impl FnOnce(&History) -> T) -> T {
        look(&self.shared.lock().history)
    }

    pub fn acked(&self) -> usize {
        self.with(|h| h.acked().count())
    }

    pub fn history(&self) -> History {
        self.with(History::clone)
    }
}
