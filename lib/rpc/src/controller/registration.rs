//! Keeps a process registered: until it worked, and again when the fleet has forgotten it.

use std::time::Duration;

use tokio::sync::watch;
use whimbrel_fleet::{Daemon, Node, View};
use whimbrel_runtime::{Backoff, Shutdown};

use super::{client::ControllerClient, error::ControlError, messages::Registered};

/// Where a registration stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Registration {
    /// Still trying, or trying again.
    Pending,
    Done(Registered),
    /// Refused for a reason that time alone does not cure; it is tried again all the same.
    Refused {
        code: String,
        message: String,
    },
    /// A later start of the same node registered: this process is the older of two and must end.
    Superseded,
}

impl Registration {
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done(_))
    }
}

/// The code with which the controller refuses an incarnation that was replaced.
pub const SUPERSEDED: &str = "WB-421";

pub(super) async fn broker(
    client: ControllerClient,
    node: Node,
    state: watch::Sender<Registration>,
    shutdown: Shutdown,
) {
    let known = |view: &View| {
        view.nodes
            .get(&node.id)
            .is_some_and(|n| n.incarnation == node.incarnation)
    };
    keep(&client, &state, &shutdown, || client.register(&node), known).await;
}

pub(super) async fn daemon(
    client: ControllerClient,
    daemon: Daemon,
    state: watch::Sender<Registration>,
    shutdown: Shutdown,
) {
    let known = |view: &View| view.daemons.contains(&daemon);
    keep(
        &client,
        &state,
        &shutdown,
        || client.register_daemon(&daemon),
        known,
    )
    .await;
}

async fn keep<F, Fut, K>(
    client: &ControllerClient,
    state: &watch::Sender<Registration>,
    shutdown: &Shutdown,
    register: F,
    known: K,
) where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<Registered, ControlError>>,
    K: Fn(&View) -> bool,
{
    let mut pause = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    let mut view = client.view();
    while !shutdown.requested() {
        let Some(outcome) = shutdown.unless(register()).await else {
            return;
        };
        match outcome {
            Ok(registered) => {
                pause.reset();
                let since = registered.version;
                state.send_replace(Registration::Done(registered));
                if shutdown
                    .unless(until_forgotten(client, &mut view, since, &known))
                    .await
                    .is_none()
                {
                    return;
                }
                tracing::warn!(
                    "the fleet does not know this incarnation any more: registering again"
                );
                state.send_replace(Registration::Pending);
            }
            Err(ControlError::Refused { code, message }) if code == SUPERSEDED => {
                tracing::error!(code, message, "a later start of this node has registered");
                state.send_replace(Registration::Superseded);
                return;
            }
            Err(ControlError::Refused { code, message }) => {
                tracing::error!(code, message, "registration refused");
                state.send_replace(Registration::Refused { code, message });
            }
            Err(error) => tracing::warn!(%error, "registration failed; trying again"),
        }
        let _ = shutdown
            .unless(client.inner.calls.clock().sleep(pause.next()))
            .await;
    }
}

/// Returns when a view that is not older than the registration lacks it, or a report was not recognised.
async fn until_forgotten<K: Fn(&View) -> bool>(
    client: &ControllerClient,
    view: &mut watch::Receiver<std::sync::Arc<View>>,
    since: u64,
    known: &K,
) {
    let mut seen = false;
    loop {
        {
            let now = view.borrow_and_update();
            let here = known(&now);
            seen |= here;
            // A daemon's registration carries no version: it is missed only after it was once seen.
            if !here && (seen || (since > 0 && now.version >= since)) {
                return;
            }
        }
        tokio::select! {
            changed = view.changed() => if changed.is_err() { return },
            () = client.inner.unknown.notified() => return,
        }
    }
}
