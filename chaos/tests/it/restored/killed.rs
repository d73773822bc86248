//! Whoever is killed between two steps of a restore, the same command goes on, and what comes back is the same.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Child,
    time::Duration,
};

use serde_json::Value;
use whimbrel_dev::layout::regions;
use whimbrel_fleet::{GroupName, RegionName, Role, View};
use whimbrel_rpc::controller::ControllerClient;

use super::{
    Load, QUICK, SLOW, WITHIN,
    clients::{self, Name, PARTITIONS, TABLE, TOPIC},
    fleet::Fleet,
    json, restore,
};

/// Far above what a restore takes on a busy machine.
const PATIENCE_MS: u64 = 240_000;
/// Commands that ended by themselves because what they needed was away for too long.
const GIVEN_UP: usize = 3;

/// What clients find in a fleet that nobody writes to.
#[derive(Debug, PartialEq)]
struct Held {
    committed: Vec<Vec<Name>>,
    positions: BTreeMap<i32, i64>,
    table: BTreeMap<String, String>,
    ends: Vec<(i64, i64)>,
}

impl Held {
    fn of(fleet: &Fleet) -> Self {
        let at = fleet.bootstrap();
        Self {
            committed: clients::read(&at, SLOW),
            positions: clients::committed(&at),
            table: clients::read_table(&at),
            ends: clients::ends(&at),
        }
    }
}

/// A bucket whose newest cut has all that its fleet was told to hold.
struct Bucket {
    from: PathBuf,
    plan: Value,
    held: Held,
}

impl Bucket {
    async fn of_a_lost_fleet(folder: &Path) -> Self {
        let mut lost = Fleet::start(&folder.join("lost"), true).await;
        let partitions = PARTITIONS.to_string();
        let small = [
            "segment.bytes=4096",
            "local.retention.bytes=1",
            "retention.ms=-1",
        ];
        let mut create = vec!["topic", "create", TOPIC, "--partitions", &partitions];
        for config in [WITHIN].iter().chain(&small) {
            create.extend(["--config", config]);
        }
        lost.run("the topic", &create).await;
        let compact = "cleanup.policy=compact";
        let create = [
            "topic", "create", TABLE, "--config", compact, "--config", WITHIN,
        ];
        lost.run("the compacted topic", &create).await;
        let at = lost.bootstrap();
        let load = Load::start(&at);
        clients::write_table(&at);
        let told = load.told.clone();
        lost.wait("something to keep", || {
            let some = told.txns.lock().iter().filter(|t| t.name.0 == SLOW).count() > 2;
            (some && told.positions.lock().len() > 3).then_some(())
        })
        .await;
        load.stop();
        clients::carry_on(&at, SLOW);
        let (from, held) = (lost.bucket(), Held::of(&lost));
        let url = format!("file://{}", from.display());
        let plan = ["restore", "--from", &url, "--region", "east", "-o", "json"];
        let look = |lost: &Fleet| {
            let plan = lost.command(&plan).output().unwrap();
            let plan = plan.status.success().then(|| json(&plan))?;
            let held = held.ends.iter().map(|(_, end)| *end);
            let is_newest = plan["groups"][0]["newer_cut"].is_null();
            let has_all = ends(&plan)? == held.collect::<Vec<_>>();
            let is_over = plan["state"]["open_transactions"] == 0;
            (is_newest && has_all && is_over).then_some(plan)
        };
        let all = "a cut of all of it in the bucket";
        lost.wait(all, || look(&lost)).await;
        lost.kill();
        // Daemons may have written something meanwhile.
        let plan = look(&lost).unwrap();
        Self { from, plan, held }
    }
}

/// Where the plan's logs of the topic end.
fn ends(plan: &Value) -> Option<Vec<i64>> {
    let topics = plan["topics"].as_array()?;
    let topic = topics.iter().find(|topic| topic["name"] == TOPIC)?;
    let partitions = topic["partitions"].as_array()?.iter();
    partitions.map(|p| p["end"].as_i64()).collect()
}

/// What a restore stands before, as anybody sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The fleet is described, and its logs are being filled.
    Filling,
    /// They are there, and the old home is fenced off.
    Moving,
    /// All are home, and the restore is to end.
    Ending,
}

fn step(view: &View) -> Option<Step> {
    let restore = view.restore.as_ref()?;
    let group = &view.groups[&GroupName::default_group()];
    Some(if group.home != restore.region {
        Step::Ending
    } else if group.fence.is_some() {
        Step::Moving
    } else {
        Step::Filling
    })
}

#[derive(Clone, Copy, Debug)]
enum Victim {
    /// Whoever serves the bucket.
    Command,
    /// That is filled and becomes the leader.
    Broker,
    /// That leads.
    Controller,
}

