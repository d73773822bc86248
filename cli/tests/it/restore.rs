//! `restore`: the plan of a bucket in a folder, its exit codes, and that nothing is written.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    time::Duration,
};

use whimbrel_fleet::{
    EpochStart, FailoverGroup, GroupName, LeaderEpoch, Partition, Topic, TopicPartition, View,
};
use whimbrel_runtime::{Clock, random};
use whimbrel_tiering::{
    format::{Keys, shard_of},
    meta::{Context, Fleet, Keeper},
    ops::Ops,
    prepare::{Slice, Writer, prepare},
    root::{Root, Stamp},
    store::{Folder, Marker, Store, check_marker, utc},
};
use whimbrel_wire::BatchBuilder;

use crate::whimbrel::{command, run, stderr, stdout};

const SHARDS: u16 = 2;

/// A topic with ten records, of a fleet that has no groups of consumers and no transactions.
async fn write(dir: &Path) -> PathBuf {
    let store = Folder::open(dir).unwrap();
    let (keys, clock) = (Keys::new("east"), Clock::system());
    let marker = Marker {
        format: 1,
        fleet_id: "fleet-1".into(),
        region: "east".into(),
        incarnation: random::uuid(),
        shards: SHARDS,
        created_ms: clock.wall_ms(),
    };
    check_marker(&store, &keys, &marker).await.unwrap();
    let at = TopicPartition::new(random::uuid(), 0);
    let slice = slice(at);
    let writer = Writer {
        region: "east".into(),
        incarnation: marker.incarnation,
        epoch: 1,
        random: 7,
        now_ms: clock.wall_ms(),
    };
    let ready = prepare(&slice, &writer).unwrap();
    let object = ready.commit.entry.key(&keys, shard_of(at, SHARDS), at);
    store.put_file(&object, &ready.source).await.unwrap();
    for shard in 0..SHARDS {
        let stamp = Stamp {
            incarnation: marker.incarnation,
            epoch: 1,
            sequence: 1,
            nonce: random::uuid(),
        };
        let mut root = Root::empty(stamp, "east", shard, SHARDS, clock.wall_ms());
        if shard == shard_of(at, SHARDS) {
            root.commit(&keys, &ready.commit, clock.wall_ms()).unwrap();
        }
        let key = keys.root(shard);
        let written = store.put_if_absent(&key, root.encode().into()).await;
        written.unwrap();
    }
    let context = Context {
        store: std::sync::Arc::new(store),
        keys,
        fleet_id: "fleet-1".into(),
        region: "east".into(),
        incarnation: marker.incarnation,
        ops: Ops::new(clock.clone()),
        clock,
        window: Duration::from_secs(3_600),
        grace: Duration::from_secs(3_600),
    };
    let mut keeper = Keeper::claim(context).await.unwrap();
    let view = view(at);
    keeper
        .keep(&Fleet::of(&view), view.version, None)
        .await
        .unwrap();
    dir.join(object.as_str())
}

fn slice(at: TopicPartition) -> Slice {
    let mut batch = BatchBuilder::new(0).leader_epoch(6);
    for n in 0..10_u8 {
        batch.add(1_000, None, Some(&[n; 100]), &[]).unwrap();
    }
    let batch = batch.finish().unwrap();
    Slice {
        topic: "orders".into(),
        at,
        group: "default".into(),
        region_epoch: 1,
        base: 0,
        end: 10,
        path: PathBuf::new(),
        position: 0,
        bytes: batch.len() as u64,
        inline: batch,
        lineage: vec![EpochStart {
            epoch: 6,
            start_offset: 0,
        }],
        producers: Default::default(),
        aborted: Default::default(),
        log_start: 0,
        sparse: false,
    }
}

fn view(at: TopicPartition) -> View {
    let mut view = View {
        version: 3,
        fleet_id: "fleet-1".into(),
        ..View::default()
    };
    let group = FailoverGroup::new(GroupName::default_group(), "east".into());
    view.groups.insert(group.name.clone(), group);
    let topic = Topic {
        name: "orders".into(),
        id: at.topic_id,
        group: GroupName::default_group(),
        partitions: vec![Partition {
            leader_epoch: LeaderEpoch(8),
            ..Partition::default()
        }],
        configs: BTreeMap::new(),
        replication_factor: 1,
        internal: false,
    };
    view.topics.insert("orders".into(), topic);
    view
}

