//! Compares the bucket with its roots: do the objects exist, with the right size, footer and bytes, and do
//! they follow one another without gap or overlap?

use std::sync::Arc;

use serde::Serialize;
use whimbrel_fleet::TopicPartition;
use whimbrel_runtime::{random, unit::Size};

use crate::{
    committer::Committer,
    format::{BLOCK_BYTES, Key, Keys},
    reader::{BLOCK, Objects, ReadError},
    root::{Entry, MAX_BYTES, Root},
    store::Store,
};

/// Problems listed; all are counted.
const LISTED: usize = 1_000;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Request {
    /// Share of the objects to look at, drawn at random; all of them without it.
    pub percent: f64,
    /// Bytes to read and compare with their CRCs; none without it.
    pub bytes: u64,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            percent: 100.0,
            bytes: 0,
        }
    }
}

impl Request {
    /// Reads `sample=5&bytes=true`: five percent of the objects, all bytes of them. `bytes` may also be a
    /// budget, `bytes=1GiB`.
    pub fn parse(query: &str) -> Result<Self, String> {
        let mut request = Self::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "sample" => {
                    let percent = value.parse().ok().filter(|p| *p > 0.0 && *p <= 100.0);
                    request.percent = percent
                        .ok_or_else(|| format!("sample `{value}` is not a percentage above 0"))?;
                }
                "bytes" => request.bytes = budget(&value)?,
                other => return Err(format!("`{other}` is not known; `sample` and `bytes` are")),
            }
        }
        Ok(request)
    }

    /// At least one object of those that there are.
    fn objects(&self, all: usize) -> usize {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a count far below 2^52, between 0 and that count"
        )]
        let wanted = (all as f64 * self.percent / 100.0).ceil() as usize;
        wanted.min(all)
    }
}

fn budget(value: &str) -> Result<u64, String> {
    match value {
        "true" => Ok(u64::MAX),
        "false" => Ok(0),
        size => size
            .parse::<Size>()
            .map(|size| size.0)
            .map_err(|e| e.to_string()),
    }
}

#[derive(Clone, Debug, Default, Serialize, PartialEq, Eq)]
pub struct Report {
    pub ok: bool,
    pub partitions: u64,
    /// Objects that the roots name.
    pub objects: u64,
    pub objects_checked: u64,
    /// Read and compared.
    pub bytes: u64,
    pub problems: Vec<Problem>,
    pub problems_found: u64,
}

#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Problem {
    pub code: &'static str,
    pub topic: String,
    pub partition: i32,
    pub from_offset: i64,
    /// Exclusive.
    pub to_offset: i64,
    pub object: String,
    pub what: String,
}

#[derive(Clone, Debug)]
pub struct Verifier {
    pub store: Arc<dyn Store>,
    pub keys: Keys,
    pub committer: Committer,
    pub objects: Objects,
}

struct Work {
    at: TopicPartition,
    topic: String,
    key: Key,
    entry: Entry,
}

impl Verifier {
    pub async fn run(&self, request: &Request) -> Report {
        let mut report = Report::default();
        let mut work = Vec::new();
        for ours in self.committer.roots() {
            match self.read_root(&ours).await {
                Ok(root) => self.collect(&root, &mut report, &mut work),
                Err(what) => report.add(Problem {
                    code: "WB-312",
                    topic: String::new(),
                    partition: -1,
                    from_offset: -1,
                    to_offset: -1,
                    object: self.keys.root(ours.shard).to_string(),
                    what,
                }),
            }
        }
        report.objects = work.len() as u64;
        let sample = request.objects(work.len());
        let mut budget = request.bytes;
        for taken in 0..sample {
            let left = (work.len() - taken) as u64;
            let pick = taken + usize::try_from(random::u64() % left).unwrap_or(0);
            work.swap(taken, pick);
            self.check(&work[taken], &mut budget, &mut report).await;
        }
        report.ok = report.problems_found == 0;
        report
    }

    /// The root that is in the bucket now: decoding it proves order, and that nothing is missing in between.
    async fn read_root(&self, ours: &Root) -> Result<Root, String> {
        let found = self
            .store
            .get(&self.keys.root(ours.shard), MAX_BYTES)
            .await
            .map_err(|e| e.to_string())?;
        let root = Root::decode(&found.bytes).map_err(|e| e.to_string())?;
        let stamp = root.stamp;
        if stamp.epoch == ours.stamp.epoch && stamp.sequence >= ours.stamp.sequence {
            Ok(root)
        } else {
            Err(format!(
                "epoch {} sequence {} is not ours",
                stamp.epoch, stamp.sequence
            ))
        }
    }

    fn collect(&self, root: &Root, report: &mut Report, work: &mut Vec<Work>) {
        for (at, partition) in &root.partitions {
            report.partitions += 1;
            let one = |entry: &Entry| Work {
                at: *at,
                topic: partition.topic.clone(),
                key: self.keys.data(&entry.name(root.shard, *at)),
                entry: *entry,
            };
            work.extend(partition.entries.iter().map(one));
        }
    }

    async fn check(&self, work: &Work, budget: &mut u64, report: &mut Report) {
        report.objects_checked += 1;
        match self.check_object(work, budget).await {
            Ok(bytes) => report.bytes += bytes,
            Err(what) => report.add(Problem {
                code: "WB-316",
                topic: work.topic.clone(),
                partition: work.at.partition,
                from_offset: work.entry.base,
                to_offset: work.entry.end,
                object: work.key.to_string(),
                what,
            }),
        }
    }

    async fn check_object(&self, work: &Work, budget: &mut u64) -> Result<u64, String> {
        let (key, entry) = (&work.key, &work.entry);
        let meta = self.store.head(key).await.map_err(|e| e.to_string())?;
        if meta.size != entry.object_bytes {
            return Err(format!(
                "{} bytes, the root says {}",
                meta.size, entry.object_bytes
            ));
        }
        if meta.crc64.is_some_and(|crc| crc != entry.crc64) {
            return Err("the store's checksum is not the root's".to_owned());
        }
        let object = self
            .objects
            .open(key, entry)
            .await
            .map_err(|e: ReadError| e.to_string())?;
        let (mut at, mut read) = (0, 0);
        let body = object.blocks.covers();
        while at < body && *budget > 0 {
            let whole = budget.div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES);
            let end = body.min(at + BLOCK.min(whole));
            let bytes = self
                .store
                .get_range(key, at..end)
                .await
                .map_err(|e| e.to_string())?;
            object.blocks.check(at, &bytes).map_err(|e| e.to_string())?;
            read += end - at;
            *budget = budget.saturating_sub(end - at);
            at = end;
        }
        Ok(read)
    }
}

impl Report {
    fn add(&mut self, problem: Problem) {
        self.problems_found += 1;
        if self.problems.len() < LISTED {
            self.problems.push(problem);
        }
    }
}
