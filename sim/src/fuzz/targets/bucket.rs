//! What comes out of a bucket: roots and their parts, objects with their tables, indexes and lists, keys of a listing,
//! and the entries that are JSON.

use whimbrel_tiering::{
    format::{Footer, Key, Keys, Opened, PartName, TRAILER_BYTES},
    meta::{Document, Head},
    orphan::OrphanEntry,
    quarantine::Case,
    root::{Root, Run},
};

use super::{Said, Target, same, small};
use crate::fuzz::Random;

/// Written once, and read for years.
const OBJECTS: [&[u8]; 2] = [
    include_bytes!("../../../../tiering/tests/it/golden/object-v1.bin"),
    include_bytes!("../../../../tiering/tests/it/golden/merged-v1.bin"),
];
const ROOTS: [&[u8]; 2] = [
    include_bytes!("../../../../tiering/tests/it/golden/root-v1.bin"),
    include_bytes!("../../../../tiering/tests/it/golden/root-v2.bin"),
];
const DOCUMENT: &[u8] = include_bytes!("../../../../tiering/tests/it/golden/meta-v1.bin");
const HEAD: &[u8] = include_bytes!("../../../../tiering/tests/it/golden/meta-head-v1.bin");
const PART: &[u8] = include_bytes!("../../../../tiering/tests/it/golden/part-v1.bin");
/// Where the first run of [`PART`] stands in its directory, behind the topic's id and the partition.
const FIRST_RUN: usize = 20 + 4 + 16 + 4;
const CASE: &[u8] = br#"{"object": "v1/east/data/3f/2/abc-0-0-9-1-1-2", "topic": "t", "partition": 0, "from_offset": 0, "to_offset": 10, "reason": "it is not in the bucket"}"#;
const ORPHAN: &[u8] = br#"{"object": "v1/east/orphans/default/2/abc-0-5-9-1", "topic": "t", "topic_id": "00000000-0000-0000-0000-000000005eed", "partition": 0, "group": "default", "region_epoch": 2, "common_epoch": 1, "from_offset": 5, "end_offset": 9, "records": 4, "bytes": 300, "crc32c": 17, "created_ms": 1760000000000}"#;
/// Magic, format, zero, length and CRC of the body.
const ROOT_HEAD: usize = 20;

pub const TARGETS: [Target; 8] = [
    Target {
        name: "root",
        run: root,
        seed: |random| random.pick(&ROOTS).to_vec(),
        mend: mend_root,
        budget: small,
        rarity: 1,
    },
    Target {
        name: "object",
        run: object,
        seed: |random| random.pick(&OBJECTS).to_vec(),
        mend: mend_object,
        budget: small,
        rarity: 4,
    },
    Target {
        name: "bucket key",
        run: key,
        seed: seed_key,
        mend: super::nothing,
        budget: small,
        rarity: 1,
    },
    Target {
        name: "description of the fleet",
        run: document,
        seed: |_| DOCUMENT.to_vec(),
        mend: |input| mend_body(input, DOCUMENT),
        budget: small,
        rarity: 1,
    },
    Target {
        name: "head of descriptions",
        run: head,
        seed: |_| HEAD.to_vec(),
        mend: |input| mend_body(input, HEAD),
        budget: small,
        rarity: 1,
    },
    Target {
        name: "run of a root's part",
        run: part_run,
        seed: |_| seed_run().unwrap_or_default(),
        mend: super::nothing,
        budget: small,
        rarity: 1,
    },
    Target {
        name: "case of quarantine",
        run: case,
        seed: |_| CASE.to_vec(),
        mend: super::nothing,
        budget: small,
        rarity: 1,
    },
    Target {
        name: "entry of an orphan",
        run: orphan,
        seed: |_| ORPHAN.to_vec(),
        mend: super::nothing,
        budget: small,
        rarity: 1,
    },
];

fn root(input: &[u8]) -> Said {
    let root = match Root::decode(input) {
        Ok(root) => root,
        Err(error) => return Ok(error.to_string()),
    };
    let keys = Keys::new("east");
    for (at, partition) in &root.partitions {
        if partition.start() > partition.end {
            return Err(format!(
                "{at} starts at {} and ends at {}",
                partition.start(),
                partition.end
            ));
        }
        let agreed = partition.agreed_end(&partition.lineage);
        let _ = (partition.bytes(), partition.find(0), agreed);
        for entry in &partition.entries {
            if partition.find(entry.base) != Some(entry) {
                return Err(format!("{at}: the entry at {} is not found", entry.base));
            }
            let _ = keys.data(&entry.name(root.shard, *at));
        }
    }
    for unlinked in &root.pending {
        if !root.refers_to(&keys, &unlinked.key) {
            return Err(format!("{} is not referred to", unlinked.key));
        }
    }
    same(&root, &Root::decode(&root.encode()))
}

