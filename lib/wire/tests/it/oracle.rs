//! Every message in every version: what we read and write is what the `kafka-protocol` crate reads and writes.

use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::cases;
use crate::wire_bytes::Generator;

const ROUNDS: u64 = 40;

#[test]
fn messages_round_trip_and_agree_with_the_oracle() {
    let mut compared = 0;
    for case in cases::all() {
        for version in case.versions.0..=case.versions.1 {
            for seed in 0..ROUNDS {
                let mut random = StdRng::seed_from_u64(seed);
                let flexible = case.flexible(version);
                let bytes = Bytes::from(
                    Generator {
                        version,
                        flexible,
                        random: &mut random,
                    }
                    .message(case.fields),
                );
                let place = format!("{} v{version}, seed {seed}", case.name);
                // Written differently only where a tagged field happened to have its default.
                let ours = (case.recode)(version, bytes.clone())
                    .unwrap_or_else(|error| panic!("{place}: {error}"));
                assert_eq!(
                    (case.recode)(version, ours.clone()).as_ref(),
                    Ok(&ours),
                    "{place}"
                );
                if !flexible {
                    assert_eq!(ours, bytes, "{place}");
                }
                let Some(oracle) = case.oracle(version) else {
                    continue;
                };
                let theirs = (oracle.recode)(version, bytes)
                    .unwrap_or_else(|error| panic!("{place}: {error}"));
                assert_eq!(ours, theirs, "{place}");
                assert_eq!(
                    (oracle.recode)(version, ours.clone()).as_ref(),
                    Ok(&ours),
                    "{place}"
                );
                compared += 1;
            }
        }
    }
    // 53 APIs with several versions each: a table that lost its rows must not pass.
    assert!(compared > 10_000, "{compared}");
}

#[test]
fn defaults_are_the_schemas() {
    for case in cases::all() {
        for version in case.versions.0..=case.versions.1 {
            if let Some(oracle) = case.oracle(version) {
                let ours = (case.encode_default)(version);
                assert_eq!(
                    (oracle.encode_default)(version),
                    Ok(ours),
                    "{} v{version}",
                    case.name
                );
            }
        }
    }
}

#[test]
fn versions_without_an_oracle_are_the_known_ones() {
    let mut missing = Vec::new();
    for case in cases::all() {
        for version in case.versions.0..=case.versions.1 {
            if case.oracle.is_some() && case.oracle(version).is_none() {
                missing.push(format!("{} v{version}", case.name));
            }
        }
    }
    assert_eq!(
        missing,
        [
            "ListOffsetsRequest v11",
            "ListOffsetsResponse v11",
            "OffsetCommitRequest v10",
            "OffsetFetchRequest v10",
            "InitProducerIdRequest v6",
            "WriteTxnMarkersRequest v2",
            "WriteTxnMarkersResponse v2",
        ]
    );
}

#[test]
fn tags_are_declared_in_rising_order() {
    for case in cases::all() {
        let tags: Vec<u32> = case.fields.iter().filter_map(|field| field.tag).collect();
        assert!(tags.is_sorted(), "{}: {tags:?}", case.name);
    }
}
