//! What a voter counts, and what is computed when it is scraped.

use metrics::{counter, describe_counter, describe_gauge, gauge};
use whimbrel_fleet::lease::Answer;

use crate::options::Options;

const LEADER: &str = "whimbrel_controller_is_leader";
const TERM: &str = "whimbrel_controller_term";
const APPLIED: &str = "whimbrel_controller_applied_index";
const IN_TOUCH: &str = "whimbrel_controller_in_touch";
const LEASES: &str = "whimbrel_controller_lease_answers_total";
const MOVES: &str = "whimbrel_controller_moves_total";

pub(crate) fn describe() {
    describe_gauge!(LEADER, "1 while this voter leads.");
    describe_gauge!(TERM, "Raft term of this voter.");
    describe_gauge!(APPLIED, "Raft index up to which this voter has applied.");
    describe_gauge!(
        IN_TOUCH,
        "1 while a leader is known here and in touch with a majority."
    );
    describe_counter!(LEASES, "Lease renewals answered, by verdict.");
    describe_counter!(MOVES, "Moves that ended under this leader, by outcome.");
}

/// The labels that every metric carries.
#[derive(Clone, Debug)]
pub(crate) struct Labels {
    region: String,
    node: String,
}

impl Labels {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            region: options.region.to_string(),
            node: options.voter_id.to_string(),
        }
    }

    pub(crate) fn scrape(&self, leads: bool, in_touch: bool, term: u64, applied: u64) {
        #[expect(
            clippy::cast_precision_loss,
            reason = "terms and indexes stay far below 2^52"
        )]
        let set = |name, value: u64| {
            gauge!(name, "role" => "controller", "region" => self.region.clone(), "node" => self.node.clone()).set(value as f64)
        };
        set(LEADER, u64::from(leads));
        set(IN_TOUCH, u64::from(in_touch));
        set(TERM, term);
        set(APPLIED, applied);
    }

    pub(crate) fn lease(&self, answer: &Answer) {
        let verdict = match answer {
            Answer::Yes => "yes",
            Answer::Fenced { .. } => "fenced",
            Answer::Unknown => "unknown",
        };
        self.count(LEASES, "verdict", verdict);
    }

    pub(crate) fn moved(&self, outcome: &'static str) {
        self.count(MOVES, "outcome", outcome);
    }

    fn count(&self, name: &'static str, key: &'static str, value: &'static str) {
        counter!(name, "role" => "controller", "region" => self.region.clone(), "node" => self.node.clone(), key => value).increment(1);
    }
}
