use super::*;

/// A stable group of the static members `i1` (leader) and `i2`.
fn statics(skip: bool) -> (Group, JoinReply) {
    let mut group = Group::new("g", rules(), at(0));
    group.join(at(0), Token(0), instance("", "i1"), "a");
    group.join(at(0), Token(1), instance("", "i2"), "a");
    group.join(at(0), Token(2), instance("i1-a", "i1"), "");
    let effects = group.sync(
        at(0),
        Token(3),
        SyncRequest {
            instance_id: Some("i1".to_owned()),
            ..sync("i1-a", 2, &[("i1-a", "one")])
        },
    );
    group.persisted(at(0), persists(&effects)[0].0, Ok(()));
    assert_eq!(group.state(), State::Stable);
    let back = JoinRequest {
        supports_skipping_assignment: skip,
        ..instance("", "i1")
    };
    let effects = group.join(at(1), Token(4), back, "b");
    assert!(joined(&effects).is_empty());
    let (ticket, record) = persists(&effects).remove(0);
    assert!(
        record
            .members
            .iter()
            .any(|m| m.member_id == "i1-b" && m.assignment == "one")
    );
    let reply = joined(&group.persisted(at(1), ticket, Ok(()))).remove(0).1;
    (group, reply)
}

#[test]
fn a_static_member_comes_back_without_a_rebalance_and_its_old_id_is_fenced() {
    let (mut group, reply) = statics(true);
    assert_eq!(
        (
            reply.member_id.as_str(),
            reply.leader.as_str(),
            reply.generation
        ),
        ("i1-b", "i1-b", 2)
    );
    assert!(reply.skip_assignment);
    assert_eq!(group.state(), State::Stable);
    assert_eq!(
        group.heartbeat(at(2), "i1-a", Some("i1"), 2),
        ErrorCode::FENCED_INSTANCE_ID
    );
    assert_eq!(
        group.check_commit(at(2), "i1-a", Some("i1"), 2),
        Err(ErrorCode::FENCED_INSTANCE_ID)
    );
    let again = group.sync(
        at(2),
        Token(5),
        SyncRequest {
            instance_id: Some("i1".to_owned()),
            ..sync("i1-b", 2, &[])
        },
    );
    assert_eq!(synced(&again)[0].1.assignment, "one");
}

#[test]
fn an_older_client_that_returns_as_leader_is_told_that_its_old_id_leads() {
    let (_, reply) = statics(false);
    assert_eq!(
        (reply.leader.as_str(), reply.skip_assignment),
        ("i1-a", false)
    );
    assert!(reply.members.is_empty());
}

#[test]
fn an_operator_removes_a_static_member_by_its_instance_id() {
    let (mut group, _) = statics(true);
    let leaver = Leaver {
        member_id: String::new(),
        instance_id: Some("i2".to_owned()),
    };
    assert_eq!(
        group.leave(at(2), std::slice::from_ref(&leaver)).0,
        [ErrorCode::NONE]
    );
    assert_eq!(
        group.leave(at(2), &[leaver]).0,
        [ErrorCode::UNKNOWN_MEMBER_ID]
    );
    assert_eq!(group.state(), State::PreparingRebalance);
}

#[test]
fn absent_static_members_keep_their_place_until_their_session_ends() {
    let (mut group, _) = statics(true);
    group.join(at(10), Token(7), instance("i1-b", "i1"), "");
    assert_eq!(group.state(), State::PreparingRebalance);
    assert!(joined(&group.tick(at(9_000))).is_empty());
    let replies = joined(&group.tick(at(10_001)));
    assert_eq!(
        replies.len(),
        1,
        "i2's session ended, so everybody has come"
    );
}
