//! What compaction knows of other regions' copies: how far they are, since when they stand still, and which of
//! them it went past.
//!
//! The controller keeps what a leader says of that ([`Partition::standing`]), and tells it to the next one: neither the time
//! that a copy has stood still, nor that it was left behind, begins anew with a leader. The cleaner goes past a copy only
//! once that is recorded.

use std::{collections::BTreeMap, time::Duration};

use whimbrel_fleet::{RegionName, Standing};
use whimbrel_runtime::Clock;

use super::Partition;

/// Both clocks at once: what is kept for another process is told on the wall.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub boot_ns: u64,
    pub wall_ms: i64,
}

impl Now {
    pub fn of(clock: &Clock) -> Self {
        Self {
            boot_ns: clock.boot_ns(),
            wall_ms: clock.wall_ms(),
        }
    }

    fn boot_ms(self) -> i64 {
        ms(self.boot_ns)
    }
}

fn ms(boot_ns: u64) -> i64 {
    i64::try_from(boot_ns / 1_000_000).unwrap_or(i64::MAX)
}

/// As of the present role.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    /// On the boot clock: nobody has said anything here before.
    since_ms: i64,
    copies: BTreeMap<RegionName, Copy>,
}

#[derive(Clone, Copy, Debug)]
struct Copy {
    /// Fsynced there, as far as this leader has heard.
    end: i64,
    /// How far it was when it came forward last, whoever heard that.
    came_to: i64,
    /// When that was, or when it last had everything. On the boot clock: negative when that was before this machine started.
    moved_ms: i64,
    /// Compaction goes on up to here without it.
    left_at: Option<i64>,
}

/// How a region's copy stands.
#[derive(Clone, Copy, Debug)]
pub struct Stand {
    /// Below this everything is fsynced there, as far as it was said since this role began.
    pub end: i64,
    /// For how long it has not come forward, and for how much of that this broker has listened.
    pub still_ms: i64,
    pub heard_for_ms: i64,
    /// Compaction was to go on up to here without it, and nothing has changed since.
    pub left_at: Option<i64>,
}

impl Elsewhere {
    pub(super) fn begin(&mut self, now: Now, standing: &BTreeMap<RegionName, Standing>) {
        self.since_ms = now.boot_ms();
        let known = |(region, told): (&RegionName, &Standing)| {
            let still_ms = now.wall_ms.saturating_sub(told.since_ms).max(0);
            let copy = Copy {
                end: 0,
                came_to: told.end,
                moved_ms: self.since_ms.saturating_sub(still_ms),
                left_at: told.left_at,
            };
            (region.clone(), copy)
        };
        self.copies = standing.iter().map(known).collect();
    }

    /// A copy that was not heard of has not come forward since this role began.
    fn unheard(&self) -> Copy {
        Copy {
            end: 0,
            came_to: 0,
            moved_ms: self.since_ms,
            left_at: None,
        }
    }

    fn copy(&mut self, region: &RegionName) -> &mut Copy {
        let unheard = self.unheard();
        self.copies.entry(region.clone()).or_insert(unheard)
    }

    /// `all` is what there is to have.
    pub(super) fn heard(&mut self, region: &RegionName, end: i64, all: i64, boot_ns: u64) {
        let copy = self.copy(region);
        if end > copy.came_to || end >= all {
            copy.moved_ms = ms(boot_ns);
        }
        (copy.end, copy.came_to) = (end, end);
        copy.left_at = copy.left_at.filter(|upto| end < *upto);
    }

    fn stands(&self, region: &RegionName, boot_ns: u64) -> Stand {
        let copy = self.copies.get(region).copied();
        let copy = copy.unwrap_or_else(|| self.unheard());
        Stand {
            end: copy.end,
            still_ms: ms(boot_ns).saturating_sub(copy.moved_ms),
            heard_for_ms: ms(boot_ns).saturating_sub(self.since_ms),
            left_at: copy.left_at,
        }
    }
}

impl Partition {
    /// How the followers in `region` stand, as far as they have said.
    pub fn stands(&self, region: &RegionName, boot_ns: u64) -> Stand {
        self.state.lock().elsewhere.stands(region, boot_ns)
    }

