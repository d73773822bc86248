//! Everything is lost but a copy of the bucket, taken while it was written: an empty fleet is filled from it.

mod clients;
mod fleet;
mod killed;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Child, Output, Stdio},
    sync::atomic::Ordering,
    time::Duration,
};

use serde_json::Value;

use self::{
    clients::{GROUP, Name, PARTITIONS, TOPIC, Told, Txn},
    fleet::{Fleet, copy},
};

/// By which the bucket lacks at most so much.
const WITHIN: &str = "whimbrel.upload.within.ms=1000";

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The load on a fleet, until it is dropped.
struct Load {
    told: Told,
    clients: Vec<std::thread::JoinHandle<()>>,
}

/// Whose transactions are long enough that each cut finds one open.
type Work = Box<dyn FnOnce(&str, &Told) + Send>;

const SLOW: &str = "slow";
/// A cut takes a moment: what was done so shortly before or after it may lie on either side.
const A_CUT_MS: i64 = 300;
const QUICK: [&str; 2] = ["quick-0", "quick-1"];

impl Load {
    fn start(bootstrap: &str) -> Self {
        let told = Told::default();
        let mut clients = Vec::new();
        let mut client = |work: Work| {
            let (bootstrap, told) = (bootstrap.to_owned(), told.clone());
            clients.push(std::thread::spawn(move || work(&bootstrap, &told)));
        };
        for id in QUICK {
            client(Box::new(move |at, told| {
                clients::transactions(at, id, Duration::from_millis(20), told);
            }));
        }
        client(Box::new(|at, told| {
            clients::transactions(at, SLOW, Duration::from_millis(2_500), told);
        }));
        client(Box::new(clients::positions));
        Self { told, clients }
    }

    fn stop(self) -> Told {
        self.told.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().unwrap();
        }
        self.told
    }
}

/// A copy from which all comes back, and whose cut finds a transaction open that was not decided then.
async fn copied(fleet: &Fleet, folder: &Path, load: &Load) -> (PathBuf, Value) {
    let bucket = fleet.bucket();
    let mut tries = 0;
    fleet
        .wait("a copy that is whole at a cut", || {
            tries += 1;
            let to = folder.join(format!("copy-{tries}"));
            copy(&bucket, &to);
            let from = format!("file://{}", to.display());
            let plan = ["restore", "--from", &from, "--region", "east", "-o", "json"];
            let output = fleet.command(&plan).output().unwrap();
            if !output.status.success() {
                println!("{}", String::from_utf8_lossy(&output.stderr));
                return None;
            }
            let plan = json(&output);
            let taken_ms = cut_ms(&plan)?;
            let open = plan["state"]["open"].as_array()?;
            let is_open = open
                .iter()
                .any(|o| o["transactional_id"] == SLOW && o["commits"] == false);
            // It has to have something to lose and something to keep.
            let ended = load.told.txns.lock();
            let before = ended.iter().filter(|t| t.ended_ms < taken_ms);
            let is_busy = before.filter(|t| t.name.0 == SLOW).count() > 2;
            // Which one was open is to be plain.
            let is_near = |t: &Txn| (t.open_ms.1 - A_CUT_MS..t.ended_ms + A_CUT_MS).contains(&taken_ms);
            let is_plain = fleet.clock.wall_ms() > taken_ms + A_CUT_MS
                && !ended.iter().any(|t| t.name.0 == SLOW && is_near(t));
            let read = load.told.positions.lock();
            let has_read = read.iter().filter(|(ms, _)| *ms < taken_ms).count() > 3;
            println!("cut of {taken_ms}: open {is_open}, plain {is_plain}, busy {is_busy}, read {has_read}");
            (is_open && is_plain && is_busy && has_read).then_some((to, plan))
        })
        .await
}

fn cut_ms(plan: &Value) -> Option<i64> {
    plan["groups"][0]["cut"]["taken_ms"].as_i64()
}

