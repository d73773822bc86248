//! A region of three brokers: what is acknowledged outlives one of them, and who comes back catches up.

use std::collections::BTreeMap;

use whimbrel_fleet::{AcceptLoss, MoveMode, NodeId, Partition, Topic, TopicPartition};
use whimbrel_rpc::controller::Reassignment;
use whimbrel_runtime::{Shutdown, Tasks, random};
use whimbrel_wire::{
    ErrorCode,
    messages::{
        alter_partition_reassignments as reassign, create_partitions, create_topics, elect_leaders,
    },
};

use crate::{
    client::{Client, batch, idempotent},
    fleet::{Broker, EAST, Fleet, WEST, eventually},
    relay::Relay,
};

type Region = BTreeMap<i32, Broker>;

async fn region(fleet: &Fleet) -> Region {
    let mut region = Region::new();
    for id in [1, 2, 3] {
        region.insert(id, start(fleet, id).await);
    }
    region
}

async fn start(fleet: &Fleet, id: i32) -> Broker {
    fleet.try_broker(options(fleet, id)).await.unwrap()
}

fn options(fleet: &Fleet, id: i32) -> whimbrel_broker::Options {
    fleet.options(id, EAST)
}

async fn create(region: &Region, configs: &[(&str, &str)]) {
    let mut client = Client::connect(region[&1].handle.kafka).await;
    eventually("the topic", async || {
        let created = client.create_topic_of("t", 1, 3, configs).await;
        (created == ErrorCode::NONE || created == ErrorCode::TOPIC_ALREADY_EXISTS).then_some(())
    })
    .await;
}

/// Leader, epoch and ack set as the controller has them.
fn placed(fleet: &Fleet) -> (i32, i32, Vec<i32>) {
    let view = fleet.view();
    let p = &view.topics["t"].partitions[0];
    (
        p.leader.map_or(-1, |n| n.0),
        p.leader_epoch.0,
        p.isr.iter().map(|n| n.0).collect(),
    )
}

async fn until_insync(fleet: &Fleet, copies: usize) {
    eventually("the ack set", async || {
        (placed(fleet).2.len() == copies).then_some(())
    })
    .await;
}

/// Writes `values` one by one to whoever leads, as an idempotent producer.
async fn write(fleet: &Fleet, region: &Region, sequences: std::ops::Range<i32>) {
    for n in sequences {
        let value = format!("v{n}");
        eventually("an ack", async || {
            let leader = region.get(&placed(fleet).0)?;
            let mut client = Client::connect(leader.handle.kafka).await;
            let answer = client.produce("t", 0, idempotent(7, n, &[&value])).await;
            assert!(
                answer.error_code.is_none() || answer.error_code.is_retryable(),
                "{}",
                answer.error_code
            );
            answer.error_code.is_none().then_some(())
        })
        .await;
    }
}

async fn read(fleet: &Fleet, region: &Region) -> Vec<String> {
    let leader = &region[&placed(fleet).0];
    let mut client = Client::connect(leader.handle.kafka).await;
    client.consume("t", 0, 0).await
}

