//! What more than one partition depends on: merged objects, and the parts of roots.

use super::*;

const QUIET: i32 = 40;

fn quiet(world: &World) -> Vec<Log> {
    let dir = world.path("data");
    let one = |p| Log::write(&dir, p, &[vec![(3, 40), (2, 400)]]);
    (0..QUIET).map(one).collect()
}

/// The shard of a merged object.
fn shard_of_file(world: &World, file: &Path) -> u16 {
    let key = file.strip_prefix(world.path("bucket")).unwrap();
    let key = Key::parse(key.to_str().unwrap()).unwrap();
    Keys::new("east").parse_object(&key).unwrap().shard()
}

/// Where the trailer says that a part of the object begins.
fn number(object: &[u8], field: usize) -> usize {
    let at = object.len() - TRAILER_BYTES + field;
    usize::try_from(u64::from_be_bytes(object[at..at + 8].try_into().unwrap())).unwrap()
}

fn flipped(sound: &[u8], at: usize) -> Vec<u8> {
    let mut bent = sound.to_vec();
    bent[at] ^= 1;
    bent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tail_of_a_merged_object_is_found_bent_for_all_its_slices_and_no_others() {
    let world = World::new();
    let broker = FakeBroker::new(quiet(&world));
    broker.inline();
    let running = world.start(&broker).await;
    until("uploaded", || broker.is_all_verified()).await;
    running.stop().await;
    let all = files(&world.path("bucket/v1/east/data"));
    let is_merged = |p: &&PathBuf| {
        p.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("merged-")
    };
    let merged: Vec<_> = all.iter().filter(is_merged).collect();
    let (one, other) = (merged[0], merged[1]);
    let bent_shard = shard_of_file(&world, one);
    let (sound, foreign) = (fs::read(one).unwrap(), fs::read(other).unwrap());
    let (footer, body, table) = (number(&sound, 12), number(&sound, 28), number(&sound, 36));
    for (what, bytes) in [
        ("trailer", flipped(&sound, sound.len() - TRAILER_BYTES + 20)),
        ("footer", flipped(&sound, footer + 3)),
        ("block table", flipped(&sound, table + 9)),
        ("index sections", flipped(&sound, body - 1)),
        ("cut short", sound[..sound.len() - 10].to_vec()),
        ("another's", foreign),
    ] {
        fs::write(one, bytes).unwrap();
        // A start that has read none of it.
        fs::remove_dir_all(world.path("cache")).unwrap();
        let mut running = world.start(&broker).await;
        for log in quiet(&world) {
            let is_bent = shard_of(at(log.partition), 16) == bent_shard;
            let reply = ask(&mut running, log.partition).await;
            let expected = if is_bent {
                Outcome::Damaged
            } else {
                Outcome::Ranges
            };
            assert_eq!(reply.outcome(), expected, "{what}: {}", reply.detail);
        }
        let report = verify(&running, "bytes=true").await;
        let problems = report["problems"].as_array().unwrap();
        assert!(!problems.is_empty(), "{what}");
        for problem in problems {
            assert_eq!(problem["code"], "WB-316", "{what}: {problem}");
            let object = problem["object"].as_str().unwrap();
            assert!(one.ends_with(object), "{what}: {problem}");
        }
        running.stop().await;
        assert_eq!(files(&world.path("bucket/v1/east/data")), all, "{what}");
    }
    fs::write(one, &sound).unwrap();
    let running = world.start(&broker).await;
    assert_eq!(verify(&running, "bytes=true").await["ok"], true);
    running.stop().await;
}

/// Gives the older entries of a shard's root to a part, as its owner does when the root is full.
fn spill(world: &World, partition: i32) -> PathBuf {
    let file = root_file(world, partition);
    let mut root = Root::decode(&fs::read(&file).unwrap()).unwrap();
    let spilled = root.spill(root.stamp.epoch, 7).unwrap();
    let key = Keys::new("east").root_part(&spilled.name);
    let part = world.path("bucket").join(key.as_str());
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    fs::write(&part, &spilled.bytes).unwrap();
    fs::write(&file, root.encode()).unwrap();
    part
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_a_root_that_is_bent_or_gone_hides_older_records_and_nothing_else() {
    let (sick, well) = partitions();
    let world = World::new();
    let six = |p| Log::write(&world.path("data"), p, &vec![vec![(5, 300), (4, 100)]; 6]);
    let broker = FakeBroker::new(vec![six(sick), six(well)]);
    let running = world.start(&broker).await;
    until("uploaded", || broker.is_all_verified()).await;
    running.stop().await;
    let (part, others) = (spill(&world, sick), spill(&world, well));
    let (sound, foreign) = (fs::read(&part).unwrap(), fs::read(&others).unwrap());
    let data = files(&world.path("bucket/v1/east/data"));
    for (what, bytes) in [
        ("a flipped bit", Some(flipped(&sound, sound.len() - 30))),
        ("cut short", Some(sound[..sound.len() - 10].to_vec())),
        ("another's", Some(foreign)),
        ("gone", None),
    ] {
        match bytes {
            Some(bytes) => fs::write(&part, bytes).unwrap(),
            None => fs::remove_file(&part).unwrap(),
        }
        let mut running = world.start(&broker).await;
        let reply = ask(&mut running, sick).await;
        assert_eq!(
            reply.outcome(),
            Outcome::Damaged,
            "{what}: {}",
            reply.detail
        );
        let log = six(sick);
        let recent = log.segments[5].0;
        assert!(running.read_all(&log, recent, 1 << 20).await == log.bytes_from(recent));
        assert!(running.read_all(&six(well), 0, 1 << 20).await == six(well).bytes_from(0));
        let report = verify(&running, "").await;
        assert_eq!(report["problems_found"], 1, "{what}: {report}");
        assert_eq!(report["problems"][0]["code"], "WB-316", "{what}: {report}");
        running.stop().await;
        assert_eq!(files(&world.path("bucket/v1/east/data")), data, "{what}");
    }
    fs::write(&part, &sound).unwrap();
    let mut running = world.start(&broker).await;
    assert!(running.read_all(&six(sick), 0, 1 << 20).await == six(sick).bytes_from(0));
    assert_eq!(verify(&running, "").await["ok"], true);
    running.stop().await;
}