    /// Compaction is to go on up to `upto` whatever `region` has. True when it is left behind by that, and was not before.
    pub fn pass_by(&self, region: &RegionName, upto: i64) -> bool {
        let mut state = self.state.lock();
        let copy = state.elsewhere.copy(region);
        if copy.end >= upto {
            return false;
        }
        let before = copy.left_at;
        copy.left_at = before.max(Some(upto));
        before.is_none()
    }

    /// How far a copy in `region` that ends at `end` was left behind, of which `recorded` says the most that it may be; one
    /// that is empty, or has all of that, is not, and neither is one that comes before it was recorded.
    pub fn passed_by(
        &self,
        region: &RegionName,
        end: i64,
        empty: bool,
        recorded: Option<i64>,
    ) -> Option<i64> {
        let mut state = self.state.lock();
        let copy = state.elsewhere.copies.get_mut(region)?;
        if recorded.is_none_or(|upto| empty || end >= upto) {
            copy.left_at = None;
        }
        copy.left_at.and(recorded)
    }

    /// What is to be recorded of the copies in `regions`, where that differs from what is. An instant is told again only
    /// when it has moved by more than `coarse`.
    pub fn standing<'a>(
        &self,
        recorded: &BTreeMap<RegionName, Standing>,
        regions: impl Iterator<Item = &'a RegionName>,
        now: Now,
        coarse: Duration,
    ) -> Option<BTreeMap<RegionName, Standing>> {
        let coarse_ms = i64::try_from(coarse.as_millis()).unwrap_or(i64::MAX);
        let all = self.log.offsets().durable_end;
        let state = self.state.lock();
        let stands = |region: &RegionName| {
            let copy = state.elsewhere.copies.get(region).copied();
            let copy = copy.unwrap_or_else(|| state.elsewhere.unheard());
            let still_ms = now.boot_ms().saturating_sub(copy.moved_ms);
            let lacks = copy.end < all && still_ms > coarse_ms;
            if !lacks && copy.left_at.is_none() {
                return None;
            }
            let standing = Standing {
                since_ms: now.wall_ms.saturating_sub(still_ms),
                end: copy.came_to,
                left_at: copy.left_at,
            };
            let known = recorded.get(region).filter(|known| {
                known.left_at == standing.left_at
                    && known.since_ms.abs_diff(standing.since_ms) <= coarse_ms.unsigned_abs()
            });
            Some(known.copied().unwrap_or(standing))
        };
        let found: BTreeMap<_, _> = regions
            .filter_map(|region| Some((region.clone(), stands(region)?)))
            .collect();
        (found != *recorded).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(boot_ms: u64) -> Now {
        Now {
            boot_ns: boot_ms * 1_000_000,
            wall_ms: 1_000_000 + i64::try_from(boot_ms).unwrap(),
        }
    }

    fn west() -> RegionName {
        "west".into()
    }

    #[test]
    fn a_new_leader_goes_on_counting_where_the_last_one_was() {
        let told = Standing {
            since_ms: 400_000,
            end: 7,
            left_at: None,
        };
        let mut elsewhere = Elsewhere::default();
        // This machine has started after the copy had come to stand.
        elsewhere.begin(at(10), &BTreeMap::from([(west(), told)]));
        let stand = elsewhere.stands(&west(), at(20).boot_ns);
        assert_eq!((stand.end, stand.still_ms), (0, 600_020));
        assert_eq!(stand.heard_for_ms, 10);
        elsewhere.heard(&west(), 7, 100, at(30).boot_ns);
        let stand = elsewhere.stands(&west(), at(30).boot_ns);
        assert_eq!(
            (stand.end, stand.still_ms),
            (7, 600_030),
            "it is back, no more"
        );
        elsewhere.heard(&west(), 8, 100, at(40).boot_ns);
        assert_eq!(elsewhere.stands(&west(), at(45).boot_ns).still_ms, 5);
        let other = elsewhere.stands(&"south".into(), at(50).boot_ns);
        assert_eq!(other.still_ms, 40, "nobody knows of it");
    }
}
