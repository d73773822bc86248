//! Fetch sessions (KIP-227): what a client asks for is remembered, so that it sends and is sent only what changed.
//!
//! [`Cache`] says which sessions there are, [`Session`] what one of them knows; both are pure, and what time
//! it is and what was drawn comes in. Sessions outlive connections, as in Kafka. They are a convenience: a
//! client whose session is gone is told so and asks for everything again, so any of them may be dropped at
//! any time. Kafka lets replicas push out consumers' sessions; here replicas do not fetch, and none is
//! privileged.

mod cache;
mod session;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use parking_lot::Mutex;
use whimbrel_runtime::{Clock, random};
use whimbrel_wire::{
    ErrorCode,
    messages::fetch::{FetchTopic, ForgottenTopic},
};

use crate::waiters::Waiter;

pub use cache::{Bounds, Cache};
pub use session::{Changes, Session, Told, Wanted};

/// Kafka's name for "no session", and of the epochs that begin and end one.
pub const NO_SESSION: i32 = 0;
const INITIAL_EPOCH: i32 = 0;
const FINAL_EPOCH: i32 = -1;

/// The epoch of a session's next request.
fn next_epoch(epoch: i32) -> i32 {
    match epoch {
        ..0 => FINAL_EPOCH,
        i32::MAX => 1,
        _ => epoch + 1,
    }
}

/// The sessions of one broker.
#[derive(Debug)]
pub struct Sessions {
    cache: Mutex<Cache>,
    clock: Clock,
}

/// What a request says of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub id: i32,
    pub epoch: i32,
    /// Topics are named by their ids.
    pub by_id: bool,
}

/// How a request is answered.
#[derive(Debug)]
pub enum Context {
    /// All that was asked for, and nothing is remembered.
    Alone,
    /// All that was asked for; a session may begin.
    Begin { by_id: bool },
    /// What changed since the last answer.
    Goes(Going),
}

/// A request of a session that stands.
#[derive(Debug)]
pub struct Going {
    id: i32,
    /// Of the session's next request, if nobody else comes first.
    epoch: i32,
    session: Arc<Mutex<Session>>,
}

impl Context {
    /// `waiter` is woken when the session's next request comes.
    pub fn wait(&self, waiter: &Waiter) {
        if let Self::Goes(going) = self {
            going.session.lock().wait(waiter);
        }
    }

    /// The session's next request has come: what this one holds it would hold for nobody.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Goes(going) => going.session.lock().epoch() != going.epoch,
            _ => false,
        }
    }
}

impl Sessions {
    pub fn new(bounds: Bounds, clock: Clock) -> Self {
        Self {
            cache: Mutex::new(Cache::new(bounds)),
            clock,
        }
    }

    /// What a request asks for with its session's memory, in the order in which it is read.
    pub fn open(
        &self,
        claim: Claim,
        topics: Vec<FetchTopic>,
        forgotten: &[ForgottenTopic],
    ) -> Result<(Context, Vec<Wanted>), ErrorCode> {
        if claim.epoch == INITIAL_EPOCH || claim.epoch == FINAL_EPOCH {
            if claim.id != NO_SESSION {
                self.cache.lock().remove(claim.id);
            }
            let context = if claim.epoch == INITIAL_EPOCH {
                Context::Begin { by_id: claim.by_id }
            } else {
                Context::Alone
            };
            return Ok((context, session::wanted(topics)));
        }
        let now_ms = self.clock.boot_ns() / 1_000_000;
        let session = self
            .cache
            .lock()
            .get(claim.id)
            .ok_or(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)?;
        let (epoch, wanted, size) = {
            let mut session = session.lock();
            if session.epoch() != claim.epoch {
                return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
            }
            if session.by_id() != claim.by_id {
                return Err(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
            }
            session.update(topics, forgotten);
            session.advance();
            (session.epoch(), session.wanted(), session.size())
        };
        let mut cache = self.cache.lock();
        if size.partitions == 0 {
            cache.remove(claim.id);
            return Ok((Context::Alone, Vec::new()));
        }
        if !cache.touch(claim.id, size, now_ms) {
            // It grew out of what sessions may take, or was pushed out meanwhile.
            return Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
        }
        drop(cache);
        let going = Going {
            id: claim.id,
            epoch,
            session,
        };
        Ok((Context::Goes(going), wanted))
    }

    /// The session's id for the answer. `told` is what the answer says of each partition, `keep` is set to
    /// what has to be in it.
    pub fn close(
        &self,
        context: &Context,
        wanted: &[Wanted],
        told: &[Told],
    ) -> Result<(i32, Changes), ErrorCode> {
        match context {
            Context::Alone => Ok((NO_SESSION, Changes::All)),
            Context::Begin { by_id } => Ok((self.begin(*by_id, wanted, told), Changes::All)),
            Context::Goes(going) => {
                let mut session = going.session.lock();
                if session.epoch() != going.epoch {
                    return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
                }
                Ok((going.id, session.tell(wanted, told)))
            }
        }
    }

    /// What a throttled client is told instead of data.
    pub fn throttled(context: &Context) -> i32 {
        match context {
            Context::Goes(going) => going.id,
            _ => NO_SESSION,
        }
    }

    fn begin(&self, by_id: bool, wanted: &[Wanted], told: &[Told]) -> i32 {
        if wanted.is_empty() {
            return NO_SESSION;
        }
        let session = Session::new(by_id, wanted, told);
        let now_ms = self.clock.boot_ns() / 1_000_000;
        let draw = || {
            // 31 bits of a fresh draw: positive.
            i32::try_from(random::u64() >> 33).unwrap_or(1)
        };
        self.cache
            .lock()
            .insert(session, now_ms, draw)
            .unwrap_or(NO_SESSION)
    }

    pub fn len(&self) -> usize {
        self.cache.lock().len()
    }
}
