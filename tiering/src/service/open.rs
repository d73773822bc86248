//! Opens the bucket: marker, probe, roots; then lets readers in and starts the uploader and retention.

mod lenders;
mod mover;
mod set_aside;

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use uuid::Uuid;
use whimbrel_client::ConnectionOptions;
use whimbrel_runtime::{Backoff, Clock, OnError, Tasks, random};

use super::{StartError, ViewReceiver};
use crate::{
    Options,
    broker::BrokerLink,
    cache::{Cache, Shelf},
    committer::{Claims, CommitError, Committer, Context, Mates, Names},
    compaction::{Compaction, MOST_UNLINKED, plan::Limits},
    format::Keys,
    meta, moving,
    orphan::Orphans,
    pending::PendingWatch,
    prices::Prices,
    quarantine::Quarantine,
    reader::{Blocks, Objects, Reader},
    rebuild::Rebuilder,
    repair::{KafkaCopies, Repairer},
    retention::Retention,
    serve::Served,
    skew::Skew,
    status::Status,
    store::{self, Capabilities, Ledger, Marker, Placed, Store},
    transfer::Transfer,
    uploader::Uploader,
    verify::{Request, Schedule, Verifier},
};

/// Shards of a bucket that is used for the first time.
const SHARDS: u16 = 16;

pub(super) struct Open {
    pub options: Options,
    pub store: Arc<dyn Store>,
    /// What `store` stands on.
    pub placed: Placed,
    pub keys: Keys,
    pub cache: Arc<Cache>,
    pub broker: BrokerLink,
    pub incarnation: Uuid,
    pub fleet_id: String,
    /// How the fleet's brokers are asked, as any client asks them.
    pub brokers: ConnectionOptions,
    pub prices: Prices,
    pub ledger: Ledger,
    pub view: Option<ViewReceiver>,
    pub clock: Clock,
    pub tasks: Tasks,
    pub status: Status,
}

/// What is known of the bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checked {
    capabilities: Capabilities,
    shards: u16,
}

pub(super) enum Opening {
    Checked(Checked),
    /// It did not answer yet.
    Unreached(StartError),
}

