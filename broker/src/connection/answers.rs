//! The memory that the answers of all connections share.
//!
//! An answer holds of it what its bytes take until its reader has them, and a fetch that waits what it remembers of its
//! partitions. Little ones ask for nothing, so that who reads little never waits for those who read much. Records are
//! read for as much as there is room; where that is too little for one batch, they are let go, and read again when
//! there is room. While somebody waits for room, those who hold some are to hurry ([`Share::is_wanted`]): a fetch that
//! waits is answered with what there is, and a reader that takes next to nothing is closed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::Semaphore;
use whimbrel_runtime::Clock;

use super::{
    Closed, Reply,
    memory::{Room, Waiting, kib},
};
use crate::options::Limits;

/// What one connection's answer may hold without asking: a fetch of a hundred partitions, a few batches.
const OWN: usize = 64 << 10;
/// One answer gets at most this part of what is left: many readers get less each, and none gets everything.
const SHARE: usize = 8;

#[derive(Clone, Debug)]
pub struct Answers {
    permits: Arc<Semaphore>,
    /// How much that is, in KiB.
    all: usize,
    /// Those who wait for room.
    waiting: Arc<AtomicUsize>,
    /// How long they do.
    patience: Duration,
    clock: Clock,
}

/// What one answer holds of it, until it is dropped.
#[derive(Debug)]
pub struct Share {
    answers: Answers,
    room: Option<Room>,
}

impl Answers {
    pub fn new(limits: &Limits, clock: Clock) -> Self {
        let bytes = usize::try_from(limits.answer_memory.0).unwrap_or(usize::MAX);
        let all = kib(bytes)
            .min(Semaphore::MAX_PERMITS)
            .min(u32::MAX as usize);
        Self {
            permits: Arc::new(Semaphore::new(all)),
            all,
            waiting: Arc::default(),
            patience: limits.request_time.0,
            clock,
        }
    }

    pub fn share(&self) -> Share {
        Share {
            answers: self.clone(),
            room: None,
        }
    }

    /// True while somebody waits for room.
    pub fn is_short(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// In permits; nothing for what needs none, and never more than there is.
    fn permits(&self, bytes: usize) -> usize {
        if bytes <= OWN {
            0
        } else {
            kib(bytes).min(self.all)
        }
    }

    fn try_take(&self, permits: usize) -> Option<Room> {
        let permits = u32::try_from(permits).ok()?;
        Arc::clone(&self.permits)
            .try_acquire_many_owned(permits)
            .ok()
    }
}

impl Share {
    fn held(&self) -> usize {
        self.room.as_ref().map_or(0, Room::num_permits)
    }

    /// Makes it room for so many bytes, if that can be had at once: less always can. What it has stays where not.
    pub fn try_fit(&mut self, bytes: usize) -> bool {
        let (wanted, held) = (self.answers.permits(bytes), self.held());
        if wanted == 0 {
            self.room = None;
        } else if let Some(room) = &mut self.room
            && held > wanted
        {
            drop(room.split(held - wanted));
        } else if wanted > held {
            let Some(more) = self.answers.try_take(wanted - held) else {
                return false;
            };
            match &mut self.room {
                Some(room) => room.merge(more),
                None => self.room = Some(more),
            }
        }
        true
    }

    /// Makes it room for so many bytes, and waits where there is too little. What it had is given back meanwhile:
    /// those who wait hold nothing that others wait for.
    pub async fn fit(&mut self, bytes: usize) -> Result<(), Closed> {
        if self.try_fit(bytes) {
            return Ok(());
        }
        self.room = None;
        let wanted = u32::try_from(self.answers.permits(bytes)).unwrap_or(u32::MAX);
        let answers = &self.answers;
        let _waiting = Waiting::new(&answers.waiting);
        let room = Arc::clone(&answers.permits).acquire_many_owned(wanted);
        let room = answers.clock.within(answers.patience, room).await;
        self.room = room.and_then(Result::ok);
        match self.room {
            Some(_) => Ok(()),
            None => Err(Closed::NoRoom),
        }
    }

