//! A consumer group reads half of the topic, commits and stops there.

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{CommitMode, Consumer},
};

use super::{PARTITIONS, TOPIC, Tour, TourError, clients, mirrored};
use crate::layout;

pub(crate) async fn run(tour: &mut Tour<'_>) -> Result<(), TourError> {
    let half = tour.lines.len() / 2;
    tour.clients.group.subscribe(&[TOPIC])?;
    let mut next = vec![0_i64; PARTITIONS as usize];
    for read in 0..half {
        let record = clients::next(&tour.clients.group).await?;
        let position = usize::try_from(record.partition)
            .ok()
            .and_then(|p| next.get_mut(p));
        let position = position.ok_or_else(|| {
            TourError::Wrong(format!("partition {} does not exist", record.partition))
        })?;
        if record.offset != *position {
            return Err(TourError::Wrong(format!(
                "partition {}: offset {} came where {position} was due",
                record.partition, record.offset
            )));
        }
        *position += 1;
        if read % 1_000 == 0 {
            tour.progress.advance(read as u64, half as u64);
        }
    }
    let mut commit = TopicPartitionList::new();
    for (partition, offset) in (0..PARTITIONS).zip(&next) {
        commit.add_partition_offset(TOPIC, partition, Offset::Offset(*offset))?;
    }
    tour.clients.group.commit(&commit, CommitMode::Sync)?;
    mirrored::caught_up(tour, &layout::regions()[1]).await?;
    tour.progress
        .fact(&format!("{half} records read, committed at {next:?}"));
    tour.facts.group_committed = next;
    Ok(())
}
