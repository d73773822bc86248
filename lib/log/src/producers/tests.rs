use super::*;
use crate::error::AppendError;
use whimbrel_wire::ErrorCode;

/// A log of one producer as far as producer state is concerned.
struct Client {
    producers: Producers,
    next_offset: i64,
    promotion: Option<i64>,
}

const PID: i64 = 7;

fn batch(epoch: i16, sequence: i32, count: i32) -> BatchHeader {
    BatchHeader {
        base_offset: 0,
        batch_length: 49,
        partition_leader_epoch: 0,
        magic: 2,
        crc: 0,
        attributes: 0,
        last_offset_delta: count - 1,
        base_timestamp: 0,
        max_timestamp: 0,
        producer_id: PID,
        producer_epoch: epoch,
        base_sequence: sequence,
        records_count: count,
    }
}

impl Client {
    fn new() -> Self {
        Client {
            producers: Producers::default(),
            next_offset: 0,
            promotion: None,
        }
    }

    /// Base offset of the batch, and whether it was there before.
    fn send(&mut self, epoch: i16, sequence: i32, count: i32) -> Result<(i64, bool), AppendError> {
        let mut header = batch(epoch, sequence, count);
        match self.producers.check(&header, None, self.promotion)? {
            Verdict::Duplicate(mark) => Ok((mark.base_offset, true)),
            _ => {
                header.base_offset = self.next_offset;
                self.next_offset += i64::from(count);
                self.producers.note(&header, None);
                Ok((header.base_offset, false))
            }
        }
    }

    fn code(&mut self, epoch: i16, sequence: i32) -> ErrorCode {
        match self.send(epoch, sequence, 5) {
            Ok(_) => ErrorCode::NONE,
            Err(error) => error.error_code(),
        }
    }

    /// The log survived to here, in a region that was promoted at its end.
    fn lossy_move(&mut self) {
        self.promotion = Some(self.next_offset);
    }

    /// State as a restart finds it: from the log alone.
    fn restart(&mut self) {
        self.producers = Producers::from_entries(self.producers.all());
    }
}

/// A producer whose batches 0..50 are here and 50..80 are lost.
fn after_a_loss() -> Client {
    let mut client = Client::new();
    for sequence in (0..50).step_by(5) {
        client.send(0, sequence, 5).unwrap();
    }
    client.lossy_move();
    client
}