/// What a root says of a run, before its bytes: base, end, entries, entries that are gone. The root has a checksum of
/// its own, and so have the bytes, which fits here.
fn run_of(input: &[u8]) -> Option<(Run, &[u8])> {
    let (base, rest) = input.split_first_chunk::<8>()?;
    let (end, rest) = rest.split_first_chunk::<8>()?;
    let (entries, rest) = rest.split_first_chunk::<4>()?;
    let (skip, bytes) = rest.split_first_chunk::<4>()?;
    let part = PartName {
        shard: 0,
        writer_epoch: 1,
        sequence: 1,
        random: 1,
    };
    let run = Run {
        part,
        base: i64::from_be_bytes(*base),
        end: i64::from_be_bytes(*end),
        entries: u32::from_be_bytes(*entries),
        skip: u32::from_be_bytes(*skip),
        data_bytes: 0,
        max_timestamp_ms: 0,
        position: 0,
        length: u32::try_from(bytes.len()).ok()?,
        crc: crc32c::crc32c(bytes),
    };
    Some((run, bytes))
}

/// The first run of a part, as [`run_of`] reads it.
fn seed_run() -> Option<Vec<u8>> {
    let number = |at: usize| {
        let bytes = PART.get(FIRST_RUN + at..)?.first_chunk::<4>()?;
        usize::try_from(u32::from_be_bytes(*bytes)).ok()
    };
    let mut input = PART.get(FIRST_RUN..FIRST_RUN + 20)?.to_vec();
    input.extend_from_slice(&[0; 4]);
    let (position, length) = (number(20)?, number(24)?);
    input.extend_from_slice(PART.get(position..position + length)?);
    Some(input)
}

fn part_run(input: &[u8]) -> Said {
    let Some((run, bytes)) = run_of(input) else {
        return Ok("too short".to_owned());
    };
    let entries = match run.decode(bytes) {
        Ok(entries) => entries,
        Err(error) => return Ok(error.to_string()),
    };
    let bounds = entries
        .first()
        .map(|e| e.base)
        .zip(entries.last().map(|e| e.end));
    let follows = entries.windows(2).all(|w| w[0].end == w[1].base);
    if bounds != Some((run.base, run.end))
        || !follows
        || entries.len() as u64 != u64::from(run.live())
    {
        return Err(format!("{run:?} reads as {bounds:?}"));
    }
    Ok("read".to_owned())
}

fn case(input: &[u8]) -> Said {
    match serde_json::from_slice::<Case>(input) {
        Ok(case) => {
            let _ = Key::parse(&case.object).map(|key| Keys::new("east").quarantined(&key));
            let text = serde_json::to_vec(&case).unwrap_or_default();
            same(&case, &serde_json::from_slice(&text))
        }
        Err(error) => Ok(error.to_string()),
    }
}

fn orphan(input: &[u8]) -> Said {
    match serde_json::from_slice::<OrphanEntry>(input) {
        Ok(entry) => {
            let text = serde_json::to_vec(&entry).unwrap_or_default();
            same(&entry, &serde_json::from_slice(&text))
        }
        Err(error) => Ok(error.to_string()),
    }
}

fn document(input: &[u8]) -> Said {
    match Document::decode(input) {
        Ok(document) => same(
            &document,
            &document.encode().and_then(|b| Document::decode(&b)),
        ),
        Err(error) => Ok(error.to_string()),
    }
}

fn head(input: &[u8]) -> Said {
    let head = match Head::decode(input) {
        Ok(head) => head,
        Err(error) => return Ok(error.to_string()),
    };
    let mut thin = head.clone();
    thin.thin(Some(head.written_ms), 1_000_000);
    if thin.newest() != head.newest() {
        return Err("the newest document was dropped".to_owned());
    }
    same(&head, &Head::decode(&head.encode()))
}

fn mend_root(input: &mut [u8]) {
    // Behind eight bytes of magic: the format.
    let is_second = input.get(8..10) == Some(&[0, 2]);
    mend_body(input, ROOTS[usize::from(is_second)]);
}

