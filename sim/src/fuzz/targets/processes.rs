//! What our own processes say to each other: frames of the replica stream, and the controller's JSON.

use bytes::{Bytes, BytesMut};
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;
use whimbrel_fleet::{Lineage, RegionEpoch, TopicPartition, View};
use whimbrel_rpc::replica::{
    Batches, FromSink, FromSource, Hello, Purpose, SinkPosition, ToSink, ToSource, codec::Frame,
};

use super::{Said, Target, same, small};
use crate::fuzz::Random;

pub const TARGETS: [Target; 2] = [
    Target {
        name: "replica frame",
        run: frame,
        seed: seed_frame,
        mend: super::nothing,
        budget: small,
        rarity: 1,
    },
    Target {
        name: "json",
        run: json,
        seed: seed_json,
        mend: super::nothing,
        budget: |length| (256 << 10) + 200 * length,
        rarity: 1,
    },
];

fn frame(input: &[u8]) -> Said {
    let Some((first, rest)) = input.split_first() else {
        return Ok("short".to_owned());
    };
    let bytes = Bytes::copy_from_slice(rest);
    let said = match first % 5 {
        0 => recode::<Hello>(bytes),
        1 => recode::<ToSource>(bytes),
        2 => recode::<FromSource>(bytes),
        3 => recode::<ToSink>(bytes),
        _ => recode::<FromSink>(bytes),
    };
    said.map(|said| format!("{}{said}", char::from(b'a' + first % 5)))
}

fn recode<F: Frame + PartialEq>(bytes: Bytes) -> Said {
    match F::decode(bytes) {
        Err(error) => Ok(error.to_string()),
        Ok(frame) => same(&frame, &F::decode(written(&frame))),
    }
}

fn written(frame: &impl Frame) -> Bytes {
    let mut out = BytesMut::new();
    frame.encode(&mut out);
    if let Some(payload) = frame.payload() {
        out.extend_from_slice(payload);
    }
    out.freeze()
}

fn seed_frame(random: &mut Random) -> Vec<u8> {
    let at = TopicPartition::new(Uuid::from_u128(7), 3);
    let batches = Batches {
        at,
        region_epoch: RegionEpoch(1),
        leader_epoch: 2,
        log_start: 0,
        log_end: 9,
        log_bytes: 99,
        high_watermark: 9,
        last_stable_offset: 9,
        held_end: 9,
        source_clock_ms: 5,
        next_append_time_ms: -1,
        records: Bytes::from_static(b"records"),
    };
    let hello = Hello {
        purpose: Purpose::Pull,
        fleet_id: "fleet".into(),
        region: "east".into(),
        incarnation: Uuid::from_u128(1),
    };
    let position = SinkPosition {
        at,
        lineage: Default::default(),
        log_bytes: 1,
    };
    let (first, rest) = match random.below(9) {
        0 => (0, written(&hello)),
        1 => (
            1,
            written(&ToSource::Subscribe {
                at,
                lineage: Default::default(),
            }),
        ),
        2 => (1, written(&ToSource::Credit { bytes: 1 << 20 })),
        3 => (1, written(&ToSource::Durable { at, end_offset: 4 })),
        4 => (2, written(&FromSource::Batches(batches))),
        5 => (3, written(&ToSink::Batches(batches))),
        6 => (4, written(&FromSink::Positions(vec![position]))),
        7 => (4, written(&FromSink::Gone(vec![at]))),
        _ => (4, written(&FromSink::Durable { at, end_offset: 4 })),
    };
    [&[first], &rest[..]].concat()
}

fn json(input: &[u8]) -> Said {
    let Some((first, rest)) = input.split_first() else {
        return Ok("short".to_owned());
    };
    match first % 2 {
        0 => parsed::<View>(rest),
        _ => parsed::<Lineage>(rest),
    }
}

fn parsed<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Said {
    match serde_json::from_slice::<T>(bytes) {
        Err(error) => Ok(error.to_string()),
        Ok(value) => {
            let written = serde_json::to_vec(&value).map_err(|error| error.to_string())?;
            let again: T = serde_json::from_slice(&written).map_err(|error| error.to_string())?;
            let twice = serde_json::to_vec(&again).map_err(|error| error.to_string())?;
            if twice == written {
                Ok("read and written".to_owned())
            } else {
                Err("what was written reads as something else".to_owned())
            }
        }
    }
}

fn seed_json(random: &mut Random) -> Vec<u8> {
    let (first, text) = if random.one_in(2) {
        (0, serde_json::to_vec(&View::default()))
    } else {
        (1, serde_json::to_vec(&Lineage::default()))
    };
    let mut text = text.unwrap_or_default();
    if random.one_in(10) {
        let depth = random.below(20_000);
        text = b"[".repeat(depth);
    }
    [&[first], &text[..]].concat()
}
