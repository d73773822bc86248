//! Compares the bucket with its roots and the roots with the broker's logs.
//!
//! Of an object: is it there, has it the size and checksum that the root says, is its footer about what the
//! root thinks it is, and do its blocks have their CRCs? Of a root: is it ours, and do its entries follow one
//! another? Of a partition: do bucket and log overlap, in one lineage? What is found wrong is read twice,
//! named and quarantined; what could not be read is counted as undecided and is no verdict. All of it stays
//! within a budget.

mod budget;
mod logs;
mod meta;
mod object;
mod progress;
mod report;
mod request;
mod route;
mod schedule;

use std::sync::Arc;

use whimbrel_fleet::TopicPartition;
use whimbrel_runtime::{Clock, random};

pub use budget::{Budget, Spent};
pub use progress::{Last, Proof};
pub use report::{Mended, Problem, Report};
pub use request::{Repair, Request};
pub(crate) use route::route;
pub use schedule::Schedule;

use self::object::{Found, Object};
use crate::{
    broker::BrokerLink,
    committer::Committer,
    format::{Key, Keys},
    meta::Context,
    prices::Prices,
    quarantine::{Case, Quarantine},
    repair::Repairer,
    root::{Entry, MAX_BYTES, Root},
    runs::RunError,
    store::Store,
};

#[derive(Clone, Debug)]
pub struct Verifier {
    pub store: Arc<dyn Store>,
    pub keys: Keys,
    pub region: String,
    pub committer: Committer,
    pub broker: BrokerLink,
    pub quarantine: Quarantine,
    pub repairer: Repairer,
    pub prices: Prices,
    pub clock: Clock,
    pub proof: Proof,
    /// None where nothing describes the fleet: no view of it is to be had.
    pub meta: Option<Context>,
}

/// One slice to look at, as its root knows it: most have an object of their own.
#[derive(Clone, Debug)]
pub struct Work {
    pub at: TopicPartition,
    pub topic: String,
    pub shard: u16,
    pub key: Key,
    pub entry: Entry,
}

impl Work {
    fn problem(&self, what: String) -> Problem {
        Problem {
            code: "WB-316",
            topic: self.topic.clone(),
            partition: self.at.partition,
            from_offset: self.entry.base,
            to_offset: self.entry.end,
            object: self.key.to_string(),
            what,
        }
    }

    fn case(&self, what: &str) -> Case {
        Case {
            object: self.key.to_string(),
            topic: self.topic.clone(),
            partition: self.at.partition,
            from_offset: self.entry.base,
            to_offset: self.entry.end,
            reason: what.to_owned(),
        }
    }
}

impl Verifier {
    /// Looks; nothing is changed but the list of what is quarantined, and with `repair=apply` the entries of
    /// objects that were made whole.
    pub async fn run(&self, request: &Request) -> Report {
        let mut report = Report::default();
        let mut budget = Budget::new(request, self.prices.clone(), self.clock.clone());
        let mut work = Vec::new();
        for shard in 0..self.committer.shards() {
            self.look_at_root(shard, &mut budget, &mut report, &mut work)
                .await;
        }
        self.look_at_meta(&mut budget, &mut report).await;
        self.compare_logs(&mut report).await;
        let mut objects = Object::all(work);
        report.objects = objects.len() as u64;
        let sample = request.objects(objects.len());
        let mut damaged = Vec::new();
        for taken in 0..sample {
            let left = (objects.len() - taken) as u64;
            let pick = taken + usize::try_from(random::u64() % left).unwrap_or(0);
            objects.swap(taken, pick);
            self.proof.advance(taken, sample, budget.spent.bytes);
            let found = self.check(&objects[taken], &mut budget, &mut report).await;
            damaged.extend(found);
        }
        self.quarantine.keep().await;
        if request.repair != Repair::No {
            for work in &damaged {
                let mended = self.repairer.mend(work, request.repair).await;
                report.repairs.push(mended);
            }
        }
        report.spent = budget.spent;
        report.exhausted = budget.exhausted;
        report.ok = report.problems_found == 0;
        report
    }

