//! Compacted logs that the bucket goes on keeping as they were written, and why.
//!
//! What holds one up may last for ever, and is looked at every minute: it is told once, and stands in the status for
//! as long as it lasts.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use serde_json::{Value, json};
use whimbrel_fleet::TopicPartition;

#[derive(Clone, Debug, Default)]
pub struct Held(Arc<Mutex<BTreeMap<TopicPartition, String>>>);

impl Held {
    /// Whether it was not held up before.
    pub fn hold(&self, at: TopicPartition, why: String) -> bool {
        self.0.lock().insert(at, why).is_none()
    }

    /// Whether it was held up.
    pub fn let_go(&self, at: TopicPartition) -> bool {
        self.0.lock().remove(&at).is_some()
    }

    pub fn keep(&self, mut still: impl FnMut(TopicPartition) -> bool) {
        self.0.lock().retain(|at, _| still(*at));
    }

    pub fn count(&self) -> usize {
        self.0.lock().len()
    }

    pub fn json(&self) -> Vec<Value> {
        let held = self.0.lock();
        let one = |(at, why): (&TopicPartition, &String)| json!({"partition": at.to_string(), "reason": why});
        held.iter().map(one).collect()
    }
}
