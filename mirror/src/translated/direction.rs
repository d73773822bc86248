//! Which way a group's position is carried over, if at all. Pure.
//!
//! Positions that we set carry a mark in their metadata; a position without one was committed by the
//! group itself. A group is at work on one side at a time:
//!
//! * target unset or marked: the group works at the source, what it says there counts, rewinds included;
//! * source marked, target not: it moved over, what it says at the target counts;
//! * neither marked: it has worked on both sides, and the side where it got further is the later one.
//!
//! A side with members is never written to. Everything else is left alone.

use crate::offset_map::OffsetMap;

/// Prefix of the metadata of positions that a flow has set.
pub const MARK: &str = "whimbrel:";

/// Where a group stands in one partition of one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub offset: i64,
    pub marked: bool,
}

/// What is to be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carry {
    ToTarget(i64),
    ToSource(i64),
}

/// One partition as both sides and the flow see it.
#[derive(Clone, Copy, Debug)]
pub struct Sides<'a> {
    pub source: Option<&'a Standing>,
    pub target: Option<&'a Standing>,
    pub source_idle: bool,
    pub target_idle: bool,
    pub map: &'a OffsetMap,
    /// How far the source was looked through.
    pub scanned: i64,
}

pub fn carry(sides: Sides<'_>) -> Option<Carry> {
    let forward = |source: &Standing| {
        let offset = sides.map.to_target(source.offset, sides.scanned)?;
        let news = sides.target.is_none_or(|t| t.offset != offset);
        (sides.target_idle && news).then_some(Carry::ToTarget(offset))
    };
    let back = |target: &Standing| {
        let offset = sides.map.to_source(target.offset)?;
        let news = sides.source.is_none_or(|s| s.offset != offset);
        (sides.source_idle && news).then_some(Carry::ToSource(offset))
    };
    match (sides.source, sides.target) {
        (None, None) => None,
        (Some(source), None) => forward(source),
        (None, Some(target)) if target.marked => None,
        (None, Some(target)) => back(target),
        (Some(source), Some(target)) => match (source.marked, target.marked) {
            (false, true) => forward(source),
            (true, false) => back(target),
            (true, true) => None,
            (false, false) => {
                // Compared as positions of the target: both sides name gaps differently, the map does not.
                let there = sides.map.to_target(source.offset, sides.scanned)?;
                let here = sides
                    .map
                    .to_source(target.offset)
                    .and_then(|s| sides.map.to_target(s, sides.scanned))?;
                match there.cmp(&here) {
                    std::cmp::Ordering::Greater => forward(source),
                    std::cmp::Ordering::Less => back(target),
                    std::cmp::Ordering::Equal => None,
                }
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offset_map::Run;

    fn map() -> OffsetMap {
        let mut map = OffsetMap::default();
        for (source, target, length) in [(10, 0, 10), (30, 11, 10)] {
            map.push(Run {
                source,
                target,
                length,
            })
            .unwrap();
        }
        map
    }

    fn at(offset: i64, marked: bool) -> Option<Standing> {
        Some(Standing { offset, marked })
    }

    fn decide(
        source: Option<Standing>,
        target: Option<Standing>,
        idle: (bool, bool),
    ) -> Option<Carry> {
        carry(Sides {
            source: source.as_ref(),
            target: target.as_ref(),
            source_idle: idle.0,
            target_idle: idle.1,
            map: &map(),
            scanned: 40,
        })
    }

    const IDLE: (bool, bool) = (true, true);

    #[test]
    fn a_group_that_works_at_the_source_is_carried_over_rewinds_included() {
        assert_eq!(
            decide(at(15, false), None, (false, true)),
            Some(Carry::ToTarget(5))
        );
        assert_eq!(
            decide(at(12, false), at(5, true), (false, true)),
            Some(Carry::ToTarget(2))
        );
        assert_eq!(decide(at(15, false), at(5, true), IDLE), None);
        assert_eq!(decide(at(41, false), at(5, true), IDLE), None);
    }

    #[test]
    fn a_group_that_moved_over_is_carried_back_and_forth_again() {
        assert_eq!(
            decide(at(15, false), at(13, false), IDLE),
            Some(Carry::ToSource(32))
        );
        assert_eq!(decide(at(32, true), at(13, false), IDLE), None);
        assert_eq!(
            decide(at(32, true), at(14, false), IDLE),
            Some(Carry::ToSource(33))
        );
        assert_eq!(
            decide(at(35, false), at(14, false), IDLE),
            Some(Carry::ToTarget(16))
        );
    }

    #[test]
    fn a_side_at_work_is_not_written_to() {
        assert_eq!(decide(at(15, false), at(3, true), (true, false)), None);
        assert_eq!(decide(at(15, false), at(13, false), (false, true)), None);
    }

    #[test]
    fn positions_in_a_gap_of_either_side_are_no_news() {
        // The source's gap 20..30 and the target's gap 10..11 are the same place.
        assert_eq!(decide(at(25, false), at(10, false), IDLE), None);
        assert_eq!(decide(at(20, false), at(11, false), IDLE), None);
    }
}
