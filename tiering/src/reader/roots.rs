//! Whose roots a reader goes by: the region's own, or those of another region whose bucket it borrows from.

use std::sync::Arc;

use whimbrel_fleet::TopicPartition;

use super::ReadError;
use crate::{
    Meter,
    borrow::Lent,
    committer::{CommitError, Committer},
    root::Root,
    runs::Runs,
};

#[derive(Clone, Debug)]
pub enum Roots {
    Own(Box<Committer>),
    Lent(Arc<Lent>),
}

impl Roots {
    /// For one whole fetch.
    pub fn root_of(&self, at: TopicPartition) -> Option<Arc<Root>> {
        match self {
            Self::Own(committer) => committer.root_of(at),
            Self::Lent(lent) => lent.root_of(at),
        }
    }

    pub(super) fn root(&self, shard: u16) -> Option<Arc<Root>> {
        match self {
            Self::Own(committer) => committer.root(shard),
            Self::Lent(lent) => lent.root(shard),
        }
    }

    /// The root that is in the bucket now, if it is newer and can be believed.
    pub(super) async fn newer(&self, than: &Root) -> Result<Option<Arc<Root>>, ReadError> {
        let newer = match self {
            Self::Own(committer) => committer.newer_root(than).await,
            Self::Lent(lent) => lent.newer_root(than).await,
        };
        newer.map_err(ReadError::Store)
    }

    pub(super) fn runs(&self) -> &Runs {
        match self {
            Self::Own(committer) => committer.runs(),
            Self::Lent(lent) => lent.runs(),
        }
    }

    pub(super) fn meter(&self) -> &Meter {
        match self {
            Self::Own(committer) => committer.meter(),
            Self::Lent(lent) => lent.meter(),
        }
    }

    /// Why nobody knows what is there, if it is so: a root that is not believed, and none from before.
    pub(super) fn unknown(&self, at: TopicPartition) -> Option<(u16, CommitError)> {
        let Self::Own(committer) = self else {
            return None;
        };
        let shard = committer.shard_of(at);
        let sick = committer.sick(shard)?;
        committer.root(shard).is_none().then_some((shard, sick))
    }
}
