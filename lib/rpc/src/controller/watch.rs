//! Keeps the view fresh: a stream from any voter, another one when it ends or falls silent. A stream brings the whole
//! view once, unless its voter has the very version that is here, and then what is different.
//!
//! Voters end a stream when they lose sight of a leader, so that nobody lives on a cut-off voter's view
//! while a better one is to be had.

use std::{sync::Arc, time::Duration};

use tonic::{Status, Streaming};
use whimbrel_fleet::{View, view::Delta};
use whimbrel_runtime::{Backoff, Shutdown};

use super::client::Inner;
use crate::proto::controller::{WatchEvent, WatchRequest};

/// Longest view taken in; a million partitions fit.
const VIEW_BYTES: usize = 512 << 20;
/// How long a voter may take to open the stream.
const OPEN: Duration = Duration::from_secs(2);
/// A stream carries something every half second, an empty page if nothing else: one that is silent for
/// so long is given up.
const SILENCE: Duration = Duration::from_secs(2);

pub(super) async fn run(inner: Arc<Inner>, shutdown: Shutdown) {
    let voters = inner.calls.voters();
    let mut pause = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    let mut index = 0;
    while voters > 0 && !shutdown.requested() {
        match shutdown.unless(follow(&inner, index % voters)).await {
            None => return,
            Some(Ok(())) => pause.reset(),
            Some(Err(status)) => {
                tracing::debug!(voter = index % voters, %status, "the watch of the view ended")
            }
        }
        index += 1;
        let _ = shutdown
            .unless(inner.calls.clock().sleep(pause.next()))
            .await;
    }
}

/// Reads one stream to its end; `Ok` when it brought at least one view.
async fn follow(inner: &Inner, index: usize) -> Result<(), Status> {
    let Some(mut stub) = inner.calls.stub(index) else {
        return Err(Status::internal("no such voter"));
    };
    // What this stream has brought so far; another stream may have brought a newer one.
    let mut base = Arc::clone(&inner.view.borrow());
    let request = WatchRequest {
        fleet_id: inner.fleet_id.clone(),
        deltas: true,
        known_version: base.version,
    };
    let opened = inner.calls.clock().within(OPEN, stub.watch(request)).await;
    let mut stream = opened
        .ok_or_else(|| Status::deadline_exceeded("the stream did not open"))??
        .into_inner();
    let mut text = Vec::new();
    let mut brought = false;
    while let Some(event) = next(inner, &mut stream).await? {
        if text.len() + event.page.len() > VIEW_BYTES {
            return Err(Status::resource_exhausted(
                "the view is longer than this process takes in",
            ));
        }
        text.extend_from_slice(&event.page);
        if !event.last {
            // That it is the newest is as good as a view.
            brought |= text.is_empty() && event.version == base.version;
            continue;
        }
        let view = if event.delta {
            let delta: Delta = serde_json::from_slice(&text).map_err(unreadable)?;
            let applied = delta.apply(&base);
            applied.map_err(|e| Status::data_loss(e.to_string()))?
        } else {
            serde_json::from_slice::<View>(&text).map_err(unreadable)?
        };
        text.clear();
        brought = true;
        if !inner.fleet_id.is_empty()
            && !view.fleet_id.is_empty()
            && view.fleet_id != inner.fleet_id
        {
            return Err(Status::failed_precondition("a view of another fleet"));
        }
        base = Arc::new(view);
        take(inner, &base);
    }
    if brought {
        Ok(())
    } else {
        Err(Status::unavailable("the stream ended before a view came"))
    }
}

fn unreadable(error: serde_json::Error) -> Status {
    Status::internal(format!("unreadable view: {error}"))
}

async fn next(
    inner: &Inner,
    stream: &mut Streaming<WatchEvent>,
) -> Result<Option<WatchEvent>, Status> {
    let event = inner.calls.clock().within(SILENCE, stream.message()).await;
    event.unwrap_or_else(|| Err(Status::deadline_exceeded("the stream fell silent")))
}

fn take(inner: &Inner, view: &Arc<View>) {
    inner.view.send_if_modified(|current| {
        let newer = view.version > current.version;
        if newer {
            *current = Arc::clone(view);
        }
        newer
    });
}
