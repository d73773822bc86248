//! The view as a stream: pages of its JSON once, and then of what is different in each later version, for as long as
//! somebody listens. Who comes with this voter's version is sent what is different from it; who comes with another one,
//! however near, gets the whole.
//!
//! Versions that come while one is being sent are skipped: the newest is what counts. A voter that has
//! lost sight of a leader ends its streams, so that watchers find a better one; it still sends what it
//! has once to whoever asks.

use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, stream};
use parking_lot::Mutex;
use tokio::sync::watch;
use tonic::Status;
use whimbrel_fleet::view::Delta;
use whimbrel_rpc::proto::controller::{WatchEvent, WatchRequest};
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

type Cached<K> = Mutex<Option<(K, Arc<Vec<WatchEvent>>)>>;

/// The newest pages, encoded once for all watchers.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    whole: Cached<u64>,
    /// Between two versions: watchers are mostly at the same one.
    delta: Cached<(u64, u64)>,
}

impl Pages {
    fn whole(&self, state: &State) -> Result<Arc<Vec<WatchEvent>>, Status> {
        let version = state.view.version;
        cached(&self.whole, version, || {
            Ok(pages(version, false, &answer::json(&state.view)?))
        })
    }

    fn delta(&self, from: &State, to: &State) -> Result<Arc<Vec<WatchEvent>>, Status> {
        let version = to.view.version;
        cached(&self.delta, (from.view.version, version), || {
            let delta = Delta::between(&from.view, &to.view);
            Ok(pages(version, true, &answer::json(&delta)?))
        })
    }
}

fn cached<K: PartialEq>(
    cache: &Cached<K>,
    key: K,
    make: impl FnOnce() -> Result<Vec<WatchEvent>, Status>,
) -> Result<Arc<Vec<WatchEvent>>, Status> {
    if let Some((_, pages)) = cache.lock().as_ref().filter(|(known, _)| *known == key) {
        return Ok(Arc::clone(pages));
    }
    let pages = Arc::new(make()?);
    *cache.lock() = Some((key, Arc::clone(&pages)));
    Ok(pages)
}

fn pages(version: u64, delta: bool, text: &bytes::Bytes) -> Vec<WatchEvent> {
    let starts = (0..text.len().max(1)).step_by(PAGE_BYTES);
    starts
        .map(|start| {
            let end = text.len().min(start + PAGE_BYTES);
            WatchEvent {
                version,
                page: text.slice(start..end),
                last: end == text.len(),
                delta,
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
    /// The state whose view the watcher has.
    sent: Option<Arc<State>>,
    takes_deltas: bool,
    out_of_touch: u32,
    ended: bool,
}

pub(super) fn stream(server: &Server, request: &WatchRequest) -> WatchStream {
    // Views of one version are the same wherever they come from: they follow from the raft log.
    let state = Arc::clone(&server.mover.state.borrow());
    let known =
        request.deltas && request.known_version > 0 && request.known_version == state.view.version;
    let watcher = Watcher {
        state: server.mover.state.clone(),
        pages: Arc::clone(&server.pages),
        proposer: server.mover.proposer.clone(),
        clock: server.mover.clock.clone(),
        shutdown: server.shutdown.clone(),
        queue: VecDeque::new(),
        sent: known.then_some(state),
        takes_deltas: request.deltas,
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
            let sent = self.sent.as_ref().map(|state| state.view.version);
            if now.view.version > 0 && sent != Some(now.view.version) {
                let pages = match self.sent.as_ref().filter(|_| self.takes_deltas) {
                    Some(sent) => self.pages.delta(sent, &now),
                    None => self.pages.whole(&now),
                };
                match pages {
                    Ok(pages) => self.queue.extend(pages.iter().cloned()),
                    Err(status) => return Some(Err(status)),
                }
                self.sent = Some(now);
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
                    return Some(Ok(WatchEvent { version: now.view.version, ..WatchEvent::default() }));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::{fleet, topic};

    #[test]
    fn pages_join_to_the_text_and_the_last_is_marked() {
        let text = bytes::Bytes::from(vec![7_u8; PAGE_BYTES + 1]);
        let pages = pages(3, false, &text);
        assert_eq!(
            pages
                .iter()
                .map(|p| (p.page.len(), p.last))
                .collect::<Vec<_>>(),
            [(PAGE_BYTES, false), (1, true)]
        );
    }

    /// Ten thousand partitions, and what one more topic costs each watcher.
    #[test]
    fn a_topic_more_in_a_large_fleet_is_sent_in_a_few_hundred_bytes() {
        let mut large = fleet();
        for n in 0..100_u32 {
            let create = topic(&format!("topic-{n}"), u128::from(n) + 10, 100);
            large.apply(10 + u64::from(n), create);
        }
        let mut larger = large.clone();
        larger.apply(1_000, topic("one-more", 1_000, 1));
        let pages = Pages::default();
        let bytes = |pages: &[WatchEvent]| pages.iter().map(|p| p.page.len()).sum::<usize>();
        let whole = bytes(&pages.whole(&larger).unwrap());
        let delta = pages.delta(&large, &larger).unwrap();
        let sizes = (whole, bytes(&delta));
        assert!(sizes.0 > 1_000_000 && sizes.1 < 1_000, "{sizes:?}");
        let [page] = delta.as_slice() else {
            panic!("one page")
        };
        assert!(page.delta && page.last);
        let delta: Delta = serde_json::from_slice(&page.page).unwrap();
        assert_eq!(delta.apply(&large.view).unwrap(), larger.view);
        // Encoded once for all that are at the same version.
        assert!(Arc::ptr_eq(
            &pages.delta(&large, &larger).unwrap(),
            &pages.delta(&large, &larger).unwrap()
        ));
    }
}
