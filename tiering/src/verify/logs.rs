//! The roots against the broker's logs: together they must hold every offset from the log's start to its
//! end, in one lineage.

use std::collections::BTreeMap;

use whimbrel_fleet::TopicPartition;
use whimbrel_rpc::proto::node;

use super::{Problem, Report, Verifier};
use crate::{
    broker::{lineage_from, partition_from},
    root::Partition,
};

/// Partitions asked for at once.
const PAGE: usize = 10_000;

impl Verifier {
    /// A broker that does not answer is no verdict: it is said, and the objects are looked at anyway.
    pub(super) async fn compare_logs(&self, report: &mut Report) {
        let mut tiered: BTreeMap<TopicPartition, Partition> = BTreeMap::new();
        for root in self.committer.roots() {
            tiered.extend(root.partitions.clone());
        }
        let all: Vec<node::PartitionId> = tiered.keys().map(|at| (*at).into()).collect();
        for page in all.chunks(PAGE) {
            let logs = match self.broker.logs(page.to_vec(), false).await {
                Ok(logs) => logs,
                Err(status) => {
                    report.logs_unknown = Some(status.message().to_owned());
                    return;
                }
            };
            for log in &logs {
                let Some((at, partition)) =
                    partition_from(log.at.as_ref()).and_then(|at| Some((at, tiered.get(&at)?)))
                else {
                    continue;
                };
                report.logs_checked += 1;
                for (from, to, what) in differences(partition, log) {
                    report.add(Problem {
                        code: "WB-314",
                        topic: partition.topic.clone(),
                        partition: at.partition,
                        from_offset: from,
                        to_offset: to,
                        object: String::new(),
                        what,
                    });
                }
            }
        }
    }
}

/// Offsets that are in neither, or differ: from, to, why.
fn differences(partition: &Partition, log: &node::LogState) -> Vec<(i64, i64, String)> {
    let mut found = Vec::new();
    let (start, end) = (partition.start(), partition.end);
    if log.local_log_start > end {
        found.push((
            end,
            log.local_log_start,
            format!(
                "the bucket ends at {end}, the local log begins at {}",
                log.local_log_start
            ),
        ));
    }
    let gone = start.min(log.local_log_start);
    if !log.log_start_lost && log.log_start < gone {
        found.push((
            log.log_start,
            gone,
            format!(
                "the log begins at {}, nothing below {gone} is left",
                log.log_start
            ),
        ));
    }
    match lineage_from(&log.lineage) {
        None => found.push((start, end, "the log's lineage does not rise".to_owned())),
        Some(lineage) => {
            // Above the log's end there is nothing to compare with: a replica that is behind.
            let agreed = partition.agreed_end(&lineage);
            if agreed < end.min(log.durable_end) {
                found.push((
                    agreed,
                    end,
                    format!("the log is of another lineage from {agreed} on"),
                ));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use whimbrel_fleet::EpochStart;

    use super::*;

    fn entry() -> crate::root::Entry {
        crate::root::Entry {
            leader_epoch: 3,
            ..crate::root::Entry::sample(0, 100)
        }
    }

    fn partition() -> Partition {
        Partition {
            log_start: 0,
            end: 100,
            lineage: vec![EpochStart {
                epoch: 3,
                start_offset: 0,
            }],
            entries: vec![entry()],
            ..Partition::default()
        }
    }

    fn log(log_start: i64, local_log_start: i64, epoch: i32) -> node::LogState {
        node::LogState {
            at: None,
            log_start,
            local_log_start,
            durable_end: 200,
            log_start_stands: true,
            region_epoch: 1,
            leader_epoch: epoch,
            log_start_lost: false,
            cleaned: Vec::new(),
            lineage: vec![node::EpochStart {
                epoch,
                start_offset: 0,
            }],
        }
    }

    #[test]
    fn holes_and_foreign_lineages_are_found() {
        assert_eq!(differences(&partition(), &log(0, 100, 3)), []);
        let hole = differences(&partition(), &log(0, 150, 3));
        assert_eq!((hole[0].0, hole[0].1), (100, 150));
        let foreign = differences(&partition(), &log(0, 0, 4));
        assert_eq!((foreign[0].0, foreign[0].1), (0, 100));
        let mut clipped = partition();
        clipped.entries[0].base = 40;
        let front = differences(&clipped, &log(0, 60, 3));
        assert_eq!((front[0].0, front[0].1), (0, 40));
    }
}
