//! Where copies stand.

use whimbrel_fleet::NodeId;

use crate::state::{
    Command, MorePartitions, NewTopic, kafka,
    tests::{fleet, kafka_code, node, topic},
};

#[test]
fn home_copies_stand_where_they_were_asked_for_and_the_fleet_places_the_others() {
    let mut state = fleet();
    for (index, id) in [(4, 3), (5, 4)] {
        let node = node(id, "east", u128::from(id.unsigned_abs()));
        state.apply(index, Command::RegisterNode { node });
    }
    let lists = |lists: &[&[i32]]| -> Vec<Vec<NodeId>> {
        let one = |list: &&[i32]| list.iter().copied().map(NodeId).collect();
        lists.iter().map(one).collect()
    };
    let wanted = |partitions, factor, copies: &[&[i32]]| {
        let Command::CreateTopic(topic) = topic("t", 7, partitions) else {
            unreachable!()
        };
        Command::CreateTopic(NewTopic {
            replication_factor: factor,
            copies: lists(copies),
            ..topic
        })
    };
    // Too few lists, an empty one, one of another length, a broker twice, elsewhere, and unknown.
    let refused: [&[&[i32]]; 6] = [
        &[&[1, 3]],
        &[&[1, 3], &[]],
        &[&[1, 3], &[4]],
        &[&[1, 1], &[3, 4]],
        &[&[1, 2], &[3, 4]],
        &[&[1, 9], &[3, 4]],
    ];
    for copies in refused {
        assert_eq!(
            kafka_code(&state.apply(6, wanted(2, 2, copies))),
            kafka::INVALID_REPLICA_ASSIGNMENT,
            "{copies:?}"
        );
    }
    let done = state.apply(7, wanted(2, 2, &[&[4, 1], &[3, 4]]));
    assert_eq!(kafka_code(&done), 0);
    let grow = |copies: &[&[i32]]| {
        Command::CreatePartitions(MorePartitions {
            name: "t".into(),
            total: 3,
            copies: lists(copies),
        })
    };
    for copies in [&[&[1][..]][..], &[&[1, 3], &[3, 1]]] {
        assert_eq!(
            kafka_code(&state.apply(8, grow(copies))),
            kafka::INVALID_REPLICA_ASSIGNMENT
        );
    }
    assert_eq!(kafka_code(&state.apply(9, grow(&[&[1, 3]]))), 0);
    let placed = &state.view.topics["t"].partitions;
    let home: Vec<_> = placed
        .iter()
        .map(|p| p.replicas[&"east".into()].clone())
        .collect();
    assert_eq!(home, lists(&[&[4, 1], &[3, 4], &[1, 3]]));
    for partition in placed {
        assert_eq!(partition.leader, partition.head(&"east".into()));
        assert_eq!(partition.isr, partition.replicas[&"east".into()]);
        assert_eq!(partition.replicas[&"west".into()], [NodeId(2)]);
    }
}
