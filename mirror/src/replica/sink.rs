//! The IO around one [`Flow`]: a stream to the sink broker, streams to its sources, a timer, the view.
//!
//! The loop never waits for a peer: it only queues frames. What it reads is bounded by the sources'
//! credit.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use whimbrel_fleet::{NodeId, View};
use whimbrel_rpc::replica::{ConnectSink, FromSink, FromSource, Hello, ToSink, ToSource};
use whimbrel_runtime::{Clock, Shutdown, Tasks};

use super::{
    flow::{Action, Event, Flow},
    link::{Link, News, ToSinkKind, ToSourceKind},
};

/// Frames read ahead of the loop, over all streams.
const INBOX_FRAMES: usize = 64;
const TICK: Duration = Duration::from_millis(200);
/// A source reopened again within this time is not hammered.
const CALM_MS: u64 = 5_000;
const CALM_PAUSE: Duration = Duration::from_millis(250);

enum Signal {
    Sink(u64, News<ToSink, FromSink>),
    Source(NodeId, u64, News<ToSource, FromSource>),
}

struct Stream<T> {
    /// Signals of earlier streams are not this one's.
    generation: u64,
    outbox: Option<mpsc::Sender<T>>,
    life: Shutdown,
}

pub struct SinkLoop {
    pub flow: Arc<Mutex<Flow>>,
    pub node: NodeId,
    pub hello: Hello,
    pub view: watch::Receiver<Arc<View>>,
    pub clock: Clock,
    pub tasks: Tasks,
    pub life: Shutdown,
    /// The sink, where it runs in this process.
    pub local: Option<Arc<dyn ConnectSink>>,
}

struct Running {
    of: SinkLoop,
    signals: mpsc::Sender<Signal>,
    generation: u64,
    sink: Stream<ToSink>,
    sources: BTreeMap<NodeId, Stream<ToSource>>,
    opened_ms: BTreeMap<NodeId, u64>,
}

impl SinkLoop {
    pub async fn run(mut self) {
        let (signals, mut inbox) = mpsc::channel(INBOX_FRAMES);
        let life = self.life.clone();
        let clock = self.clock.clone();
        let mut view = self.view.clone();
        let now = Arc::clone(&self.view.borrow_and_update());
        view.mark_unchanged();
        let sink = Stream {
            generation: 0,
            outbox: None,
            life: life.child(),
        };
        let mut running = Running {
            of: self,
            signals,
            generation: 0,
            sink,
            sources: BTreeMap::new(),
            opened_ms: BTreeMap::new(),
        };
        running.on(Event::View(&now));
        running.open_sink(Duration::ZERO);
        let mut tick = Box::pin(clock.sleep(TICK));
        loop {
            tokio::select! {
                biased;
                () = life.wait() => return,
                Ok(()) = view.changed() => {
                    let now = Arc::clone(&view.borrow_and_update());
                    running.on(Event::View(&now));
                }
                () = &mut tick => {
                    running.on(Event::Tick);
                    tick = Box::pin(clock.sleep(TICK));
                }
                Some(signal) = inbox.recv() => running.signal(signal),
            }
        }
    }
}

impl Running {
    fn signal(&mut self, signal: Signal) {
        match signal {
            Signal::Sink(generation, news) if generation == self.sink.generation => match news {
                News::Up(outbox) => {
                    self.sink.outbox = Some(outbox);
                    self.on(Event::SinkUp);
                }
                News::Frame(frame) => self.on(Event::FromSink(frame)),
                News::Down => {
                    self.sink.outbox = None;
                    self.on(Event::SinkDown);
                }
            },
            Signal::Source(node, generation, news) => self.source_signal(node, generation, news),
            Signal::Sink(..) => {}
        }
    }

    fn source_signal(&mut self, node: NodeId, generation: u64, news: News<ToSource, FromSource>) {
        let Some(stream) = self
            .sources
            .get_mut(&node)
            .filter(|s| s.generation == generation)
        else {
            return;
        };
        match news {
            News::Up(outbox) => {
                stream.outbox = Some(outbox);
                self.on(Event::SourceUp(node));
            }
            News::Frame(frame) => self.on(Event::FromSource(node, frame)),
            News::Down => {
                stream.outbox = None;
                self.on(Event::SourceDown(node));
            }
        }
    }

    fn on(&mut self, event: Event<'_>) {
        let now_ms = self.of.clock.boot_ms();
        let actions = self.of.flow.lock().on(event, now_ms);
        for action in actions {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::ToSink(frame) => queue(&mut self.sink.outbox, frame),
            Action::ToSource(node, frame) => {
                if let Some(stream) = self.sources.get_mut(&node) {
                    queue(&mut stream.outbox, frame);
                }
            }
            Action::OpenSource(node) => self.open_source(node),
            Action::CloseSource(node) => self.close_source(node),
            Action::ReopenSink { after } => self.open_sink(after),
        }
    }

    fn link(&self, node: NodeId, life: Shutdown, after: Duration) -> Link {
        Link {
            node,
            hello: self.of.hello.clone(),
            view: self.of.view.clone(),
            clock: self.of.clock.clone(),
            life,
            after,
            local: self.of.local.clone(),
        }
    }

    fn open_sink(&mut self, after: Duration) {
        self.sink.life.request();
        self.generation += 1;
        let (generation, life) = (self.generation, self.of.life.child());
        let link = self.link(self.of.node, life.clone(), after);
        self.sink = Stream {
            generation,
            outbox: None,
            life,
        };
        let signals = self.signals.clone();
        let name = format!("mirror sink {}", self.of.node);
        self.of.tasks.spawn_ok(name, async move {
            let tell = |news| tell(&signals, Signal::Sink(generation, news));
            link.keep::<ToSinkKind, _, _>(tell).await;
        });
    }

    fn open_source(&mut self, node: NodeId) {
        self.close_source(node);
        let now_ms = self.of.clock.boot_ms();
        let before = self.opened_ms.insert(node, now_ms);
        let hasty = before.is_some_and(|ms| now_ms.saturating_sub(ms) < CALM_MS);
        let after = if hasty { CALM_PAUSE } else { Duration::ZERO };
        self.generation += 1;
        let (generation, life) = (self.generation, self.of.life.child());
        let link = self.link(node, life.clone(), after);
        let stream = Stream {
            generation,
            outbox: None,
            life,
        };
        self.sources.insert(node, stream);
        let signals = self.signals.clone();
        self.of
            .tasks
            .spawn_ok(format!("mirror source {node}"), async move {
                let tell = |news| tell(&signals, Signal::Source(node, generation, news));
                link.keep::<ToSourceKind, _, _>(tell).await;
            });
    }

    fn close_source(&mut self, node: NodeId) {
        if let Some(stream) = self.sources.remove(&node) {
            stream.life.request();
        }
    }
}

/// Tells the loop; once it is gone nobody listens.
async fn tell(signals: &mpsc::Sender<Signal>, signal: Signal) {
    if signals.send(signal).await.is_err() {
        tracing::trace!("the flow has ended");
    }
}

/// Queues a frame. A full queue means a peer that does not read: dropping the queue cuts the stream.
fn queue<T>(outbox: &mut Option<mpsc::Sender<T>>, frame: T) {
    if outbox
        .as_ref()
        .is_some_and(|queue| queue.try_send(frame).is_err())
    {
        *outbox = None;
    }
}
