//! The view as a stream: pages of its JSON, again at every version, for as long as somebody listens.
//!
//! Versions that come while one is being sent are skipped: the newest is what counts. A voter that has
//! lost sight of a leader ends its streams, so that watchers find a better one; it still sends what it
//! has once to whoever asks.

use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, stream};
use parking_lot::Mutex;
use tokio::sync::watch;
use tonic::Status;
use whimbrel_rpc::proto::controller::WatchEvent;
use whimbrel_runtime::{Clock, Shutdown};

use super::{Server, answer};
use crate::{raft::Proposer, state::State};

/// Bytes of JSON per event.
const PAGE_BYTES: usize = 512 << 10;
/// After how many beats a voter without a leader ends its streams: longer than an ordinary election.
const OUT_OF_TOUCH: u32 = 6;
/// How often something is sent, an empty page if nothing else, and how often the leader is looked for.
const BEAT: Duration = Duration::from_millis(500);

pub(super) type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchEvent, Status>> + Send>>;

/// The newest view's pages, encoded once for all watchers.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    newest: Mutex<Option<(u64, Arc<Vec<WatchEvent>>)>>,
}

impl Pages {
    fn of(&self, state: &State) -> Result<Arc<Vec<WatchEvent>>, Status> {
        let version = state.view.version;
        if let Some((_, pages)) = self.newest.lock().as_ref().filter(|(v, _)| *v == version) {
            return Ok(Arc::clone(pages));
        }
        let pages = Arc::new(pages(version, &answer::json(&state.view)?));
        *self.newest.lock() = Some((version, Arc::clone(&pages)));
        Ok(pages)
    }
}

fn pages(version: u64, text: &bytes::Bytes) -> Vec<WatchEvent> {
    let starts = (0..text.len().max(1)).step_by(PAGE_BYTES);
    starts
        .map(|start| {
            let end = text.len().min(start + PAGE_BYTES);
            WatchEvent {
                version,
                page: text.slice(start..end),
                last: end == text.len(),
            }
        })
        .collect()
}

struct Watcher {
    state: watch::Receiver<Arc<State>>,
    pages: Arc<Pages>,
    proposer: Proposer,
    clock: Clock,
    shutdown: Shutdown,
    queue: VecDeque<WatchEvent>,
    sent: Option<u64>,
    out_of_touch: u32,
    ended: bool,
}

pub(super) fn stream(server: &Server) -> WatchStream {
    let watcher = Watcher {
        state: server.mover.state.clone(),
        pages: Arc::clone(&server.pages),
        proposer: server.mover.proposer.clone(),
        clock: server.mover.clock.clone(),
        shutdown: server.shutdown.clone(),
        queue: VecDeque::new(),
        sent: None,
        out_of_touch: 0,
        ended: false,
    };
    Box::pin(stream::unfold(watcher, |mut watcher| async move {
        let event = watcher.next().await?;
        watcher.ended = event.is_err();
        Some((event, watcher))
    }))
}

impl Watcher {
    async fn next(&mut self) -> Option<Result<WatchEvent, Status>> {
        if self.ended {
            return None;
        }
        loop {
            if let Some(page) = self.queue.pop_front() {
                return Some(Ok(page));
            }
            if self.shutdown.requested() {
                return None;
            }
            let now = Arc::clone(&self.state.borrow_and_update());
            if now.view.version > 0 && self.sent != Some(now.view.version) {
                match self.pages.of(&now) {
                    Ok(pages) => self.queue.extend(pages.iter().cloned()),
                    Err(status) => return Some(Err(status)),
                }
                self.sent = Some(now.view.version);
                continue;
            }
            tokio::select! {
                () = self.shutdown.wait() => return None,
                changed = self.state.changed() => if changed.is_err() { return None },
                () = self.clock.sleep(BEAT) => {
                    self.out_of_touch = if self.proposer.in_touch() { 0 } else { self.out_of_touch + 1 };
                    if self.out_of_touch >= OUT_OF_TOUCH {
                        return Some(Err(Status::unavailable("this voter has lost sight of a leader")));
                    }
                    return Some(Ok(WatchEvent { version: now.view.version, page: bytes::Bytes::new(), last: false }));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_join_to_the_text_and_the_last_is_marked() {
        let text = bytes::Bytes::from(vec![7_u8; PAGE_BYTES + 1]);
        let pages = pages(3, &text);
        assert_eq!(
            pages
                .iter()
                .map(|p| (p.page.len(), p.last))
                .collect::<Vec<_>>(),
            [(PAGE_BYTES, false), (1, true)]
        );
    }
}
