//! What compaction knows of other regions' copies: how far they are, since when they stand still, and which of
//! them it went past.

use std::collections::BTreeMap;

use whimbrel_fleet::RegionName;

use super::Partition;

/// As of the present role.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    /// Nobody has said anything before.
    since_ns: u64,
    copies: BTreeMap<RegionName, Copy>,
}

#[derive(Debug, Default)]
struct Copy {
    /// Fsynced there.
    end: i64,
    /// When it last came forward, or had everything.
    moved_ns: u64,
    /// Compaction went on up to here without it.
    left_at: Option<i64>,
}

impl Elsewhere {
    pub(super) fn begin(&mut self, boot_ns: u64) {
        self.since_ns = boot_ns;
        self.copies.clear();
    }

    /// `all` is what there is to have.
    pub(super) fn heard(&mut self, region: &RegionName, end: i64, all: i64, boot_ns: u64) {
        let begun_ns = self.since_ns;
        let copy = self.copies.entry(region.clone()).or_insert(Copy {
            moved_ns: begun_ns,
            ..Copy::default()
        });
        if end > copy.end || end >= all {
            copy.moved_ns = boot_ns;
        }
        copy.end = end;
    }

    /// How far a region is, and since when it stands there.
    fn stands(&self, region: &RegionName) -> (i64, u64) {
        let copy = self.copies.get(region);
        copy.map_or((0, self.since_ns), |copy| (copy.end, copy.moved_ns))
    }
}

impl Partition {
    /// Below this the followers in `region` hold everything fsynced, as far as they have said since this
    /// role began; and when that changed last.
    pub fn stands(&self, region: &RegionName) -> (i64, u64) {
        self.state.lock().elsewhere.stands(region)
    }

    /// Compaction goes on up to `upto` whatever `region` has. True when it is left behind by that, and was not before.
    pub fn pass_by(&self, region: &RegionName, upto: i64) -> bool {
        let mut state = self.state.lock();
        let begun_ns = state.elsewhere.since_ns;
        let copy = state.elsewhere.copies.entry(region.clone());
        let copy = copy.or_insert(Copy {
            moved_ns: begun_ns,
            ..Copy::default()
        });
        if copy.end >= upto {
            return false;
        }
        let before = copy.left_at.replace(upto);
        before.is_none()
    }

    /// How far a copy in `region` that ends at `end` was left behind; one that is empty, or has all of that, is not.
    pub fn passed_by(&self, region: &RegionName, end: i64, empty: bool) -> Option<i64> {
        let mut state = self.state.lock();
        let copy = state.elsewhere.copies.get_mut(region)?;
        if copy.left_at.is_some_and(|upto| empty || end >= upto) {
            copy.left_at = None;
        }
        copy.left_at
    }
}
