use whimbrel_fleet::{
    AcceptLoss, Fence, MoveMode, Partition,
    credential::{Credential, CredentialChange, Mechanism, Secret},
};

use super::*;

fn view() -> View {
    let mut view = View {
        version: 7,
        producer_ids: 1_000_000,
        ..View::default()
    };
    for name in ["east", "west"] {
        let region = Region {
            name: name.into(),
            lost: name == "west",
        };
        view.regions.insert(name.into(), region);
    }
    let mut group = FailoverGroup::new(GroupName::default_group(), "east".into());
    group.sync_set.insert("west".into());
    group.fence = Some(Fence {
        epoch: RegionEpoch(4),
        to: "west".into(),
        mode: MoveMode::Switchover,
        accept_loss: AcceptLoss::None,
        plan: String::new(),
    });
    view.groups.insert(group.name.clone(), group);
    for (n, name) in ["a", "b"].into_iter().enumerate() {
        let partition = Partition {
            leader_epoch: whimbrel_fleet::LeaderEpoch(9),
            ..Partition::default()
        };
        let topic = whimbrel_fleet::Topic {
            name: name.to_owned(),
            id: TopicId::from_u128(n as u128),
            group: GroupName::default_group(),
            partitions: vec![partition; 3],
            configs: BTreeMap::from([("retention.ms".to_owned(), "5".to_owned())]),
            replication_factor: 2,
            internal: n == 1,
        };
        view.topics.insert(name.to_owned(), topic);
    }
    view.note_deleted(TopicId::from_u128(77));
    view.credentials.apply(CredentialChange {
        user: "ann".into(),
        mechanism: Mechanism::ScramSha256,
        credential: Some(Credential {
            salt: Secret(vec![0xab; 16]),
            stored_key: Secret(vec![0xcd; 32]),
            server_key: Secret(vec![0xef; 32]),
            iterations: 4_096,
        }),
    });
    view
}

#[test]
fn what_is_kept_of_a_view_survives() {
    let fleet = Fleet::of(&view());
    assert_eq!(fleet.groups[0].epoch, RegionEpoch(4), "a fence gave it");
    assert_eq!((fleet.topics.len(), fleet.partitions()), (2, 6));
    let bytes = fleet.encode().unwrap();
    assert_eq!(Fleet::decode(&bytes).unwrap(), fleet);
    let printed = format!("{fleet:?}");
    assert!(printed.contains("<secret>") && !printed.contains("205"));
}

/// Leaders, replicas and registrations change all the time, and say nothing that a restore needs.
#[test]
fn where_things_stand_makes_no_difference() {
    let mut moved = view();
    moved.version += 1;
    for topic in moved.topics.values_mut() {
        for partition in &mut topic.partitions {
            partition.version += 1;
            partition.isr = vec![whimbrel_fleet::NodeId(3)];
        }
    }
    assert_eq!(
        Fleet::of(&moved).encode().unwrap(),
        Fleet::of(&view()).encode().unwrap()
    );
}

#[test]
fn bytes_that_were_cut_or_lengthened_are_refused() {
    let bytes = Fleet::of(&view()).encode().unwrap();
    for end in 0..bytes.len() {
        assert!(Fleet::decode(&bytes[..end]).is_err(), "{end}");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(Fleet::decode(&longer).is_err());
}

#[test]
fn names_out_of_their_order_are_refused() {
    let mut fleet = Fleet::of(&view());
    fleet.topics.swap(0, 1);
    let refused = Fleet::decode(&fleet.encode().unwrap()).unwrap_err();
    assert!(refused.to_string().contains("topic `a`"), "{refused}");
}

#[test]
fn a_count_of_a_billion_is_refused_before_anything_is_allocated() {
    let mut bytes = 0_i64.to_be_bytes().to_vec();
    bytes.extend_from_slice(&1_000_000_000_u32.to_be_bytes());
    assert!(Fleet::decode(&bytes).is_err());
}

#[test]
fn a_text_that_does_not_fit_is_not_shortened() {
    let mut fleet = Fleet::of(&view());
    let long = "x".repeat(65_536);
    fleet.topics[0].configs.insert("note".to_owned(), long);
    assert!(fleet.encode().is_err());
}
