use proptest::prelude::*;

use super::*;

const NOW: Now = Now {
    mono_ms: 1_000,
    wall_ms: 5_000,
};

fn at(partition: i32) -> TopicPartition {
    TopicPartition {
        topic: "t".into(),
        partition,
    }
}

/// Lets the pending record become durable, markers and all.
fn settle(transaction: &mut Transaction) {
    while transaction.pending().is_some() {
        if transaction.written(NOW) {
            transaction.complete(NOW);
        }
    }
}

fn wrote(step: Step) -> Producer {
    match step {
        Step::Write(Ok(producer)) => producer,
        other => panic!("{other:?}"),
    }
}

fn started() -> (Transaction, Producer) {
    let mut transaction = Transaction::new(7, 60_000, NOW);
    let who = wrote(transaction.init(60_000, None, None, NOW));
    settle(&mut transaction);
    (transaction, who)
}

fn at_epoch(epoch: i16) -> (Transaction, Producer) {
    let who = Producer { id: 7, epoch };
    let record = Record::empty(who, 60_000, NOW.wall_ms);
    (Transaction::restore(record, false, NOW), who)
}

fn add(transaction: &mut Transaction, who: Producer, version: i16) {
    wrote(transaction.add(who, [at(0)].into(), version, NOW));
    settle(transaction);
}

#[test]
fn everything_waits_for_what_is_pending() {
    let (mut transaction, who) = started();
    wrote(transaction.add(who, [at(0)].into(), 0, NOW));
    let concurrent = Step::refuse(ErrorCode::CONCURRENT_TRANSACTIONS);
    assert_eq!(transaction.add(who, [at(1)].into(), 0, NOW), concurrent);
    assert_eq!(transaction.end(who, true, NOW), concurrent);
    assert_eq!(transaction.end_and_bump(who, true, None, NOW), concurrent);
    assert_eq!(transaction.init(1, None, None, NOW), concurrent);
    assert_eq!(
        transaction.verify(who, &at(0), 0),
        Err(ErrorCode::TRANSACTION_ABORTABLE)
    );
    settle(&mut transaction);
    assert_eq!(transaction.verify(who, &at(0), 0), Ok(()));
}

#[test]
fn a_second_producer_aborts_what_the_first_had_open_and_fences_it() {
    let (mut transaction, first) = started();
    add(&mut transaction, first, 0);
    let concurrent = ErrorCode::CONCURRENT_TRANSACTIONS;
    let step = transaction.init(60_000, None, None, NOW);
    assert_eq!(step, Step::Write(Err(concurrent)));
    settle(&mut transaction);
    assert_eq!(transaction.record().state, State::CompleteAbort);
    let second = wrote(transaction.init(60_000, None, None, NOW));
    settle(&mut transaction);
    assert!(second.epoch > first.epoch && second.id == first.id);
    let fenced = Step::refuse(ErrorCode::PRODUCER_FENCED);
    assert_eq!(transaction.end(first, true, NOW), fenced);
    assert_eq!(transaction.end_and_bump(first, true, None, NOW), fenced);
    assert_eq!(transaction.add(first, [at(0)].into(), 0, NOW), fenced);
}

#[test]
fn without_bumps_a_repeated_end_is_answered_as_the_first() {
    for commit in [true, false] {
        let (mut transaction, who) = started();
        add(&mut transaction, who, 0);
        wrote(transaction.end(who, commit, NOW));
        settle(&mut transaction);
        assert_eq!(transaction.end(who, commit, NOW), Step::Answer(Ok(who)));
        assert_eq!(
            transaction.end(who, !commit, NOW),
            Step::refuse(ErrorCode::INVALID_TXN_STATE)
        );
    }
}

/// What KIP-890 mends: without an epoch of its own the next transaction looks like the last one.
#[test]
fn without_bumps_a_late_end_ends_the_next_transaction() {
    let (mut transaction, who) = started();
    add(&mut transaction, who, 0);
    wrote(transaction.end(who, true, NOW));
    settle(&mut transaction);
    add(&mut transaction, who, 0);
    assert_eq!(transaction.record().state, State::Ongoing);
    assert_eq!(wrote(transaction.end(who, true, NOW)), who);
    settle(&mut transaction);
    assert_eq!(transaction.record().state, State::CompleteCommit);
}

