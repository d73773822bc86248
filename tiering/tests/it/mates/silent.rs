//! An owner that was stopped while others ask it for edits.

use super::*;

/// What an edit may take of its owner, and more than what it takes to give one up that is silent.
const TOO_LONG_MS: u64 = 40_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_that_a_stopped_owner_was_sent_does_not_keep_its_shard_from_the_next() {
    let store = Memory::default();
    let first = Mate::register(1, Clock::system()).await;
    let old = first.commits(Arc::new(store.clone())).await;
    until("an owner", || first.owns(&old)).await;
    let clock = Clock::manual();
    let second = Mate {
        silence: Duration::from_secs(10),
        ..Mate::register(11, clock.clone()).await
    };
    first.sees(&[&first, &second], &[]);
    second.sees(&[&first, &second], &[]);
    let new = ticking(&clock, 3, second.commits(Arc::new(store.clone()))).await;
    let follows = until("it follows", || first.owns(&new));
    ticking(&clock, 3, follows).await;
    first.door.stop();
    let (begun_ms, epoch) = (clock.boot_ms(), new.root(0).unwrap().stamp.epoch);
    let asked = new.edit(0, commit(0, 10, 1, epoch));
    let taken = until("another owner", || second.owns(&new));
    let both = futures::future::join(asked, taken);
    let (answer, ()) = ticking(&clock, 3, both).await;
    // Nobody knows what became of it: it is asked for again.
    assert!(answer.unwrap_err().is_retryable());
    let took_ms = clock.boot_ms() - begun_ms;
    assert!(took_ms < TOO_LONG_MS, "{took_ms} ms");
    let again = insist(&new, 0, commit(0, 10, 1, epoch + 1));
    ticking(&clock, 3, again).await.unwrap();
    first.stop().await;
    second.stop().await;
}
