//! Small slices of one shard in one object.

use std::collections::BTreeMap;

use bytes::BytesMut;

use super::{Pass, PrepareError, Slice, Writer, footer};
use crate::{
    checksum::Crc64,
    format::{BlockCrcs, TailParts},
    root::{Commit, Merged as Place},
    store::{Part, Shares, Source},
};

/// Several slices that share an object, and the commits that will name them.
#[derive(Clone, Debug)]
pub struct Merged {
    pub source: Source,
    pub commits: Vec<Commit>,
}

/// Puts small slices of one shard into one object, in their order. A slice that is not sound is left out and
/// told with the others' success, and what follows it in its partition waits: a first commit may begin anywhere, so that
/// it would pass for all there is. `None` when none is sound.
pub fn merge(slices: &[Slice], writer: &Writer) -> (Option<Merged>, Vec<PrepareError>) {
    let (mut blocks, mut crc64, mut data) = (BlockCrcs::default(), Crc64::new(), BytesMut::new());
    let (mut metas, mut sections, mut commits) = (Vec::new(), Vec::new(), Vec::new());
    let mut refused = Vec::new();
    for slice in slices {
        if refused.iter().any(|e: &PrepareError| e.at() == slice.at) {
            continue;
        }
        let pass = match Pass::over_inline(slice) {
            Ok(pass) => pass,
            Err(error) => {
                refused.push(error);
                continue;
            }
        };
        let position = data.len() as u64;
        data.extend_from_slice(&slice.inline);
        metas.push(pass.meta(position));
        sections.push(pass.sections());
        commits.push((pass.commit(writer), position));
    }
    if commits.is_empty() {
        return (None, refused);
    }
    blocks.update(&data);
    crc64.update(&data);
    let object_data_bytes = data.len() as u64;
    let tail = TailParts {
        blocks,
        data_bytes: object_data_bytes,
        sections,
        footer: footer(writer, metas),
    }
    .build();
    crc64.update(&tail.bytes);
    let parts = vec![Part::Bytes(data.freeze()), Part::Bytes(tail.bytes)];
    let source = Source::new(parts, crc64.finish()).shared(shares(&commits));
    let commits = commits.into_iter().map(|(mut commit, position)| {
        commit.entry.merged = Some(Place {
            position,
            object_data_bytes,
        });
        commit.entry.object_bytes = source.length();
        commit.entry.crc64 = source.crc64;
        commit
    });
    let commits = commits.collect();
    (Some(Merged { source, commits }), refused)
}

/// Bytes of each topic.
fn shares(commits: &[(Commit, u64)]) -> Shares {
    let mut shares = BTreeMap::new();
    for (commit, _) in commits {
        *shares.entry(commit.at.topic_id).or_insert(0) += commit.entry.data_bytes;
    }
    shares.into_iter().collect()
}