/// Kills the victim at each step that is seen. Which those were.
async fn drive(fleet: &mut Fleet, bucket: &Bucket, victim: Victim) -> Vec<Step> {
    let controller = fleet.controller();
    let views = controller.view();
    let (begun_ms, mut struck, mut gave_up) = (fleet.clock.boot_ms(), Vec::new(), 0);
    let mut run = restore(fleet, &bucket.from, &bucket.plan);
    loop {
        let waited_ms = fleet.clock.boot_ms() - begun_ms;
        assert!(
            waited_ms < PATIENCE_MS,
            "{victim:?}: not restored, {struck:?}"
        );
        let at = step(&views.borrow());
        if let Some(at) = at.filter(|at| !struck.contains(at)) {
            struck.push(at);
            match victim {
                Victim::Command => {
                    end(&mut run);
                    run = restore(fleet, &bucket.from, &bucket.plan);
                }
                Victim::Broker => fleet.strike(Role::Broker, &regions()[0]).await,
                Victim::Controller => {
                    let [east, west] = regions();
                    let name = match leader(fleet, &controller).await {
                        1 => east,
                        2 => west,
                        _ => RegionName::from("witness"),
                    };
                    fleet.strike(Role::Controller, &name).await;
                }
            }
        }
        if let Some(status) = run.try_wait().unwrap() {
            let output = run.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            println!("{victim:?} {status}: {said}");
            if status.success() {
                return struck;
            }
            gave_up += 1;
            assert!(gave_up <= GIVEN_UP, "{victim:?} after {struck:?}: {said}");
            run = restore(fleet, &bucket.from, &bucket.plan);
        }
        fleet.clock.sleep(Duration::from_millis(10)).await;
    }
}

/// The voter that leads.
async fn leader(fleet: &Fleet, controller: &ControllerClient) -> u64 {
    let begun_ms = fleet.clock.boot_ms();
    loop {
        match controller.status().await {
            Ok(status) => return status.raft.voter,
            Err(error) => {
                let waited_ms = fleet.clock.boot_ms() - begun_ms;
                assert!(waited_ms < PATIENCE_MS, "no controller leads: {error}");
                fleet.clock.sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn end(run: &mut Child) {
    // It may have ended by itself.
    let _gone = run.kill();
    run.wait().unwrap();
}

/// Waits until everything that lies in closed segments is in the fleet's own bucket alone.
async fn cold(fleet: &Fleet) {
    fleet
        .wait("cold logs", || {
            let map = ["tier", "map", "-o", "json"];
            let output = fleet.command(&map).output().unwrap();
            let map = output.status.success().then(|| json(&output))?;
            let lines = map["topics"].as_array()?;
            let is_cold = |line: &&Value| line["region"] == "east" && line["topic"] == TOPIC;
            let line = lines.iter().find(is_cold)?;
            (line["cold"].as_i64()? > 100 && line["hot"] == 0).then_some(())
        })
        .await;
}

/// First a fleet from which all is there, then one after the other that is filled from its bucket.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_killed_between_two_steps_of_a_restore_what_comes_back_is_the_same() {
    let _one = crate::scenarios::ONE.lock().await;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let bucket = Bucket::of_a_lost_fleet(folder.path()).await;
    for victim in [Victim::Command, Victim::Broker, Victim::Controller] {
        let path = folder.path().join(format!("{victim:?}"));
        let mut fleet = Fleet::start(&path, false).await;
        let struck = drive(&mut fleet, &bucket, victim).await;
        println!("{victim:?} was killed at {struck:?}");
        // Whoever watches the fleet through a voter that is killed may miss the next one.
        let seen = match victim {
            Victim::Controller => &[Step::Filling][..],
            Victim::Command | Victim::Broker => &[Step::Filling, Step::Moving],
        };
        assert!(struck.starts_with(seen), "{victim:?}: {struck:?}");
        assert_eq!(Held::of(&fleet), bucket.held, "{victim:?}");
        for id in [QUICK[0], QUICK[1], SLOW] {
            clients::carry_on(&fleet.bootstrap(), id);
        }
        clients::write_table(&fleet.bootstrap());
        if matches!(victim, Victim::Command) {
            // Its own uploads carry which transactions were aborted, also those of the fleet that is lost.
            cold(&fleet).await;
            let mut again = clients::read(&fleet.bootstrap(), SLOW);
            for (records, held) in again.iter_mut().zip(&bucket.held.committed) {
                records.truncate(held.len());
            }
            assert_eq!(again, bucket.held.committed);
        }
    }
}
