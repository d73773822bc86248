//! A client that applies what it is sent sees what it would see if everything were sent.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use uuid::Uuid;
use whimbrel_wire::messages::fetch::FetchPartition;

use super::*;

const PARTITIONS: i32 = 6;

fn bounds(slots: usize) -> Bounds {
    Bounds {
        slots,
        bytes: 1 << 20,
    }
}

fn topics(partitions: impl IntoIterator<Item = (i32, i64)>) -> Vec<FetchTopic> {
    let partitions = partitions
        .into_iter()
        .map(|(partition, fetch_offset)| FetchPartition {
            partition,
            fetch_offset,
            partition_max_bytes: 1,
            ..FetchPartition::default()
        });
    vec![FetchTopic {
        topic: "t".into(),
        topic_id: Uuid::nil(),
        partitions: partitions.collect(),
    }]
}

fn claim(id: i32, epoch: i32) -> Claim {
    Claim {
        id,
        epoch,
        by_id: false,
    }
}

fn told(high_watermark: i64) -> Told {
    Told {
        high_watermark,
        last_stable_offset: high_watermark,
        log_start: 0,
        has_records: false,
        is_news: false,
        is_error: false,
    }
}

/// A session over `count` partitions, all told.
fn begin(sessions: &Sessions, count: i32) -> i32 {
    let asked = topics((0..count).map(|p| (p, 0)));
    let (context, wanted) = sessions.open(claim(0, 0), asked, &[]).unwrap();
    let all = vec![told(0); wanted.len()];
    sessions.close(&context, &wanted, &all).unwrap().0
}

/// The next request of a session that changes nothing.
fn go(sessions: &Sessions, id: i32, epoch: i32) -> Result<usize, ErrorCode> {
    let (context, wanted) = sessions.open(claim(id, epoch), Vec::new(), &[])?;
    let all = vec![told(0); wanted.len()];
    sessions.close(&context, &wanted, &all)?;
    Ok(wanted.len())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    high_watermark: i64,
    last_stable_offset: i64,
    log_start: i64,
    failed: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Append(i32),
    Trim(i32),
    Settle(i32),
    Fail(i32, bool),
    Want(i32),
    Forget(i32),
    Fetch,
    /// The broker forgets all sessions.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let p = || 0..PARTITIONS;
    prop_oneof![
        6 => p().prop_map(Step::Append),
        1 => p().prop_map(Step::Trim),
        2 => p().prop_map(Step::Settle),
        1 => (p(), any::<bool>()).prop_map(|(p, on)| Step::Fail(p, on)),
        3 => p().prop_map(Step::Want),
        2 => p().prop_map(Step::Forget),
        9 => Just(Step::Fetch),
        1 => Just(Step::Restart),
    ]
}

struct World {
    sessions: Sessions,
    truth: BTreeMap<i32, Seen>,
    id: i32,
    epoch: i32,
    /// What the client wants, with its offsets.
    wants: BTreeMap<i32, i64>,
    /// What the broker was sent of it.
    sent: BTreeMap<i32, i64>,
    seen: BTreeMap<i32, Seen>,
}

impl World {
    fn new() -> Self {
        let fresh = Seen {
            high_watermark: 0,
            last_stable_offset: 0,
            log_start: 0,
            failed: false,
        };
        Self {
            sessions: Sessions::new(bounds(10), Clock::manual()),
            truth: (0..PARTITIONS).map(|p| (p, fresh)).collect(),
            id: 0,
            epoch: 0,
            wants: BTreeMap::from([(0, 0)]),
            sent: BTreeMap::new(),
            seen: BTreeMap::new(),
        }
    }