fn values(n: i32) -> Vec<String> {
    (0..n).map(|n| format!("v{n}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ack_means_every_member_of_the_ack_set_and_all_copies_are_equal() {
    let fleet = Fleet::start().await;
    let region = region(&fleet).await;
    create(&region, &[("min.insync.replicas", "2")]).await;
    write(&fleet, &region, 0..20).await;
    let (leader, _, isr) = placed(&fleet);
    assert_eq!(isr.len(), 3);
    for (id, broker) in &region {
        let p = broker.partition("t", 0).await.unwrap();
        assert_eq!(p["durable_end"], 20, "{p}");
        assert_eq!(p["role"], if *id == leader { "leader" } else { "follower" });
    }
    eventually("the high watermark at the followers", async || {
        for broker in region.values() {
            if broker.partition("t", 0).await?["high_watermark"] != 20 {
                return None;
            }
        }
        Some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_of_three_loses_its_leader_and_nothing_else() {
    let fleet = Fleet::start().await;
    let mut region = region(&fleet).await;
    create(&region, &[("min.insync.replicas", "2")]).await;
    write(&fleet, &region, 0..10).await;
    let (first, epoch, _) = placed(&fleet);
    region.remove(&first).unwrap().kill().await;
    write(&fleet, &region, 10..20).await;
    let (second, raised, isr) = placed(&fleet);
    assert_ne!(second, first);
    assert!(raised > epoch);
    assert_eq!(isr.len(), 2, "the dead one is not waited for");
    assert_eq!(read(&fleet, &region).await, values(20));
    let mut client = Client::connect(region[&second].handle.kafka).await;
    let shown = client
        .metadata("t")
        .await
        .topics
        .remove(0)
        .partitions
        .remove(0);
    assert_eq!(shown.leader_id, second);
    assert_eq!(shown.isr_nodes, isr);
    assert_eq!(shown.offline_replicas, [first]);
    region.insert(first, start(&fleet, first).await);
    until_insync(&fleet, 3).await;
    let back = region[&first].partition("t", 0).await.unwrap();
    assert_eq!(back["durable_end"], 20, "{back}");
    let request = elect_leaders::Request {
        election_type: 0,
        topic_partitions: None,
        timeout_ms: 10_000,
    };
    let elected = client.call(2, request).await;
    let results = elected.replica_election_results;
    let of_t = results.iter().find(|r| r.topic == "t").unwrap();
    assert_eq!(of_t.partition_result.len(), 1);
    assert_eq!(of_t.partition_result[0].error_code, ErrorCode::NONE);
    write(&fleet, &region, 20..25).await;
    assert_eq!(placed(&fleet).0, first, "the preferred leader again");
    assert_eq!(read(&fleet, &region).await, values(25));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_one_copy_left_of_two_wanted_writes_are_refused_until_another_is_back() {
    let fleet = Fleet::start().await;
    let mut region = region(&fleet).await;
    create(&region, &[("min.insync.replicas", "2")]).await;
    write(&fleet, &region, 0..5).await;
    let (leader, _, isr) = placed(&fleet);
    let others: Vec<i32> = isr.into_iter().filter(|n| *n != leader).collect();
    for id in &others {
        region.remove(id).unwrap().kill().await;
    }
    until_insync(&fleet, 1).await;
    let mut client = Client::connect(region[&leader].handle.kafka).await;
    eventually("a refusal", async || {
        let refused = client.produce("t", 0, batch(&["no"])).await.error_code;
        (refused == ErrorCode::NOT_ENOUGH_REPLICAS).then_some(())
    })
    .await;
    assert_eq!(placed(&fleet).0, leader);
    region.insert(others[0], start(&fleet, others[0]).await);
    write(&fleet, &region, 5..8).await;
    let kept = read(&fleet, &region).await;
    assert_eq!(
        kept.iter().filter(|v| v.starts_with('v')).count(),
        8,
        "{kept:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_moves_to_an_empty_broker() {
    let fleet = Fleet::start().await;
    let mut region = region(&fleet).await;
    create(&region, &[]).await;
    write(&fleet, &region, 0..50).await;
    region.insert(4, start(&fleet, 4).await);
    let wanted = vec![NodeId(4), NodeId(1)];
    let mut client = Client::connect(region[&2].handle.kafka).await;
    let asked = reassign::ReassignablePartition {
        partition_index: 0,
        replicas: Some(wanted.iter().map(|n| n.0).collect()),
    };
    let request = |allow_replication_factor_change| reassign::Request {
        allow_replication_factor_change,
        topics: vec![reassign::ReassignableTopic {
            name: "t".into(),
            partitions: vec![asked.clone()],
        }],
        ..reassign::Request::default()
    };
    let fewer = client.call(1, request(false)).await;
    let code = |r: &reassign::Response| r.responses[0].partitions[0].error_code;
    assert_eq!(code(&fewer), ErrorCode::INVALID_REPLICATION_FACTOR);
    let answered = client.call(1, request(true)).await;
    assert_eq!(code(&answered), ErrorCode::NONE, "{answered:?}");
    eventually("the new replicas", async || {
        let view = fleet.view();
        let p = &view.topics["t"].partitions[0];
        (p.replicas[&EAST.into()] == wanted && p.isr == wanted).then_some(())
    })
    .await;
    write(&fleet, &region, 50..55).await;
    assert_eq!(read(&fleet, &region).await, values(55));
    eventually("the old copies are gone", async || {
        for id in [2, 3] {
            if region[&id].partition("t", 0).await.is_some() {
                return None;
            }
        }
        Some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_acknowledges_nothing_once_another_leads() {
    let fleet = Fleet::start().await;
    let relay = Relay::start(&fleet.controller).await;
    let mut region = Region::new();
    for id in [1, 2, 3] {
        let mut options = options(&fleet, id);
        if id == 1 {
            options.controllers = vec![relay.at.clone()];
        }
        region.insert(id, fleet.try_broker(options).await.unwrap());
    }
    create(&region, &[]).await;
    let at = TopicPartition::new(fleet.view().topics["t"].id, 0);
    let first = Reassignment {
        at,
        replicas: Some([1, 2, 3].map(NodeId).to_vec()),
    };
    fleet.client.reassign(&[first]).await.unwrap();
    eventually("broker 1 to lead", async || {
        let _ = fleet.client.elect_leaders(&[at], false).await;
        (placed(&fleet).0 == 1).then_some(())
    })
    .await;
    write(&fleet, &region, 0..5).await;
    // A home without a lease closes the connection behind its refusal.
    let beside = async || {
        let mut old = Client::connect(region[&1].handle.kafka).await;
        old.produce("t", 0, batch(&["beside"])).await.error_code
    };
    relay.hold(true);
    eventually("another leader", async || {
        (placed(&fleet).0 != 1).then_some(())
    })
    .await;
    write(&fleet, &region, 5..8).await;
    // It does not know of another leader: it is its lease that forbids it.
    let believed = region[&1].partition("t", 0).await.unwrap();
    assert_eq!(believed["role"], "leader");
    for _ in 0..5 {
        assert_eq!(beside().await, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    }
    relay.hold(false);
    // Its answers while it hears of everything again are refusals too.
    eventually("its return as a follower", async || {
        assert_eq!(beside().await, ErrorCode::NOT_LEADER_OR_FOLLOWER);
        let now = region[&1].partition("t", 0).await?;
        (now["role"] == "follower").then_some(())
    })
    .await;
    until_insync(&fleet, 3).await;
    assert_eq!(read(&fleet, &region).await, values(8));
}

/// Of each partition its leader, the copies at home and the head of the other region.
fn copies_of(topic: &Topic) -> Vec<(i32, Vec<i32>, Option<NodeId>)> {
    let of = |p: &Partition| {
        let home = p.replicas[&EAST.into()].iter().map(|n| n.0).collect();
        (p.leader.map_or(-1, |n| n.0), home, p.head(&WEST.into()))
    };
    topic.partitions.iter().map(of).collect()
}

/// Kafka's tools name the brokers of each copy.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_stand_where_a_client_assigns_them() {
    let fleet = Fleet::start().await;
    let mut brokers = region(&fleet).await;
    let west = fleet.options(4, WEST);
    brokers.insert(4, fleet.try_broker(west).await.unwrap());
    let mut client = Client::connect(brokers[&1].handle.kafka).await;
    let assignment =
        |(partition_index, ids): (i32, &&[i32])| create_topics::CreatableReplicaAssignment {
            partition_index,
            broker_ids: ids.to_vec(),
        };
    let mut create = async |num_partitions, replication_factor, lists: &[&[i32]]| {
        let topic = create_topics::CreatableTopic {
            name: "t".into(),
            num_partitions,
            replication_factor,
            assignments: (0..).zip(lists).map(assignment).collect(),
            ..create_topics::CreatableTopic::default()
        };
        let request = create_topics::Request {
            topics: vec![topic],
            timeout_ms: 10_000,
            ..create_topics::Request::default()
        };
        let done = client.call(7, request).await.topics.remove(0);
        assert_eq!(done.error_code.is_error(), done.error_message.is_some());
        (
            done.error_code,
            done.num_partitions,
            done.replication_factor,
        )
    };
    let lists: [&[i32]; 2] = [&[3, 1], &[2, 3]];
    assert_eq!(create(2, -1, &lists).await.0, ErrorCode::INVALID_REQUEST);
    assert_eq!(create(-1, 2, &lists).await.0, ErrorCode::INVALID_REQUEST);
    let wrong: [[&[i32]; 2]; 5] = [
        [&[3, 1], &[2]],
        [&[3, 1], &[]],
        [&[3, 3], &[1, 2]],
        [&[3, 9], &[1, 2]],
        [&[4], &[4]],
    ];
    for wrong in wrong {
        let refused = create(-1, -1, &wrong).await.0;
        assert_eq!(refused, ErrorCode::INVALID_REPLICA_ASSIGNMENT, "{wrong:?}");
    }
    // What stands in the other region is named as Metadata shows it, and placed by the fleet.
    let created = create(-1, -1, &[&[3, 1, 4], &[2, 3]]).await;
    assert_eq!(created, (ErrorCode::NONE, 2, 2));
    let grow = async |ids: &[i32]| {
        let request = create_partitions::Request {
            topics: vec![create_partitions::CreatePartitionsTopic {
                name: "t".into(),
                count: 3,
                assignments: Some(vec![create_partitions::CreatePartitionsAssignment {
                    broker_ids: ids.to_vec(),
                }]),
            }],
            timeout_ms: 10_000,
            validate_only: false,
        };
        let mut client = Client::connect(brokers[&1].handle.kafka).await;
        client.call(3, request).await.results.remove(0).error_code
    };
    for wrong in [&[1][..], &[1, 1], &[1, 9]] {
        assert_eq!(grow(wrong).await, ErrorCode::INVALID_REPLICA_ASSIGNMENT);
    }
    assert_eq!(grow(&[1, 2]).await, ErrorCode::NONE);
    let head = Some(NodeId(4));
    let wanted = [(3, vec![3, 1]), (2, vec![2, 3]), (1, vec![1, 2])];
    let wanted = wanted.map(|(leader, home)| (leader, home, head));
    assert_eq!(copies_of(&fleet.view().topics["t"]), wanted);
}

/// Three brokers in each region and a mirror daemon's flow in both.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_moves_between_regions_of_three_and_back() {
    let fleet = Fleet::start().await;
    let mut brokers = region(&fleet).await;
    for id in [4, 5, 6] {
        let options = fleet.options(id, WEST);
        brokers.insert(id, fleet.try_broker(options).await.unwrap());
    }
    let tasks = Tasks::new(Shutdown::new());
    for name in [EAST, WEST] {
        let view = fleet.client.view();
        whimbrel_mirror::replica::Region::start(
            name.into(),
            random::uuid(),
            64 << 20,
            view,
            &tasks,
            fleet.clock.clone(),
        );
    }
    create(&brokers, &[("min.insync.replicas", "2")]).await;
    write(&fleet, &brokers, 0..20).await;
    let until_all = async |end: i64| {
        eventually("all six copies", async || {
            for broker in brokers.values() {
                if broker.partition("t", 0).await?["durable_end"] != end {
                    return None;
                }
            }
            Some(())
        })
        .await;
    };
    until_all(20).await;
    crate::moves::apply(&fleet, WEST, MoveMode::Switchover, AcceptLoss::None).await;
    write(&fleet, &brokers, 20..30).await;
    assert!((4..=6).contains(&placed(&fleet).0));
    until_insync(&fleet, 3).await;
    until_all(30).await;
    crate::moves::apply(&fleet, EAST, MoveMode::Failback, AcceptLoss::None).await;
    write(&fleet, &brokers, 30..35).await;
    assert_eq!(read(&fleet, &brokers).await, values(35));
    until_insync(&fleet, 3).await;
    until_all(35).await;
    tasks.stop(std::time::Duration::from_secs(5)).await;
}
