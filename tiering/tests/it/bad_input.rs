//! Buckets that lie: roots, objects and clocks that cannot be believed. Each is detected, named and
//! quarantined; what is not damaged is read on; nothing is deleted.

mod shared;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use whimbrel_rpc::proto::node::{ReadReply, ReadRequest, read_reply::Outcome};
use whimbrel_runtime::{Clock, Shutdown, Tasks, random, unit::Span};
use whimbrel_tiering::{
    committer::{Claims, Committer, Context, Names},
    format::{Key, Keys, TRAILER_BYTES, shard_of},
    ops::Ops,
    root::Root,
    skew::{Doubt, Skew},
    store::{Folder, Store},
};

use crate::{
    broker::FakeBroker,
    support::{Log, at, until},
    verify::{status, verify},
    world::{Running, World},
};

const SHAPE: [(usize, usize); 2] = [(5, 300_000), (4, 1_000)];

/// Two partitions of different shards.
fn partitions() -> (i32, i32) {
    let other = (1..).find(|p| shard_of(at(*p), 16) != shard_of(at(0), 16));
    (0, other.unwrap())
}

fn shard(partition: i32) -> u16 {
    shard_of(at(partition), 16)
}

fn log(world: &World, partition: i32) -> Log {
    Log::write(
        &world.path("data"),
        partition,
        &[SHAPE.to_vec(), SHAPE.to_vec()],
    )
}

/// Both partitions are in the bucket.
async fn tiered(world: &World) -> (FakeBroker, Running) {
    let (a, b) = partitions();
    let broker = FakeBroker::new(vec![log(world, a), log(world, b)]);
    let running = world.start(&broker).await;
    let end = log(world, a).end();
    until("uploaded", || {
        broker.verified(a) == end && broker.verified(b) == end
    })
    .await;
    (broker, running)
}

async fn ask(running: &mut Running, partition: i32) -> ReadReply {
    let request = ReadRequest {
        at: Some(at(partition).into()),
        offset: 0,
        max_bytes: 1 << 20,
        wait_ms: 30_000,
        ..ReadRequest::default()
    };
    running.ask(request).await
}

fn root_file(world: &World, partition: i32) -> PathBuf {
    world.path(&format!("bucket/v1/east/root/{}", shard(partition)))
}

/// The objects of a partition, oldest first.
fn objects(world: &World, partition: i32) -> Vec<PathBuf> {
    let name = format!("{}-{partition}-", at(partition).topic_id.simple());
    let mut found: Vec<_> = files(&world.path("bucket/v1/east/data"))
        .into_iter()
        .filter(|p| p.file_name().unwrap().to_str().unwrap().starts_with(&name))
        .collect();
    found.sort_by_key(|p| p.file_name().unwrap().to_owned());
    found
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.push(path);
        }
    }
    all
}