    fn of(&mut self, partition: i32) -> &mut Seen {
        self.truth.get_mut(&partition).unwrap()
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Append(p) => self.of(p).high_watermark += 1,
            Step::Trim(p) => {
                let seen = self.of(p);
                seen.log_start = seen.high_watermark;
            }
            Step::Settle(p) => {
                let seen = self.of(p);
                seen.last_stable_offset = seen.high_watermark;
            }
            Step::Fail(p, on) => self.of(p).failed = on,
            Step::Want(p) => {
                self.wants.entry(p).or_insert(0);
            }
            Step::Forget(p) => {
                self.wants.remove(&p);
            }
            Step::Fetch => self.fetch(),
            Step::Restart => self.sessions = Sessions::new(bounds(10), Clock::manual()),
        }
    }

    fn fetch(&mut self) {
        if self.epoch == 0 {
            self.sent.clear();
        }
        let changed: Vec<_> = self
            .wants
            .iter()
            .filter(|(p, offset)| self.sent.get(p) != Some(offset))
            .map(|(p, offset)| (*p, *offset))
            .collect();
        let gone = self.sent.keys().filter(|p| !self.wants.contains_key(p));
        let forgotten = ForgottenTopic {
            topic: "t".into(),
            topic_id: Uuid::nil(),
            partitions: gone.copied().collect(),
        };
        let opened = self
            .sessions
            .open(claim(self.id, self.epoch), topics(changed), &[forgotten]);
        let (context, wanted) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                assert_eq!(error, ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
                (self.id, self.epoch) = (0, 0);
                return self.fetch();
            }
        };
        // What is forgotten and wanted again in between was never forgotten.
        self.seen.retain(|p, _| self.wants.contains_key(p));
        self.sent = self.wants.clone();
        // What is read is what the client wants, from where it wants it.
        let read: BTreeMap<_, _> = wanted.iter().map(|w| (w.partition, w.offset)).collect();
        assert_eq!(read, self.wants);
        assert_eq!(wanted.len(), self.wants.len());
        let (told, served) = self.read(&wanted);
        let (id, changes) = self.sessions.close(&context, &wanted, &told).unwrap();
        for (number, wanted) in wanted.iter().enumerate() {
            if changes.has(number) {
                self.seen
                    .insert(wanted.partition, self.truth[&wanted.partition]);
            }
        }
        for partition in served {
            *self.wants.get_mut(&partition).unwrap() += 1;
        }
        self.epoch = match id {
            0 => 0,
            _ => next_epoch(self.epoch),
        };
        self.id = id;
        for partition in self.wants.keys() {
            let (seen, truth) = (self.seen[partition], self.truth[partition]);
            assert_eq!(seen, truth, "partition {partition}");
        }
    }

    /// An answer has room for the records of one partition.
    fn read(&self, wanted: &[Wanted]) -> (Vec<Told>, Vec<i32>) {
        let mut served = Vec::new();
        let mut told = Vec::new();
        for wanted in wanted {
            let truth = self.truth[&wanted.partition];
            let has_records =
                !truth.failed && served.is_empty() && wanted.offset < truth.high_watermark;
            if has_records {
                served.push(wanted.partition);
            }
            told.push(Told {
                high_watermark: truth.high_watermark,
                last_stable_offset: truth.last_stable_offset,
                log_start: truth.log_start,
                has_records,
                is_news: false,
                is_error: truth.failed,
            });
        }
        (told, served)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changes_applied_show_what_everything_would(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::new();
        for step in steps {
            world.apply(step);
        }
        world.fetch();
    }

    #[test]
    fn bounds_hold_and_the_books_agree(uses in prop::collection::vec((0_u64..200_000, 0_i32..40, 0_i32..9), 1..120)) {
        let clock = Clock::manual();
        let sessions = Sessions::new(Bounds { slots: 5, bytes: 40_000 }, clock.clone());
        let mut ids = vec![1];
        for (wait_ms, count, pick) in uses {
            clock.advance(Duration::from_millis(wait_ms));
            let id = ids[usize::try_from(pick).unwrap() % ids.len()];
            if count % 3 == 0 {
                // Whatever it is told, the session's size may change.
                let _ = sessions.open(claim(id, 1), topics((0..count).map(|p| (p, 0))), &[]);
            } else {
                ids.push(begin(&sessions, count));
            }
            sessions.cache.lock().check();
        }
    }
}

#[test]
fn epochs_go_on_and_a_wrong_one_is_told() {
    let sessions = Sessions::new(bounds(10), Clock::manual());
    let id = begin(&sessions, 3);
    assert!(id > 0);
    assert_eq!(go(&sessions, id, 1), Ok(3));
    assert_eq!(
        go(&sessions, id, 1),
        Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH)
    );
    assert_eq!(go(&sessions, id, 2), Ok(3));
    assert_eq!(
        go(&sessions, id + 1, 1),
        Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)
    );
    let by_id = Claim {
        by_id: true,
        ..claim(id, 3)
    };
    assert_eq!(
        sessions.open(by_id, Vec::new(), &[]).unwrap_err(),
        ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR
    );
    // The last request ends it.
    sessions.open(claim(id, -1), Vec::new(), &[]).unwrap();
    assert_eq!(
        go(&sessions, id, 3),
        Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)
    );
    assert_eq!(next_epoch(i32::MAX), 1);
}

