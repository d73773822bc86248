//! What every root names, and what of that is there.

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_fleet::TopicPartition;

use super::Survey;
use crate::{
    format::{FormatError, Key, shard_of},
    restore::{Extent, Holds, Piece, Refused, slice::patiently},
    root::{Entry, MAX_BYTES, Partition, Root},
    runs::RunError,
    store::{Listed, Marker, StoreError},
};

/// Objects below `data/`, by key, and those that are quarantined.
struct There {
    objects: Vec<Listed>,
    quarantined: BTreeSet<Key>,
}

impl Survey {
    /// Of all partitions.
    pub(super) async fn extents(
        &self,
        marker: &Marker,
    ) -> Result<BTreeMap<TopicPartition, Extent>, Refused> {
        let (mut roots, mut gone) = (Vec::new(), Vec::new());
        for shard in 0..marker.shards {
            match self.root(marker, shard).await? {
                Some(root) => roots.push(root),
                None => gone.push(shard),
            }
        }
        let there = self.there().await?;
        for shard in gone {
            self.never_begun(shard, &there).await?;
        }
        let mut extents = BTreeMap::new();
        for root in &roots {
            for (at, partition) in &root.partitions {
                let pieces = self.pieces(root.shard, *at, partition, &there).await?;
                extents.insert(*at, Extent::new(root.shard, partition, pieces));
            }
        }
        self.say(&format!(
            "{} roots name {} partitions; {} objects are there",
            roots.len(),
            extents.len(),
            there.objects.len()
        ));
        Ok(extents)
    }

    async fn root(&self, marker: &Marker, shard: u16) -> Result<Option<Root>, Refused> {
        let key = self.keys.root(shard);
        let mut damaged = FormatError::malformed("root", "it was not read");
        for _ in 0..2 {
            let read = || self.store.get(&key, MAX_BYTES);
            let bytes = match patiently(&self.clock, read).await {
                Ok(found) => found.bytes,
                Err(e) if e.is_not_found() => return Ok(None),
                Err(e @ StoreError::TooLarge { .. }) => return Err(Refused::root(shard, e)),
                Err(e) => return Err(e.into()),
            };
            match Root::decode(&bytes) {
                Ok(root) => return accept(root, marker, shard).map(Some),
                Err(error) => damaged = error,
            }
        }
        Err(Refused::root(shard, damaged))
    }

    async fn there(&self) -> Result<There, Refused> {
        let prefix = self.keys.data_prefix();
        let mut objects = patiently(&self.clock, || self.store.list(&prefix)).await?;
        objects.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        let prefix = self.keys.quarantine_prefix();
        let cases = patiently(&self.clock, || self.store.list(&prefix)).await?;
        Ok(There {
            objects,
            quarantined: cases.into_iter().map(|case| case.key).collect(),
        })
    }

    /// A shard without a root is one that nothing was ever written of, or its root was lost.
    async fn never_begun(&self, shard: u16, there: &There) -> Result<(), Refused> {
        let lost = |what: &str| Err(Refused::root(shard, what));
        let of_shard = |listed: &Listed| {
            let name = self.keys.parse_object(&listed.key);
            name.is_some_and(|name| name.shard() == shard)
        };
        if there.objects.iter().any(of_shard) {
            return lost("it is not there, but objects of its shard are");
        }
        let prefix = self.keys.kept_prefix(shard);
        let kept = patiently(&self.clock, || self.store.list(&prefix)).await?;
        if kept.is_empty() {
            Ok(())
        } else {
            lost("it is not there, but earlier ones were kept")
        }
    }

    async fn pieces(
        &self,
        shard: u16,
        at: TopicPartition,
        partition: &Partition,
        there: &There,
    ) -> Result<Vec<Piece>, Refused> {
        let piece = |entry: &Entry| Piece {
            base: entry.base,
            end: entry.end,
            holds: self.holds(entry, entry.key(&self.keys, shard, at), there),
        };
        let mut pieces = Vec::new();
        for run in &partition.runs {
            match self.runs.read(run).await {
                Ok(entries) => pieces.extend(entries.iter().map(piece)),
                Err(error @ RunError::Damaged { .. }) => pieces.push(Piece {
                    base: run.base,
                    end: run.end,
                    holds: Holds::Lost(error.to_string()),
                }),
                Err(RunError::Store(error)) => {
                    let failed = error.to_string();
                    return Err(StoreError::Failed {
                        op: "get_range",
                        key: self.keys.root_part(&run.part).to_string(),
                        reason: failed,
                    }
                    .into());
                }
            }
        }
        pieces.extend(partition.entries.iter().map(piece));
        Ok(pieces)
    }

    fn holds(&self, entry: &Entry, key: Key, there: &There) -> Holds {
        let place = there
            .objects
            .binary_search_by(|listed| listed.key.cmp(&key));
        let found = place.ok().and_then(|place| there.objects.get(place));
        match found.map(|listed| listed.size) {
            None => Holds::Lost(format!("{key} is not there")),
            Some(size) if size != entry.object_bytes => Holds::Lost(format!(
                "{key} has {size} bytes, its root says {}",
                entry.object_bytes
            )),
            Some(_) if there.quarantined.contains(&self.keys.quarantined(&key)) => {
                Holds::Damaged(*entry)
            }
            Some(_) => Holds::Slice(*entry),
        }
    }
}

/// A root in the place of another, or with partitions that cannot be its own, is no root of this bucket.
fn accept(root: Root, marker: &Marker, shard: u16) -> Result<Root, Refused> {
    let place = (root.region.as_str(), root.shard, root.shards);
    if place != (marker.region.as_str(), shard, marker.shards) {
        let reason = format!(
            "it is shard {} of {} of region `{}`",
            root.shard, root.shards, root.region
        );
        return Err(Refused::root(shard, reason));
    }
    let astray = root
        .partitions
        .keys()
        .find(|at| shard_of(**at, marker.shards) != shard);
    match astray {
        Some(at) => Err(Refused::root(shard, format!("{at} is not of this shard"))),
        None => Ok(root),
    }
}
