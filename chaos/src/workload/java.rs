//! Kafka's own VerifiableProducer and VerifiableConsumer: a Java client each, in a process of its own, that
//! prints a line of JSON for everything that it achieves.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::Target;
use crate::server::named_by;

/// Names the folder of Kafka's jars.
pub const LIBS: &str = "WHIMBREL_KAFKA_LIBS";
const PRODUCER: &str = "org.apache.kafka.tools.VerifiableProducer";
const CONSUMER: &str = "org.apache.kafka.tools.VerifiableConsumer";
/// Most that is looked at of what a client printed.
const LONGEST: u64 = 64 << 20;

/// A running Java client; killed when it is dropped.
#[derive(Debug)]
pub struct Java {
    child: Child,
    said: PathBuf,
}

impl Drop for Java {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _status = self.child.wait();
    }
}

impl Java {
    /// Kafka's jars, if they are at hand.
    pub fn libs() -> Option<PathBuf> {
        named_by(LIBS)
    }

    /// Writes to `target` at a steady rate, idempotent and with Kafka's default of retrying.
    pub fn producer(libs: &Path, target: &Target, folder: &Path) -> io::Result<Self> {
        let config = folder.join("java-producer.properties");
        // The tool switches retries off by itself; applications run with Kafka's defaults.
        std::fs::write(&config, "retries=2147483647\nenable.idempotence=true\n")?;
        let file = config.display().to_string();
        let own = [
            "--throughput",
            "100",
            "--acks",
            "-1",
            "--command-config",
            &file,
        ];
        Self::start(libs, PRODUCER, target, &own, folder)
    }

    /// Reads `target` as the only member of a group, and commits.
    pub fn consumer(libs: &Path, target: &Target, folder: &Path) -> io::Result<Self> {
        let own = [
            "--group-id",
            "java-members",
            "--reset-policy",
            "earliest",
            "--verbose",
        ];
        Self::start(libs, CONSUMER, target, &own, folder)
    }

    fn start(
        libs: &Path,
        tool: &str,
        target: &Target,
        own: &[&str],
        folder: &Path,
    ) -> io::Result<Self> {
        let name = tool.rsplit('.').next().unwrap_or(tool);
        let said = folder.join(format!("{name}.out"));
        let child = Command::new("java")
            .args([
                "-Xmx128m",
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1",
                "-cp",
            ])
            .arg(format!("{}/*", libs.display()))
            .args([tool, "--bootstrap-server", &target.bootstrap])
            .args(["--topic", &target.topic])
            .args(own)
            .stdin(Stdio::null())
            .stdout(File::create(&said)?)
            .stderr(File::create(folder.join(format!("{name}.err")))?)
            .spawn()?;
        Ok(Self { child, said })
    }

    /// How far it has printed: what comes later is what it achieved later.
    pub fn mark(&self) -> io::Result<u64> {
        Ok(std::fs::metadata(&self.said)?.len())
    }

    /// How many lines with `event` it printed since `mark`.
    pub fn since(&self, mark: u64, event: &str) -> io::Result<usize> {
        let mut file = File::open(&self.said)?;
        file.seek(SeekFrom::Start(mark))?;
        let mut text = Vec::new();
        file.take(LONGEST).read_to_end(&mut text)?;
        let wanted = format!("\"name\":\"{event}\"");
        let text = String::from_utf8_lossy(&text);
        Ok(text.lines().filter(|line| line.contains(&wanted)).count())
    }
}
