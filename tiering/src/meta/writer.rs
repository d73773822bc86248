//! Keeps the bucket's description of the fleet as new as the fleet's view, from the one daemon of the region whose
//! place that is.
//!
//! It has its own task and waits for nobody but the store: uploads neither wait for it nor end with it.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use uuid::Uuid;
use whimbrel_fleet::View;
use whimbrel_runtime::Shutdown;

use super::{Context, Fleet, Keeper, MetaError, Progress};
use crate::{committer::Committer, skew::Skew};

/// How often the head is read by who does not write it, and by who has nothing to write: it may have another owner, or
/// be gone.
const LOOK: Duration = Duration::from_secs(60);
/// What somebody has to act on has this code.
const CODE: &str = "WB-322";

#[derive(Debug)]
pub struct Writer {
    pub context: Context,
    pub committer: Committer,
    pub skew: Skew,
    pub view: watch::Receiver<Arc<View>>,
    /// At most one document in this time.
    pub interval: Duration,
    pub progress: Progress,
}

/// What is known from round to round.
#[derive(Debug, Default)]
struct Known {
    keeper: Option<Keeper>,
    /// Of the head that was read last.
    owner: Option<Uuid>,
    looked_boot_ms: Option<u64>,
    /// Version of the view that the newest document says the same as.
    agreed: Option<u64>,
}

impl Writer {
    pub async fn run(self, shutdown: Shutdown) {
        let mut known = Known::default();
        let clock = self.context.clock.clone();
        loop {
            if shutdown.unless(self.round(&mut known)).await.is_none() {
                return;
            }
            if shutdown.unless(clock.sleep(self.interval)).await.is_none() {
                return;
            }
        }
    }

    async fn round(&self, known: &mut Known) {
        let view = Arc::clone(&self.view.borrow());
        if view.version == 0 || view.fleet_id != self.context.fleet_id {
            return;
        }
        if let Err(error) = self.keep_up(known, &view).await {
            self.failed(known, &error);
        }
    }

    async fn keep_up(&self, known: &mut Known, view: &View) -> Result<(), MetaError> {
        if self.is_due(known) {
            self.look(known).await?;
        }
        if !self.committer.has_meta(known.owner) {
            known.keeper = None;
            let _ = self.progress.trouble(None);
            return Ok(());
        }
        let mut keeper = match known.keeper.take() {
            Some(keeper) => keeper,
            None => {
                // Who owned it may have changed since the last look.
                self.look(known).await?;
                if !self.committer.has_meta(known.owner) {
                    return Ok(());
                }
                known.agreed = None;
                Keeper::claim(self.context.clone()).await?
            }
        };
        known.owner = Some(self.context.incarnation);
        let kept = match known.agreed {
            Some(version) if version == view.version => {
                keeper.tidy().await;
                Ok(false)
            }
            _ => {
                let believed_ms = self.skew.believed_ms().await;
                let fleet = Fleet::of(view);
                keeper.keep(&fleet, view.version, believed_ms).await
            }
        };
        self.progress.saw(Some(keeper.head()), true);
        match kept {
            Ok(_) => {
                known.agreed = Some(view.version);
                known.keeper = Some(keeper);
                self.progress.agreed(&self.context.clock);
                Ok(())
            }
            Err(error) => {
                if error.keeps_claim() {
                    known.keeper = Some(keeper);
                }
                Err(error)
            }
        }
    }

    fn is_due(&self, known: &Known) -> bool {
        let now = self.context.clock.boot_ms();
        known
            .looked_boot_ms
            .is_none_or(|looked| u128::from(now.saturating_sub(looked)) >= LOOK.as_millis())
    }

    /// Reads the head, and gives up a claim that does not stand any more.
    async fn look(&self, known: &mut Known) -> Result<(), MetaError> {
        let found = self.context.find().await?;
        known.looked_boot_ms = Some(self.context.clock.boot_ms());
        let head = found.map(|(head, _)| head);
        known.owner = head.as_ref().map(|head| head.stamp.incarnation);
        let nonce = head.as_ref().map(|head| head.stamp.nonce);
        let stands = |keeper: &Keeper| Some(keeper.head().stamp.nonce) == nonce;
        if known.keeper.as_ref().is_some_and(|keeper| !stands(keeper)) {
            known.keeper = None;
        }
        let is_writer = known.keeper.is_some();
        self.progress.saw(head.as_ref(), is_writer);
        Ok(())
    }

    fn failed(&self, known: &mut Known, error: &MetaError) {
        match error {
            MetaError::Fenced { .. } => {
                known.looked_boot_ms = None;
                tracing::info!(%error, "the fleet is described by another daemon");
            }
            MetaError::Store(error) => {
                tracing::debug!(%error, "the fleet's description waits for the store");
                let _ = self.progress.trouble(Some(error.to_string()));
            }
            error => {
                known.looked_boot_ms = None;
                if self.progress.trouble(Some(format!("{CODE}: {error}"))) {
                    tracing::error!(code = CODE, %error, "the bucket's description of the fleet is not kept up");
                }
            }
        }
    }
}

impl MetaError {
    /// True when nothing is known against the claim: the next round goes on with it.
    fn keeps_claim(&self) -> bool {
        matches!(
            self,
            Self::Store(_)
                | Self::TooLong { .. }
                | Self::Older { .. }
                | Self::Damaged(_)
                | Self::Doubted { .. }
        )
    }
}
