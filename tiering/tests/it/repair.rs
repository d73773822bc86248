//! Objects made whole again from logs that still hold their records.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use async_trait::async_trait;
use whimbrel_runtime::{Clock, OnError, Shutdown, Tasks, random};
use whimbrel_tiering::{
    broker::BrokerLink,
    committer::{CommitError, Committer, Edit},
    format::Keys,
    ops::Ops,
    prices::Prices,
    quarantine::Quarantine,
    reader::Damage,
    repair::{Copies, Holder, Range, Repairer, Scratch},
    root::Entry,
    store::{Capabilities, Folder, Store},
    transfer::Transfer,
    verify::{Proof, Repair, Report, Request, Verifier},
};

use crate::{
    broker::FakeBroker,
    crash::{daemon, named, whole_life},
    daemon::find,
    fault::{Fault, at_each_write, death},
    memory::Memory,
    support::{Log, at, until},
};

/// Logs by the name of who holds them.
#[derive(Debug)]
struct Logs(Vec<(&'static str, Log)>);

#[async_trait]
impl Copies for Logs {
    fn holders(&self) -> Vec<Holder> {
        let holder = |name: &str| Holder {
            name: name.to_owned(),
            host: String::new(),
            port: 0,
        };
        let mut names: Vec<_> = self.0.iter().map(|(name, _)| *name).collect();
        names.dedup();
        names.into_iter().map(holder).collect()
    }

    async fn read(&self, from: &Holder, range: &Range, into: &Scratch) -> Result<(), String> {
        let is_it =
            |name: &str, log: &Log| name == from.name && log.partition == range.at.partition;
        let (_, log) = self.0.iter().find(|(name, log)| is_it(name, log)).unwrap();
        let whole = log
            .batches
            .iter()
            .filter(|b| b.0 >= range.base && b.1 <= range.end);
        for (.., bytes) in whole {
            into.append(bytes.clone().into()).await?;
        }
        Ok(())
    }
}

const SHAPE: [(usize, usize); 3] = [(4, 5_000), (3, 700_000), (2, 10)];

fn log(dir: &Path, segments: usize) -> Log {
    Log::write(dir, 0, &vec![SHAPE.to_vec(); segments])
}

struct Bench {
    dir: tempfile::TempDir,
    tasks: Tasks,
    committer: Committer,
    store: Arc<dyn Store>,
    broker: BrokerLink,
}

impl Bench {
    /// Three objects of one partition in a bucket.
    async fn new() -> Self {
        Self::of(|data| vec![log(data, 3)], false).await
    }

    /// All of `logs` in a bucket.
    async fn of(logs: impl Fn(&Path) -> Vec<Log>, inline: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["data", "bucket", "scratch"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let store: Arc<dyn Store> = Arc::new(Folder::open(&dir.path().join("bucket")).unwrap());
        let tasks = Tasks::new(Shutdown::new());
        let logs = logs(&dir.path().join("data"));
        let ends: Vec<_> = logs.iter().map(|log| (log.partition, log.end())).collect();
        let fake = FakeBroker::new(logs);
        if inline {
            fake.inline();
        }
        let running = daemon(Arc::clone(&store), &fake, &dir.path().join("data"), &tasks).await;
        let broker = running.uploader.broker.clone();
        tasks.spawn("uploader", OnError::Log, running.uploader.run());
        let is_up = |(partition, end): &(i32, i64)| fake.verified(*partition) == *end;
        until("uploaded", || ends.iter().all(is_up)).await;
        Self {
            dir,
            tasks,
            committer: running.committer,
            store,
            broker,
        }
    }

    async fn verify(&self, holders: Vec<(&'static str, Log)>, repair: Repair) -> Report {
        let scratch = self.dir.path().join("scratch");
        let daemon = (&self.committer, &self.broker, &self.tasks);
        verify(&self.store, daemon, &scratch, holders, repair).await
    }

    fn good(&self) -> Log {
        log(&self.dir.path().join("scratch"), 3)
    }

    fn object(&self) -> std::path::PathBuf {
        find(&self.dir.path().join("bucket/v1/east/data"))
    }
}

async fn verify(
    store: &Arc<dyn Store>,
    (committer, broker, tasks): (&Committer, &BrokerLink, &Tasks),
    scratch: &Path,
    holders: Vec<(&'static str, Log)>,
    repair: Repair,
) -> Report {
    let (clock, keys) = (Clock::system(), Keys::new("east"));
    let quarantine = Quarantine::new(Arc::clone(store), keys.clone(), Damage::default());
    quarantine.load().await.unwrap();
    let transfer = Transfer {
        store: Arc::clone(store),
        capabilities: Capabilities::default(),
        clock: clock.clone(),
    };
    let repairer = Repairer {
        copies: Arc::new(Logs(holders)),
        store: Arc::clone(store),
        committer: committer.clone(),
        transfer,
        keys: keys.clone(),
        region: "east".into(),
        incarnation: random::uuid(),
        quarantine: quarantine.clone(),
        scratch_dir: scratch.to_owned(),
        clock: clock.clone(),
        tasks: tasks.clone(),
        ops: Ops::new(clock.clone()),
    };
    let verifier = Verifier {
        store: Arc::clone(store),
        keys,
        region: "east".into(),
        committer: committer.clone(),
        broker: broker.clone(),
        quarantine,
        repairer,
        prices: Prices::load(None).unwrap(),
        clock,
        proof: Proof::default(),
        meta: None,
    };
    let request = Request {
        bytes: u64::MAX,
        repair,
        ..Request::default()
    };
    verifier.run(&request).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_and_a_bent_object_come_back_from_whoever_has_the_very_records() {
    for missing in [true, false] {
        let bench = Bench::new().await;
        let object = bench.object();
        let mut bytes = std::fs::read(&object).unwrap();
        if missing {
            std::fs::remove_file(&object).unwrap();
        } else {
            bytes[300_000] ^= 1;
            std::fs::write(&object, &bytes).unwrap();
        }
        // One who has other records under these offsets, and one who has too few.
        let other = Log::write(
            &bench.dir.path().join("scratch"),
            0,
            &vec![vec![(4, 5_001), (3, 700_000), (2, 9)]; 3],
        );
        let short = log(&bench.dir.path().join("scratch"), 0);
        let holders = || {
            vec![
                (
                    "other",
                    Log {
                        ..Log::write(
                            &bench.dir.path().join("scratch"),
                            0,
                            &vec![vec![(4, 5_001), (3, 700_000), (2, 9)]; 3],
                        )
                    },
                ),
                ("good", bench.good()),
            ]
        };
        let nobody = bench
            .verify(vec![("other", other), ("short", short)], Repair::Apply)
            .await;
        assert_eq!((nobody.problems_found, nobody.repairs.len()), (1, 1));
        assert!(nobody.repairs[0].from.is_none(), "{nobody:?}");

        let plan = bench.verify(holders(), Repair::Plan).await;
        assert_eq!(plan.repairs[0].from.as_deref(), Some("good"), "{plan:?}");
        assert!(plan.repairs[0].replaced_by.is_none());
        assert_eq!(
            bench.verify(vec![], Repair::No).await.problems_found,
            1,
            "a plan changes nothing"
        );

        let done = bench.verify(holders(), Repair::Apply).await;
        let key = done.repairs[0]
            .replaced_by
            .clone()
            .unwrap_or_else(|| panic!("{done:?}"));
        assert!(bench.dir.path().join("bucket").join(key).exists());
        let after = bench.verify(vec![], Repair::No).await;
        assert!(after.ok && after.objects == 3, "{after:?}");
        assert_eq!(
            object.exists(),
            !missing,
            "what is left of the old object is kept"
        );
        let left = std::fs::read_dir(bench.dir.path().join("scratch")).unwrap();
        let left = left.filter(|e| {
            e.as_ref()
                .unwrap()
                .file_name()
                .to_string_lossy()
                .starts_with(".tmp")
        });
        assert_eq!(left.count(), 0);
        bench.tasks.stop(std::time::Duration::from_secs(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_whose_tail_is_gone_is_proved_by_its_records_alone() {
    let bench = Bench::new().await;
    let object = bench.object();
    let bytes = std::fs::read(&object).unwrap();
    std::fs::write(&object, &bytes[..bytes.len() - 10]).unwrap();
    let done = bench
        .verify(vec![("good", bench.good())], Repair::Apply)
        .await;
    assert!(done.repairs[0].replaced_by.is_some(), "{done:?}");
    assert!(bench.verify(vec![], Repair::No).await.ok);
    bench.tasks.stop(std::time::Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slices_of_a_lost_merged_object_come_back_one_by_one() {
    let logs = |dir: &Path| -> Vec<Log> {
        let one = |partition| Log::write(dir, partition, &[vec![(4, 50), (2, 300)]]);
        (0..8).map(one).collect()
    };
    let bench = Bench::of(logs, true).await;
    let mut lost = 0;
    for listed in bench.store.list("v1/east/data/").await.unwrap() {
        if listed.key.as_str().contains("/merged-") {
            bench.store.delete(&listed.key).await.unwrap();
            lost += 1;
        }
    }
    assert!(lost > 0);
    let scratch = bench.dir.path().join("scratch");
    let good = || {
        logs(&scratch)
            .into_iter()
            .map(|log| ("good", log))
            .collect()
    };
    let done = bench.verify(good(), Repair::Apply).await;
    assert!(done.repairs.len() > lost, "{done:?}");
    assert!(
        done.repairs.iter().all(|r| r.replaced_by.is_some()),
        "{done:?}"
    );
    let after = bench.verify(vec![], Repair::No).await;
    assert!(after.ok && after.objects == 8, "{after:?}");
    bench.tasks.stop(std::time::Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_for_an_earlier_owner_changes_nothing() {
    let bench = Bench::new().await;
    let shard = bench.committer.shard_of(at(0));
    let before = bench.committer.root(shard).unwrap();
    let old = before.partitions[&at(0)].entries[0];
    let new = Entry {
        writer_epoch: old.writer_epoch - 1,
        random: old.random ^ 1,
        ..old
    };
    let edit = Edit::Replace {
        at: at(0),
        old: Box::new(old),
        new: Box::new(new),
    };
    let refused = bench.committer.edit(shard, edit).await.unwrap_err();
    assert!(
        matches!(refused, CommitError::Elsewhere { .. }),
        "{refused}"
    );
    assert_eq!(bench.committer.root(shard).unwrap(), before);
    bench.tasks.stop(std::time::Duration::from_secs(5)).await;
}

/// Mends what can be mended, and tidies up; or dies.
async fn mend(fault: &Fault<Memory>, dir: &Path) {
    let few = || few(dir);
    let (fake, tasks) = (FakeBroker::new(vec![few()]), Tasks::new(Shutdown::new()));
    let work = async {
        let store: Arc<dyn Store> = Arc::new(fault.clone());
        let d = daemon(Arc::clone(&store), &fake, dir, &tasks).await;
        let mut swept = d.retention.sweep().await.unwrap();
        let running = (&d.committer, &d.uploader.broker, &tasks);
        for repair in [Repair::No, Repair::Apply] {
            verify(&store, running, dir, vec![("good", few())], repair).await;
        }
        d.retention.look_again(&mut swept.spared).await.unwrap();
        let mut seen = BTreeMap::new();
        d.retention.delete_pending(&mut seen).await.unwrap();
        assert!(verify(&store, running, dir, vec![], Repair::No).await.ok);
    };
    fault.or_death(work).await;
    tasks.stop(std::time::Duration::ZERO).await;
}

fn few(dir: &Path) -> Log {
    Log::write(dir, 0, &[vec![(4, 50)], vec![(2, 300)], vec![(3, 10)]])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_at_any_write_of_a_repair_leaves_what_the_next_one_mends() {
    let dir = tempfile::tempdir().unwrap();
    let (store, tasks) = (Memory::default(), Tasks::new(Shutdown::new()));
    let broker = FakeBroker::new(vec![few(dir.path())]);
    whole_life(&broker, Arc::new(store.clone()), dir.path(), &tasks).await;
    tasks.stop(std::time::Duration::ZERO).await;
    let (keys, end) = (Keys::new("east"), few(dir.path()).end());
    let objects = store.list(&keys.data_prefix()).await.unwrap();
    store.delete(&objects[1].key).await.unwrap();
    let writes = at_each_write(
        death,
        || store.branch(),
        async |fault| {
            mend(&fault, dir.path()).await;
            mend(&fault.sound(), dir.path()).await;
            assert_eq!(named(&fault.store).await, [(0, (0, end))].into());
            let cases = fault.store.list(&keys.quarantine_prefix()).await.unwrap();
            assert!(cases.is_empty(), "{:?}: {cases:?}", fault.plan);
        },
    )
    .await;
    assert!(
        writes >= 6,
        "claims, case, object, root, case: only {writes} writes"
    );
}
