use uuid::Uuid;

use super::*;

const WEEK_MS: i64 = 7 * 24 * HOUR_MS;
const EVERY_MS: i64 = 20_000;

fn head() -> Head {
    Head {
        stamp: Stamp {
            incarnation: Uuid::from_u128(1),
            epoch: 2,
            sequence: 5,
            nonce: Uuid::from_u128(3),
        },
        fleet_id: "fleet-1".into(),
        region: "east".into(),
        written_ms: 4,
        documents: Vec::new(),
    }
}

fn kept(sequence: u64, written_ms: i64) -> Kept {
    Kept {
        name: MetaName {
            writer_epoch: 2,
            sequence,
            random: 6,
        },
        written_ms,
        view_version: sequence,
        length: 100,
        crc32c: 7,
    }
}

#[test]
fn a_head_survives_and_is_refused_when_its_documents_do_not_rise() {
    let mut head = head();
    head.documents = vec![kept(1, 10), kept(5, 20)];
    assert_eq!(Head::decode(&head.encode()).unwrap(), head);
    assert_eq!(head.as_of(19).map(|kept| kept.name.sequence), Some(1));
    assert_eq!(head.as_of(9), None);
    for wrong in [[5, 1], [5, 5], [1, 6]] {
        head.documents = wrong.map(|n| kept(n, 10)).to_vec();
        assert!(Head::decode(&head.encode()).is_err(), "{wrong:?}");
    }
}

#[test]
fn every_bit_of_a_head_is_proved() {
    let mut head = head();
    head.documents = vec![kept(1, 10), kept(5, 20)];
    let bytes = head.encode();
    for at in 0..bytes.len() * 8 {
        let mut bent = bytes.clone();
        bent[at / 8] ^= 1 << (at % 8);
        assert!(Head::decode(&bent).is_err(), "bit {at}");
    }
    for end in 0..bytes.len() {
        assert!(Head::decode(&bytes[..end]).is_err(), "{end}");
    }
}

/// A change every twenty seconds for ten days.
#[test]
fn documents_grow_sparser_with_age_and_the_window_is_covered() {
    let mut head = head();
    let end = 10 * 24 * HOUR_MS;
    for n in 0..end / EVERY_MS {
        let now = n * EVERY_MS;
        head.documents.push(kept(n.unsigned_abs(), now));
        head.thin(Some(now), WEEK_MS);
    }
    let now = end - EVERY_MS;
    assert!(head.documents.len() < 260, "{}", head.documents.len());
    let newest: Vec<_> = head.documents.iter().rev().take(NEWEST).collect();
    assert_eq!(newest[NEWEST - 1].written_ms, now - 15 * EVERY_MS);
    for (back, apart) in [
        (1, MINUTE_MS),
        (30, MINUTE_MS),
        (90, HOUR_MS),
        (WEEK_MS / MINUTE_MS, HOUR_MS),
    ] {
        let asked = now - back * MINUTE_MS;
        let found = head.as_of(asked).expect("a document of then");
        assert!(asked - found.written_ms <= apart, "{back} minutes back");
    }
    let older = head
        .documents
        .iter()
        .filter(|kept| kept.written_ms < now - WEEK_MS);
    assert_eq!(older.count(), 1);
}

/// A document an hour for a week. By a clock that is a year ahead nearly all of them are older than the window.
#[test]
fn a_clock_in_doubt_drops_nothing() {
    let mut head = head();
    let now = 60 * 24 * HOUR_MS;
    head.documents = (0..168)
        .map(|n| kept(n, now - (168 - i64::try_from(n).unwrap()) * HOUR_MS))
        .collect();
    let all = head.documents.clone();
    let mut ahead = head.clone();
    ahead.thin(Some(now + 365 * 24 * HOUR_MS), WEEK_MS);
    assert!(
        ahead.documents.len() <= NEWEST + 1,
        "what a clock does that is believed wrongly"
    );
    head.thin(None, WEEK_MS);
    assert_eq!(head.documents, all);
    head.thin(Some(now), WEEK_MS);
    assert_eq!(head.documents, all);
}

#[test]
fn the_newest_stay_whatever_the_clock_says() {
    for (now, window) in [(i64::MIN, WEEK_MS), (i64::MAX, i64::MAX)] {
        let mut head = head();
        head.documents = (0..20)
            .map(|n| kept(n, 1_000 - 50 * 24 * HOUR_MS * i64::try_from(n).unwrap()))
            .collect();
        let newest = head.documents[20 - NEWEST..].to_vec();
        head.thin(Some(now), window);
        assert!(head.documents.ends_with(&newest));
    }
}
