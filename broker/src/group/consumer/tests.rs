use uuid::Uuid;

use super::*;
use crate::group::store::{Pace, Topics};

/// Topics of four partitions each, named `t1`, `t2`, ..; the number is the id.
pub(super) struct Few {
    pub(super) topics: u8,
    pub(super) partitions: i32,
    pub(super) version: u64,
}

pub(super) const TWO: Few = Few {
    topics: 2,
    partitions: 4,
    version: 1,
};

pub(super) fn topic(number: u8) -> Uuid {
    Uuid::from_u128(u128::from(number))
}

impl Topics for Few {
    fn name(&self, id: Uuid) -> Option<String> {
        self.names()
            .into_iter()
            .find(|name| self.id(name) == Some(id))
    }

    fn id(&self, name: &str) -> Option<Uuid> {
        let number = name.strip_prefix('t')?.parse().ok()?;
        (1..=self.topics).contains(&number).then(|| topic(number))
    }

    fn partitions(&self, name: &str) -> Option<i32> {
        self.id(name).map(|_| self.partitions)
    }

    fn names(&self) -> Vec<String> {
        (1..=self.topics)
            .map(|number| format!("t{number}"))
            .collect()
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn pace(&self, _group: &str) -> Pace {
        Pace::default()
    }
}

fn at(ms: i64) -> Now {
    Now {
        mono_ms: ms,
        wall_ms: 1_000_000 + ms,
    }
}

fn group() -> Group {
    Group::new("g", Rules::default())
}

pub(super) fn joining(id: &str) -> Heartbeat {
    Heartbeat {
        member_id: id.to_owned(),
        rebalance_timeout_ms: Some(10_000),
        topics: Some(vec!["t1".to_owned()]),
        owned: Some(Assignment::default()),
        ..Heartbeat::default()
    }
}

/// A heartbeat that says nothing new but what it owns.
fn beat(id: &str, epoch: i32, owned: &Assignment) -> Heartbeat {
    Heartbeat {
        member_id: id.to_owned(),
        epoch,
        owned: Some(owned.clone()),
        ..Heartbeat::default()
    }
}

fn ok(group: &mut Group, request: Heartbeat) -> Reply {
    group.heartbeat(at(0), request, &TWO).unwrap().0
}

fn code(group: &mut Group, request: Heartbeat) -> ErrorCode {
    group.heartbeat(at(0), request, &TWO).unwrap_err().code
}

fn partitions(assignment: &Assignment) -> Vec<i32> {
    assignment.iter().map(|(_, partition)| partition).collect()
}

#[test]
fn a_first_member_gets_everything_at_once() {
    let mut group = group();
    let (reply, changes) = group.heartbeat(at(0), joining("a"), &TWO).unwrap();
    assert_eq!(
        (reply.epoch, group.epoch(), group.target_epoch()),
        (1, 1, 1)
    );
    assert_eq!(partitions(&reply.assignment.unwrap()), [0, 1, 2, 3]);
    assert_eq!(group.state(), State::Stable);
    let kinds: Vec<_> = changes.iter().map(std::mem::discriminant).collect();
    assert_eq!(kinds.len(), 5);
    assert!(matches!(changes[0], Change::Member(..)));
    assert!(matches!(changes[1], Change::Epoch(_)));
    assert!(matches!(changes[2], Change::Target(..)));
    assert!(matches!(changes[3], Change::TargetEpoch(Some(1))));
    assert!(matches!(changes[4], Change::Current(..)));
}

#[test]
fn a_partition_changes_hands_only_after_it_was_given_up() {
    let mut group = group();
    let all = ok(&mut group, joining("a")).assignment.unwrap();
    let joined = ok(&mut group, joining("b"));
    assert_eq!(
        (joined.epoch, joined.assignment),
        (2, Some(Assignment::default()))
    );
    assert_eq!(group.state(), State::Reconciling);

    let asked = ok(&mut group, beat("a", 1, &all));
    let kept = asked.assignment.unwrap();
    assert_eq!((asked.epoch, partitions(&kept)), (1, vec![0, 1]));
    let waiting = ok(&mut group, beat("b", 2, &Assignment::default()));
    assert_eq!(waiting.assignment, None);
    // It still has them.
    let unmoved = ok(&mut group, beat("a", 1, &all));
    assert_eq!((unmoved.epoch, unmoved.assignment), (1, None));
    let released = ok(&mut group, beat("a", 1, &kept));
    assert_eq!((released.epoch, released.assignment), (2, None));
    let given = ok(&mut group, beat("b", 2, &Assignment::default()));
    assert_eq!(partitions(&given.assignment.unwrap()), [2, 3]);
    assert_eq!(group.state(), State::Stable);
}

#[test]
fn who_leaves_makes_place_at_the_next_heartbeat_of_the_others() {
    let mut group = group();
    let all = ok(&mut group, joining("a")).assignment.unwrap();
    ok(&mut group, joining("b"));
    let kept = ok(&mut group, beat("a", 1, &all)).assignment.unwrap();
    ok(&mut group, beat("a", 1, &kept));
    ok(&mut group, beat("b", 2, &Assignment::default()));
    let left = ok(&mut group, beat("b", -1, &Assignment::default()));
    assert_eq!((left.epoch, group.state()), (-1, State::Assigning));
    let back = ok(&mut group, beat("a", 2, &kept));
    assert_eq!(back.epoch, 3);
    assert_eq!(partitions(&back.assignment.unwrap()), [0, 1, 2, 3]);
    assert_eq!(
        code(&mut group, beat("b", 2, &kept)),
        ErrorCode::UNKNOWN_MEMBER_ID
    );
    ok(&mut group, beat("a", -1, &kept));
    assert_eq!(group.state(), State::Empty);
}

#[test]
fn epochs_that_are_not_the_members_are_fenced_but_a_lost_answer_is_given_again() {
    let mut group = group();
    let all = ok(&mut group, joining("a")).assignment.unwrap();
    assert_eq!(
        code(&mut group, beat("a", 2, &all)),
        ErrorCode::FENCED_MEMBER_EPOCH
    );
    // The answer to the join was lost: it joins again.
    let again = ok(&mut group, joining("a"));
    assert_eq!((again.epoch, again.assignment), (1, Some(all.clone())));
    // The answer that raised the epoch from 1 to 2 was lost.
    let wide = Heartbeat {
        topics: Some(vec!["t1".to_owned(), "t2".to_owned()]),
        ..beat("a", 1, &all)
    };
    assert_eq!(ok(&mut group, wide.clone()).epoch, 2);
    assert_eq!(ok(&mut group, wide).epoch, 2);
    let foreign: Assignment = [(topic(9), 0)].into_iter().collect();
    assert_eq!(
        code(&mut group, beat("a", 1, &foreign)),
        ErrorCode::FENCED_MEMBER_EPOCH
    );
}

#[test]
fn a_fenced_member_joins_again_at_once_and_gives_up_what_it_was_asked_to() {
    let mut group = group();
    let all = ok(&mut group, joining("a")).assignment.unwrap();
    ok(&mut group, joining("b"));
    // The coordinator knows it with 1; it comes from a future that was cut off.
    assert_eq!(
        code(&mut group, beat("a", 7, &all)),
        ErrorCode::FENCED_MEMBER_EPOCH
    );
    let asked = ok(&mut group, beat("a", 1, &all));
    assert_eq!((asked.epoch, group.state()), (1, State::Reconciling));
    let back = ok(&mut group, joining("a"));
    assert_eq!(back.epoch, 2);
    assert_eq!(partitions(&back.assignment.unwrap()), [0, 1]);
    let given = ok(&mut group, beat("b", 2, &Assignment::default()));
    assert_eq!(partitions(&given.assignment.unwrap()), [2, 3]);
    assert_eq!((group.epoch(), group.state()), (2, State::Stable));
    // And once more, when nothing is left to do.
    let again = ok(&mut group, joining("a"));
    assert_eq!(partitions(&again.assignment.unwrap()), [0, 1]);
    assert_eq!(group.epoch(), 2);
}

#[test]
fn a_silent_member_and_one_that_gives_nothing_up_are_fenced() {
    let mut group = group();
    let all = ok(&mut group, joining("a")).assignment.unwrap();
    ok(&mut group, joining("b"));
    ok(&mut group, beat("a", 1, &all));
    assert!(group.tick(at(9_999), &TWO).is_empty());
    let changes = group.tick(at(10_000), &TWO);
    assert!(changes.contains(&Change::Member("a".into(), None)));
    let given = group
        .heartbeat(at(10_000), beat("b", 2, &Assignment::default()), &TWO)
        .unwrap()
        .0;
    assert_eq!(partitions(&given.assignment.unwrap()), [0, 1, 2, 3]);
    group.tick(at(54_999), &TWO);
    assert_eq!(group.members().count(), 1);
    group.tick(at(55_000), &TWO);
    assert_eq!((group.members().count(), group.state()), (0, State::Empty));
}

#[test]
fn a_static_member_comes_back_to_what_it_had() {
    let mut group = group();
    let named = |id: &str, epoch: i32| Heartbeat {
        instance_id: Some("i".to_owned()),
        epoch,
        ..joining(id)
    };
    let had = ok(&mut group, named("a", 0)).assignment;
    assert_eq!(
        code(&mut group, named("b", 0)),
        ErrorCode::UNRELEASED_INSTANCE_ID
    );
    assert_eq!(
        code(&mut group, named("b", 1)),
        ErrorCode::FENCED_INSTANCE_ID
    );
    ok(&mut group, named("a", -2));
    let epoch = group.epoch();
    let (back, changes) = group.heartbeat(at(0), named("b", 0), &TWO).unwrap();
    assert_eq!((back.assignment, group.epoch()), (had, epoch));
    assert!(changes.contains(&Change::Member("a".into(), None)));
    assert_eq!(
        code(&mut group, named("a", 1)),
        ErrorCode::FENCED_INSTANCE_ID
    );
    // Away for longer than a session.
    ok(&mut group, named("b", -2));
    group.tick(at(45_000), &TWO);
    assert_eq!(group.members().count(), 0);
}

#[test]
fn an_expression_stands_for_what_matches_whole_names_and_follows_the_topics() {
    let mut group = group();
    let by_regex = |id: &str, text: &str| Heartbeat {
        topics: None,
        regex: Some(text.to_owned()),
        ..joining(id)
    };
    assert_eq!(
        code(&mut group, by_regex("a", "t(")),
        ErrorCode::INVALID_REGULAR_EXPRESSION
    );
    assert_eq!(
        code(&mut group, by_regex("a", "x)|(?:t")),
        ErrorCode::INVALID_REGULAR_EXPRESSION
    );
    assert_eq!((group.epoch(), group.members().count()), (0, 0));
    let both = ok(&mut group, by_regex("a", "t[0-9]")).assignment.unwrap();
    assert_eq!(both.len(), 8);
    let none = ok(&mut group, by_regex("b", "t"));
    assert_eq!(none.assignment, Some(Assignment::default()));
    assert!(group.subscribes("t2") && !group.subscribes("t3"));

    let three = Few {
        topics: 3,
        version: 2,
        ..TWO
    };
    let (reply, changes) = group
        .heartbeat(at(10_000), beat("a", 1, &both), &three)
        .unwrap();
    assert_eq!(reply.assignment.unwrap().len(), 12);
    let seen = changes
        .iter()
        .any(|change| matches!(change, Change::Regex(_, Some(found)) if found.topics.len() == 3));
    assert!(seen);
    let (_, changes) = group
        .heartbeat(at(10_000), beat("b", -1, &Assignment::default()), &three)
        .unwrap();
    assert!(changes.contains(&Change::Regex("t".into(), None)));
}

#[test]
fn an_expression_stands_for_nothing_that_its_member_may_not_describe() {
    let mut group = group();
    let seeing = |seen: &'static [&'static str]| Heartbeat {
        topics: None,
        regex: Some("t.".to_owned()),
        sight: Sight::only(move |name| seen.contains(&name)),
        ..joining("a")
    };
    let one = ok(&mut group, seeing(&["t1"])).assignment.unwrap();
    assert_eq!((one.len(), group.subscribes("t2")), (4, false));
    // The right to see the other one came with a new version of what is known.
    let later = Few { version: 2, ..TWO };
    let again = Heartbeat {
        epoch: 1,
        owned: Some(one),
        ..seeing(&["t1", "t2"])
    };
    let (reply, _) = group.heartbeat(at(10_000), again, &later).unwrap();
    assert_eq!(reply.assignment.unwrap().len(), 8);
    assert!(group.subscribes("t2"));
}

