use std::{sync::Arc, time::Duration};

use whimbrel_wire::ErrorCode;

use super::super::testing::{Fixture, at};
use crate::group::testing::{Fault, until};

#[tokio::test]
async fn a_transaction_is_answered_when_it_is_decided_and_complete_when_its_markers_are_written() {
    let fixture = Fixture::leading().await;
    let who = fixture.init("tx").await;
    assert_eq!((who.id, who.epoch), (1000, 0));
    fixture.add("tx", who, 0).await;
    fixture.add("tx", who, 1).await;
    fixture.elsewhere.go_away();
    let ended = fixture.coordinator.end("tx", who, true, false).await;
    assert_eq!(ended, Ok(who));
    assert_eq!(fixture.state("tx"), "PrepareCommit");
    let again = fixture.coordinator.add("tx", who, [at(2)].into(), 0).await;
    assert_eq!(again, Err(ErrorCode::CONCURRENT_TRANSACTIONS));
    fixture.elsewhere.come_back();
    until(|| fixture.state("tx") == "CompleteCommit").await;
    let written = fixture.elsewhere.written();
    assert_eq!(written.len(), 2);
    assert!(written.iter().all(|(_, m)| m.commit && m.producer == who));
}

#[tokio::test]
async fn a_new_coordinator_writes_the_markers_that_the_old_one_did_not() {
    let old = Fixture::leading().await;
    let who = old.init("tx").await;
    old.add("tx", who, 0).await;
    old.elsewhere.go_away();
    assert_eq!(old.coordinator.end("tx", who, true, false).await, Ok(who));
    let new = Fixture::on(Arc::clone(&old.log));
    new.lead_all(2).await;
    until(|| new.state("tx") == "CompleteCommit").await;
    let written = new.elsewhere.written();
    assert_eq!(written[0].1.coordinator_epoch, 2);
    assert_eq!(
        old.coordinator.describe("tx"),
        Err(ErrorCode::NOT_COORDINATOR)
    );
    let next = new.init("tx").await;
    assert_eq!((next.id, next.epoch), (who.id, 1));
}

#[tokio::test]
async fn an_unknown_outcome_is_looked_up_in_the_log() {
    let fixture = Fixture::leading().await;
    let who = fixture.init("tx").await;
    fixture
        .log
        .fail_next(Fault::Unanswered(ErrorCode::REQUEST_TIMED_OUT));
    let added = fixture.coordinator.add("tx", who, [at(0)].into(), 0).await;
    assert_eq!(added, Err(ErrorCode::COORDINATOR_NOT_AVAILABLE));
    until(|| fixture.coordinator.verify("tx", who, &at(0), 0) == Ok(())).await;
    fixture
        .log
        .fail_next(Fault::Refused(ErrorCode::NOT_LEADER_OR_FOLLOWER));
    let added = fixture.coordinator.add("tx", who, [at(1)].into(), 0).await;
    assert_eq!(added, Err(ErrorCode::NOT_COORDINATOR));
    until(|| fixture.coordinator.list().0.is_none()).await;
    assert_eq!(
        fixture.coordinator.verify("tx", who, &at(1), 0),
        Err(ErrorCode::TRANSACTION_ABORTABLE)
    );
}

#[tokio::test]
async fn a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced() {
    let fixture = Fixture::leading().await;
    let who = fixture.init("tx").await;
    fixture.add("tx", who, 0).await;
    fixture.clock.advance(Duration::from_millis(59_000));
    assert_eq!(fixture.state("tx"), "Ongoing");
    until(|| {
        fixture.clock.advance(Duration::from_millis(200));
        fixture.state("tx") == "CompleteAbort"
    })
    .await;
    let (_, marker) = fixture.elsewhere.written()[0].clone();
    assert!(!marker.commit && marker.producer.epoch == 1);
    assert_eq!(
        fixture.coordinator.end("tx", who, true, false).await,
        Err(ErrorCode::PRODUCER_FENCED)
    );
}

#[tokio::test]
async fn an_id_that_nobody_uses_is_forgotten_but_not_one_that_is_used() {
    let fixture = Fixture::leading().await;
    fixture.init("idle").await;
    let busy = fixture.init("busy").await;
    fixture.add("busy", busy, 0).await;
    until(|| {
        fixture.clock.advance(Duration::from_millis(500));
        fixture.state("idle").is_empty()
    })
    .await;
    assert_eq!(fixture.state("busy"), "Ongoing");
    let next = Fixture::on(Arc::clone(&fixture.log));
    next.lead_all(2).await;
    assert_eq!(next.state("idle"), "", "the removal is in the log");
}

#[tokio::test]
async fn timeouts_are_positive_and_not_above_the_limit() {
    let fixture = Fixture::leading().await;
    for timeout_ms in [0, -1, 15 * 60_000 + 1] {
        assert_eq!(
            fixture.coordinator.init("tx", timeout_ms, None).await,
            Err(ErrorCode::INVALID_TRANSACTION_TIMEOUT)
        );
    }
}