/// A root with a right CRC and anything for a body.
fn root_of(body: &[u8]) -> Vec<u8> {
    let mut bytes = b"WBROOT01\0\x01\0\0".to_vec();
    bytes.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(body).to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// The body of `root` up to its partitions.
fn head(root: &[u8]) -> Vec<u8> {
    // incarnation, epoch, sequence, nonce; region; shard, shards, written.
    root[20..20 + 16 + 8 + 8 + 16 + (2 + "east".len()) + 2 + 2 + 8].to_vec()
}

fn hostile_roots(sound: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut entries = head(sound);
    entries.extend_from_slice(&1_000_000_000_u32.to_be_bytes());
    let mut dots = head(sound);
    dots.extend_from_slice(&0_u32.to_be_bytes());
    dots.extend_from_slice(&1_u32.to_be_bytes());
    let key = b"v1/east/../../etc/passwd";
    dots.extend_from_slice(&u16::try_from(key.len()).unwrap().to_be_bytes());
    dots.extend_from_slice(key);
    dots.extend_from_slice(&[0; 8 + 4]);
    let mut crc = sound.to_vec();
    *crc.last_mut().unwrap() ^= 1;
    let mut bit = sound.to_vec();
    bit[40] ^= 0x10;
    vec![
        ("10^9 partitions", root_of(&entries)),
        ("a key with ..", root_of(&dots)),
        ("a wrong CRC", crc),
        ("a flipped bit", bit),
        ("another file", b"{}".to_vec()),
    ]
}

async fn rests(running: &mut Running, sick: i32, well: i32, world: &World) {
    let told = status(running).await;
    assert_eq!(
        told["quarantined_shards"][0]["shard"],
        shard(sick),
        "{told}"
    );
    assert_eq!(told["quarantined_shards"][0]["code"], "WB-312");
    assert_eq!(ask(running, well).await.outcome(), Outcome::Ranges);
    assert!(
        running.read_all(&log(world, well), 0, 1 << 20).await == log(world, well).bytes_from(0)
    );
    let report = verify(running, "").await;
    assert_eq!(report["problems"][0]["code"], "WB-312", "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_that_cannot_be_believed_rests_alone() {
    let (sick, well) = partitions();
    let world = World::new();
    let (broker, running) = tiered(&world).await;
    running.stop().await;
    let sound = fs::read(root_file(&world, sick)).unwrap();
    let before = files(&world.path("bucket/v1/east/data"));
    for (what, bytes) in hostile_roots(&sound) {
        fs::write(root_file(&world, sick), &bytes).unwrap();
        let mut running = world.start(&broker).await;
        rests(&mut running, sick, well, &world).await;
        // Not "nothing there": nobody knows what is there.
        assert_eq!(
            ask(&mut running, sick).await.outcome(),
            Outcome::Damaged,
            "{what}"
        );
        running.stop().await;
        assert!(
            fs::read(root_file(&world, sick)).unwrap() == bytes,
            "{what} was overwritten"
        );
    }
    // 1 GB, refused before it is read.
    let huge = fs::File::create(root_file(&world, sick)).unwrap();
    huge.set_len(1_000_000_000).unwrap();
    let mut running = world.start(&broker).await;
    rests(&mut running, sick, well, &world).await;
    running.stop().await;
    assert_eq!(files(&world.path("bucket/v1/east/data")), before);
    // It comes back, and all is as it was.
    fs::write(root_file(&world, sick), &sound).unwrap();
    let mut running = world.start(&broker).await;
    assert!(
        running.read_all(&log(&world, sick), 0, 1 << 20).await == log(&world, sick).bytes_from(0)
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_that_deletes_roots_and_objects_makes_no_garbage_of_the_rest() {
    let (sick, well) = partitions();
    let world = World::new();
    let (broker, running) = tiered(&world).await;
    running.stop().await;
    fs::remove_file(root_file(&world, sick)).unwrap();
    fs::remove_file(&objects(&world, well)[0]).unwrap();
    let before = files(&world.path("bucket/v1/east/data"));
    // A second start is when objects of the first one's epoch would be swept.
    for _ in 0..3 {
        let mut running = world
            .start_with(&broker, |options| {
                options.delete_grace = Span::millis(1);
                options.retention_interval = Span::millis(20);
            })
            .await;
        assert_eq!(ask(&mut running, sick).await.outcome(), Outcome::Damaged);
        let lost = ask(&mut running, well).await;
        assert_eq!(lost.outcome(), Outcome::Damaged, "{}", lost.detail);
        // What lies above the lost object is read on.
        let rest = log(&world, well).segments[1].0;
        let (bytes, _) = running.read(well, rest, 1 << 20, false).await;
        assert!(log(&world, well).bytes_from(rest).starts_with(&bytes));
        let report = verify(&running, "").await;
        assert_eq!(report["problems_found"], 2, "{report}");
        running.stop().await;
    }
    assert_eq!(files(&world.path("bucket/v1/east/data")), before);
    assert!(
        !root_file(&world, sick).exists(),
        "a lost root is not begun anew"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_that_goes_bad_while_the_daemon_runs_stops_its_shard_only() {
    let (sick, well) = partitions();
    let world = World::new();
    let more = |p| {
        Log::write(
            &world.path("data"),
            p,
            &[SHAPE.to_vec(), SHAPE.to_vec(), SHAPE.to_vec()],
        )
    };
    let (broker, mut running) = tiered(&world).await;
    let end = log(&world, sick).end();
    fs::write(root_file(&world, sick), b"WBROOT01 and then nothing").unwrap();
    broker.replace(vec![more(sick), more(well)]);
    until("the well one goes on", || {
        broker.verified(well) == more(well).end()
    })
    .await;
    assert_eq!(broker.verified(sick), end);
    let told = status(&running).await;
    assert_eq!(
        told["quarantined_shards"][0]["shard"],
        shard(sick),
        "{told}"
    );
    // What it read itself before is served on.
    assert_eq!(ask(&mut running, sick).await.outcome(), Outcome::Ranges);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_above_ours_stops_us_before_we_change_anything() {
    let (a, b) = partitions();
    let world = World::new();
    let (broker, running) = tiered(&world).await;
    let mut root = Root::decode(&fs::read(root_file(&world, a)).unwrap()).unwrap();
    root.stamp.epoch += 1_000;
    root.stamp.nonce = random::uuid();
    fs::write(root_file(&world, a), root.encode()).unwrap();
    let longer = |p| {
        Log::write(
            &world.path("data"),
            p,
            &[SHAPE.to_vec(), SHAPE.to_vec(), SHAPE.to_vec()],
        )
    };
    broker.replace(vec![longer(a), longer(b)]);
    running.tasks.shutdown().wait().await;
    let why = running.tasks.failure().unwrap();
    assert!(why.contains("epoch"), "{why}");
    assert!(fs::read(root_file(&world, a)).unwrap() == root.encode());
    running.tasks.stop(std::time::Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_in_anothers_place_or_cut_short_is_found_and_never_served() {
    let (a, b) = partitions();
    let world = World::new();
    let (_broker, mut running) = tiered(&world).await;
    let (one, two) = (&objects(&world, a)[0], &objects(&world, b)[0]);
    let (first, second) = (fs::read(one).unwrap(), fs::read(two).unwrap());
    assert_eq!(first.len(), second.len(), "sizes tell nothing here");
    fs::write(one, &second).unwrap();
    fs::write(two, &second[..second.len() / 2]).unwrap();
    let report = verify(&running, "").await;
    assert_eq!(report["problems_found"], 2, "{report}");
    let what: Vec<_> = report["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["what"].to_string())
        .collect();
    assert!(
        what.iter()
            .any(|w| w.contains("footer") && w.contains("partition")),
        "{what:?}"
    );
    assert!(
        what.iter().any(|w| w.contains("bytes, the root says")),
        "{what:?}"
    );
    for partition in [a, b] {
        assert_eq!(
            ask(&mut running, partition).await.outcome(),
            Outcome::Damaged
        );
    }
    assert_eq!(
        status(&running).await["damaged"].as_array().unwrap().len(),
        2
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_any_part_of_an_object_is_found() {
    let (a, _) = partitions();
    let world = World::new();
    let (_broker, running) = tiered(&world).await;
    let object = &objects(&world, a)[0];
    let sound = fs::read(object).unwrap();
    let trailer = sound.len() - TRAILER_BYTES;
    let number = |at: usize| {
        usize::try_from(u64::from_be_bytes(sound[at..at + 8].try_into().unwrap())).unwrap()
    };
    let (footer, body, table) = (
        number(trailer + 12),
        number(trailer + 28),
        number(trailer + 36),
    );
    for (what, at) in [
        ("data", 1_000),
        (
            "the last block of data",
            log(&world, a).segments[0].3.len() - 1,
        ),
        ("index sections", body - 1),
        ("block table", table + 9),
        ("footer", footer + 3),
        ("trailer", trailer + 20),
    ] {
        let mut bent = sound.clone();
        bent[at] ^= 1;
        fs::write(object, bent).unwrap();
        let report = verify(&running, "bytes=true").await;
        assert_eq!(report["problems_found"], 1, "{what}: {report}");
        fs::write(object, &sound).unwrap();
        assert_eq!(verify(&running, "bytes=true").await["ok"], true, "{what}");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sound_blocks_of_a_bent_object_are_read_on() {
    let (a, _) = partitions();
    let world = World::new();
    let (_broker, mut running) = tiered(&world).await;
    let object = &objects(&world, a)[0];
    let mut bytes = fs::read(object).unwrap();
    bytes[1_000_000] ^= 1;
    fs::write(object, bytes).unwrap();
    assert_eq!(verify(&running, "bytes=true").await["problems_found"], 1);
    // The small second batch lies in another block than the bent one.
    let log = log(&world, a);
    let (bytes, reply) = running.read(a, 5, 1, false).await;
    assert_eq!(reply.outcome(), Outcome::Ranges, "{}", reply.detail);
    assert!(log.bytes_from(5).starts_with(&bytes) && !bytes.is_empty());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orphan_and_quarantine_entries_of_somebody_else_are_passed_over() {
    let world = World::new();
    let (broker, running) = tiered(&world).await;
    running.stop().await;
    for (dir, name) in [("quarantine", "x.json"), ("orphans/default/1", "y.json")] {
        let dir = world.path(&format!("bucket/v1/east/{dir}"));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(name), b"{\"object\": \"../../etc/passwd\"}").unwrap();
    }
    let running = world.start(&broker).await;
    assert!(
        status(&running).await["damaged"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    assert_eq!(verify(&running, "").await["ok"], true);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_the_store_contradicts_is_not_believed() {
    let world = World::new();
    let store: Arc<dyn Store> = Arc::new(Folder::open(&world.path("bucket")).unwrap());
    let tasks = Tasks::new(Shutdown::new());
    // A manual clock stands at the beginning of its year.
    for (clock, believed) in [(Clock::system(), true), (Clock::manual(), false)] {
        let context = Context {
            store: Arc::clone(&store),
            keys: Keys::new("east"),
            region: "east".into(),
            incarnation: random::uuid(),
            shards: 1,
            clock: clock.clone(),
            tasks: tasks.clone(),
            ops: Ops::new(clock.clone()),
            region_mates: None,
            runs: Arc::default(),
            names: Names::default(),
            claims: Claims::default(),
            hold_silence: std::time::Duration::from_secs(900),
        };
        let committer = Committer::start(&context).await.unwrap();
        let doubt = Doubt::default();
        let skew = Skew::new(
            Arc::clone(&store),
            Keys::new("east"),
            committer,
            clock,
            Arc::clone(&doubt),
        );
        assert_eq!(skew.believed_ms().await.is_some(), believed);
        assert_eq!(doubt.lock().is_some(), !believed);
    }
    tasks.stop(std::time::Duration::from_secs(5)).await;
}