#[test]
fn with_bumps_a_late_end_never_ends_the_next_transaction() {
    let (mut transaction, first) = started();
    add(&mut transaction, first, BUMPS_EPOCH);
    let second = wrote(transaction.end_and_bump(first, true, None, NOW));
    settle(&mut transaction);
    assert_eq!(second.epoch, first.epoch + 1);
    // The answer was lost: the same again.
    let repeated = transaction.end_and_bump(first, true, None, NOW);
    assert_eq!(repeated, Step::Answer(Ok(second)));
    add(&mut transaction, second, BUMPS_EPOCH);
    for commit in [true, false] {
        assert_eq!(
            transaction.end_and_bump(first, commit, None, NOW),
            Step::refuse(ErrorCode::PRODUCER_FENCED)
        );
    }
    assert_eq!(transaction.record().state, State::Ongoing);
}

#[test]
fn with_bumps_an_abort_of_the_next_transaction_waits_for_the_markers_of_the_last() {
    let (mut transaction, first) = started();
    add(&mut transaction, first, BUMPS_EPOCH);
    let second = wrote(transaction.end_and_bump(first, true, None, NOW));
    transaction.written(NOW);
    assert_eq!(transaction.record().state, State::PrepareCommit);
    for (who, commit) in [(second, false), (second, true), (first, true)] {
        assert_eq!(
            transaction.end_and_bump(who, commit, None, NOW),
            Step::refuse(ErrorCode::CONCURRENT_TRANSACTIONS),
            "its producer is told to come again, not that it is fenced"
        );
    }
    assert!(transaction.complete(NOW));
    settle(&mut transaction);
    let third = wrote(transaction.end_and_bump(second, false, None, NOW));
    assert_eq!(third.epoch, second.epoch + 1);
}

#[test]
fn with_bumps_an_abort_needs_no_partition() {
    let (mut transaction, who) = started();
    let next = wrote(transaction.end_and_bump(who, false, None, NOW));
    settle(&mut transaction);
    assert_eq!(next.epoch, who.epoch + 1);
    assert_eq!(
        transaction.end_and_bump(next, true, None, NOW),
        Step::refuse(ErrorCode::INVALID_TXN_STATE)
    );
}

#[test]
fn when_the_epochs_run_out_the_producer_id_is_replaced() {
    let (mut transaction, who) = at_epoch(LAST_EPOCH);
    assert_eq!(
        transaction.init(60_000, None, None, NOW),
        Step::NeedsProducerId
    );
    let next = wrote(transaction.init(60_000, Some(who), Some(8), NOW));
    settle(&mut transaction);
    assert_eq!(next, Producer { id: 8, epoch: 0 });
    // It did not hear the answer, and asks with what it has.
    let again = transaction.init(60_000, Some(who), None, NOW);
    assert_eq!(again, Step::Write(Ok(next)));
}

#[test]
fn with_bumps_the_id_is_replaced_behind_the_markers() {
    let (mut transaction, who) = at_epoch(LAST_EPOCH);
    add(&mut transaction, who, BUMPS_EPOCH);
    assert_eq!(
        transaction.end_and_bump(who, true, None, NOW),
        Step::NeedsProducerId
    );
    let next = wrote(transaction.end_and_bump(who, true, Some(8), NOW));
    assert!(transaction.written(NOW));
    let marked = transaction.record().producer;
    assert_eq!(
        marked,
        Producer {
            id: 7,
            epoch: i16::MAX
        }
    );
    transaction.complete(NOW);
    settle(&mut transaction);
    assert_eq!(next, Producer { id: 8, epoch: 0 });
    assert_eq!(transaction.record().producer, next);
    let repeated = transaction.end_and_bump(who, true, None, NOW);
    assert_eq!(repeated, Step::Answer(Ok(next)));
}