    async fn look_at_root(
        &self,
        shard: u16,
        budget: &mut Budget,
        report: &mut Report,
        work: &mut Vec<Work>,
    ) {
        if !budget.pay(0).await {
            return;
        }
        match self.read_root(shard).await {
            Ok(root) => self.objects_of(&root, report, work).await,
            Err(what) => report.add(Problem {
                code: "WB-312",
                topic: String::new(),
                partition: -1,
                from_offset: -1,
                to_offset: -1,
                object: self.keys.root(shard).to_string(),
                what,
            }),
        }
    }

    /// The root that is in the bucket now: decoding it proves order, and that nothing is missing in between.
    async fn read_root(&self, shard: u16) -> Result<Root, String> {
        let found = self
            .store
            .get(&self.keys.root(shard), MAX_BYTES)
            .await
            .map_err(|e| e.to_string())?;
        let root = Root::decode(&found.bytes).map_err(|e| e.to_string())?;
        let stamp = root.stamp;
        let Some(ours) = self.committer.root(shard).map(|root| root.stamp) else {
            return Err("the shard is quarantined".to_owned());
        };
        // Another daemon of the region may have written, or claimed, since we read it; backwards it never goes.
        if stamp.number() >= ours.number() {
            Ok(root)
        } else {
            Err(format!(
                "epoch {} sequence {} is older than what was there",
                stamp.epoch, stamp.sequence
            ))
        }
    }

    /// All that the root names, older entries too.
    async fn objects_of(&self, root: &Root, report: &mut Report, work: &mut Vec<Work>) {
        let before = work.len();
        for (at, partition) in &root.partitions {
            report.partitions += 1;
            let one = |entry: &Entry| Work {
                at: *at,
                topic: partition.topic.clone(),
                shard: root.shard,
                key: entry.key(&self.keys, root.shard, *at),
                entry: *entry,
            };
            for run in &partition.runs {
                match self.committer.runs().read(run).await {
                    Ok(entries) => work.extend(entries.iter().map(one)),
                    Err(RunError::Store(error)) => {
                        report.undecided += u64::from(run.live());
                        tracing::warn!(%error, "older entries of a root were not read");
                    }
                    Err(what) => report.add(Problem {
                        code: "WB-316",
                        topic: partition.topic.clone(),
                        partition: at.partition,
                        from_offset: run.base,
                        to_offset: run.end,
                        object: self.keys.root_part(&run.part).to_string(),
                        what: what.to_string(),
                    }),
                }
            }
            work.extend(partition.entries.iter().map(one));
        }
        self.release_replaced(root, &work[before..]).await;
    }

    /// A repair takes what it has replaced out of quarantine; this does it for one that died on the way.
    async fn release_replaced(&self, root: &Root, named: &[Work]) {
        for orphaned in &root.orphaned {
            let key = &orphaned.key;
            if !self.quarantine.holds(key) || root.reads_from(&self.keys, key) {
                continue;
            }
            let bounds = (orphaned.at, orphaned.from, orphaned.end);
            let mut named = named.iter().map(|w| (w.at, w.entry.base, w.entry.end));
            if named.any(|other| other == bounds) {
                self.quarantine.release(key).await;
            }
        }
    }

    /// The slices that are damaged or missing.
    async fn check(&self, object: &Object, budget: &mut Budget, report: &mut Report) -> Vec<Work> {
        let mut found = self.look_at(object, budget, report).await;
        if matches!(found, Found::Damaged(_)) {
            // A store or a network that bends one answer has not lost an object.
            found = self.look_at(object, budget, report).await;
        }
        let mut damaged = Vec::new();
        match found {
            Found::Sound { whole } => {
                report.objects_checked += 1;
                if whole {
                    self.quarantine.release(&object.key).await;
                }
            }
            Found::Undecided(what) => {
                report.undecided += u64::from(!budget.exhausted);
                tracing::warn!(key = %object.key, what, "an object was not proved");
            }
            Found::Damaged(bent) => {
                report.objects_checked += 1;
                // Retention or a repair may have let go of it meanwhile.
                let named = match self.committer.root(object.shard) {
                    Some(root) => self.committer.runs().names(&root, &object.key).await,
                    None => Ok(false),
                };
                let named = named.unwrap_or(true);
                for (work, what) in object.hit(&bent).filter(|_| named) {
                    self.quarantine.add(&work.key, work.case(what));
                    report.add(work.problem(what.to_owned()));
                    damaged.push(work.clone());
                }
            }
        }
        damaged
    }
}
