//! Every check is shown a history with exactly its violation planted, and must be the only one to object.

use super::*;
use crate::history::{Final, Key, LeaseEnd, Outcome, Poll, Promotion, Send, Value};

fn key() -> Key {
    Key {
        topic: "t".to_owned(),
        partition: 0,
    }
}

fn send(value: Value, offset: i64, at_ns: u64) -> Send {
    Send {
        process: "writer".to_owned(),
        region: None,
        key: key(),
        value,
        invoked_ns: at_ns,
        completed_ns: at_ns + 1,
        outcome: Outcome::Acked { offset },
    }
}

fn poll(value: Value, offset: i64, at_ns: u64) -> Poll {
    Poll {
        process: "reader".to_owned(),
        key: key(),
        offset,
        value,
        at_ns,
    }
}

/// Ten records in east; west takes over at offset 8 (two are lost, at most three were stated); six more.
/// A reader saw all of it, the lost ones included.
fn clean() -> History {
    let before = (0..10).map(|n| (n + 1, n as i64, 10 * (n + 1)));
    let after = (0..6).map(|n| (n + 11, n as i64 + 8, 1_000 + 10 * n));
    let mut history = History::default();
    for (value, offset, at_ns) in before.chain(after) {
        history.sends.push(send(value, offset, at_ns));
        history.polls.push(poll(value, offset, at_ns + 5));
        if !(9..=10).contains(&value) {
            history.final_read.push(Final {
                key: key(),
                offset,
                value,
            });
        }
    }
    history.promotions.push(Promotion {
        epoch: 2,
        from: "east".to_owned(),
        to: "west".to_owned(),
        asked_ns: 500,
        done_ns: 900,
        heard_ns: 900,
        bound: Some(3),
        offsets: vec![(key(), 8)],
    });
    history.lease_ends.push(LeaseEnd {
        region: "east".to_owned(),
        from_ns: 300,
        until_ns: 900,
    });
    // Refused and unknown writes are no evidence of anything.
    history.sends.push(Send {
        outcome: Outcome::Refused {
            why: "NOT_LEADER_OR_FOLLOWER".to_owned(),
        },
        region: Some("east".to_owned()),
        ..send(90, 0, 950)
    });
    history.sends.push(Send {
        outcome: Outcome::Unknown {
            why: "timeout".to_owned(),
        },
        ..send(91, 0, 960)
    });
    history
}

fn found(plant: impl FnOnce(&mut History)) -> Vec<&'static str> {
    let mut history = clean();
    plant(&mut history);
    let mut names: Vec<_> = check(&history).into_iter().map(|v| v.check).collect();
    names.dedup();
    names
}

#[test]
fn a_clean_history_has_no_violation() {
    assert_eq!(check(&clean()), []);
    assert_eq!(lost(&clean()), 2);
}

#[test]
fn a_record_lost_below_the_promotion_offset_is_flagged() {
    assert_eq!(
        found(|h| h.final_read.retain(|r| r.value != 4)),
        ["lost-write"]
    );
}

#[test]
fn a_record_lost_after_the_move_is_flagged_also_at_the_tail() {
    assert_eq!(
        found(|h| h.final_read.retain(|r| r.value != 16)),
        ["lost-write"]
    );
}

#[test]
fn more_loss_than_was_stated_is_flagged() {
    assert_eq!(
        found(|h| h.promotions[0].bound = Some(1)),
        ["loss-beyond-bound"]
    );
    assert_eq!(found(|h| h.promotions[0].bound = None), [""; 0]);
}

#[test]
fn a_value_at_two_offsets_is_flagged() {
    assert_eq!(
        found(|h| h.final_read.push(Final {
            key: key(),
            offset: 14,
            value: 16
        })),
        ["duplicate"]
    );
}

#[test]
fn two_values_at_one_offset_are_flagged() {
    // Another reader was given 92, which may have been written, where 3 is.
    let plant = |h: &mut History| {
        h.sends.push(Send {
            outcome: Outcome::Unknown {
                why: "timeout".to_owned(),
            },
            ..send(92, 0, 25)
        });
        h.polls.push(Poll {
            process: "other".to_owned(),
            ..poll(92, 2, 40)
        });
    };
    assert_eq!(found(plant), ["inconsistent-offset"]);
}

