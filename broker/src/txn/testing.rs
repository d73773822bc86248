//! A coordinator over a log in memory, for the tests of this module.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Notify;
use whimbrel_fleet::view::OffsetsBlock;
use whimbrel_runtime::{Clock, Shutdown, Tasks};
use whimbrel_wire::ErrorCode;

use super::{
    coordinator::{Coordinator, Options, Outside},
    machine::Producer,
    markers::{Marker, Places},
};
use crate::group::{offsets::TopicPartition, testing::MemoryLog};

/// Gives out ids from 1000 on and remembers markers; while it is `away` it writes none.
#[derive(Default)]
pub(crate) struct Elsewhere {
    state: Mutex<State>,
    back: Notify,
}

#[derive(Default)]
struct State {
    ids: i64,
    away: bool,
    written: Vec<(TopicPartition, Marker)>,
}

impl Elsewhere {
    pub(crate) fn go_away(&self) {
        self.state.lock().away = true;
    }

    pub(crate) fn come_back(&self) {
        self.state.lock().away = false;
        self.back.notify_waiters();
    }

    pub(crate) fn written(&self) -> Vec<(TopicPartition, Marker)> {
        self.state.lock().written.clone()
    }
}

#[async_trait]
impl Outside for Elsewhere {
    async fn producer_id(&self) -> Result<i64, ErrorCode> {
        let mut state = self.state.lock();
        state.ids += 1;
        Ok(999 + state.ids)
    }

    async fn write_markers(&self, marker: Marker, partitions: Places) -> Places {
        loop {
            let back = self.back.notified();
            tokio::pin!(back);
            back.as_mut().enable();
            {
                let mut state = self.state.lock();
                if !state.away {
                    let all = partitions.into_keys().map(|at| (at, marker));
                    state.written.extend(all);
                    return Places::new();
                }
            }
            back.await;
        }
    }
}

pub(crate) struct Fixture {
    pub(crate) coordinator: Arc<Coordinator>,
    pub(crate) log: Arc<MemoryLog>,
    pub(crate) elsewhere: Arc<Elsewhere>,
    pub(crate) clock: Clock,
}

impl Fixture {
    /// A broker that comes to a log that is there already.
    pub(crate) fn on(log: Arc<MemoryLog>) -> Self {
        let elsewhere = Arc::new(Elsewhere::default());
        let clock = Clock::manual();
        let options = Options {
            patience_ms: 0,
            sweep_interval_ms: 1_000,
            retention_ms: 10_000,
            ..Options::default()
        };
        let coordinator = Coordinator::start(
            options,
            OffsetsBlock::default(),
            Arc::clone(&log) as _,
            Arc::clone(&elsewhere) as _,
            clock.clone(),
            Tasks::new(Shutdown::new()),
        );
        Self {
            coordinator,
            log,
            elsewhere,
            clock,
        }
    }

    /// Leads all partitions in epoch 1, loaded.
    pub(crate) async fn leading() -> Self {
        let fixture = Self::on(Arc::new(MemoryLog::default()));
        fixture.lead_all(1).await;
        fixture
    }

    pub(crate) async fn lead_all(&self, epoch: i32) {
        for partition in 0..50 {
            self.log.set_led(partition, Some(epoch));
            self.coordinator.lead(partition, epoch, None);
        }
        crate::group::testing::until(|| self.coordinator.list().0.is_none()).await;
    }

    pub(crate) async fn init(&self, id: &str) -> Producer {
        self.coordinator.init(id, 60_000, None).await.unwrap()
    }

    pub(crate) async fn add(&self, id: &str, who: Producer, partition: i32) {
        let added = self.coordinator.add(id, who, [at(partition)].into(), 0);
        assert_eq!(added.await, Ok(()));
    }

    /// The state's name; empty for an id that is not known.
    pub(crate) fn state(&self, id: &str) -> &'static str {
        let found = self.coordinator.describe(id).unwrap();
        found.map_or("", |record| record.state.name())
    }
}

pub(crate) fn at(partition: i32) -> TopicPartition {
    TopicPartition {
        topic: "t".into(),
        partition,
    }
}
