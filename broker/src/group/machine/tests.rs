mod rejoins;
mod statics;

use super::*;

fn at(ms: i64) -> Now {
    Now {
        mono_ms: ms,
        wall_ms: 1_000_000 + ms,
    }
}

fn rules() -> Rules {
    Rules {
        initial_rebalance_delay_ms: 0,
        ..Rules::default()
    }
}

fn request(member_id: &str) -> JoinRequest {
    JoinRequest {
        member_id: member_id.to_owned(),
        client_id: "c".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        rebalance_timeout_ms: 60_000,
        session_timeout_ms: 10_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![protocol("range"), protocol("roundrobin")],
        ..JoinRequest::default()
    }
}

fn instance(member_id: &str, instance: &str) -> JoinRequest {
    JoinRequest {
        instance_id: Some(instance.to_owned()),
        ..request(member_id)
    }
}

fn protocol(name: &str) -> Protocol {
    Protocol {
        name: name.to_owned(),
        metadata: Bytes::from(format!("meta-{name}")),
    }
}

fn joined(effects: &[Effect]) -> Vec<(u64, JoinReply)> {
    let pick = |e: &Effect| match e {
        Effect::Joined { token, reply } => Some((token.0, reply.clone())),
        _ => None,
    };
    effects.iter().filter_map(pick).collect()
}

fn synced(effects: &[Effect]) -> Vec<(u64, SyncReply)> {
    let pick = |e: &Effect| match e {
        Effect::Synced { token, reply } => Some((token.0, reply.clone())),
        _ => None,
    };
    effects.iter().filter_map(pick).collect()
}

fn persists(effects: &[Effect]) -> Vec<(u64, GroupRecord)> {
    let pick = |e: &Effect| match e {
        Effect::Persist { ticket, record } => Some((*ticket, record.clone())),
        _ => None,
    };
    effects.iter().filter_map(pick).collect()
}

