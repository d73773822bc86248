//! Members that join again: clients that lost an answer, or threw it away.

use super::*;

#[test]
fn a_newcomer_that_asks_again_during_a_long_first_wait_is_not_expired() {
    let delayed = Rules {
        initial_rebalance_delay_ms: 3_000,
        ..Rules::default()
    };
    let short = |id: &str| JoinRequest {
        session_timeout_ms: 6_000,
        ..request(id)
    };
    let mut group = Group::new("g", delayed, at(0));
    group.join(at(0), Token(0), short(""), "a");
    // Its connection broke; the answer to the first request reaches nobody.
    let repeated = joined(&group.join(at(100), Token(1), short("c-a"), ""));
    assert_eq!(
        (repeated.len(), repeated[0].0, repeated[0].1.error),
        (1, 0, ErrorCode::REBALANCE_IN_PROGRESS)
    );
    group.join(at(2_900), Token(2), short(""), "b");
    assert!(joined(&group.tick(at(3_000))).is_empty());
    group.join(at(5_900), Token(3), short(""), "d");
    assert!(joined(&group.tick(at(6_000))).is_empty());
    assert!(joined(&group.tick(at(6_200))).is_empty());
    let first = joined(&group.tick(at(9_000)));
    assert_eq!(first.len(), 3);
    assert!(
        first
            .iter()
            .all(|(_, reply)| reply.error == ErrorCode::NONE && reply.leader == "c-a")
    );
}

#[test]
fn a_leader_that_throws_its_assignment_away_brings_everybody_one_generation_on() {
    // What kafka-python 3.0 does when the answer comes between two polls: it joins again with what it had. Kafka
    // begins a round for a leader, and answers a follower with the generation that stands.
    let mut group = pair();
    for generation in 3..6 {
        assert!(joined(&group.join(at(0), Token(20), request("c-a"), "")).is_empty());
        assert_eq!(
            group.heartbeat(at(0), "c-b", None, generation - 1),
            ErrorCode::REBALANCE_IN_PROGRESS
        );
        let round = joined(&group.join(at(0), Token(21), request("c-b"), ""));
        assert_eq!(
            round
                .iter()
                .map(|(token, reply)| (*token, reply.generation))
                .collect::<Vec<_>>(),
            [(20, generation), (21, generation)]
        );
        // Asked again before the assignment, or by a follower after it: the generation stands.
        for id in ["c-a", "c-b"] {
            let again = joined(&group.join(at(0), Token(22), request(id), ""));
            assert_eq!(again[0].1.generation, generation);
        }
        let effects = group.sync(
            at(0),
            Token(23),
            sync("c-a", generation, &[("c-a", "one"), ("c-b", "two")]),
        );
        group.persisted(at(0), persists(&effects)[0].0, Ok(()));
        let follower = joined(&group.join(at(0), Token(24), request("c-b"), ""));
        assert_eq!(follower[0].1.generation, generation);
        assert_eq!(group.state(), State::Stable);
    }
}
