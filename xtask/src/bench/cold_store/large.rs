//! Segments of 1 GiB on their way to the store and back: what they cost the daemon, and how many requests the store counts.

use std::time::Duration;

use super::{Bench, GETS, KIND, TIB, requests::About};
use crate::bench::{
    System,
    process::wait_for,
    table::Table,
    usage::{Usage, resident_mb},
    whimbrel,
};

const TOPIC: &str = "large";
const SIZE: u64 = 1024;
const SEGMENT: &str = "segment.bytes=1073741824";
const KEEP_NOTHING: &str = "local.retention.bytes=1";
/// With what frames the records a little more than so much is written: four segments are closed.
const BYTES: u64 = 4 << 30;
const DEADLINE: Duration = Duration::from_secs(1_800);
/// What S3 bills as a PUT.
const PUTS: [&str; 5] = [
    "PutObject",
    "NewMultipartUpload",
    "PutObjectPart",
    "CompleteMultipartUpload",
    "CopyObject",
];

impl Bench<'_> {
    pub(super) fn large_segments(&mut self, table: &mut Table) -> anyhow::Result<()> {
        // A daemon whose memory has held nothing yet.
        self.empty_cache()?;
        let bootstrap = self.fleet.bootstrap().to_owned();
        self.load
            .create_topic(&bootstrap, TOPIC, 1, &[SEGMENT, KEEP_NOTHING])?;
        let (records, daemon) = (BYTES / SIZE, [self.tiering]);
        let idle_mb = resident_mb(&daemon)?;
        let used = Usage::of(&daemon)?;
        let puts = self.puts();
        self.load.produce(&bootstrap, TOPIC, SIZE, records)?;
        let east = self.folder.join("fleet/east");
        wait_for("segments of 1 GiB to leave the disk", DEADLINE, || {
            Ok(whimbrel::segments(&east, &format!("{TOPIC}-0"))?.1 <= 1)
        })?;
        let now = Usage::of(&daemon)?;
        let bytes = BYTES as f64;
        let cpu = now.cpu_since(&used) / (bytes / 1e9);
        table.set_cost("upload of 1 GiB segments, tiering CPU-s/GB", KIND, cpu);
        // The cache is on disk; what the daemon holds in memory is beyond it.
        let more_mb = now.rss_peak_mb - idle_mb;
        table.set_cost("upload of 1 GiB segments, MB of memory", KIND, more_mb);
        let puts = (self.puts() - puts) as f64 / bytes * TIB;
        table.set_cost("1 GiB segments, PUTs per TiB", KIND, puts);

        self.empty_cache()?;
        let gets = self.requests.of(About::Records, &GETS);
        self.load.consume(&bootstrap, TOPIC, records)?;
        let gets = (self.requests.of(About::Records, &GETS) - gets) as f64 / bytes * TIB;
        table.set_cost("1 GiB segments, GETs per TiB", KIND, gets);
        Ok(())
    }

    /// The roots' among them: an upload is what makes one change.
    fn puts(&self) -> u64 {
        let of = |about| self.requests.of(about, &PUTS);
        of(About::Records) + of(About::State)
    }
}
