use std::future::{pending, ready};

use tokio::sync::oneshot;
use whimbrel_runtime::Shutdown;

use super::*;
use crate::cache::Piece;

fn id(number: u32) -> BlockId {
    BlockId {
        object: "a".into(),
        piece: Piece::Block(number),
    }
}

fn shelf(dir: &tempfile::TempDir) -> Shelf {
    let cache = Arc::new(Cache::open(dir.path(), 1_000).unwrap());
    Shelf::new(cache, Clock::manual(), Tasks::new(Shutdown::new()))
}

/// Puts a block that somebody waits for; ends when what is held for it is free.
async fn put(shelf: &Shelf, number: u32) -> oneshot::Receiver<()> {
    let (held, free) = oneshot::channel();
    let bytes = Bytes::from_static(b"block");
    shelf.put(id(number), bytes, ready(()), held).await.unwrap();
    free
}

#[tokio::test]
async fn a_block_that_is_waited_for_does_not_wait_for_the_disk_and_the_others_do() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = shelf(&dir);
    let disk = shelf.turn().await;
    let ahead = shelf.put(id(0), Bytes::from_static(b"block"), pending(), ());
    tokio::pin!(ahead);
    assert!(futures::poll!(&mut ahead).is_pending());
    put(&shelf, 1).await;
    assert!(futures::poll!(&mut ahead).is_pending());
    let here = |number| shelf.cache().get(&id(number)).is_some();
    assert!(!here(0) && here(1));
    drop(disk);
    shelf.urge();
    ahead.await.unwrap();
    assert!(here(0));
}

#[tokio::test]
async fn what_readers_have_behind_them_is_given_up_for_others_and_the_rest_is_pushed() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = shelf(&dir);
    let disk = shelf.turn().await;
    let mut free = Vec::new();
    for number in 0..4 {
        free.push(put(&shelf, number).await);
    }
    let mut free = free.into_iter();
    assert!(!shelf.make_way(), "all of them are ahead of a reader");
    for number in [2, 0, 1] {
        shelf.let_go(&id(number));
    }
    // Another reader is at it.
    shelf.used(&id(2));
    assert!(shelf.make_way());
    assert!(free.next().unwrap().await.is_err(), "it went first");
    let here = |number| shelf.cache().holds(&id(number));
    assert_eq!([0, 1, 2, 3].map(here), [false, true, true, true]);
    drop(disk);
    // In turns, and without a rest between them: somebody waits, and nothing more can be given up.
    for pushed in free {
        shelf.urged.notify_one();
        assert!(pushed.await.is_err());
    }
    assert_eq!([0, 1, 2, 3].map(here), [false, true, true, true]);
    assert!(!shelf.make_way());
}

#[tokio::test]
async fn pushes_rest_until_a_reader_waits() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = shelf(&dir);
    let clock = shelf.clock.clone();
    let rests = async || {
        let rest = shelf.rest(Duration::from_millis(10));
        tokio::pin!(rest);
        futures::poll!(&mut rest).is_pending()
    };
    assert!(rests().await);
    shelf.urge();
    assert!(!rests().await, "somebody waits");
    assert!(rests().await, "once");
    let long = shelf.rest(Duration::from_secs(3_600));
    tokio::pin!(long);
    assert!(futures::poll!(&mut long).is_pending());
    clock.advance(LONGEST_REST);
    long.await;
}