#[test]
fn two_requests_of_one_epoch_are_not_both_answered() {
    let sessions = Sessions::new(bounds(10), Clock::manual());
    let id = begin(&sessions, 1);
    let (context, wanted) = sessions.open(claim(id, 1), Vec::new(), &[]).unwrap();
    assert_eq!(go(&sessions, id, 2), Ok(1));
    assert_eq!(
        sessions.close(&context, &wanted, &[told(0)]),
        Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH)
    );
}

#[test]
fn who_was_given_records_is_read_last() {
    let sessions = Sessions::new(bounds(10), Clock::manual());
    let id = begin(&sessions, 3);
    let (context, wanted) = sessions.open(claim(id, 1), Vec::new(), &[]).unwrap();
    let mut all = vec![told(0); 3];
    all[0].has_records = true;
    let (_, changes) = sessions.close(&context, &wanted, &all).unwrap();
    assert_eq!(changes, Changes::Some(vec![true, false, false]));
    let (_, wanted) = sessions.open(claim(id, 2), Vec::new(), &[]).unwrap();
    let order: Vec<_> = wanted.iter().map(|w| w.partition).collect();
    assert_eq!(order, [1, 2, 0]);
}

#[test]
fn a_session_that_forgot_everything_is_over() {
    let sessions = Sessions::new(bounds(10), Clock::manual());
    let id = begin(&sessions, 1);
    let forgotten = ForgottenTopic {
        topic: "t".into(),
        topic_id: Uuid::nil(),
        partitions: vec![0, 7],
    };
    let (context, wanted) = sessions
        .open(claim(id, 1), Vec::new(), &[forgotten])
        .unwrap();
    assert!(matches!(context, Context::Alone) && wanted.is_empty());
    assert_eq!(sessions.len(), 0);
}

#[test]
fn the_stale_go_first_then_smaller_ones_that_have_lived() {
    let clock = Clock::manual();
    let sessions = Sessions::new(bounds(2), clock.clone());
    let (small, large) = (begin(&sessions, 1), begin(&sessions, 5));
    assert_eq!(begin(&sessions, 9), 0, "all are young");
    clock.advance(Duration::from_secs(121));
    assert_eq!(
        (go(&sessions, small, 1), go(&sessions, large, 1)),
        (Ok(1), Ok(5))
    );
    assert_eq!(begin(&sessions, 1), 0, "none is smaller");
    let third = begin(&sessions, 3);
    assert!(third > 0);
    assert_eq!(
        go(&sessions, small, 2),
        Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)
    );
    assert_eq!(go(&sessions, large, 2), Ok(5));
    clock.advance(Duration::from_secs(121));
    assert_eq!(go(&sessions, third, 1), Ok(3));
    assert!(begin(&sessions, 1) > 0, "the other was not used for long");
    assert_eq!(
        go(&sessions, large, 3),
        Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)
    );
}

#[test]
fn one_session_cannot_have_all_the_memory() {
    let tight = Bounds {
        slots: 100,
        bytes: 64_000,
    };
    let sessions = Sessions::new(tight, Clock::manual());
    assert_eq!(begin(&sessions, 1_000), 0);
    let id = begin(&sessions, 1);
    assert!(id > 0);
    let grown = sessions.open(claim(id, 1), topics((0..1_000).map(|p| (p, 0))), &[]);
    assert_eq!(grown.unwrap_err(), ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
    assert_eq!(sessions.len(), 0);
}

#[test]
fn a_partition_named_twice_is_read_once_as_last_said() {
    let sessions = Sessions::new(bounds(1), Clock::manual());
    let (_, wanted) = sessions
        .open(claim(0, -1), topics([(0, 1), (1, 5), (0, 2)]), &[])
        .unwrap();
    let read: Vec<_> = wanted.iter().map(|w| (w.partition, w.offset)).collect();
    assert_eq!(read, [(0, 2), (1, 5)]);
}