#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("{code}: {0}", code = .0.code())]
    Start(#[from] StartError),
    #[error("{code}: {0}", code = .0.code().unwrap_or("WB-317"))]
    Commit(#[from] CommitError),
}

impl Open {
    /// Marker first, before anything is written; then what the store can do.
    pub async fn check_bucket(&self) -> Result<Checked, StartError> {
        let bucket = || self.options.bucket.clone();
        let mine = Marker {
            format: 1,
            fleet_id: self.fleet_id.clone(),
            region: self.options.region.clone(),
            incarnation: random::uuid(),
            shards: SHARDS,
            created_ms: self.clock.wall_ms(),
        };
        let found = store::read_marker(&*self.store, &self.keys)
            .await
            .map_err(|source| StartError::Marker {
                bucket: bucket(),
                source,
            })?;
        if let Some(found) = found {
            store::accept_marker(found, &mine).map_err(|source| StartError::Marker {
                bucket: bucket(),
                source,
            })?;
        }
        let capabilities = store::probe(&self.store, &self.keys)
            .await
            .map_err(|source| StartError::Probe {
                bucket: bucket(),
                source,
            })?;
        let marker = store::check_marker(&*self.store, &self.keys, &mine)
            .await
            .map_err(|source| StartError::Marker {
                bucket: bucket(),
                source,
            })?;
        let limit = |store| -> Arc<dyn Store> {
            Arc::new(super::limited(store, &self.options, &self.clock))
        };
        moving::arrive(&self.store, &self.placed, &self.keys, limit)
            .await
            .map_err(|source| StartError::Moving {
                bucket: bucket(),
                source,
            })?;
        Ok(Checked {
            capabilities,
            shards: marker.shards,
        })
    }

    async fn until_checked(&self, opening: Opening) -> Result<Checked, StartError> {
        let mut error = match opening {
            Opening::Checked(checked) => return Ok(checked),
            Opening::Unreached(error) => error,
        };
        let op = self.status.ops.begin("open bucket", &self.status.store);
        let mut pause = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        while error.is_retryable() || error.is_refusal() {
            op.failed(&error);
            *self.status.opening.lock() = Some(format!("{}: {error}", error.code()));
            self.clock.sleep(pause.next()).await;
            match self.check_bucket().await {
                Ok(checked) => return Ok(checked),
                Err(next) => error = next,
            }
        }
        Err(error)
    }

    pub async fn run(
        self,
        opening: Opening,
        serve: watch::Sender<Option<Arc<Served>>>,
    ) -> Result<(), OpenError> {
        let shutdown = self.tasks.shutdown();
        self.tasks.spawn_ok("pending", self.pending_watch().run());
        let opened = async {
            let checked = self.until_checked(opening).await?;
            let context = Context {
                store: self.store("manifest"),
                keys: self.keys.clone(),
                region: self.options.region.clone(),
                incarnation: self.incarnation,
                shards: checked.shards,
                clock: self.clock.clone(),
                tasks: self.tasks.clone(),
                ops: self.status.ops.clone(),
                region_mates: self.view.clone().map(|view| Mates {
                    view,
                    silence: self.options.peer_silence.0,
                }),
                runs: Arc::default(),
                names: Names::default(),
                claims: Claims::default(),
                hold_silence: self.options.hold_silence.0,
            };
            let committer = Committer::start(&context).await?;
            self.start_parts(checked, committer, &serve).await
        };
        shutdown.unless(opened).await.unwrap_or(Ok(()))
    }

    async fn start_parts(
        &self,
        checked: Checked,
        committer: Committer,
        serve: &watch::Sender<Option<Arc<Served>>>,
    ) -> Result<(), OpenError> {
        let transfer = Transfer {
            store: self.store("upload"),
            capabilities: checked.capabilities,
            clock: self.clock.clone(),
        };
        let orphans = self.orphans(&transfer);
        let mut pause = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        while let Err(error) = orphans.load().await {
            tracing::warn!(%error, "the orphans' entries cannot be read now");
            self.clock.sleep(pause.next()).await;
        }
        let (reader, objects) = self.reader(&committer);
        let uploader = self.uploader(&transfer, &committer, &objects);
        let quarantine = self.quarantine().await;
        let compaction = self.compaction(&uploader, &quarantine);
        let skew = self.skew(&committer);
        let retention = self.retention(&committer, &quarantine, skew.clone());
        let verifier = self.verifier(&transfer, &committer, quarantine);
        let schedule = self.schedule(&verifier);
        let rebuilder = self.rebuilder(&committer);
        let meta = self.meta_writer(&committer, skew);
        let mover = self.mover(&committer, checked.capabilities);
        let borrowed = Arc::new(self.borrowed());
        serve.send_replace(Some(Arc::new(Served {
            reader,
            set_aside: self.set_aside(&committer),
            committer,
            orphans,
            verifier,
            rebuilder,
            mover: mover.clone(),
            borrowed: Arc::clone(&borrowed),
        })));
        self.tasks
            .spawn("uploader", OnError::Shutdown, uploader.run());
        self.tasks.spawn("retention", OnError::Log, retention.run());
        if let Some(compaction) = compaction {
            self.tasks.spawn_ok("compaction", compaction.run());
        }
        self.tasks.spawn_ok("verify", schedule.run());
        self.tasks
            .spawn_ok("move", mover.run(self.tasks.shutdown()));
        let shutdown = self.tasks.shutdown();
        self.tasks
            .spawn_ok("borrow", async move { borrowed.run(shutdown).await });
        if let Some(writer) = meta {
            self.tasks
                .spawn_ok("meta", writer.run(self.tasks.shutdown()));
        }
        tracing::info!(
            store = self.status.store,
            shards = checked.shards,
            "the bucket is open"
        );
        Ok(())
    }

    fn reader(&self, committer: &Committer) -> (Reader, Objects) {
        let shelf = Shelf::new(
            Arc::clone(&self.cache),
            self.clock.clone(),
            self.tasks.clone(),
        );
        let objects = Objects::new(
            self.store("read"),
            shelf.clone(),
            self.status.ops.clone(),
            self.clock.clone(),
            self.tasks.clone(),
        );
        let blocks = Blocks::new(
            self.store("read"),
            shelf,
            self.status.ops.clone(),
            self.clock.clone(),
            self.tasks.clone(),
        );
        let reader = Reader::new(
            committer.clone(),
            self.keys.clone(),
            blocks,
            objects.clone(),
            Arc::clone(&self.status.damage),
        );
        (reader, objects)
    }

    fn pending_watch(&self) -> PendingWatch {
        PendingWatch {
            broker: self.broker.clone(),
            pending: Arc::clone(&self.status.pending),
            served: self.status.served.clone(),
            clock: self.clock.clone(),
            tasks: self.tasks.clone(),
        }
    }

    /// The store for one part, whose requests are counted under its name.
    fn store(&self, cause: &'static str) -> Arc<dyn Store> {
        self.ledger.of(cause, &self.store)
    }

    fn orphans(&self, transfer: &Transfer) -> Orphans {
        Orphans {
            transfer: transfer.clone(),
            keys: self.keys.clone(),
            region: self.options.region.clone(),
            incarnation: self.incarnation,
            data_dir: self.options.data_dir.clone(),
            clock: self.clock.clone(),
            tasks: self.tasks.clone(),
            ops: self.status.ops.clone(),
            known: Arc::clone(&self.status.orphans),
        }
    }

    fn uploader(&self, transfer: &Transfer, committer: &Committer, objects: &Objects) -> Uploader {
        Uploader {
            broker: self.broker.clone(),
            committer: committer.clone(),
            transfer: transfer.clone(),
            keys: self.keys.clone(),
            region: self.options.region.clone(),
            incarnation: self.incarnation,
            data_dir: self.options.data_dir.clone(),
            clock: self.clock.clone(),
            tasks: self.tasks.clone(),
            ops: self.status.ops.clone(),
            pending: Arc::clone(&self.status.pending),
            refusals: Arc::clone(&self.status.refusals),
            objects: objects.clone(),
        }
    }

    fn compaction(&self, uploader: &Uploader, quarantine: &Quarantine) -> Option<Compaction> {
        let interval = self.options.compaction_interval.0;
        let every = self.options.compaction_every.0.as_millis();
        (!interval.is_zero()).then(|| Compaction {
            broker: self.broker.clone(),
            committer: uploader.committer.clone(),
            transfer: Transfer {
                store: self.store("compaction"),
                ..uploader.transfer.clone()
            },
            keys: self.keys.clone(),
            region: self.options.region.clone(),
            incarnation: self.incarnation,
            data_dir: self.options.data_dir.clone(),
            clock: self.clock.clone(),
            tasks: self.tasks.clone(),
            ops: self.status.ops.clone(),
            objects: uploader.objects.clone(),
            quarantine: quarantine.clone(),
            interval,
            limits: Limits {
                ratio: self.options.compaction_ratio,
                every_ms: u64::try_from(every).unwrap_or(u64::MAX),
            },
            most_unlinked: MOST_UNLINKED,
            held: self.status.held.clone(),
        })
    }

    /// With what was found before this start; a store that does not answer is waited for.
    async fn quarantine(&self) -> Quarantine {
        let quarantine = Quarantine::new(
            self.store("quarantine"),
            self.keys.clone(),
            Arc::clone(&self.status.damage),
        )
        .metered(self.status.ops.meter().clone());
        let mut pause = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        while let Err(error) = quarantine.load().await {
            tracing::warn!(%error, "the quarantine's entries cannot be read now");
            self.clock.sleep(pause.next()).await;
        }
        quarantine
    }

    fn verifier(
        &self,
        transfer: &Transfer,
        committer: &Committer,
        quarantine: Quarantine,
    ) -> Verifier {
        let copies = KafkaCopies::new(
            self.brokers.clone(),
            self.view.clone(),
            self.options.region.as_str().into(),
            self.options.node_id,
            &self.tasks,
            &self.clock,
        );
        let repairer = Repairer {
            copies: Arc::new(copies),
            store: self.store("repair"),
            committer: committer.clone(),
            transfer: Transfer {
                store: self.store("repair"),
                ..transfer.clone()
            },
            keys: self.keys.clone(),
            region: self.options.region.clone(),
            incarnation: self.incarnation,
            quarantine: quarantine.clone(),
            scratch_dir: self.options.cache_dir.clone(),
            clock: self.clock.clone(),
            tasks: self.tasks.clone(),
            ops: self.status.ops.clone(),
        };
        Verifier {
            store: self.store("verify"),
            keys: self.keys.clone(),
            region: self.options.region.clone(),
            committer: committer.clone(),
            broker: self.broker.clone(),
            quarantine,
            repairer,
            prices: self.prices.clone(),
            clock: self.clock.clone(),
            proof: self.status.proof.clone(),
            meta: self.view.as_ref().map(|_| self.meta("verify")),
        }
    }

    fn rebuilder(&self, committer: &Committer) -> Rebuilder {
        Rebuilder {
            store: self.store("rebuild"),
            keys: self.keys.clone(),
            region: self.options.region.clone(),
            committer: committer.clone(),
            broker: self.broker.clone(),
            incarnation: self.incarnation,
            clock: self.clock.clone(),
        }
    }

    /// None where no view of a fleet is to be had.
    fn meta_writer(&self, committer: &Committer, skew: Skew) -> Option<meta::Writer> {
        Some(meta::Writer {
            context: self.meta("meta"),
            committer: committer.clone(),
            skew,
            view: self.view.clone()?,
            interval: self.options.meta_interval.0,
            progress: self.status.meta.clone(),
        })
    }

    fn meta(&self, cause: &'static str) -> meta::Context {
        meta::Context {
            store: self.store(cause),
            keys: self.keys.clone(),
            fleet_id: self.fleet_id.clone(),
            region: self.options.region.clone(),
            incarnation: self.incarnation,
            clock: self.clock.clone(),
            ops: self.status.ops.clone(),
            window: self.options.restore_window.0,
            grace: self.options.delete_grace.0,
        }
    }

    fn schedule(&self, verifier: &Verifier) -> Schedule {
        Schedule {
            verifier: verifier.clone(),
            interval: self.options.verify_interval.0,
            request: Request {
                percent: self.options.verify_sample.into(),
                bytes: self.options.verify_bytes.0,
                rate: self.options.verify_rate.0,
                max_requests: self.options.verify_max_requests,
                ..Request::default()
            },
            tasks: self.tasks.clone(),
        }
    }

    fn skew(&self, committer: &Committer) -> Skew {
        Skew::new(
            self.store("retention"),
            self.keys.clone(),
            committer.clone(),
            self.clock.clone(),
            Arc::clone(&self.status.doubt),
        )
    }

    fn retention(&self, committer: &Committer, quarantine: &Quarantine, skew: Skew) -> Retention {
        Retention {
            broker: self.broker.clone(),
            committer: committer.clone(),
            store: self.store("retention"),
            keys: self.keys.clone(),
            quarantine: quarantine.clone(),
            skew,
            incarnation: self.incarnation,
            view: self.view.clone(),
            clock: self.clock.clone(),
            tasks: self.tasks.clone(),
            interval: self.options.retention_interval.0,
            grace: self.options.delete_grace.0,
        }
    }
}
