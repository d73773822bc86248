//! A log whose files the disk does not give: refused as it is.
//!
//! What cannot be read may be sound or not, and the next start may read it. So nothing is concluded: no file is
//! changed, the stored point stays, and the log stands as an empty one that is not to be used.

use std::io;
use std::sync::Arc;

use crate::config::LogConfig;
use crate::disk::shared::Shared;
use crate::durable_points::name_check;
use crate::epochs::Epochs;
use crate::log::recover::Stored;
use crate::log::{Identity, Log, State, Unread, Writer};
use crate::segment::SegmentFile;
use crate::types::Health;

/// The place holder of a log that `why` keeps from being recovered.
pub(crate) fn refuse(
    identity: Identity,
    shared: Arc<Shared>,
    config: LogConfig,
    stored: Stored,
    why: &io::Error,
) -> Arc<Log> {
    let known = stored.point.and_then(|point| point.log_start);
    let start = known.unwrap_or(0);
    let state = State {
        log_start: start,
        start_known: known.is_some(),
        log_end: start,
        durable_end: start,
        base_bytes: 0,
        end_bytes: 0,
        durable_bytes: 0,
        high_watermark: start,
        epochs: Epochs::default(),
        epochs_check: 0,
        clean_end: stored.clean_end.unwrap_or(0),
        hole: stored.early.hole,
        cut_at_a_hole: false,
        emptied: false,
        generation: 0,
        cuts: 0,
        health: Health::Damaged {
            reason: format!("its files cannot be read: {why}").into(),
        },
        unread: Some(Unread {
            point: stored.point,
        }),
        promised_end: stored.promised(),
        promised_bytes: stored.promised_bytes(),
        name: name_check(&identity.topic),
        segments: vec![Arc::new(SegmentFile::absent(&identity.dir, start))],
    };
    Log::new(identity, shared, config, Writer::default(), state)
}
