//! The load: librdkafka's `rdkafka_performance` for producing and consuming, kcat for offsets, Kafka's TopicCommand for topics.

use std::{path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, ensure};

use super::{
    Options,
    process::{Running, output, wait_for},
};

/// What one run of the load generator said.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    pub mb_per_s: f64,
    pub messages_per_s: f64,
}

/// The tools and the size of the work.
#[derive(Clone, Debug)]
pub struct Load {
    pub kafka_libs: PathBuf,
    pub binary: PathBuf,
    pub data: PathBuf,
    pub megabytes: u64,
    pub log_megabytes: u64,
    pub storm_seconds: u64,
    /// How often a topic is read: one reading is over within a second.
    pub turns: usize,
    python: PathBuf,
    performance: PathBuf,
}

impl Load {
    pub fn new(options: &Options) -> anyhow::Result<Self> {
        let home =
            || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/whimbrel"));
        let cache = options
            .cache
            .clone()
            .or_else(home)
            .context("neither --cache nor HOME")?;
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
        std::fs::create_dir_all(&options.data)?;
        let load = Self {
            kafka_libs: cache.join("kafka/libs"),
            binary: options
                .binary
                .clone()
                .unwrap_or_else(|| target.join("release/whimbrel")),
            data: options.data.canonicalize()?,
            megabytes: options.megabytes,
            log_megabytes: options.log_megabytes,
            storm_seconds: options.storm_seconds.max(1),
            turns: options.turns.max(1),
            python: cache.join("venv/bin/python"),
            performance: cache.join("bin/rdkafka_performance"),
        };
        for (part, path) in [
            ("kafka", &load.kafka_libs),
            ("python", &load.python),
            ("librdkafka", &load.performance),
        ] {
            ensure!(
                path.exists(),
                "{} is missing: peers/fetch.sh {part}",
                path.display()
            );
        }
        Ok(load)
    }

    /// How many messages of this size make up the work.
    pub fn count(&self, size: u64) -> u64 {
        self.megabytes * 1_000_000 / size
    }

    /// `peers/run.py`, which starts and stops the peers for everybody.
    pub fn peers(&self) -> Command {
        let mut command = Command::new(&self.python);
        command.arg("peers/run.py");
        command
    }

    /// A tool of Kafka's.
    pub fn java(&self, class: &str) -> Command {
        let mut command = Command::new("java");
        command.args([
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
            "-XX:TieredStopAtLevel=1",
            "-cp",
        ]);
        command
            .arg(format!("{}/*", self.kafka_libs.display()))
            .arg(class);
        command
    }

    pub fn create_topic(
        &self,
        bootstrap: &str,
        topic: &str,
        partitions: i32,
        configs: &[&str],
    ) -> anyhow::Result<()> {
        let mut command = self.java("org.apache.kafka.tools.TopicCommand");
        command.args([
            "--bootstrap-server",
            bootstrap,
            "--create",
            "--topic",
            topic,
            "--partitions",
            &partitions.to_string(),
            "--replication-factor",
            "1",
        ]);
        for config in configs {
            command.args(["--config", config]);
        }
        output(&mut command).map(drop)
    }

    /// Fills partition 0.
    pub fn produce(
        &self,
        bootstrap: &str,
        topic: &str,
        size: u64,
        count: u64,
    ) -> anyhow::Result<Rate> {
        let mut command = self.producer(bootstrap, topic, size, count);
        let text = output(command.args(["-p", "0"]))?;
        ensure!(
            text.contains(&format!("{count} delivered")),
            "not every message was delivered:\n{text}"
        );
        last_rate(&text)
    }

    /// A producer at work on all partitions.
    pub fn producing(
        &self,
        bootstrap: &str,
        topic: &str,
        size: u64,
        count: u64,
    ) -> anyhow::Result<Running> {
        let mut command = self.producer(bootstrap, topic, size, count);
        Running::start(&mut command, &self.data.join("producer.log"))
    }

    fn producer(&self, bootstrap: &str, topic: &str, size: u64, count: u64) -> Command {
        let mut command = Command::new(&self.performance);
        command.args(["-P", "-b", bootstrap, "-t", topic, "-a", "-1", "-q"]);
        for setting in [
            "linger.ms=5",
            "batch.num.messages=10000",
            "queue.buffering.max.messages=1000000",
            "queue.buffering.max.kbytes=524288",
        ] {
            command.args(["-X", setting]);
        }
        command.args(["-s", &size.to_string(), "-c", &count.to_string()]);
        command
    }

    /// Reads the topic from its beginning.
    pub fn consume(&self, bootstrap: &str, topic: &str, count: u64) -> anyhow::Result<Rate> {
        let mut command = Command::new(&self.performance);
        command.args([
            "-C",
            "-b",
            bootstrap,
            "-t",
            topic,
            "-p",
            "0",
            "-o",
            "beginning",
            "-q",
            "-c",
            &count.to_string(),
        ]);
        command.args([
            "-X",
            "fetch.message.max.bytes=8388608",
            "-X",
            "queued.max.messages.kbytes=262144",
        ]);
        last_rate(&output(&mut command)?)
    }

    /// The end offset of partition 0.
    pub fn end_offset(bootstrap: &str, topic: &str) -> anyhow::Result<u64> {
        let text = output(Command::new("kcat").args([
            "-b",
            bootstrap,
            "-Q",
            "-t",
            &format!("{topic}:0:-1"),
        ]))?;
        let offset = text
            .split_whitespace()
            .last()
            .context("kcat said nothing")?;
        offset.parse().with_context(|| text.clone())
    }

    pub fn wait_for_end(
        bootstrap: &str,
        topic: &str,
        end: u64,
        deadline: Duration,
    ) -> anyhow::Result<()> {
        // The topic may not be there yet: no answer is "not yet".
        wait_for("the copy to be complete", deadline, || {
            Ok(Self::end_offset(bootstrap, topic).unwrap_or(0) >= end)
        })
    }
}

/// The totals of the last line that has them: `.. 1953124 msgs/s and 195.31 MB/s ..`, or `.. 2700000 msgs/s (270.00 MB/s)` when consuming.
fn last_rate(text: &str) -> anyhow::Result<Rate> {
    let line = text
        .lines()
        .rfind(|line| line.contains(" msgs/s"))
        .with_context(|| format!("no rate in:\n{text}"))?;
    let before = |unit: &str| {
        let head = line.get(..line.find(unit)?)?;
        head.rsplit([' ', '(']).next()?.parse::<f64>().ok()
    };
    let rate = || {
        Some(Rate {
            mb_per_s: before(" MB/s")?,
            messages_per_s: before(" msgs/s")?,
        })
    };
    rate().with_context(|| format!("no rate in: {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_of_producer_and_consumer_are_read() {
        let rate = last_rate("% 5 messages produced (9 bytes), 5 delivered (offset 4, 0 failed) in 10ms: 195312 msgs/s and 195.31 MB/s, 0 produce failures").unwrap();
        assert_eq!((rate.messages_per_s, rate.mb_per_s), (195_312.0, 195.31));
        let rate =
            last_rate("x\n% 5 messages (9 bytes) consumed in 10ms: 27 msgs/s (270.00 MB/s)\n")
                .unwrap();
        assert_eq!((rate.messages_per_s, rate.mb_per_s), (27.0, 270.0));
        assert!(last_rate("nothing").is_err());
    }
}
