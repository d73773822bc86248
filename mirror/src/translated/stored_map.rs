//! The offset map's topic on the target: read at start, written only inside transactions.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use uuid::Uuid;
use whimbrel_client::{Client, Fetch, Isolation, NewTopic, When, committed};
use whimbrel_runtime::Clock;

use super::{error::FlowError, state::At};
use crate::offset_map::{CHUNK_RUNS, Chunk, Key, OffsetMap};

const SETTLE_PAUSE: Duration = Duration::from_millis(50);

/// A partition's map and the source topic it is about.
#[derive(Clone, Debug)]
pub struct Stored {
    pub topic_id: Uuid,
    pub map: OffsetMap,
}

/// Creates the topic where it is missing.
pub async fn ensure(
    target: &Client,
    topic: &str,
    replication_factor: i16,
) -> Result<(), FlowError> {
    let mut new = NewTopic::new(topic, 1).config("cleanup.policy", "compact");
    new.replication_factor = replication_factor;
    Ok(target.create_topic(&new).await?)
}

/// Everything that is committed. Waits for transactions that are still being ended: with the flow's own
/// transactional id just taken, there is no open one.
pub async fn load(
    target: &Client,
    topic: &str,
    clock: &Clock,
) -> Result<BTreeMap<At, Stored>, FlowError> {
    let (end, mut at) = loop {
        let written = target
            .list_offset(topic, 0, When::Latest, Isolation::ReadUncommitted)
            .await?;
        let stable = target
            .list_offset(topic, 0, When::Latest, Isolation::ReadCommitted)
            .await?;
        if stable.offset >= written.offset {
            let start = target
                .list_offset(topic, 0, When::Earliest, Isolation::ReadUncommitted)
                .await?;
            break (written.offset, start.offset);
        }
        clock.sleep(SETTLE_PAUSE).await;
    };
    let mut chunks: BTreeMap<Key, Chunk> = BTreeMap::new();
    while at < end {
        let mut fetch = Fetch::new(topic, 0, at);
        fetch.isolation = Isolation::ReadCommitted;
        let (records, scanned) = committed(target.fetch(&fetch).await?, at)?;
        at = scanned;
        for record in records {
            let bad = |reason: String| FlowError::Map {
                topic: topic.to_owned(),
                offset: record.offset,
                reason,
            };
            let key = record.key.as_deref().unwrap_or_default();
            let key = Key::decode(key).map_err(|e| bad(format!("key: {e}")))?;
            match &record.value {
                Some(value) => {
                    let chunk = Chunk::decode(value).map_err(|e| bad(format!("chunk: {e}")))?;
                    chunks.insert(key, chunk);
                }
                None => drop(chunks.remove(&key)),
            }
        }
    }
    assemble(topic, chunks)
}

fn assemble(topic: &str, chunks: BTreeMap<Key, Chunk>) -> Result<BTreeMap<At, Stored>, FlowError> {
    let mut maps: BTreeMap<At, Stored> = BTreeMap::new();
    for (key, chunk) in chunks {
        let at = (key.topic.clone(), key.partition);
        let stored = maps.entry(at).or_insert_with(|| Stored {
            topic_id: chunk.topic_id,
            map: OffsetMap::default(),
        });
        let bad = |reason: String| FlowError::Map {
            topic: topic.to_owned(),
            offset: -1,
            reason: format!(
                "{}-{} chunk {}: {reason}",
                key.topic, key.partition, key.chunk
            ),
        };
        let before = usize::try_from(key.chunk)
            .unwrap_or(usize::MAX)
            .saturating_mul(CHUNK_RUNS);
        if stored.map.runs().len() != before {
            return Err(bad(format!(
                "{} runs stand below it, not {before}",
                stored.map.runs().len()
            )));
        }
        if stored.topic_id != chunk.topic_id {
            return Err(bad(
                "speaks of another source topic than the chunks below it".to_owned(),
            ));
        }
        for run in chunk.runs {
            stored.map.push(run).map_err(|e| bad(e.to_string()))?;
        }
    }
    Ok(maps)
}

/// The records that store what `map` has more than its first `before` runs (the last of which may have grown).
pub fn changed(at: &At, topic_id: Uuid, map: &OffsetMap, before: usize) -> Vec<(Bytes, Bytes)> {
    let first = before.saturating_sub(1) / CHUNK_RUNS;
    let chunks = map.runs().chunks(CHUNK_RUNS).enumerate().skip(first);
    chunks
        .map(|(index, runs)| {
            let key = Key {
                topic: at.0.clone(),
                partition: at.1,
                chunk: u32::try_from(index).unwrap_or(u32::MAX),
            };
            let chunk = Chunk {
                topic_id,
                runs: runs.to_vec(),
            };
            (key.encode(), chunk.encode())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offset_map::Run;

    #[test]
    fn what_changed_is_enough_to_have_the_whole_map_again() {
        let at = ("t".to_owned(), 3);
        let (mut map, mut stored) = (OffsetMap::default(), BTreeMap::new());
        for round in 0..40_i64 {
            let before = map.runs().len();
            for n in 0..50 {
                let source = round * 1_000 + n * if round % 3 == 0 { 1 } else { 2 };
                map.push(Run {
                    source,
                    target: round * 50 + n,
                    length: 1,
                })
                .unwrap();
            }
            for (key, value) in changed(&at, Uuid::nil(), &map, before) {
                stored.insert(Key::decode(&key).unwrap(), Chunk::decode(&value).unwrap());
            }
            let again = assemble("m", stored.clone()).unwrap();
            assert_eq!(again[&at].map, map);
        }
        assert!(stored.len() > 2);
        stored.remove(&Key {
            topic: "t".into(),
            partition: 3,
            chunk: 1,
        });
        assert!(assemble("m", stored).is_err());
    }
}