fn bucket(dir: &Path) -> PathBuf {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(write(dir))
}

/// Every file with its bytes.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    found
}

#[test]
fn a_plan_says_what_comes_back_and_what_does_not_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let object = bucket(dir.path());
    let before = files(dir.path());
    let url = format!("file://{}", dir.path().display());
    let restore = ["restore", "--from", &url, "--region", "east"];
    let output = run(&restore);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = stdout(&output);
    assert!(said.contains("none is needed"), "{said}");
    let last = said.lines().last().unwrap();
    assert!(last.starts_with("NOTHING CHANGED."), "{said}");
    let output = run(&[&restore[..], &["-o", "json"]].concat());
    let page: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    let partition = &page["topics"][0]["partitions"][0];
    assert_eq!(
        (&partition["end"], &page["whole"]),
        (&10.into(), &true.into())
    );
    assert_eq!(partition["leader_epoch"]["found"], 8);
    assert_eq!(partition["leader_epoch"]["begins"], 1_008);
    assert_eq!(files(dir.path()), before);

    fs::remove_file(object).unwrap();
    let output = run(&restore);
    let said = stdout(&output);
    assert_eq!(output.status.code(), Some(10), "{said}");
    assert!(
        said.contains("missing[WB-316]: orders-0, offsets 0..10"),
        "{said}"
    );
    assert!(
        said.contains("NOT all of it is in the bucket: 1 ranges are missing, 10 offsets"),
        "{said}"
    );
    let hash = said
        .split_once("\nplan ")
        .unwrap()
        .1
        .split_once(':')
        .unwrap()
        .0;
    let last = said.lines().last().unwrap();
    assert!(last.contains("--accept-missing --plan"), "{said}");
    // Nothing is asked of a fleet before the plan is accepted.
    let apply = ["--plan", hash, "--apply", "--fleet", "/nonexistent"];
    let output = run(&[&restore[..], &apply].concat());
    assert_eq!(output.status.code(), Some(11), "{}", stderr(&output));
    assert!(stderr(&output).contains("WB-011"), "{}", stderr(&output));
    let output = run(&[&restore[..], &apply, &["--accept-missing"]].concat());
    assert!(!stderr(&output).contains("WB-011"), "{}", stderr(&output));
    assert_ne!(output.status.code(), Some(0));
}

#[test]
fn what_cannot_be_planned_has_a_code_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    bucket(dir.path());
    let url = format!("file://{}", dir.path().display());
    let empty = tempfile::tempdir().unwrap();
    let nothing = format!("file://{}", empty.path().display());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = format!("s3://bkt?endpoint=http://{}", taken.local_addr().unwrap());
    drop(taken);
    let now = utc(Clock::system().wall_ms() + 60_000);
    for (arguments, exit, code) in [
        (
            ["--from", "nonsense", "--region", "east"].to_vec(),
            2,
            "WB-300",
        ),
        (
            ["--from", &url, "--region", "East"].to_vec(),
            2,
            "not the name",
        ),
        (["--from", &url].to_vec(), 2, "--region"),
        (
            ["--from", &nothing, "--region", "east"].to_vec(),
            11,
            "WB-301",
        ),
        (["--from", &url, "--region", "west"].to_vec(), 11, "WB-301"),
        (
            ["--from", &closed, "--region", "east"].to_vec(),
            20,
            "WB-301",
        ),
        (
            ["--from", &url, "--region", "east", "--to-time", "yesterday"].to_vec(),
            2,
            "write a time in UTC",
        ),
        (
            [
                "--from",
                &url,
                "--region",
                "east",
                "--to-time",
                "2001-01-01T00:00:00Z",
            ]
            .to_vec(),
            11,
            "WB-332",
        ),
        (
            ["--from", &url, "--region", "east", "--to-time", &now].to_vec(),
            11,
            "WB-333",
        ),
    ] {
        let output = command(&[&["restore"], &arguments[..]].concat())
            .envs([("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "s")])
            .output()
            .unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {said}");
        assert!(said.contains(code), "{arguments:?}: {said}");
    }
}
