//! What a move has left behind, deleted once somebody asks for it.
//!
//! Only after every tombstone of that move stands, and the new place was verified: then each object of records goes
//! whose copy is there with the same bytes, or that lies below the log's start. What is in the old place alone is named
//! and stays. Kept roots, parts and descriptions are only a way to records, and go. Tombstones, the marker and what
//! tells of moves stay, so that whoever still begins there is sent on. To ask again goes on where it ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::Serialize;
use uuid::Uuid;

use super::{
    Arrival, Done, MoveError, Mover, documents,
    switch::{Standing, standing},
};
use crate::{
    checksum::Crc64,
    format::{Key, ObjectName, Unit, fnv},
    store::{Listed, Store, StoreError, read_marker, utc},
    verify::{Request, Verifier},
};

/// Named in an answer; all are counted.
const NAMED: usize = 100;
/// Size of a GET where two objects are compared.
const PIECE: u64 = 8 << 20;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Leftover {
    pub region: String,
    /// What is emptied, and where all of it is.
    pub old: String,
    pub new: String,
    /// What goes, or has gone.
    pub objects: u64,
    pub bytes: u64,
    pub applied: bool,
    /// The store keeps them: Object Lock, or an error. They go when it is asked for again.
    pub blocked: Vec<Left>,
    pub blocked_objects: u64,
    /// In the old place alone.
    pub left: Vec<Left>,
    pub left_objects: u64,
    /// Why nothing goes.
    pub refused: Vec<String>,
    pub hash: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Left {
    pub object: String,
    pub why: String,
}

/// The two places of a move that is done.
struct Places {
    id: Uuid,
    old_url: String,
    old: Arc<dyn Store>,
    new_url: String,
    new: Arc<dyn Store>,
    /// The new place tells the checksums of what it has, and verifies them.
    tells_checksums: bool,
}

/// What is to become of an object of the old place.
enum Fate {
    Goes,
    /// If the copy in the new place has the same bytes.
    GoesIfSame,
    Left(&'static str),
    /// It belongs to the place.
    Stays,
}

impl Mover {
    /// What would go; with the hash of that plan as `apply` it goes.
    pub async fn delete_old(
        &self,
        verifier: &Verifier,
        apply: Option<&str>,
    ) -> Result<Leftover, MoveError> {
        let places = self.places().await?;
        let mut report = Leftover {
            region: self.region.clone(),
            old: places.old_url.clone(),
            new: places.new_url.clone(),
            hash: self.hash_of(&places).await?,
            ..Leftover::default()
        };
        self.look_at_heads(&places, &mut report).await?;
        if apply.is_some_and(|given| given != report.hash) {
            let reason = format!("the plan is {} now", report.hash);
            return Err(MoveError::Refused(reason));
        }
        if apply.is_some() {
            prove(verifier, places.tells_checksums, &mut report).await?;
        }
        if !report.refused.is_empty() {
            return Ok(report);
        }
        report.applied = apply.is_some();
        let base = self.keys.base().to_owned();
        let there = places.new.list(&base).await?;
        let there: BTreeMap<_, _> = there.into_iter().map(|l| (l.key, l.size)).collect();
        for listed in places.old.list(&base).await? {
            let fate = self.fate(&listed, there.get(&listed.key).copied());
            self.carry_out(&places, &listed, fate, &mut report).await;
        }
        Ok(report)
    }

    async fn places(&self) -> Result<Places, MoveError> {
        let behind = |store: &Arc<dyn Store>| self.behind_limits(store);
        if let Some(target) = self.placed.target().filter(|target| target.is_done()) {
            return Ok(Places {
                id: target.id,
                old_url: self.from.clone(),
                old: behind(self.placed.from()),
                new_url: target.url.clone(),
                new: behind(&target.store),
                tells_checksums: target.tells_checksum(),
            });
        }
        let nothing = || MoveError::Refused("no move to here is done".to_owned());
        if self.placed.target().is_some() {
            return Err(MoveError::Refused("the move is not done".to_owned()));
        }
        let here = &*self.store;
        let arrival = documents::read::<Arrival>(here, &self.keys.move_arrival()).await?;
        let arrival = arrival.ok_or_else(nothing)?;
        let done = documents::read::<Done>(here, &self.keys.move_done()).await?;
        if done.is_none_or(|done| done.id != arrival.id) {
            return Err(nothing());
        }
        Ok(Places {
            id: arrival.id,
            old: behind(&self.placed.open(&arrival.from)?),
            old_url: arrival.from,
            new_url: self.from.clone(),
            new: behind(self.placed.from()),
            tells_checksums: self.capabilities.checksum,
        })
    }

    async fn hash_of(&self, places: &Places) -> Result<String, MoveError> {
        let marker = read_marker(&*places.old, &self.keys).await?;
        let incarnation = marker.map(|marker| marker.incarnation).unwrap_or_default();
        let what = [
            b"delete-old".as_slice(),
            self.fleet_id.as_bytes(),
            self.region.as_bytes(),
            incarnation.as_bytes(),
            places.id.as_bytes(),
            places.old_url.as_bytes(),
        ];
        Ok(format!("{:016x}", fnv(&what)))
    }

    /// A tombstone of this move wherever something stood.
    async fn look_at_heads(&self, places: &Places, report: &mut Leftover) -> Result<(), MoveError> {
        let shards = (0..self.committer.shards()).map(Unit::Shard);
        for unit in shards.chain([Unit::Meta]) {
            let Some(key) = self.keys.head_of(unit) else {
                continue;
            };
            match standing(&*places.old, &key, unit).await? {
                Standing::Moved(moved, _) if moved.id == places.id => {}
                _ => report
                    .refused
                    .push(format!("{key} is no tombstone of this move")),
            }
        }
        // Whoever borrows may still have the old place's URL.
        let roots = self.committer.roots();
        let holds = roots.iter().flat_map(|root| &root.holds);
        let regions: BTreeSet<_> = holds.map(|hold| &hold.region).collect();
        for region in regions {
            report.refused.push(format!(
                "region {region} reads from this bucket under a hold"
            ));
        }
        Ok(())
    }

    fn fate(&self, listed: &Listed, there: Option<u64>) -> Fate {
        let kind = listed.key.as_str().strip_prefix(self.keys.base());
        let kind = kind.and_then(|rest| rest.split('/').next());
        match kind {
            Some("root-kept" | "root-part" | "quarantine") => Fate::Goes,
            Some("meta") if listed.key != self.keys.meta_head() => Fate::Goes,
            Some("data") if self.is_below_start(&listed.key) => Fate::Goes,
            Some("data" | "orphans") => match there {
                Some(size) if size == listed.size => Fate::GoesIfSame,
                Some(_) => Fate::Left("the new place has another length of it"),
                None => Fate::Left("it is not in the new place"),
            },
            _ => Fate::Stays,
        }
    }

    /// All records of it are below the log's start, by the root in the new place.
    fn is_below_start(&self, key: &Key) -> bool {
        let Some(ObjectName::Own(name)) = self.keys.parse_object(key) else {
            return false;
        };
        let root = self.committer.root(name.shard);
        let partition = root.as_ref().and_then(|root| root.partitions.get(&name.at));
        partition.is_some_and(|partition| name.last < partition.start())
    }

    async fn carry_out(&self, places: &Places, listed: &Listed, fate: Fate, report: &mut Leftover) {
        let named = |why: String| Left {
            object: listed.key.to_string(),
            why,
        };
        let done = match fate {
            Fate::Stays => return,
            Fate::Left(why) => Ok(Err(why)),
            Fate::Goes | Fate::GoesIfSame if !report.applied => Ok(Ok(())),
            Fate::Goes => places.old.delete(&listed.key).await.map(Ok),
            Fate::GoesIfSame => self.delete_copied(places, listed).await,
        };
        match done {
            Ok(Ok(())) => {
                report.objects += 1;
                report.bytes = report.bytes.saturating_add(listed.size);
            }
            Ok(Err(why)) => {
                report.left_objects += 1;
                if report.left.len() < NAMED {
                    report.left.push(named(why.to_owned()));
                }
            }
            Err(error) => {
                report.blocked_objects += 1;
                if report.blocked.len() < NAMED {
                    let why = match &error {
                        StoreError::Locked {
                            until_ms: Some(ms), ..
                        } => format!("locked until {}", utc(*ms)),
                        other => other.to_string(),
                    };
                    report.blocked.push(named(why));
                }
            }
        }
    }

    async fn delete_copied(
        &self,
        places: &Places,
        listed: &Listed,
    ) -> Result<Result<(), &'static str>, StoreError> {
        let key = &listed.key;
        let (old, new) = (places.old.head(key).await?, places.new.head(key).await?);
        let told = new.crc64.filter(|_| places.tells_checksums);
        let is_same = match (old.crc64, told) {
            _ if old.size != new.size => false,
            (Some(old), Some(new)) => old == new,
            _ => {
                sum(&*places.old, key, old.size).await? == sum(&*places.new, key, new.size).await?
            }
        };
        if !is_same {
            return Ok(Err("the new place has other bytes under its key"));
        }
        places.old.delete(key).await.map(Ok)
    }
}

/// The new place has all that its roots name.
async fn prove(
    verifier: &Verifier,
    tells_checksums: bool,
    report: &mut Leftover,
) -> Result<(), MoveError> {
    let Some(_turn) = verifier.proof.begin() else {
        let reason = "a verification is under way; ask again after it".to_owned();
        return Err(MoveError::Refused(reason));
    };
    let request = Request {
        bytes: if tells_checksums { 0 } else { u64::MAX },
        ..Request::default()
    };
    let verified = verifier.run(&request).await;
    verifier.proof.finished(&verified, &verifier.clock);
    if !verified.ok || verified.undecided > 0 || verified.exhausted {
        report.refused.push(format!(
            "the new place was not proved: {} problems, {} objects undecided; see whimbrel tier verify",
            verified.problems_found, verified.undecided
        ));
    }
    Ok(())
}

async fn sum(store: &dyn Store, key: &Key, length: u64) -> Result<u64, StoreError> {
    let (mut crc, mut at) = (Crc64::new(), 0);
    while at < length {
        let end = length.min(at + PIECE);
        crc.update(&store.get_range(key, at..end).await?);
        at = end;
    }
    Ok(crc.finish())
}