#[test]
fn in_order_duplicate_gap_and_old_epoch() {
    let mut client = Client::new();
    for n in 0..6 {
        assert_eq!(client.send(3, n * 5, 5).unwrap(), (i64::from(n) * 5, false));
    }
    // The last five are known, the first no more.
    for n in 1..6 {
        assert_eq!(client.send(3, n * 5, 5).unwrap(), (i64::from(n) * 5, true));
    }
    assert_eq!(client.code(3, 0), ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(client.code(3, 35), ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(client.code(2, 30), ErrorCode::INVALID_PRODUCER_EPOCH);
    assert_eq!(client.code(4, 30), ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(client.code(4, 0), ErrorCode::NONE);
    assert_eq!(client.code(3, 30), ErrorCode::INVALID_PRODUCER_EPOCH);
}

#[test]
fn a_batch_of_the_same_start_and_another_end_is_no_duplicate() {
    let mut client = Client::new();
    client.send(0, 0, 5).unwrap();
    let error = client.send(0, 0, 4).unwrap_err();
    assert_eq!(error.error_code(), ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
}

#[test]
fn sequences_go_on_at_zero_after_the_largest() {
    let mut client = Client::new();
    assert_eq!(client.send(0, i32::MAX - 6, 5).unwrap(), (0, false));
    assert_eq!(client.send(0, i32::MAX - 1, 5).unwrap(), (5, false));
    assert_eq!(client.send(0, 3, 5).unwrap(), (10, false));
    assert_eq!(client.send(0, i32::MAX - 1, 5).unwrap(), (5, true));
}

#[test]
fn librdkafka_drains_and_sends_all_again() {
    let mut client = after_a_loss();
    for sequence in [80, 85, 90, 95] {
        assert_eq!(
            client.code(0, sequence),
            ErrorCode::NOT_ENOUGH_REPLICAS,
            "{sequence}"
        );
    }
    for sequence in [80, 85, 90, 95] {
        assert_eq!(client.code(0, sequence), ErrorCode::NONE, "{sequence}");
    }
    // That was the one jump.
    assert_eq!(client.code(0, 130), ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
}

#[test]
fn java_sends_its_lowest_batch_in_flight_again() {
    let mut client = after_a_loss();
    for sequence in [80, 85, 90] {
        assert_eq!(client.code(0, sequence), ErrorCode::NOT_ENOUGH_REPLICAS);
    }
    assert_eq!(client.code(0, 80), ErrorCode::NONE);
    for sequence in [85, 90, 95] {
        assert_eq!(client.code(0, sequence), ErrorCode::NONE);
    }
}

#[test]
fn a_batch_above_the_lowest_refused_stays_refused() {
    let mut client = after_a_loss();
    assert_eq!(client.code(0, 80), ErrorCode::NOT_ENOUGH_REPLICAS);
    for sequence in [85, 90, 85, 90, 95] {
        assert_eq!(client.code(0, sequence), ErrorCode::NOT_ENOUGH_REPLICAS);
    }
    // One below the lowest refused is taken as well: the client has older ones still.
    assert_eq!(client.code(0, 75), ErrorCode::NONE);
    assert_eq!(client.code(0, 80), ErrorCode::NONE);
}

#[test]
fn duplicates_of_what_is_here_stay_duplicates() {
    let mut client = after_a_loss();
    assert_eq!(client.send(0, 45, 5).unwrap(), (45, true));
    assert_eq!(client.code(0, 80), ErrorCode::NOT_ENOUGH_REPLICAS);
    assert_eq!(client.send(0, 40, 5).unwrap(), (40, true));
    assert_eq!(client.code(0, 80), ErrorCode::NONE);
    assert_eq!(client.send(0, 80, 5).unwrap(), (50, true));
}

#[test]
fn what_the_client_still_holds_from_the_hole_on_is_in_order() {
    let mut client = after_a_loss();
    assert_eq!(client.code(0, 60), ErrorCode::NOT_ENOUGH_REPLICAS);
    // It had the batch right behind ours after all: no jump, and the one right is not used up by it...
    assert_eq!(client.code(0, 50), ErrorCode::NONE);
    // ...but its newest batch now lies above the promotion.
    assert_eq!(client.code(0, 60), ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(client.code(0, 55), ErrorCode::NONE);
}

#[test]
fn a_bumped_epoch_that_does_not_begin_at_zero_is_a_jump() {
    let mut client = after_a_loss();
    assert_eq!(client.code(1, 10), ErrorCode::NOT_ENOUGH_REPLICAS);
    assert_eq!(client.code(1, 15), ErrorCode::NOT_ENOUGH_REPLICAS);
    assert_eq!(client.code(1, 10), ErrorCode::NONE);
    let mut client = after_a_loss();
    assert_eq!(client.code(1, 10), ErrorCode::NOT_ENOUGH_REPLICAS);
    assert_eq!(client.code(2, 20), ErrorCode::NOT_ENOUGH_REPLICAS);
    assert_eq!(client.code(2, 0), ErrorCode::NONE);
    assert_eq!(client.code(1, 10), ErrorCode::INVALID_PRODUCER_EPOCH);
}

#[test]
fn a_restart_refuses_once_more_and_comes_to_the_same_end() {
    let mut client = after_a_loss();
    assert_eq!(client.code(0, 80), ErrorCode::NOT_ENOUGH_REPLICAS);
    client.restart();
    assert_eq!(client.code(0, 80), ErrorCode::NOT_ENOUGH_REPLICAS);
    assert_eq!(client.code(0, 80), ErrorCode::NONE);
    client.restart();
    assert_eq!(client.code(0, 130), ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(client.code(0, 85), ErrorCode::NONE);
}

#[test]
fn a_second_lossy_move_gives_a_second_jump() {
    let mut client = after_a_loss();
    assert_eq!(client.code(0, 80), ErrorCode::NOT_ENOUGH_REPLICAS);
    assert_eq!(client.code(0, 80), ErrorCode::NONE);
    client.lossy_move();
    assert_eq!(client.code(0, 200), ErrorCode::NOT_ENOUGH_REPLICAS);
    assert_eq!(client.code(0, 200), ErrorCode::NONE);
}

#[test]
fn a_producer_all_of_whose_batches_are_lost_keeps_its_order() {
    let mut client = Client {
        next_offset: 10,
        ..Client::new()
    };
    client.lossy_move();
    // Its first request got lost on the way to the new leader: the second must not overtake it.
    assert_eq!(client.code(0, 85), ErrorCode::NOT_ENOUGH_REPLICAS);
    assert_eq!(client.code(0, 80), ErrorCode::NONE);
    assert_eq!(client.code(0, 85), ErrorCode::NONE);
    // Without a lossy move Kafka's rule holds: any first sequence.
    assert_eq!(Client::new().code(0, 85), ErrorCode::NONE);
}

#[test]
fn a_jump_over_the_end_of_the_sequences() {
    let mut client = Client::new();
    client.send(0, i32::MAX - 9, 5).unwrap();
    client.lossy_move();
    assert_eq!(client.code(0, 20), ErrorCode::NOT_ENOUGH_REPLICAS);
    assert_eq!(client.code(0, 25), ErrorCode::NOT_ENOUGH_REPLICAS);
    assert_eq!(client.code(0, 15), ErrorCode::NONE);
    assert_eq!(client.code(0, 20), ErrorCode::NONE);
}

fn transactional(epoch: i16, offset: i64, sequence: i32) -> BatchHeader {
    BatchHeader {
        attributes: 0x10,
        base_offset: offset,
        ..batch(epoch, sequence, 1)
    }
}

fn end_txn(offset: i64) -> BatchHeader {
    BatchHeader {
        attributes: 0x30,
        base_offset: offset,
        ..batch(0, -1, 1)
    }
}

#[test]
fn transactions_hold_the_stable_offset_until_their_marker_is_below_the_high_watermark() {
    let mut producers = Producers::default();
    producers.note(&transactional(0, 10, 0), None);
    producers.note(&transactional(0, 11, 1), None);
    assert_eq!(producers.first_unstable_offset(11), Some(10));
    let plain = BatchHeader {
        base_sequence: 2,
        ..batch(0, 2, 1)
    };
    let refused = producers.check(&plain, None, None).unwrap_err();
    assert_eq!(refused.error_code(), ErrorCode::INVALID_TXN_STATE);
    let marker = Marker {
        control_type: ControlType::Abort,
        coordinator_epoch: 4,
    };
    producers.check(&end_txn(12), Some(&marker), None).unwrap();
    let aborted = producers.note(&end_txn(12), Some(&marker)).unwrap();
    assert_eq!(
        (
            aborted.first_offset,
            aborted.last_offset,
            aborted.last_stable_offset
        ),
        (10, 12, 13)
    );
    assert_eq!(producers.first_unstable_offset(12), Some(10));
    assert_eq!(producers.first_unstable_offset(13), None);
    let old = Marker {
        coordinator_epoch: 3,
        ..marker
    };
    let fenced = producers.check(&end_txn(13), Some(&old), None).unwrap_err();
    assert_eq!(
        fenced.error_code(),
        ErrorCode::TRANSACTION_COORDINATOR_FENCED
    );
}

/// A coordinator writes without sequences: positions of a group as part of a transaction.
#[test]
fn batches_without_a_sequence_are_no_duplicates_and_fence_like_others() {
    let mut producers = Producers::default();
    for offset in 0..3 {
        let header = transactional(4, offset, -1);
        assert!(matches!(
            producers.check(&header, None, None),
            Ok(Verdict::Append)
        ));
        producers.note(&header, None);
    }
    assert_eq!(
        producers.get(PID).unwrap().current_txn_first_offset,
        Some(0)
    );
    let older = producers
        .check(&transactional(3, 3, -1), None, None)
        .unwrap_err();
    assert_eq!(older.error_code(), ErrorCode::INVALID_PRODUCER_EPOCH);
}

#[test]
fn idle_producers_are_forgotten_unless_their_transaction_is_open() {
    let mut producers = Producers::default();
    producers.note(&batch(0, 0, 1), None);
    assert_eq!(producers.expire(0), 0);
    assert_eq!(producers.expire(1), 1);
    producers.note(&transactional(0, 10, 0), None);
    assert_eq!(producers.expire(1), 0);
}
