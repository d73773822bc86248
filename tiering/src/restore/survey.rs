//! Reads the bucket, and nothing else.
//!
//! The order matters where the bucket is written or copied meanwhile: descriptions first, roots before the listing,
//! because what a root names is listed, unless it was deleted long after the root let go of it.

mod cuts;
mod documents;
mod roots;
mod topics;

use std::{collections::BTreeMap, sync::Arc};

use whimbrel_fleet::{GroupName, TopicPartition};
use whimbrel_runtime::Clock;

use super::{
    Chosen, Described, Extent, Findings, Found, Missing, Plan, Refused, Stored,
    slice::{Slices, patiently},
};
use crate::{
    format::Keys,
    ops::Ops,
    runs::Runs,
    store::{Marker, MarkerError, Store, StoreError, accept_marker, read_marker},
};

/// What is to be planned.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request {
    /// As of then, milliseconds since 1970; the newest there is without it.
    pub to_ms: Option<i64>,
    /// The newest cut that the roots have whole, though objects of it may be missing.
    pub newest_cut: bool,
    /// Without what stands in the internal topics, which have to be read for it.
    pub quick: bool,
}

/// A look at one region's part of a bucket.
#[derive(Clone, Debug)]
pub struct Survey {
    store: Arc<dyn Store>,
    keys: Keys,
    region: String,
    clock: Clock,
    runs: Runs,
    slices: Slices,
    say: fn(&str),
}

/// What was read, as far as it is.
#[derive(Debug)]
struct Read {
    marker: Marker,
    described: Described,
    extents: BTreeMap<TopicPartition, Extent>,
    chosen: BTreeMap<GroupName, Chosen>,
    unread: Vec<Missing>,
    remarks: Vec<String>,
}

impl Survey {
    /// `region` must be a legal label. `say` hears how far it is.
    pub fn new(store: Arc<dyn Store>, region: &str, clock: Clock, say: fn(&str)) -> Self {
        let keys = Keys::new(region);
        let ops = Ops::new(clock.clone());
        Self {
            runs: Runs::new(Arc::clone(&store), keys.clone(), clock.clone(), ops),
            slices: Slices {
                store: Arc::clone(&store),
                keys: keys.clone(),
                clock: clock.clone(),
            },
            region: region.to_owned(),
            store,
            keys,
            clock,
            say,
        }
    }

    /// What a restore would bring back.
    pub async fn plan(&self, request: &Request) -> Result<Plan, Refused> {
        Ok(self.find(request).await?.plan)
    }

    /// To read the logs with.
    pub fn slices(&self) -> Slices {
        self.slices.clone()
    }

    /// The same, with where it is.
    pub async fn find(&self, request: &Request) -> Result<Found, Refused> {
        let marker = self.marker().await?;
        let mut remarks = Vec::new();
        let documents = self.documents(&marker, request.to_ms, &mut remarks).await?;
        let extents = self.extents(&marker).await?;
        let mut read = Read {
            described: documents.described,
            marker,
            extents,
            chosen: BTreeMap::new(),
            unread: Vec::new(),
            remarks,
        };
        self.choose(&mut read, request).await?;
        self.bridge(&documents.head, &mut read).await?;
        let state = if request.quick {
            None
        } else {
            Some(self.state(&mut read).await?)
        };
        let plan = Plan::new(&Findings {
            marker: &read.marker,
            asked_ms: request.to_ms,
            described: &read.described,
            extents: &read.extents,
            chosen: &read.chosen,
            state: state
                .as_ref()
                .map(|(txns, positions)| (txns, &positions[..])),
            unread: &read.unread,
            remarks: &read.remarks,
        })?;
        let logs = Stored::all(&plan, &read.extents, &read.unread);
        Ok(Found {
            plan,
            described: read.described,
            logs,
        })
    }

    async fn marker(&self) -> Result<Marker, Refused> {
        let read = || async {
            match read_marker(&*self.store, &self.keys).await {
                Ok(found) => Ok(Ok(found)),
                // A fact about the object, not about the store.
                Err(MarkerError::Store(error @ StoreError::TooLarge { .. })) => {
                    Ok(Err(MarkerError::Unreadable(error.to_string())))
                }
                Err(MarkerError::Store(error)) => Err(error),
                Err(other) => Ok(Err(other)),
            }
        };
        let Some(found) = patiently(&self.clock, read).await?? else {
            return Err(Refused::NoRegion {
                region: self.region.clone(),
                bucket: self.store.describe(),
            });
        };
        let mine = Marker {
            region: self.region.clone(),
            ..found.clone()
        };
        Ok(accept_marker(found, &mine)?)
    }

    fn say(&self, text: &str) {
        (self.say)(text);
    }
}