fn sync(member_id: &str, generation: i32, assignments: &[(&str, &'static str)]) -> SyncRequest {
    SyncRequest {
        member_id: member_id.to_owned(),
        generation,
        assignments: assignments
            .iter()
            .map(|(id, a)| ((*id).to_owned(), Bytes::from_static(a.as_bytes())))
            .collect(),
        ..SyncRequest::default()
    }
}

/// A stable group of `c-a` (leader) and `c-b` in generation 2, at 0 ms.
fn pair() -> Group {
    let mut group = Group::new("g", rules(), at(0));
    assert_eq!(
        joined(&group.join(at(0), Token(0), request(""), "a"))[0]
            .1
            .generation,
        1
    );
    group.join(at(0), Token(1), request(""), "b");
    let replies = joined(&group.join(at(0), Token(2), request("c-a"), ""));
    assert_eq!(replies.len(), 2);
    assert!(
        replies
            .iter()
            .all(|(_, r)| r.generation == 2 && r.leader == "c-a")
    );
    group.sync(at(0), Token(3), sync("c-b", 2, &[]));
    let effects = group.sync(
        at(0),
        Token(4),
        sync("c-a", 2, &[("c-a", "one"), ("c-b", "two")]),
    );
    assert!(
        synced(&effects).is_empty(),
        "nothing is answered before the record is durable"
    );
    let (ticket, record) = persists(&effects).remove(0);
    assert_eq!(record.members.len(), 2);
    let answers = synced(&group.persisted(at(0), ticket, Ok(())));
    assert_eq!(answers.len(), 2);
    assert_eq!(group.state(), State::Stable);
    group
}

#[test]
fn two_members_reach_a_stable_generation_with_their_assignments() {
    let group = pair();
    let of = |id: &str| {
        group
            .members()
            .find(|m| m.id == id)
            .unwrap()
            .assignment
            .clone()
    };
    assert_eq!(of("c-a"), "one");
    assert_eq!(of("c-b"), "two");
}

#[test]
fn from_version_4_a_member_is_told_its_id_first() {
    let mut group = Group::new("g", rules(), at(0));
    let ask = JoinRequest {
        require_known_member_id: true,
        ..request("")
    };
    let reply = joined(&group.join(at(0), Token(0), ask, "x")).remove(0).1;
    assert_eq!(
        (reply.error, reply.member_id.as_str()),
        (ErrorCode::MEMBER_ID_REQUIRED, "c-x")
    );
    assert_eq!(group.state(), State::Empty);
    let again = JoinRequest {
        require_known_member_id: true,
        ..request("c-x")
    };
    assert_eq!(
        joined(&group.join(at(1), Token(1), again, ""))[0].1.error,
        ErrorCode::NONE
    );
}

#[test]
fn an_id_handed_out_and_not_used_lapses() {
    let mut group = Group::new("g", rules(), at(0));
    let ask = JoinRequest {
        require_known_member_id: true,
        ..request("")
    };
    group.join(at(0), Token(0), ask, "x");
    assert!(!group.is_forgettable());
    group.tick(at(10_000));
    assert!(group.is_forgettable());
    let late = joined(&group.join(at(10_001), Token(1), request("c-x"), ""));
    assert_eq!(late[0].1.error, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn an_empty_group_waits_for_company_up_to_the_rebalance_timeout() {
    let delayed = Rules {
        initial_rebalance_delay_ms: 3_000,
        ..Rules::default()
    };
    let mut group = Group::new("g", delayed, at(0));
    assert!(joined(&group.join(at(0), Token(0), request(""), "a")).is_empty());
    group.join(at(2_000), Token(1), request(""), "b");
    assert!(
        joined(&group.tick(at(3_000))).is_empty(),
        "somebody came during the delay: wait once more"
    );
    assert_eq!(joined(&group.tick(at(6_000))).len(), 2);
}

#[test]
fn session_timeouts_out_of_bounds_and_protocols_without_common_ground_are_refused() {
    let mut group = pair();
    let error =
        |group: &mut Group, r: JoinRequest| joined(&group.join(at(0), Token(9), r, "z"))[0].1.error;
    let short = JoinRequest {
        session_timeout_ms: 5_999,
        ..request("")
    };
    assert_eq!(error(&mut group, short), ErrorCode::INVALID_SESSION_TIMEOUT);
    let long = JoinRequest {
        session_timeout_ms: 1_800_001,
        ..request("")
    };
    assert_eq!(error(&mut group, long), ErrorCode::INVALID_SESSION_TIMEOUT);
    let other = JoinRequest {
        protocols: vec![protocol("sticky")],
        ..request("")
    };
    assert_eq!(
        error(&mut group, other),
        ErrorCode::INCONSISTENT_GROUP_PROTOCOL
    );
    let connect = JoinRequest {
        protocol_type: "connect".to_owned(),
        ..request("")
    };
    assert_eq!(
        error(&mut group, connect),
        ErrorCode::INCONSISTENT_GROUP_PROTOCOL
    );
    let none = JoinRequest {
        protocols: Vec::new(),
        ..request("")
    };
    assert_eq!(
        error(&mut group, none),
        ErrorCode::INCONSISTENT_GROUP_PROTOCOL
    );
    assert_eq!(
        error(&mut group, request("nobody")),
        ErrorCode::UNKNOWN_MEMBER_ID
    );
}

#[test]
fn a_full_group_refuses_newcomers_and_keeps_its_members() {
    let mut group = Group::new(
        "g",
        Rules {
            max_size: 1,
            ..rules()
        },
        at(0),
    );
    group.join(at(0), Token(0), request(""), "a");
    let refused = joined(&group.join(at(0), Token(1), request(""), "b"));
    assert_eq!(refused[0].1.error, ErrorCode::GROUP_MAX_SIZE_REACHED);
    assert_eq!(
        joined(&group.join(at(0), Token(2), request("c-a"), ""))[0]
            .1
            .error,
        ErrorCode::NONE
    );
}

#[test]
fn metadata_beyond_the_budget_is_refused() {
    let mut group = Group::new(
        "g",
        Rules {
            max_member_metadata_bytes: 64,
            ..rules()
        },
        at(0),
    );
    let fat = JoinRequest {
        protocols: vec![Protocol {
            name: "range".to_owned(),
            metadata: Bytes::from(vec![0; 65]),
        }],
        ..request("")
    };
    assert_eq!(
        joined(&group.join(at(0), Token(0), fat, "a"))[0].1.error,
        ErrorCode::INVALID_REQUEST
    );
}

#[test]
fn the_protocol_most_members_prefer_is_chosen() {
    let mut group = Group::new("g", rules(), at(0));
    let order = |id: &str, names: [&str; 2]| JoinRequest {
        protocols: names.map(protocol).to_vec(),
        ..request(id)
    };
    group.join(at(0), Token(0), order("", ["range", "roundrobin"]), "a");
    group.join(at(0), Token(1), order("", ["roundrobin", "range"]), "b");
    group.join(at(0), Token(2), order("", ["roundrobin", "range"]), "c");
    let replies = joined(&group.join(at(0), Token(3), order("c-a", ["range", "roundrobin"]), ""));
    assert_eq!(replies.len(), 3);
    assert!(
        replies
            .iter()
            .all(|(_, r)| r.protocol.as_deref() == Some("roundrobin"))
    );
}

#[test]
fn a_follower_that_joins_unchanged_disturbs_nobody_but_the_leader_begins_a_round() {
    let mut group = pair();
    let reply = joined(&group.join(at(0), Token(9), request("c-b"), ""));
    assert_eq!((reply[0].1.generation, group.state()), (2, State::Stable));
    assert!(joined(&group.join(at(0), Token(10), request("c-a"), "")).is_empty());
    assert_eq!(group.state(), State::PreparingRebalance);
    assert_eq!(
        group.heartbeat(at(1), "c-b", None, 2),
        ErrorCode::REBALANCE_IN_PROGRESS
    );
}

#[test]
fn who_does_not_come_back_in_time_is_left_out() {
    let mut group = pair();
    group.join(at(0), Token(9), request("c-a"), "");
    for ms in (5_000..60_000).step_by(5_000) {
        group.heartbeat(at(ms), "c-b", None, 2);
        assert!(joined(&group.tick(at(ms))).is_empty());
    }
    let replies = joined(&group.tick(at(60_000)));
    assert_eq!(replies.len(), 1);
    assert_eq!(
        (replies[0].1.generation, replies[0].1.members.len()),
        (3, 1)
    );
    assert_eq!(
        group.heartbeat(at(60_001), "c-b", None, 2),
        ErrorCode::UNKNOWN_MEMBER_ID
    );
}

#[test]
fn a_silent_member_is_removed_and_the_rest_rebalances() {
    let mut group = pair();
    group.heartbeat(at(9_000), "c-a", None, 2);
    assert!(group.wake_ms() <= 10_000);
    group.tick(at(10_000));
    assert_eq!(group.members().count(), 1);
    assert_eq!(group.state(), State::PreparingRebalance);
}

#[test]
fn who_does_not_sync_is_removed() {
    let mut group = Group::new("g", rules(), at(0));
    let slow = JoinRequest {
        session_timeout_ms: 1_800_000,
        rebalance_timeout_ms: 10_000,
        ..request("")
    };
    group.join(at(0), Token(0), slow, "a");
    assert_eq!(group.state(), State::CompletingRebalance);
    let effects = group.tick(at(10_000));
    assert_eq!(group.state(), State::Empty);
    assert_eq!(persists(&effects).len(), 1);
}

#[test]
fn the_last_member_leaves_an_empty_group_in_a_new_generation() {
    let mut group = pair();
    let leave = |id: &str| Leaver {
        member_id: id.to_owned(),
        instance_id: None,
    };
    let (codes, effects) = group.leave(at(0), &[leave("c-a"), leave("nobody"), leave("c-b")]);
    assert_eq!(
        codes,
        [
            ErrorCode::NONE,
            ErrorCode::UNKNOWN_MEMBER_ID,
            ErrorCode::NONE
        ]
    );
    let record = persists(&effects).remove(0).1;
    assert_eq!(
        (group.state(), record.generation, record.members.len()),
        (State::Empty, 3, 0)
    );
}

#[test]
fn generations_and_members_that_do_not_match_are_refused() {
    let mut group = pair();
    assert_eq!(
        group.heartbeat(at(0), "c-a", None, 1),
        ErrorCode::ILLEGAL_GENERATION
    );
    assert_eq!(
        group.heartbeat(at(0), "c-z", None, 2),
        ErrorCode::UNKNOWN_MEMBER_ID
    );
    assert_eq!(
        synced(&group.sync(at(0), Token(9), sync("c-a", 1, &[])))[0]
            .1
            .error,
        ErrorCode::ILLEGAL_GENERATION
    );
    let other = SyncRequest {
        protocol: Some("sticky".to_owned()),
        ..sync("c-a", 2, &[])
    };
    assert_eq!(
        synced(&group.sync(at(0), Token(9), other))[0].1.error,
        ErrorCode::INCONSISTENT_GROUP_PROTOCOL
    );
    assert_eq!(
        group.check_commit(at(0), "c-a", None, 1),
        Err(ErrorCode::ILLEGAL_GENERATION)
    );
    assert_eq!(
        group.check_commit(at(0), "", None, -1),
        Err(ErrorCode::UNKNOWN_MEMBER_ID)
    );
    assert_eq!(group.check_commit(at(0), "c-a", None, 2), Ok(()));
    assert_eq!(
        Group::new("g", rules(), at(0)).check_commit(at(0), "", None, -1),
        Ok(())
    );
}

#[test]
fn between_join_and_sync_positions_are_not_taken() {
    let mut group = Group::new("g", rules(), at(0));
    group.join(at(0), Token(0), request(""), "a");
    assert_eq!(
        group.check_commit(at(0), "c-a", None, 1),
        Err(ErrorCode::REBALANCE_IN_PROGRESS)
    );
}

#[test]
fn an_assignment_that_cannot_be_written_begins_another_round() {
    let mut group = Group::new("g", rules(), at(0));
    group.join(at(0), Token(0), request(""), "a");
    let effects = group.sync(at(0), Token(1), sync("c-a", 1, &[("c-a", "x")]));
    let ticket = persists(&effects)[0].0;
    let answers = synced(&group.persisted(at(0), ticket, Err(ErrorCode::NOT_ENOUGH_REPLICAS)));
    assert_eq!(answers[0].1.error, ErrorCode::COORDINATOR_NOT_AVAILABLE);
    assert_eq!(group.state(), State::PreparingRebalance);
}

#[test]
fn an_assignment_overtaken_by_another_round_is_dropped() {
    let mut group = Group::new("g", rules(), at(0));
    group.join(at(0), Token(0), request(""), "a");
    let ticket = persists(&group.sync(at(0), Token(1), sync("c-a", 1, &[("c-a", "x")])))[0].0;
    let effects = group.join(at(0), Token(2), request(""), "b");
    assert_eq!(
        synced(&effects)[0].1.error,
        ErrorCode::REBALANCE_IN_PROGRESS
    );
    assert!(group.persisted(at(0), ticket, Ok(())).is_empty());
    assert_eq!(group.state(), State::PreparingRebalance);
}

#[test]
fn closing_answers_everybody_parked() {
    let mut group = pair();
    group.join(at(0), Token(9), request("c-a"), "");
    let replies = joined(&group.close(ErrorCode::NOT_COORDINATOR));
    assert_eq!(
        (replies[0].0, replies[0].1.error),
        (9, ErrorCode::NOT_COORDINATOR)
    );
    assert_eq!(
        group.heartbeat(at(0), "c-a", None, 2),
        ErrorCode::COORDINATOR_NOT_AVAILABLE
    );
}

#[test]
fn a_group_read_from_the_log_goes_on_in_its_generation() {
    let group = pair();
    let record = group.record();
    let mut back = Group::restore("g", rules(), record.clone(), at(500));
    assert_eq!(
        (back.state(), back.generation(), back.leader()),
        (State::Stable, 2, Some("c-a"))
    );
    assert_eq!(back.record(), record);
    assert_eq!(back.heartbeat(at(501), "c-b", None, 2), ErrorCode::NONE);
    assert_eq!(
        synced(&back.sync(at(502), Token(0), sync("c-b", 2, &[])))[0]
            .1
            .assignment,
        "two"
    );
    back.heartbeat(at(5_000), "c-b", None, 2);
    back.tick(at(10_600));
    assert_eq!(back.members().count(), 1);
}