#[test]
fn more_partitions_of_a_topic_are_given_out() {
    let mut group = group();
    let all = ok(&mut group, joining("a")).assignment.unwrap();
    let wider = Few {
        partitions: 6,
        version: 2,
        ..TWO
    };
    let (reply, _) = group.heartbeat(at(1), beat("a", 1, &all), &wider).unwrap();
    assert_eq!((reply.epoch, reply.assignment.unwrap().len()), (2, 6));
    let same = Few {
        version: 3,
        ..wider
    };
    let (reply, changes) = group.heartbeat(at(1), beat("a", 2, &all), &same).unwrap();
    assert_eq!((reply.epoch, changes.len()), (2, 0));
}

#[test]
fn a_full_group_and_a_fat_subscription_are_refused() {
    let rules = Rules {
        max_size: 1,
        max_profile_bytes: 64,
        ..Rules::default()
    };
    let mut group = Group::new("g", rules);
    ok(&mut group, joining("a"));
    assert_eq!(
        code(&mut group, joining("b")),
        ErrorCode::GROUP_MAX_SIZE_REACHED
    );
    let fat = Heartbeat {
        topics: Some(vec!["x".repeat(64)]),
        ..beat("a", 1, &Assignment::default())
    };
    assert_eq!(code(&mut group, fat), ErrorCode::INVALID_REQUEST);
}

#[test]
fn most_members_choose_the_assignor() {
    let mut group = group();
    let asking = |id: &str, name: &str| Heartbeat {
        assignor: Some(name.to_owned()),
        ..joining(id)
    };
    ok(&mut group, asking("a", "uniform"));
    ok(&mut group, asking("b", "range"));
    assert_eq!(group.assignor(), "uniform");
    ok(&mut group, asking("c", "range"));
    assert_eq!(group.assignor(), "range");
}
