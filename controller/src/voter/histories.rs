//! Histories that the model of leases goes through: one by hand, and random ones.

use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};

use super::model::{Step, VOTERS, World};
use crate::state::Command;

/// A request that waited out the voter's restart, while a newer one was granted there before it.
fn late_request(starts_count: bool) -> Result<(), String> {
    let mut world = World::new(starts_count);
    let write = |records| Step::Write { broker: 0, records };
    world.ask(0);
    world.settle(&[0, 1, 2]);
    world.run(vec![write(10)])?;
    // To voters 1 and 2; the one to voter 0 is late.
    world.ask(0);
    world.settle(&[1, 2]);
    let late = world.net.remove(0);
    // To voters 0 and 1; voter 2 never hears of it.
    world.run(vec![write(5_000)])?;
    world.ask(0);
    world.settle(&[0, 1]);
    world.check()?;
    assert_eq!(world.brokers[0].acked, 5_010, "two of three granted it");
    let restart = Step::RestartVoter {
        voter: 0,
        snapshot: 0,
    };
    world.run(vec![restart])?;
    world.deliver(late);
    world.check()
}

#[test]
fn a_request_from_before_a_voters_restart_names_no_ceiling_after_it() {
    late_request(true).unwrap();
}

#[test]
fn the_model_sees_what_a_voter_that_takes_late_requests_would_name() {
    let seen = late_request(false).unwrap_err();
    assert!(seen.contains("broker 1 acknowledged 5010"), "{seen}");
}

#[test]
fn a_restarted_voter_grants_again_once_it_was_asked_at_its_present_start() {
    let mut world = World::new(true);
    world.ask(0);
    world.settle(&[0, 1, 2]);
    assert!(
        world.brokers[0]
            .tenure
            .as_ref()
            .is_some_and(|t| !t.valid_at(world.now_ns))
    );
    world.ask(0);
    world.settle(&[0, 1]);
    assert!(
        world.brokers[0]
            .tenure
            .as_ref()
            .is_some_and(|t| t.valid_at(world.now_ns))
    );
}

fn step() -> impl Strategy<Value = Step> {
    let (broker, voter, message) = (0..2_usize, 0..VOTERS, 0..1_000_usize);
    let voters = prop::sample::subsequence(vec![0, 1, 2], 0..=VOTERS);
    prop_oneof![
        2 => broker.clone().prop_map(|broker| Step::Ask { broker }),
        12 => (broker.clone(), voters).prop_map(|(broker, voters)| Step::Round { broker, voters }),
        8 => (message.clone(), prop::bool::weighted(0.2))
            .prop_map(|(message, keep)| Step::Deliver { message, keep }),
        2 => message.prop_map(|message| Step::Lose { message }),
        4 => (1..600_u64).prop_map(|ms| Step::Pass { ms }),
        4 => (broker.clone(), 1..3_000_u64)
            .prop_map(|(broker, records)| Step::Write { broker, records }),
        2 => voter.clone().prop_map(|voter| Step::Replicate { voter }),
        2 => voter.clone().prop_map(|voter| Step::Apply { voter }),
        1 => Just(Step::Agree),
        2 => broker.clone().prop_map(|broker| Step::Watch { broker }),
        2 => (voter, 0..20_usize)
            .prop_map(|(voter, snapshot)| Step::RestartVoter { voter, snapshot }),
        1 => broker.prop_map(|broker| Step::RestartBroker { broker }),
        1 => Just(Step::Fence),
        2 => Just(Step::Move),
    ]
}

/// What broke first in so many random histories, the same ones each time, and how many moves they made.
fn search(histories: u32, starts_count: bool) -> (Option<String>, usize) {
    let mut runner = TestRunner::deterministic();
    let steps = prop::collection::vec(step(), 1..250);
    let mut moves = 0;
    for _ in 0..histories {
        let mut world = World::new(starts_count);
        let steps = steps.new_tree(&mut runner).unwrap().current();
        let held = world.run(steps);
        let is_move = |c: &&Command| matches!(c, Command::Move { .. });
        moves += world.log.iter().filter(is_move).count();
        if let Err(broken) = held {
            return (Some(broken), moves);
        }
    }
    (None, moves)
}

#[test]
fn random_histories_find_the_planted_fault() {
    let (broken, _) = search(400, false);
    assert!(broken.is_some_and(|b| b.contains("acknowledged")));
}

#[test]
fn random_histories_move_the_group_and_break_nothing() {
    let (broken, moves) = search(300, true);
    assert_eq!(broken, None);
    assert!(moves > 30, "{moves} moves");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_two_holders_and_no_ceiling_below_what_was_acknowledged(
        steps in prop::collection::vec(step(), 1..250),
    ) {
        let mut world = World::new(true);
        if let Err(broken) = world.run(steps) {
            return Err(TestCaseError::fail(broken));
        }
    }
}
