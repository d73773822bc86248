//! Decoding takes no more memory than its budget, whatever the bytes are.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use whimbrel_wire::codec::Limits;
use whimbrel_wire::{Batch, Budget, Codec, record};

use crate::cases;
use crate::wire_bytes::Generator;

/// Counts what the current thread holds, and the most it held.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn held(change: isize) {
    let now = HELD.get() + change;
    HELD.set(now);
    PEAK.set(PEAK.get().max(now));
}

fn signed(bytes: usize) -> isize {
    isize::try_from(bytes).unwrap()
}

#[expect(unsafe_code, reason = "only an allocator sees what decoding allocates")]
// SAFETY: every call is handed on to the system's allocator unchanged; counting does not touch the memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        held(signed(layout.size()));
        // SAFETY: the caller's promise about the layout is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        held(-signed(layout.size()));
        // SAFETY: the caller's promise about pointer and layout is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most memory `work` held beyond what was held before it.
fn peak_of<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = HELD.get();
    PEAK.set(before);
    let result = work();
    (usize::try_from(PEAK.get() - before).unwrap(), result)
}

/// What a slice of a frame costs besides: the frame's reference count is made on the first one.
const SLACK: usize = 256;

fn damage(bytes: &mut [u8], random: &mut StdRng) {
    for _ in 0..random.random_range(1..4) {
        let at = random.random_range(0..bytes.len());
        let patch: &[u8] = match random.random_range(0..5) {
            0 => &[0x7F, 0xFF, 0xFF, 0xFF],
            1 => &[0xFF, 0xFF, 0xFF, 0xFF, 0x0F],
            2 => &[0xFF, 0xFF, 0xFF, 0xFE],
            3 => &[0x00, 0x00, 0x10, 0x00],
            _ => &[0xFE, 0x7F],
        };
        let end = bytes.len().min(at + patch.len());
        bytes[at..end].copy_from_slice(&patch[..end - at]);
    }
}

#[test]
fn damaged_and_random_messages_stay_within_their_budget() {
    let mut refused = 0;
    for case in cases::all() {
        for version in case.versions.0..=case.versions.1 {
            for seed in 0..60 {
                let mut random = StdRng::seed_from_u64(seed);
                let mut bytes = if seed % 3 == 0 {
                    (0..random.random_range(1..3_000))
                        .map(|_| random.random())
                        .collect()
                } else {
                    let flexible = case.flexible(version);
                    let mut bytes = Generator {
                        version,
                        flexible,
                        random: &mut random,
                    }
                    .message(case.fields);
                    bytes.resize(bytes.len() + random.random_range(1..500), 0);
                    bytes
                };
                damage(&mut bytes, &mut random);
                let frame = Bytes::from(bytes);
                let budget = Budget::new(random.random_range(0..4_000));
                let (peak, decoded) = peak_of(|| (case.decode)(version, frame, budget));
                refused += u32::from(!decoded);
                assert!(
                    peak <= budget.left() + SLACK,
                    "{} v{version} seed {seed}: {peak}",
                    case.name
                );
            }
        }
    }
    assert!(refused > 1_000);
}

#[test]
fn honest_messages_fit_the_budget_of_their_frame() {
    // The densest honest request: topics with names of one letter.
    let mut body = 100_000u32.to_be_bytes().to_vec();
    for _ in 0..100_000 {
        body.extend_from_slice(b"\0\x01t");
    }
    let metadata = cases::all()
        .into_iter()
        .find(|case| case.name == "MetadataRequest")
        .unwrap();
    let frame = Bytes::from(body);
    let budget = Budget::for_frame(frame.len());
    assert!((metadata.decode)(1, frame, budget));
}

#[test]
fn arbitrary_records_never_panic_and_stay_bounded() {
    let limits = Limits {
        max_output_bytes: 64 << 10,
        max_headers: 100,
        ..Limits::default()
    };
    for seed in 0..2_000u64 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut builder = whimbrel_wire::BatchBuilder::new(0);
        for n in 0..random.random_range(1..20i64) {
            builder.add(n, Some(b"key"), Some(&[7; 100]), &[]).unwrap();
        }
        let mut bytes = builder.finish().unwrap().to_vec();
        damage(&mut bytes[61..], &mut random);
        bytes[22] = random.random_range(0..8);
        let Ok(batch) = Batch::take(&mut Bytes::from(bytes)) else {
            continue;
        };
        // The codecs' working memory, which does not depend on the input's claims here.
        let (peak, _) = peak_of(|| {
            record::records(&batch, limits).map(|records| records.filter(Result::is_ok).count())
        });
        assert!(peak <= 512 << 10, "seed {seed}: {peak}");
    }
}

#[test]
fn a_bomb_takes_no_more_than_twice_its_limit() {
    let limit = 1 << 20;
    let limits = Limits {
        max_output_bytes: limit,
        ..Limits::default()
    };
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let bomb = codec.compress(&vec![0; 64 << 20]).unwrap();
        let (peak, result) = peak_of(|| codec.decompress(bomb, limits));
        assert!(result.is_err(), "{codec:?}");
        // Besides the output: two blocks of LZ4's largest size, or a window.
        let working = if codec == Codec::Lz4 {
            9 << 20
        } else {
            512 << 10
        };
        assert!(peak <= 2 * limit + working, "{codec:?}: {peak}");
    }
}

#[test]
fn decoded_and_encoded_records_are_not_copied() {
    use whimbrel_wire::messages::produce::{PartitionProduceData, Request, TopicProduceData};
    use whimbrel_wire::{Encoder, Message};

    let records = Bytes::from(vec![1; 1 << 20]);
    let partition = PartitionProduceData {
        index: 0,
        records: Some(records.clone()),
    };
    let topic = TopicProduceData {
        name: "t".into(),
        partition_data: vec![partition],
        ..Default::default()
    };
    let request = Request {
        topic_data: vec![topic],
        ..Request::default()
    };
    let (peak, chunks) = peak_of(|| {
        let mut out = Encoder::new();
        request.encode(9, &mut out);
        out.finish()
    });
    assert!(peak < 4 << 10, "{peak}");
    assert!(
        chunks
            .iter()
            .any(|chunk| chunk.as_ptr() == records.as_ptr())
    );

    let frame = Bytes::from(chunks.concat());
    let (peak, decoded) = peak_of(|| Request::from_bytes(9, frame));
    assert!(peak < 4 << 10, "{peak}");
    assert_eq!(decoded, Ok(request));
}
