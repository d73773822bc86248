//! What comes out of a bucket: roots, objects with their tables, indexes and lists, and keys of a listing.

use whimbrel_tiering::{
    format::{Footer, Key, Keys, Opened, TRAILER_BYTES},
    meta::{Document, Head},
    root::Root,
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
/// Magic, format, zero, length and CRC of the body.
const ROOT_HEAD: usize = 20;

pub const TARGETS: [Target; 5] = [
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