#[test]
fn a_producer_that_comes_back_keeps_its_id_and_a_zombie_does_not() {
    let (mut transaction, who) = started();
    let next = wrote(transaction.init(60_000, Some(who), None, NOW));
    settle(&mut transaction);
    assert_eq!((next.id, next.epoch), (who.id, who.epoch + 1));
    let repeated = transaction.init(60_000, Some(who), None, NOW);
    assert_eq!(repeated, Step::Write(Ok(next)));
    settle(&mut transaction);
    wrote(transaction.init(60_000, None, None, NOW));
    settle(&mut transaction);
    assert_eq!(
        transaction.init(60_000, Some(who), None, NOW),
        Step::refuse(ErrorCode::PRODUCER_FENCED)
    );
}

#[test]
fn deadlines_run_on_the_monotonic_clock() {
    let (mut transaction, who) = started();
    add(&mut transaction, who, 0);
    let stepped = Now {
        wall_ms: NOW.wall_ms + 3_600_000,
        ..NOW
    };
    assert!(!transaction.is_overdue(stepped));
    let late = Now {
        mono_ms: NOW.mono_ms + 60_000,
        ..NOW
    };
    assert!(transaction.is_overdue(late));
    let restored = Transaction::restore(transaction.record().clone(), false, stepped);
    assert!(
        restored.is_overdue(stepped),
        "the time before a restart counts"
    );
}

/// As a lossy move leaves it.
fn stale(mut transaction: Transaction, state: State) -> Transaction {
    transaction.record.state = state;
    Transaction::restore(transaction.record, true, NOW)
}

#[test]
fn a_stale_id_is_answered_so_that_clients_begin_again() {
    let (transaction, who) = started();
    for state in [State::Empty, State::Ongoing, State::CompleteCommit] {
        let mut transaction = stale(transaction.clone(), state);
        let unknown = ErrorCode::UNKNOWN_PRODUCER_ID;
        for who in [who, Producer { epoch: 9, ..who }] {
            let refused = Step::refuse(unknown);
            assert_eq!(transaction.add(who, [at(0)].into(), 0, NOW), refused);
            assert_eq!(transaction.verify(who, &at(0), 0), Err(unknown));
            assert_eq!(transaction.end(who, true, NOW), refused);
            assert_eq!(transaction.end_and_bump(who, true, None, NOW), refused);
            assert_eq!(transaction.end(who, false, NOW), Step::Answer(Ok(who)));
        }
        assert_eq!(
            transaction.init(1, Some(who), None, NOW),
            Step::NeedsProducerId
        );
        let mut aborted = transaction.clone();
        let fresh = Producer { id: 8, epoch: 0 };
        let answers = [
            transaction.init(60_000, Some(who), Some(8), NOW),
            aborted.end_and_bump(who, false, Some(8), NOW),
        ];
        assert_eq!(answers, [Step::Write(Ok(fresh)), Step::Write(Ok(fresh))]);
        settle(&mut transaction);
        assert_eq!(transaction.record().producer, fresh);
        add(&mut transaction, fresh, 0);
        assert_eq!(transaction.verify(fresh, &at(0), 0), Ok(()));
    }
}

#[test]
fn what_a_stale_id_had_decided_is_carried_out_and_its_producer_fenced_for_good() {
    let (transaction, who) = started();
    let mut transaction = stale(transaction, State::PrepareCommit);
    let concurrent = Step::refuse(ErrorCode::CONCURRENT_TRANSACTIONS);
    assert_eq!(transaction.init(1, None, None, NOW), concurrent);
    assert!(transaction.complete(NOW));
    settle(&mut transaction);
    assert_eq!(transaction.record().state, State::CompleteCommit);
    let unknown = Step::refuse(ErrorCode::UNKNOWN_PRODUCER_ID);
    assert_eq!(transaction.add(who, [at(0)].into(), 0, NOW), unknown);
    let mut restarted = Transaction::restore(transaction.record().clone(), false, NOW);
    let fenced = Step::refuse(ErrorCode::PRODUCER_FENCED);
    assert_eq!(restarted.add(who, [at(0)].into(), 0, NOW), fenced);
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Init { recovers: bool },
    Add { version: i16 },
    End { commit: bool, bump: bool },
    TimeOut,
    Write,
    Restart,
}