    /// Makes it room for `least`, which it has, and up to `more` bytes beyond, as far as they can be had now. How many
    /// of them there is room for.
    pub fn reach(&mut self, least: usize, more: usize) -> usize {
        let left = self.answers.permits.available_permits() / SHARE * (1 << 10);
        let more = more.min(left.max(OWN));
        if self.try_fit(least.saturating_add(more)) {
            return more;
        }
        more.min(OWN.saturating_sub(least))
    }

    /// True when others wait for what it holds.
    pub fn is_wanted(&self) -> bool {
        self.room.is_some() && self.answers.is_short()
    }

    pub fn is_empty(&self) -> bool {
        self.room.is_none()
    }

    /// Goes with the reply, as much of it as that takes.
    pub fn keep(mut self, reply: Reply) -> Reply {
        self.try_fit(reply.len());
        Reply {
            share: Some(self),
            ..reply
        }
    }

    /// Gives the reply the room that it takes.
    pub async fn hold(mut self, reply: Reply) -> Result<Reply, Closed> {
        self.fit(reply.len()).await?;
        Ok(self.keep(reply))
    }

    /// The same of one that can be made again: it is given up where it would have to wait for room.
    pub async fn hold_or_give_up(mut self, reply: Reply) -> Result<Held, Closed> {
        let bytes = reply.len();
        // Made for the second time it may be a little longer, and goes.
        if self.try_fit(bytes) || !self.is_empty() {
            return Ok(Held::Reply(self.keep(reply)));
        }
        drop(reply);
        self.fit(bytes).await?;
        Ok(Held::Again(self))
    }
}

/// What has become of a reply.
#[derive(Debug)]
pub enum Held {
    Reply(Reply),
    /// It is to be made again; there is room for it now.
    Again(Share),
}

#[cfg(test)]
mod tests {
    use whimbrel_runtime::unit::Size;

    use super::*;

    fn answers(kib: u64) -> Answers {
        let limits = Limits {
            answer_memory: Size(kib << 10),
            ..Limits::default()
        };
        Answers::new(&limits, Clock::system())
    }

    fn left(answers: &Answers) -> usize {
        answers.permits.available_permits()
    }

    #[test]
    fn little_answers_ask_for_nothing_and_large_ones_give_back_what_they_do_not_need() {
        let answers = answers(1_000);
        let mut share = answers.share();
        assert!(share.try_fit(OWN) && share.is_empty());
        assert!(share.try_fit(200 << 10));
        assert_eq!(left(&answers), 800);
        assert!(share.try_fit(100 << 10));
        assert_eq!(left(&answers), 900);
        assert!(!share.try_fit(1_001 << 10) || left(&answers) == 0);
        assert!(share.try_fit(1) && share.is_empty());
        assert_eq!(left(&answers), 1_000);
    }

    #[test]
    fn no_answer_reaches_for_more_than_a_part_of_what_is_left_and_all_for_a_little() {
        let answers = answers(8 << 10);
        let mut shares = Vec::new();
        let mut before = usize::MAX;
        for _ in 0..200 {
            let mut share = answers.share();
            let reached = share.reach(0, usize::MAX);
            assert!((OWN..=1 << 20).contains(&reached) && reached <= before);
            before = reached;
            shares.push(share);
        }
        assert_eq!(before, OWN);
        assert!(shares.iter().all(|share| !share.is_wanted()));
        drop(shares);
        assert_eq!(left(&answers), 8 << 10);
    }

    #[tokio::test]
    async fn who_waits_for_room_makes_it_wanted_and_gets_it_in_turn() {
        let answers = answers(1_000);
        let mut first = answers.share();
        assert!(first.try_fit(900 << 10));
        let mut second = answers.share();
        {
            let waits = second.fit(500 << 10);
            tokio::pin!(waits);
            assert!(futures::poll!(waits.as_mut()).is_pending());
            assert!(first.is_wanted());
            // What is there goes to who waits; others read little meanwhile.
            assert_eq!(answers.share().reach(0, 1 << 20), OWN);
            drop(first);
            assert!(matches!(
                futures::poll!(waits.as_mut()),
                std::task::Poll::Ready(Ok(()))
            ));
        }
        assert!(!second.is_wanted());
        // More than there is at all is all there is.
        let waits = second.fit(usize::MAX);
        assert!(waits.await.is_ok());
        assert_eq!(left(&answers), 0);
    }
}