fn restore(fleet: &Fleet, from: &Path, plan: &Value) -> Child {
    let from = format!("file://{}", from.display());
    let hash = plan["hash"].as_str().unwrap();
    let arguments = [
        "restore", "--from", &from, "--region", "east", "--plan", hash, "--apply", "-o", "json",
    ];
    let mut command = fleet.command(&arguments);
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Of each transaction all or nothing, nothing that was aborted or open, all that had ended before the cut.
fn judge(found: &[Vec<Name>], txns: &[Txn], cut_ms: i64) {
    let mut came: BTreeMap<&Name, usize> = BTreeMap::new();
    for records in found {
        for name in records {
            *came.entry(name).or_default() += 1;
        }
        let of_quick = records.iter().filter(|(id, _)| id == QUICK[0]);
        let numbers: Vec<_> = of_quick.map(|(_, n)| *n).collect();
        assert!(numbers.is_sorted(), "{numbers:?}");
    }
    let mut open = 0;
    for txn in txns {
        let parts = came.remove(&txn.name).unwrap_or(0);
        let all = parts == PARTITIONS.unsigned_abs() as usize;
        assert!(all || parts == 0, "{parts} records of {txn:?}");
        assert!(
            !all || txn.committed != Some(false),
            "it was aborted: {txn:?}"
        );
        let is_before = txn.ended_ms + A_CUT_MS < cut_ms && txn.committed == Some(true);
        assert!(all || !is_before, "it is lost: {txn:?}");
        assert!(
            !all || txn.begun_ms <= cut_ms + A_CUT_MS,
            "it came later: {txn:?}"
        );
        if txn.open_ms.0 < cut_ms && cut_ms + A_CUT_MS < txn.open_ms.1 {
            assert!(!all, "it was open at the cut of {cut_ms}: {txn:?}");
            open += 1;
        }
    }
    came.retain(|(_, n), _| *n != usize::MAX);
    assert!(came.is_empty(), "nobody wrote {came:?}");
    assert!(open > 0, "none was open at the cut of {cut_ms}: {txns:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_that_is_lost_comes_back_from_a_copy_of_its_bucket_at_a_cut() {
    let _one = super::scenarios::ONE.lock().await;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut lost = Fleet::start(&folder.path().join("lost"), true).await;
    let partitions = PARTITIONS.to_string();
    let create = [
        "topic",
        "create",
        TOPIC,
        "--partitions",
        &partitions,
        "--config",
        WITHIN,
    ];
    lost.run("the topic", &create).await;
    let load = Load::start(&lost.bootstrap());
    let (bucket, plan) = copied(&lost, folder.path(), &load).await;
    let told = load.stop();
    lost.kill();

    let fleet = Fleet::start(&folder.path().join("restored"), false).await;
    let mut killed = restore(&fleet, &bucket, &plan);
    let views = fleet.controller().view();
    let begun = || views.borrow().restore.is_some().then_some(());
    fleet.wait("the restore to begin", begun).await;
    killed.kill().unwrap();
    killed.wait().unwrap();
    let again = restore(&fleet, &bucket, &plan);
    let output = again.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    println!("{}\n{said}", String::from_utf8_lossy(&output.stdout));

    let cut_ms = cut_ms(&plan).unwrap();
    let at = clients::committed(&fleet.bootstrap());
    let told_positions = told.positions.lock().clone();
    let (_, least) = told_positions
        .iter()
        .rfind(|(ms, _)| ms + A_CUT_MS < cut_ms)
        .unwrap();
    for (partition, least) in least {
        let offset = at[partition];
        let ever = told_positions
            .iter()
            .any(|(_, at)| at.get(partition) == Some(&offset));
        assert!(
            ever && offset >= *least,
            "{GROUP} stands at {at:?}, not at {least:?}"
        );
    }
    for id in [QUICK[0], QUICK[1], SLOW] {
        clients::carry_on(&fleet.bootstrap(), id);
    }
    let found = clients::read(&fleet.bootstrap(), SLOW);
    judge(&found, &told.txns.lock(), cut_ms);
}