/// What roots begin with, other things of ours do too.
fn mend_body(input: &mut [u8], like: &[u8]) {
    let Some((head, body)) = input.split_at_mut_checked(ROOT_HEAD) else {
        return;
    };
    head.copy_from_slice(&like[..ROOT_HEAD]);
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    head[12..16].copy_from_slice(&length.to_be_bytes());
    head[16..20].copy_from_slice(&crc32c::crc32c(body).to_be_bytes());
}

fn object(input: &[u8]) -> Said {
    let opened = match Opened::parse(input, 0, input.len() as u64) {
        Ok(opened) => opened,
        Err(error) => return Ok(error.to_string()),
    };
    let mut touched = 0;
    for slice in &opened.footer.slices {
        // Another slice may claim the same position: the first is found.
        let Some(slice) = opened.slice_at(slice.position) else {
            return Err(format!("the slice at {} is not found", slice.position));
        };
        for relative in [0, 1, 1_000, u32::MAX] {
            let at = slice.index.at_or_before(relative);
            let _ = (
                slice.index.last_in(at, relative),
                slice.index.relative_at(at),
                slice.index.for_timestamp(relative.into()),
            );
        }
        let lists = slice.aborted.iter();
        touched += lists.filter(|a| a.touches(0, i64::MAX)).count();
    }
    let covered = opened.blocks.covers();
    let span = opened.blocks.cover(&(covered / 2..covered));
    let crcs = opened.blocks.crcs(&span).len();
    let again = Footer::decode(&opened.footer.encode(), covered);
    same(&opened.footer, &again).map(|said| format!("{said} {}", crcs.min(1) + touched))
}

/// Where the trailer's `at` says that a part lies, if it lies in the object.
fn part(input: &[u8], position_at: usize, length_at: usize) -> Option<std::ops::Range<usize>> {
    let trailer = input.len().checked_sub(TRAILER_BYTES)?;
    let position = input.get(trailer + position_at..)?.first_chunk::<8>()?;
    let length = input.get(trailer + length_at..)?.first_chunk::<4>()?;
    let from = usize::try_from(u64::from_be_bytes(*position)).ok()?;
    let end = from.checked_add(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    (end <= trailer).then_some(from..end)
}

/// CRCs from the inside out: blocks, table and footer, trailer.
fn mend_object(input: &mut [u8]) {
    let Some(trailer) = input.len().checked_sub(TRAILER_BYTES) else {
        return;
    };
    if let Some(table) = part(input, 36, 44) {
        let body = table.start;
        for (n, entry) in table.clone().step_by(32).enumerate() {
            let from = n.saturating_mul(256 << 10).min(body);
            let crc = crc32c::crc32c(&input[from..body.min(from + (256 << 10))]);
            if let Some(place) = input.get_mut(entry + 8..entry + 12) {
                place.copy_from_slice(&crc.to_be_bytes());
            }
        }
        let crc = crc32c::crc32c(&input[table]);
        input[trailer + 48..trailer + 52].copy_from_slice(&crc.to_be_bytes());
    }
    if let Some(footer) = part(input, 12, 20) {
        let crc = crc32c::crc32c(&input[footer]);
        input[trailer + 24..trailer + 28].copy_from_slice(&crc.to_be_bytes());
    }
    let crc = crc32c::crc32c(&input[trailer..trailer + 60]);
    input[trailer + 60..].copy_from_slice(&crc.to_be_bytes());
}

fn key(input: &[u8]) -> Said {
    let text = String::from_utf8_lossy(input);
    let Some(key) = Key::parse(&text) else {
        return Ok("not a key".to_owned());
    };
    if key
        .as_str()
        .split('/')
        .any(|s| s.is_empty() || s.starts_with('.'))
    {
        return Err(format!("`{key}` leaves its folder or hides"));
    }
    let keys = Keys::new("east");
    let _ = (keys.parse_object(&key), keys.parse_part(&key));
    match keys.parse_data(&key) {
        None => Ok("a key".to_owned()),
        Some(name) => same(&Some(key), &Ok::<_, String>(Some(keys.data(&name)))),
    }
}

fn seed_key(random: &mut Random) -> Vec<u8> {
    let bytes: &&[u8] = random.pick(&ROOTS);
    let Ok(root) = Root::decode(bytes) else {
        return Vec::new();
    };
    let keys = Keys::new("east");
    let entries = root.partitions.iter();
    let mut all: Vec<_> = entries
        .flat_map(|(at, p)| {
            p.entries
                .iter()
                .map(|e| keys.data(&e.name(root.shard, *at)))
        })
        .collect();
    all.push(keys.marker());
    random.pick(&all).as_str().as_bytes().to_vec()
}
