use whimbrel_fleet::{NodeId, TopicId};
use whimbrel_rpc::controller::{PartitionPosition, PositionReport};

use super::*;
use crate::{
    positions::Positions,
    state::{
        Command,
        tests::{fleet, node, restore},
    },
};

/// East with brokers 1 and 4, both of which are to hold the log of 20 to 40.
fn restoring() -> State {
    let mut state = fleet();
    let node = node(4, "east", 4);
    state.apply(4, Command::RegisterNode { node });
    state.apply(5, restore(1_007));
    state
}

fn reports(state: &State, ends: &[(i32, i64)]) -> Reports {
    let positions = Positions::default();
    for (id, end_offset) in ends {
        let incarnation = state.view.nodes[&NodeId(*id)].incarnation;
        let mut report = PositionReport::new(NodeId(*id), incarnation);
        for topic in state.view.topics.values() {
            let internal = topic.internal;
            report.partitions.push(PartitionPosition {
                at: TopicPartition::new(topic.id, 0),
                end_offset: if internal { 7 } else { *end_offset },
                last_epoch: 3,
                bytes: 1,
            });
        }
        assert!(positions.take(report, &state.view, 0));
    }
    positions.reports(&state.view)
}

#[test]
fn a_log_is_there_when_every_live_copy_of_it_is() {
    let mut state = restoring();
    let at = TopicPartition::new(TopicId::from_u128(71), 0);
    // Two topics of one partition, 7 - 3 and 40 - 20 offsets.
    for (ends, there, offsets, behind) in [
        (vec![], 0, 0, Some(None)),
        (vec![(1, 40)], 0, 0, Some(None)),
        (vec![(1, 40), (4, 30)], 1, 14, Some(Some(30))),
        (vec![(1, 10), (4, 40)], 1, 4, Some(Some(10))),
        (vec![(1, 40), (4, 40)], 2, 24, None),
    ] {
        let progress = progress(&state, &reports(&state, &ends));
        assert_eq!((progress.partitions, progress.offsets), (2, 24));
        assert_eq!(
            (progress.there, progress.offsets_there),
            (there, offsets),
            "{ends:?}"
        );
        let of_log = progress.behind.iter().find(|(which, ..)| *which == at);
        assert_eq!(of_log.map(|(_, _, reached)| *reached), behind, "{ends:?}");
        assert_eq!(progress.to.as_str(), "east");
    }
    // A broker that is down is not waited for.
    let (node, incarnation) = (NodeId(4), state.view.nodes[&NodeId(4)].incarnation);
    state.apply(6, Command::FenceNode { node, incarnation });
    let one = progress(&state, &reports(&state, &[(1, 40)]));
    assert_eq!(one.there, 2);
}

#[test]
fn a_copy_that_goes_beyond_the_plan_is_not_there() {
    let state = restoring();
    let progress = progress(&state, &reports(&state, &[(1, 41), (4, 41)]));
    assert_eq!(progress.there, 1);
}

#[test]
fn a_fleet_that_is_not_restored_has_no_progress() {
    let progress = progress(&fleet(), &Reports::default());
    assert_eq!((progress.restore, progress.partitions), (None, 0));
}
