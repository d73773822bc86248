//! Two runs of batches held against each other, as they come in.

use std::collections::VecDeque;

use whimbrel_wire::Batch;

use super::Difference;

/// One side's batches that were read and not compared yet.
#[derive(Debug, Default)]
struct Side {
    next_offset: i64,
    waiting: VecDeque<Batch>,
}

impl Side {
    fn take(&mut self, batches: Vec<Batch>) {
        for batch in batches {
            // The first batch of an answer may begin below the offset asked for; others never do.
            if batch.header.next_offset() > self.next_offset {
                self.next_offset = batch.header.next_offset();
                self.waiting.push_back(batch);
            }
        }
    }
}

#[derive(Debug, Default)]
pub struct Comparison {
    from: i64,
    to: i64,
    left: Side,
    right: Side,
    /// Compared up to here.
    at: i64,
    batches: u64,
    bytes: u64,
    difference: Option<Difference>,
}

impl Comparison {
    /// Log start and high watermark of both sides.
    pub fn begin(&mut self, left: (i64, i64), right: (i64, i64)) {
        self.from = left.0.max(right.0);
        self.to = left.1.min(right.1).max(self.from);
        self.at = self.from;
        self.left.next_offset = self.from;
        self.right.next_offset = self.from;
    }

    pub fn from(&self) -> i64 {
        self.from
    }

    pub fn to(&self) -> i64 {
        self.to
    }

    pub fn batches(&self) -> u64 {
        self.batches
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn difference(&self) -> Option<&Difference> {
        self.difference.as_ref()
    }

    /// Nothing is left to compare.
    pub fn finished(&self) -> bool {
        let read = |side: &Side| side.waiting.is_empty() && side.next_offset >= self.to;
        self.at >= self.to || self.difference.is_some() || (read(&self.left) && read(&self.right))
    }

    /// Where each side must be read on, `None` where enough is there; `None` altogether at the end.
    pub fn wants(&self) -> Option<(Option<i64>, Option<i64>)> {
        if self.finished() {
            return None;
        }
        let wanted = |side: &Side| {
            let dry = side.waiting.is_empty() && side.next_offset < self.to;
            dry.then_some(side.next_offset)
        };
        match (wanted(&self.left), wanted(&self.right)) {
            (None, None) => None,
            wanted => Some(wanted),
        }
    }

    pub fn feed(&mut self, left: Vec<Batch>, right: Vec<Batch>) {
        self.left.take(left);
        self.right.take(right);
        while self.difference.is_none() {
            let (Some(left), Some(right)) = (self.left.waiting.front(), self.right.waiting.front())
            else {
                break;
            };
            if left.header.base_offset.min(right.header.base_offset) >= self.to {
                self.at = self.to;
                break;
            }
            match differs(left, right) {
                Some(difference) => self.difference = Some(difference),
                None => {
                    self.at = left.header.next_offset();
                    self.batches += 1;
                    self.bytes += left.bytes.len() as u64;
                    self.left.waiting.pop_front();
                    self.right.waiting.pop_front();
                }
            }
        }
        self.one_side_short();
    }

    /// One side has been read to the end and has nothing where the other has a batch.
    fn one_side_short(&mut self) {
        let done = |side: &Side| side.waiting.is_empty() && side.next_offset >= self.to;
        let other = match (done(&self.left), done(&self.right)) {
            (true, false) => ("target", self.right.waiting.front()),
            (false, true) => ("source", self.left.waiting.front()),
            _ => return,
        };
        if let (side, Some(batch)) = other
            && batch.header.base_offset < self.to
            && self.difference.is_none()
        {
            self.difference = Some(Difference {
                offset: batch.header.base_offset,
                what: format!("only the {side} has this batch"),
            });
        }
    }
}

fn differs(left: &Batch, right: &Batch) -> Option<Difference> {
    if left.bytes == right.bytes {
        return None;
    }
    let (a, b) = (left.header, right.header);
    let what = if a.base_offset != b.base_offset {
        format!("batch begins at {} and {}", a.base_offset, b.base_offset)
    } else if a.partition_leader_epoch != b.partition_leader_epoch {
        format!(
            "leader epoch {} and {}",
            a.partition_leader_epoch, b.partition_leader_epoch
        )
    } else {
        format!(
            "CRC {:#010x} and {:#010x}, {} and {} bytes",
            a.crc,
            b.crc,
            left.bytes.len(),
            right.bytes.len()
        )
    };
    let offset = a.base_offset.min(b.base_offset);
    Some(Difference { offset, what })
}

#[cfg(test)]
mod tests {
    use whimbrel_wire::BatchBuilder;

    use super::*;

    fn batch(base: i64, records: usize, value: &[u8]) -> Batch {
        let mut builder = BatchBuilder::new(base).leader_epoch(1);
        for _ in 0..records {
            builder.add(1, None, Some(value), &[]).unwrap();
        }
        Batch::take(&mut builder.finish().unwrap()).unwrap()
    }

    fn run(left: &[Batch], right: &[Batch], to: i64) -> Comparison {
        let mut comparison = Comparison::default();
        comparison.begin((0, to), (0, to));
        // One batch an answer, to have the sides out of step.
        for _ in 0..100 {
            let Some((l, r)) = comparison.wants() else {
                break;
            };
            let answer = |side: &[Batch], at: Option<i64>| -> Vec<Batch> {
                let found = at.and_then(|at| side.iter().find(|b| b.header.next_offset() > at));
                found.cloned().into_iter().collect()
            };
            comparison.feed(answer(left, l), answer(right, r));
        }
        comparison
    }

    #[test]
    fn equal_logs_are_equal_to_the_lower_watermark() {
        let log = [batch(0, 3, b"a"), batch(3, 2, b"b"), batch(7, 1, b"c")];
        let mut comparison = Comparison::default();
        comparison.begin((0, 8), (0, 5));
        comparison.feed(log.to_vec(), log[..2].to_vec());
        assert!(comparison.finished());
        assert_eq!(
            (
                comparison.to(),
                comparison.batches(),
                comparison.difference()
            ),
            (5, 2, None)
        );
        let whole = run(&log, &log, 8);
        assert_eq!(
            (whole.finished(), whole.batches(), whole.difference()),
            (true, 3, None)
        );
    }

    #[test]
    fn a_planted_difference_is_found_at_its_offset() {
        let log = [batch(0, 3, b"a"), batch(3, 2, b"b"), batch(5, 1, b"c")];
        let mut other = log.to_vec();
        other[1] = batch(3, 2, b"x");
        assert_eq!(run(&log, &other, 6).difference().unwrap().offset, 3);
        let mut missing = log.to_vec();
        missing.remove(1);
        assert_eq!(run(&log, &missing, 6).difference().unwrap().offset, 3);
        assert_eq!(run(&missing, &log, 6).difference().unwrap().offset, 3);
    }
}
