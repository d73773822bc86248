//! A topic read from its beginning when all but its active segment are only in the tiered store: a local folder on both sides
//! (LocalTieredStorage there, our folder store here).

use std::{fs, time::Duration};

use super::{
    System, SystemKind,
    kafka::Kafka,
    load::Load,
    process::wait_for,
    table::Table,
    usage::Usage,
    whimbrel::{self, Whimbrel},
};

const TOPIC: &str = "cold";
const SIZE: u64 = 1024;
const DEADLINE: Duration = Duration::from_secs(300);
const SEGMENT: &str = "segment.bytes=67108864";
/// Everything that is closed and uploaded may go.
const KEEP_NOTHING: &str = "local.retention.bytes=1";

pub fn run(kind: SystemKind, load: &Load, table: &mut Table) -> anyhow::Result<()> {
    let folder = load.data.join("cold");
    let count = load.count(SIZE);
    let (rate, used) = match kind {
        SystemKind::Whimbrel => {
            let fleet = Whimbrel::start(load, &folder)?;
            load.create_topic(fleet.bootstrap(), TOPIC, &[SEGMENT, KEEP_NOTHING])?;
            load.produce(fleet.bootstrap(), TOPIC, SIZE, count)?;
            wait_for("closed segments to leave the disk", DEADLINE, || {
                Ok(fleet.local_segments("east", TOPIC)?.1 <= 1)
            })?;
            let pids = [fleet.pid("broker", "east")?, fleet.pid("tiering", "east")?];
            let before = Usage::of(&pids)?;
            let rate = load.consume(fleet.bootstrap(), TOPIC, count)?;
            (rate, Usage::of(&pids)?.cpu_since(&before))
        }
        SystemKind::Kafka | SystemKind::KafkaFsync => {
            let kafka = Kafka::start(load, &folder, &["--tiered"])?;
            load.create_topic(
                kafka.bootstrap(),
                TOPIC,
                &["remote.storage.enable=true", SEGMENT, KEEP_NOTHING],
            )?;
            load.produce(kafka.bootstrap(), TOPIC, SIZE, count)?;
            let local = || whimbrel::segments(&folder.join("data"), &format!("{TOPIC}-0"));
            // Deleted files linger for a minute as .deleted; the .log ones are what can still be read.
            wait_for("closed segments to leave the disk", DEADLINE, || {
                Ok(local()?.1 <= 1)
            })?;
            let before = Usage::of(&kafka.broker_pids())?;
            let rate = load.consume(kafka.bootstrap(), TOPIC, count)?;
            (rate, Usage::of(&kafka.broker_pids())?.cpu_since(&before))
        }
    };
    table.set("cold read, MB/s", kind, rate.mb_per_s);
    table.set_cost(
        "cold read, broker and tiering CPU-s/GB",
        kind,
        used / (load.megabytes as f64 / 1000.0),
    );
    let _ = fs::remove_dir_all(&folder);
    Ok(())
}
