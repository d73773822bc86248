//! One region that lends: opened when it is first asked for something, so that one that is away keeps nobody from
//! starting.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{OnceCell, watch};
use uuid::Uuid;
use whimbrel_fleet::{TopicPartition, View};
use whimbrel_runtime::{Clock, Shutdown, Tasks};

use super::{lent::Lent, source::Source};
use crate::{
    cache::{Cache, Shelf},
    format::Keys,
    ops::Ops,
    reader::{Blocks, Damage, Flights, Objects, ReadError, Reader, Roots},
    runs::Runs,
    store::{self, Ledger, Limited, Location, Marker, MarkerError, Store, StoreError},
};

/// How often it is looked for holds that nobody reads under.
const LOOK: Duration = Duration::from_secs(5);
/// A daemon that stops waits no longer for a lender.
const GOODBYE: Duration = Duration::from_secs(2);
/// What its requests are counted under.
const CAUSE: &str = "borrow";
const LOOK_AT: &str = "look at a lender's root";

/// What lenders are read with.
#[derive(Clone, Debug)]
pub struct Lending {
    pub fleet_id: String,
    /// That borrows, and its daemon.
    pub region: String,
    pub incarnation: Uuid,
    pub view: Option<watch::Receiver<Arc<View>>>,
    pub cache: Arc<Cache>,
    pub ledger: Ledger,
    pub ops: Ops,
    pub clock: Clock,
    pub tasks: Tasks,
    pub request_timeout: Duration,
}

#[derive(Debug)]
pub struct Lender {
    region: String,
    /// URL of its bucket.
    bucket: String,
    with: Lending,
    open: OnceCell<(Arc<Lent>, Reader)>,
    looks: Flights<TopicPartition, Result<Reader, ReadError>>,
    /// Why nothing could be read last.
    trouble: Mutex<Option<String>>,
}

impl Lender {
    pub fn new(region: String, bucket: String, with: Lending) -> Self {
        Self {
            region,
            bucket,
            open: OnceCell::new(),
            looks: Flights::new(with.tasks.clone()),
            trouble: Mutex::default(),
            with,
        }
    }

    /// A reader with a root for the partition that may be used now. What is asked for it goes on when whoever waits
    /// has gone.
    pub(super) async fn reader(self: &Arc<Self>, at: TopicPartition) -> Result<Reader, ReadError> {
        if let Some((lent, reader)) = self.open.get()
            && lent.is_fresh(at)
        {
            return Ok(reader.clone());
        }
        let this = Arc::clone(self);
        let flight = self
            .looks
            .start(&LOOK_AT, &at, |_| async move { this.look(at).await });
        let landed = flight.landed().await;
        landed.unwrap_or_else(|| Err(ReadError::Cache("stopping".to_owned())))
    }

    async fn look(&self, at: TopicPartition) -> Result<Reader, ReadError> {
        let looked = async {
            let (lent, reader) = self.open.get_or_try_init(|| self.open()).await?;
            lent.look(at).await?;
            Ok::<_, Arc<StoreError>>(reader.clone())
        };
        let looked = looked.await;
        *self.trouble.lock() = looked.as_ref().err().map(ToString::to_string);
        looked.map_err(ReadError::Store)
    }

    async fn open(&self) -> Result<(Arc<Lent>, Reader), Arc<StoreError>> {
        let with = &self.with;
        let location = Location::parse(&self.bucket).map_err(|e| self.refused(&e))?;
        let store = with.tasks.blocking(move || store::open(&location)).await?;
        let limited = Limited::new(store, with.clock.clone(), with.request_timeout);
        let limited = limited.metered(with.ops.meter().clone());
        let store = with
            .ledger
            .of(CAUSE, &(Arc::new(limited) as Arc<dyn Store>));
        let keys = Keys::new(&self.region);
        let shards = self.marker(&*store, &keys).await?.shards;
        let (ops, clock, tasks) = (&with.ops, &with.clock, &with.tasks);
        let shelf = Shelf::new(Arc::clone(&with.cache), clock.clone(), tasks.clone());
        let objects = Objects::new(
            Arc::clone(&store),
            shelf.clone(),
            ops.clone(),
            clock.clone(),
            tasks.clone(),
        );
        let blocks = Blocks::new(
            Arc::clone(&store),
            shelf,
            ops.clone(),
            clock.clone(),
            tasks.clone(),
        );
        let lent = Arc::new(Lent {
            runs: Runs::new(Arc::clone(&store), keys.clone(), clock.clone(), ops.clone()),
            store,
            keys: keys.clone(),
            source: Source {
                lender: self.region.clone(),
                region: with.region.clone(),
                incarnation: with.incarnation,
                view: with.view.clone(),
                clock: clock.clone(),
            },
            shards,
            meter: ops.meter().clone(),
            clock: clock.clone(),
            held: Mutex::new(BTreeMap::new()),
            turn: tokio::sync::Mutex::default(),
        });
        let roots = Roots::Lent(Arc::clone(&lent));
        // What is damaged there is for the daemons there to say.
        let reader = Reader::of(roots, keys, blocks, objects, Damage::default());
        Ok((lent, reader))
    }

    fn refused(&self, reason: &impl ToString) -> StoreError {
        StoreError::Refused {
            op: "borrow",
            key: self.region.clone(),
            reason: reason.to_string(),
        }
    }

    /// Of this fleet and of that region, or nothing is read.
    async fn marker(&self, store: &dyn Store, keys: &Keys) -> Result<Marker, StoreError> {
        let found = store::read_marker(store, keys).await;
        let found = found.and_then(|found| {
            let found = found.ok_or(MarkerError::Unreadable("there is none".to_owned()))?;
            let expected = Marker {
                fleet_id: self.with.fleet_id.clone(),
                region: self.region.clone(),
                ..found.clone()
            };
            store::accept_marker(found, &expected)
        });
        found.map_err(|error| match error {
            MarkerError::Store(error) => error,
            other => self.refused(&other),
        })
    }

    pub(super) fn json(&self) -> Value {
        let open = self.open.get();
        json!({
            "region": self.region,
            "shards": open.map_or_else(|| json!([]), |(lent, _)| lent.json()),
            "trouble": *self.trouble.lock(),
        })
    }

    pub(super) async fn run(&self, shutdown: &Shutdown) {
        let clock = &self.with.clock;
        while shutdown.unless(clock.sleep(LOOK)).await.is_some() {
            if let Some((lent, _)) = self.open.get() {
                shutdown.unless(lent.release(false)).await;
            }
        }
        if let Some((lent, _)) = self.open.get() {
            clock.within(GOODBYE, lent.release(true)).await;
        }
    }
}
