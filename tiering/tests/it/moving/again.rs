//! Places that a bucket has left and comes back to, and moves that are cancelled.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use whimbrel_runtime::{Shutdown, Tasks};
use whimbrel_tiering::{
    format::{Key, Keys},
    moving::{Decision, MoveError},
    root::{MAX_BYTES, Root},
    store::Store,
};

use super::{NEW, Two, arrived, begun, lived, mover, moves};
use crate::{
    broker::FakeBroker,
    crash::{SHARDS, live, logs, try_daemon},
    fault::{Fault, Plan, at_each_write, death, pause},
    memory::Memory,
    support::until,
};

fn sound(store: &Memory) -> Fault<Memory> {
    Fault::new(store.clone(), Plan::Nothing)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_moves_on_and_comes_back_to_places_that_it_has_left() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b, c) = (
        lived(dir.path()).await,
        Memory::default(),
        Memory::default(),
    );
    for (from, to) in [(&a, &b), (&b, &c), (&c, &b), (&b, &a), (&a, &c), (&c, &a)] {
        let two = Two::into(sound(from), to.clone());
        moves(&two, dir.path()).await;
        arrived(&two, dir.path()).await;
    }
}

/// As a move to a place that is new, with a death at any write of the way back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_at_any_write_of_a_way_back_loses_and_leaks_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let first = Two::new(sound(&lived(dir.path()).await));
    moves(&first, dir.path()).await;
    live(&first.to.sound(), dir.path()).await;
    let (left, now) = (&first.from.store, &first.to.store);
    let writes = at_each_write(
        death,
        || now.branch(),
        async |fault| {
            let two = Two::into(fault, left.branch());
            moves(&two, dir.path()).await;
            arrived(&two, dir.path()).await;
        },
    )
    .await;
    // Objects are there already: documents, roots and tombstones are written.
    assert!(writes > 8, "only {writes} writes");
}

/// What stands of the decision about the order in this place, after a cancellation by somebody else.
async fn cancelled(store: &Memory) -> Option<bool> {
    let keys = Keys::new("east");
    let order = store.get(&keys.move_order(), MAX_BYTES).await.ok()?;
    let order: whimbrel_tiering::moving::Order = serde_json::from_slice(&order.bytes).unwrap();
    let mine = Decision {
        format: 1,
        id: order.id,
        goes: false,
        decided_ms: 1,
    };
    let key = keys.move_decision(order.id);
    let text = serde_json::to_vec(&mine).unwrap();
    let _ = store.put_if_absent(&key, text.into()).await;
    let stands = store.get(&key, MAX_BYTES).await.unwrap();
    let stands: Decision = serde_json::from_slice(&stands.bytes).unwrap();
    Some(!stands.goes)
}

/// Orders once, and carries it out to its end, whichever that is.
async fn one_move(two: Two, dir: PathBuf, tasks: Tasks, done: Arc<AtomicBool>) {
    let broker = FakeBroker::new(logs(&dir));
    let placed = two.placed();
    let d = try_daemon(Arc::new(placed.clone()), &broker, &dir, &tasks).await;
    let d = d.unwrap();
    let mover = mover(&d, &placed, &dir);
    while mover.order_at(NEW, 0).await.is_err() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    while !mover.round().await.is_ok_and(|done| done) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    done.store(true, Ordering::SeqCst);
}

async fn is_root(store: &Memory, key: &Key) -> bool {
    let found = store.get(key, MAX_BYTES).await;
    found.is_ok_and(|found| Root::decode(&found.bytes).is_ok())
}

/// Whoever cancels between any two writes of a move is told whether it was in time, and that is how it is: either
/// nothing has changed its place, or all does.
#[expect(
    clippy::disallowed_methods,
    reason = "what is stopped is no task of anybody's"
)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancellation_between_any_two_writes_is_in_time_or_too_late_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let template = lived(dir.path()).await;
    let (mut in_time, mut too_late) = (0, 0);
    at_each_write(
        pause,
        || template.branch(),
        async |fault| {
            let (two, done) = (Two::new(fault.clone()), Arc::new(AtomicBool::new(false)));
            let tasks = Tasks::new(Shutdown::new());
            let first = tokio::spawn(one_move(
                two.clone(),
                dir.path().to_owned(),
                tasks.clone(),
                Arc::clone(&done),
            ));
            until("stopped, or done with everything", || {
                fault.is_struck() || done.load(Ordering::SeqCst)
            })
            .await;
            let cancelled = cancelled(&two.from.store).await;
            fault.resume();
            first.await.unwrap();
            tasks.stop(Duration::ZERO).await;
            if cancelled == Some(true) {
                in_time += 1;
                for shard in 0..SHARDS {
                    let key = Keys::new("east").root(shard);
                    assert!(is_root(&two.from.store, &key).await, "{:?}", fault.plan);
                    assert!(!is_root(&two.to.store, &key).await, "{:?}", fault.plan);
                }
            } else {
                too_late += 1;
                arrived(&two, dir.path()).await;
            }
        },
    )
    .await;
    assert!(in_time > 8 && too_late > 8, "{in_time} {too_late}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_was_cancelled_is_forgotten_and_can_be_ordered_again() {
    let dir = tempfile::tempdir().unwrap();
    let two = Two::new(sound(&begun().await));
    let (placed, tasks) = (two.placed(), Tasks::new(Shutdown::new()));
    let broker = FakeBroker::new(logs(dir.path()));
    let d = try_daemon(Arc::new(placed.clone()), &broker, dir.path(), &tasks).await;
    let d = d.unwrap();
    let mover = mover(&d, &placed, dir.path());
    let refused = mover.cancel().await.unwrap_err();
    assert!(
        refused.to_string().contains("no move was ordered"),
        "{refused}"
    );
    let first = mover.order_at(NEW, 0).await.unwrap();
    assert_eq!(mover.cancel().await.unwrap(), first);
    assert!(mover.round().await.unwrap() && placed.target().is_none());
    let second = mover.order_at(NEW, 0).await.unwrap();
    assert_ne!(first, second);
    while !mover.round().await.unwrap() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let late = mover.cancel().await.unwrap_err();
    assert!(matches!(late, MoveError::Refused(_)), "{late}");
    assert!(
        late.to_string().contains("let it end, and move back"),
        "{late}"
    );
    tasks.stop(Duration::ZERO).await;
    arrived(&two, dir.path()).await;
}