fn ops() -> impl Strategy<Value = Vec<(Op, usize)>> {
    let op = prop_oneof![
        any::<bool>().prop_map(|recovers| Op::Init { recovers }),
        prop_oneof![Just(0), Just(BUMPS_EPOCH)].prop_map(|version| Op::Add { version }),
        (any::<bool>(), any::<bool>()).prop_map(|(commit, bump)| Op::End { commit, bump }),
        Just(Op::TimeOut),
        Just(Op::Write),
        Just(Op::Write),
        Just(Op::Restart),
    ];
    // Who asks: one of those who ever were the producer.
    prop::collection::vec((op, 0..4_usize), 1..200)
}

proptest! {
    /// Whatever comes in whatever order, restarts included: epochs rise, only the present producer changes anything,
    /// and what was prepared ends as it was prepared.
    #[test]
    fn nobody_but_the_present_producer_changes_anything(ops in ops(), first_epoch in prop_oneof![Just(0_i16), Just(LAST_EPOCH - 3)]) {
        let (mut transaction, who) = at_epoch(first_epoch);
        let (mut known, mut next_id) = (vec![who], 100);
        let mut now = NOW;
        for (op, back) in ops {
            now.mono_ms += 10;
            let who = known[known.len().saturating_sub(1 + back)];
            let before = transaction.record().clone();
            let was_pending = transaction.pending().is_some();
            let step = match op {
                Op::Init { recovers } => transaction.init(50, recovers.then_some(who), Some(next_id), now),
                Op::Add { version } => transaction.add(who, [at(0)].into(), version, now),
                Op::End { commit, bump: false } => transaction.end(who, commit, now),
                Op::End { commit, bump: true } => transaction.end_and_bump(who, commit, Some(next_id), now),
                Op::TimeOut => transaction.time_out(now),
                Op::Restart => {
                    transaction = Transaction::restore(before.clone(), false, now);
                    if before.state.is_prepared() {
                        prop_assert!(transaction.complete(now));
                    }
                    continue;
                }
                Op::Write => {
                    let pending = transaction.pending().cloned();
                    if transaction.written(now) {
                        transaction.complete(now);
                    }
                    if let Some(pending) = pending {
                        prop_assert_eq!(transaction.record(), &pending);
                        let (old, new) = (before.producer, pending.producer);
                        prop_assert!(new.id != old.id || new.epoch >= old.epoch);
                        match before.state {
                            State::PrepareCommit => prop_assert_eq!(pending.state, State::CompleteCommit),
                            State::PrepareAbort => prop_assert_eq!(pending.state, State::CompleteAbort),
                            _ => {}
                        }
                    }
                    continue;
                }
            };
            next_id += 1;
            match step {
                Step::Write(answer) => {
                    prop_assert!(!was_pending);
                    prop_assert!(!before.state.is_prepared());
                    let by_producer = matches!(op, Op::Add { .. } | Op::End { .. });
                    prop_assert!(!by_producer || who == before.producer, "{who:?} is not {:?}", before.producer);
                    if let Ok(producer) = answer {
                        known.push(producer);
                    }
                }
                Step::Answer(_) => prop_assert_eq!(transaction.pending().is_some(), was_pending),
                Step::NeedsProducerId => prop_assert!(false, "there was one"),
            }
            prop_assert_eq!(transaction.record(), &before, "nothing counts before it is durable");
        }
    }
}

#[test]
fn a_commit_says_where_the_transaction_began_at_the_earliest_unless_epochs_tell() {
    for (version, told) in [
        (0, Places::from([(at(0), 7)])),
        (BUMPS_EPOCH, Places::new()),
    ] {
        let (mut transaction, who) = started();
        add(&mut transaction, who, version);
        for above in [9, 7, 8] {
            assert_eq!(transaction.verify(who, &at(0), above), Ok(()));
        }
        let ended = if version == 0 {
            transaction.end(who, true, NOW)
        } else {
            transaction.end_and_bump(who, true, None, NOW)
        };
        let who = wrote(ended);
        assert_eq!(transaction.pending().unwrap().above, told);
        settle(&mut transaction);
        assert_eq!(transaction.record().state, State::CompleteCommit);
        // The next one has nothing of it.
        add(&mut transaction, who, version);
        wrote(transaction.end(who, true, NOW));
        assert_eq!(transaction.pending().unwrap().above, Places::new());
    }
}
