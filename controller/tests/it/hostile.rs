//! What others than the fleet's voters may send to a voter's port: nothing of it changes anything.

use serde_json::{Value, json};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};
use whimbrel_rpc::controller::NewTopic;
use whimbrel_rpc::proto::controller::{RaftMessage, SnapshotChunk, raft_client::RaftClient};

use crate::broker::Broker;
use crate::harness::{Fleet, HOME, TOOL};

/// Deeper than any message of ours, and than what is parsed.
const DEPTH: usize = 100_000;

fn message(fleet_id: &str, target: u64, json: impl Into<Vec<u8>>) -> RaftMessage {
    RaftMessage {
        fleet_id: fleet_id.into(),
        target,
        json: json.into().into(),
    }
}

fn vote(term: u64, by: u64) -> Value {
    json!({
        "vote": {"leader_id": {"term": term, "node_id": by}, "committed": false},
        "last_log_id": null,
    })
}

/// In a term that all would step down for.
async fn refuses_who_is_no_member(raft: &mut RaftClient<Channel>, leader: u64) {
    // Of this fleet and for this voter, from one that is no member, in a term that all would step down for; and
    // in the voter's own name.
    for by in [99, leader] {
        let by_nobody = vote(1 << 40, by);
        let asked = message("fleet-1", leader, by_nobody.to_string());
        let refused = raft.vote(asked).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
        let mut led = by_nobody["vote"].clone();
        led["committed"] = true.into();
        let entries = json!({
            "vote": led, "prev_log_id": null, "entries": [], "leader_commit": null,
        });
        let sent = message("fleet-1", leader, entries.to_string());
        let refused = raft.append(sent).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
        let meta = json!({
            "last_log_id": null,
            "last_membership": {"log_id": null, "membership": {"configs": [], "nodes": {}}},
            "snapshot_id": "s",
        });
        let chunk = SnapshotChunk {
            fleet_id: "fleet-1".into(),
            target: leader,
            head: json!([led, meta]).to_string().into_bytes().into(),
            data: bytes::Bytes::new(),
        };
        let refused = raft.snapshot(tokio_stream::iter([chunk])).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raft_messages_of_strangers_are_refused_and_change_nothing() {
    let fleet = Fleet::start().await;
    let leader = fleet.leader().await;
    let before = fleet.handle(leader).view();
    let at = usize::try_from(leader - 1).unwrap();
    let address = fleet.addresses(TOOL)[at].clone();
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let mut raft =
        RaftClient::new(endpoint.connect().await.unwrap()).max_encoding_message_size(usize::MAX);

    let high = vote(1 << 40, 2).to_string();
    let nested = "[".repeat(DEPTH);
    for (message, code) in [
        // Another fleet's, another voter's.
        (
            message("fleet-2", leader, high.clone()),
            Code::PermissionDenied,
        ),
        (message("", leader, high.clone()), Code::PermissionDenied),
        (
            message("fleet-1", leader + 10, high),
            Code::PermissionDenied,
        ),
        // Of this fleet, and not to be read.
        (message("fleet-1", leader, "{}"), Code::InvalidArgument),
        (
            message("fleet-1", leader, vec![0xff; 1_000]),
            Code::InvalidArgument,
        ),
        (message("fleet-1", leader, nested), Code::InvalidArgument),
        // Longer than any may be.
        (
            message("fleet-1", leader, vec![b' '; 17 << 20]),
            Code::OutOfRange,
        ),
    ] {
        let refused = raft.vote(message.clone()).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
        let refused = raft.append(message).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
    }
    refuses_who_is_no_member(&mut raft, leader).await;
    // Of a term that is over: answered with the vote that stands, and not granted.
    let member = leader % 3 + 1;
    let old = message("fleet-1", leader, vote(0, member).to_string());
    let answer = raft.vote(old).await.unwrap().into_inner();
    let answer: Value = serde_json::from_slice(&answer.json).unwrap();
    assert_eq!(answer["Ok"]["vote_granted"], false, "{answer}");

    assert_eq!(fleet.leader().await, leader);
    assert_eq!(fleet.handle(leader).view(), before);
    let broker = Broker::start(&fleet, HOME, 1, "east").await;
    let topic = NewTopic::new("after", 1);
    fleet.client(TOOL).create_topic(topic).await.unwrap();
    broker.kill().await;
    fleet.end().await;
}
