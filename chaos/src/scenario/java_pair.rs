//! A Java producer and a Java group member beside the scenario's own clients, on a topic of their own: they
//! are looked at only for carrying on.

use whimbrel_rpc::controller::NewTopic;

use super::{ScenarioError, Setup, ground::Ground, wait::until};
use crate::workload::{Java, Target};

const TOPIC: &str = "from-java";
/// Written, read and committed anew before they are said to carry on.
const RECORDS: usize = 50;

#[derive(Debug)]
pub(super) struct JavaPair {
    producer: Java,
    consumer: Java,
}

/// How far both had printed.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    producer: u64,
    consumer: u64,
}

impl JavaPair {
    /// Both at work; `None` where Kafka's jars are not at hand.
    pub(super) async fn start(
        setup: &Setup,
        ground: &Ground,
    ) -> Result<Option<Self>, ScenarioError> {
        let Some(libs) = Java::libs() else {
            return Ok(None);
        };
        ground
            .controller
            .create_topic(NewTopic::new(TOPIC, 1))
            .await?;
        let target = Target {
            topic: TOPIC.to_owned(),
            partitions: 1,
            ..ground.target.clone()
        };
        let start = || {
            Ok(Self {
                producer: Java::producer(&libs, &target, &setup.folder)?,
                consumer: Java::consumer(&libs, &target, &setup.folder)?,
            })
        };
        let pair = start().map_err(ScenarioError::Io)?;
        pair.carry_on(ground, Mark::default()).await?;
        Ok(Some(pair))
    }

    /// Both carry on from what they have done up to now.
    pub(super) async fn moved(pair: Option<&Self>, ground: &Ground) -> Result<(), ScenarioError> {
        match pair {
            Some(pair) => pair.carry_on(ground, pair.mark()?).await,
            None => Ok(()),
        }
    }

    fn mark(&self) -> Result<Mark, ScenarioError> {
        let mark = || {
            Ok(Mark {
                producer: self.producer.mark()?,
                consumer: self.consumer.mark()?,
            })
        };
        mark().map_err(ScenarioError::Io)
    }

    async fn carry_on(&self, ground: &Ground, mark: Mark) -> Result<(), ScenarioError> {
        until(&ground.clock, "the Java clients to carry on", async || {
            let look = || {
                let sent = self
                    .producer
                    .since(mark.producer, "producer_send_success")?;
                let read = self.consumer.since(mark.consumer, "record_data")?;
                let committed = self.consumer.since(mark.consumer, "offsets_committed")?;
                Ok::<_, std::io::Error>((sent, read, committed))
            };
            let (sent, read, committed) = look().map_err(|e| e.to_string())?;
            if sent >= RECORDS && read >= RECORDS && committed > 0 {
                Ok(())
            } else {
                Err(format!("{sent} sent, {read} read, {committed} commits"))
            }
        })
        .await
    }
}