#[test]
fn two_values_at_one_offset_of_a_lineage_that_ended_are_flagged() {
    let plant = |h: &mut History| {
        h.sends.push(Send {
            outcome: Outcome::Unknown {
                why: "timeout".to_owned(),
            },
            ..send(92, 0, 25)
        });
        h.polls.push(Poll {
            process: "other".to_owned(),
            ..poll(92, 9, 110)
        });
    };
    assert_eq!(found(plant), ["inconsistent-offset"]);
}

#[test]
fn a_reader_that_goes_back_is_flagged() {
    assert_eq!(
        found(|h| h.polls.push(poll(12, 9, 2_000))),
        ["nonmonotonic-poll"]
    );
}

#[test]
fn a_reader_that_goes_back_below_the_promotion_offset_is_flagged() {
    assert_eq!(
        found(|h| h.polls.insert(10, poll(8, 7, 950))),
        ["nonmonotonic-poll"]
    );
}

#[test]
fn a_reader_may_go_back_over_a_record_that_was_written_again_at_its_offset() {
    let plant = |h: &mut History| {
        // 9 was not acknowledged by the old home, and its retry came to stand where it had stood.
        h.sends.retain(|s| s.value != 9 && s.value != 11);
        h.sends.push(send(9, 8, 90));
        h.polls.retain(|p| p.value != 11 && p.value != 10);
        h.polls.insert(9, poll(9, 8, 1_005));
        h.final_read.retain(|r| r.value != 11);
        h.final_read.push(Final {
            key: key(),
            offset: 8,
            value: 9,
        });
    };
    assert_eq!(found(plant), [""; 0]);
}

#[test]
fn a_home_that_has_not_heard_of_the_move_may_be_read() {
    // The lost records are read a second time, by another reader, after the move.
    let plant = |h: &mut History| {
        for (value, offset) in [(9, 8), (10, 9)] {
            h.polls.push(Poll {
                process: "other".to_owned(),
                ..poll(value, offset, 950)
            });
        }
    };
    assert_eq!(found(plant), ["inconsistent-offset"]);
    let heard = |h: &mut History| {
        plant(h);
        h.promotions[0].heard_ns = 960;
    };
    assert_eq!(found(heard), [""; 0]);
}

#[test]
fn a_reader_that_passes_over_a_record_is_flagged() {
    assert_eq!(found(|h| h.polls.retain(|p| p.value != 13)), ["poll-skip"]);
    // The first record of the new lineage, right after the move.
    assert_eq!(found(|h| h.polls.retain(|p| p.value != 11)), ["poll-skip"]);
}

#[test]
fn a_record_that_nobody_wrote_is_flagged() {
    assert_eq!(
        found(|h| h.final_read.push(Final {
            key: key(),
            offset: 14,
            value: 77
        })),
        ["phantom"]
    );
}

#[test]
fn a_refused_record_that_is_read_is_flagged() {
    assert_eq!(
        found(|h| h.final_read.push(Final {
            key: key(),
            offset: 14,
            value: 90
        })),
        ["phantom"]
    );
}

#[test]
fn an_acknowledgement_from_the_old_home_is_flagged() {
    // It is in the final log too, so that nothing else is wrong with it.
    let plant = |h: &mut History| {
        h.sends.push(Send {
            region: Some("east".to_owned()),
            ..send(93, 14, 1_500)
        });
        h.final_read.push(Final {
            key: key(),
            offset: 14,
            value: 93,
        });
    };
    assert_eq!(found(plant), ["old-epoch-ack"]);
}

#[test]
fn an_acknowledgement_after_the_lease_is_flagged() {
    let plant = |h: &mut History| {
        h.promotions[0].bound = Some(9);
        h.sends.push(Send {
            region: Some("east".to_owned()),
            ..send(94, 10, 400)
        });
    };
    assert_eq!(found(plant), ["late-ack"]);
}

#[test]
fn a_region_that_became_home_again_may_acknowledge() {
    let plant = |h: &mut History| {
        h.promotions.push(Promotion {
            epoch: 3,
            from: "west".to_owned(),
            to: "east".to_owned(),
            asked_ns: 1_400,
            done_ns: 1_600,
            heard_ns: 1_600,
            bound: Some(0),
            offsets: vec![],
        });
        h.sends.push(Send {
            region: Some("east".to_owned()),
            ..send(95, 14, 1_700)
        });
        h.final_read.push(Final {
            key: key(),
            offset: 14,
            value: 95,
        });
    };
    assert_eq!(found(plant), [""; 0]);
}
