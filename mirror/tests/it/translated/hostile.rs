//! A source that lies: between a flow and a real Kafka stands somebody who changes answers. Each topic has a vice of its
//! own; nothing wrong is written, and the topic without one goes on.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use whimbrel_client::{Client, NewTopic};
use whimbrel_mirror::translated::{FlowOptions, Worker, start};
use whimbrel_runtime::{Clock, Shutdown, Tasks, unit::Span};
use whimbrel_wire::{
    ApiKey, Budget, Decoder, Message,
    frame::{decode_response_header, encode_response_frame},
    messages::{fetch, metadata},
};

use super::{numbered, until};
use crate::kafka::{Content, Kafka, contents, libs};

const GOOD: &str = "good";
/// Offsets of the second half fall back into the first.
const BACKWARDS: &str = "backwards";
/// One bit of the records is another one.
const FLIPPED: &str = "flipped";
/// The answer speaks of another topic.
const FOREIGN: &str = "foreign";
/// The answer claims to be 2 GB long.
const LONG: &str = "long";
/// Its leader is said to be a host that takes connections and says nothing.
const ELSEWHERE: &str = "elsewhere";
const TOPICS: [&str; 6] = [GOOD, BACKWARDS, FLIPPED, FOREIGN, LONG, ELSEWHERE];
/// Records of each half.
const HALF: usize = 20;
/// No broker of the source.
const NOBODY: i32 = 99;

/// Who stands between.
#[derive(Clone)]
struct Middle {
    source: SocketAddr,
    own_port: u16,
    silent_port: u16,
    lies: Arc<AtomicBool>,
}

/// Key and version of requests without an answer yet.
type UnderWay = Arc<Mutex<VecDeque<(i16, i16)>>>;

async fn frame(from: &mut OwnedReadHalf) -> Option<Vec<u8>> {
    let length = from.read_u32().await.ok()?;
    let mut body = vec![0; usize::try_from(length).ok()?];
    from.read_exact(&mut body).await.ok()?;
    Some(body)
}

async fn pass(into: &mut OwnedWriteHalf, body: &[u8]) -> Option<()> {
    into.write_u32(u32::try_from(body.len()).ok()?).await.ok()?;
    into.write_all(body).await.ok()
}

impl Middle {
    async fn start(source: &str, tasks: &Tasks) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let middle = Self {
            source: source.parse().unwrap(),
            own_port: listener.local_addr().unwrap().port(),
            silent_port: silent.local_addr().unwrap().port(),
            lies: Arc::default(),
        };
        let (serving, all) = (middle.clone(), tasks.clone());
        tasks.spawn_ok("middle", async move {
            let _silent = silent;
            while let Ok((stream, _)) = listener.accept().await {
                let middle = serving.clone();
                all.spawn_ok("middle connection", middle.serve(stream));
            }
        });
        middle
    }

    async fn serve(self, stream: TcpStream) {
        let Ok(source) = TcpStream::connect(self.source).await else {
            return;
        };
        let ((mut asks, mut told), (mut answers, mut asked)) =
            (stream.into_split(), source.into_split());
        let under_way = UnderWay::default();
        let noted = Arc::clone(&under_way);
        let there = async {
            while let Some(request) = frame(&mut asks).await {
                let field = |at: usize| i16::from_be_bytes([request[at], request[at + 1]]);
                noted.lock().push_back((field(0), field(2)));
                pass(&mut asked, &request).await?;
            }
            None::<()>
        };
        let back = async {
            while let Some(answer) = frame(&mut answers).await {
                let of = under_way.lock().pop_front()?;
                let changed = self.change(of, answer.into());
                told.write_all(&changed?).await.ok()?;
            }
            None::<()>
        };
        // One side's end is the other's.
        tokio::select! {
            _ = there => {}
            _ = back => {}
        }
    }

    /// The answer as it is given on, its length included.
    fn change(&self, (key, version): (i16, i16), answer: Bytes) -> Option<Bytes> {
        let mut input = Decoder::new(answer.clone(), Budget::new(1 << 26));
        if key == ApiKey::Metadata as i16 {
            let id = decode_response_header(ApiKey::Metadata, version, &mut input).ok()?;
            let mut told = metadata::Response::decode(version, &mut input).ok()?;
            self.misplace(&mut told);
            let chunks = encode_response_frame(id, ApiKey::Metadata, version, &told);
            return Some(chunks.concat().into());
        }
        if key == ApiKey::Fetch as i16 && self.lies.load(Ordering::SeqCst) {
            let id = decode_response_header(ApiKey::Fetch, version, &mut input).ok()?;
            let mut told = fetch::Response::decode(version, &mut input).ok()?;
            if told.responses.iter().any(|topic| topic.topic == LONG) {
                let mut lie = i32::MAX.to_be_bytes().to_vec();
                lie.extend([0; 64]);
                return Some(lie.into());
            }
            told.responses.iter_mut().for_each(falsify);
            let chunks = encode_response_frame(id, ApiKey::Fetch, version, &told);
            return Some(chunks.concat().into());
        }
        let length = u32::try_from(answer.len()).ok()?.to_be_bytes();
        Some([&length[..], &answer].concat().into())
    }

    /// Everybody is reached through here.
    fn misplace(&self, told: &mut metadata::Response) {
        for broker in &mut told.brokers {
            broker.port = self.own_port.into();
        }
        if !self.lies.load(Ordering::SeqCst) {
            return;
        }
        told.brokers.push(metadata::MetadataResponseBroker {
            node_id: NOBODY,
            host: "127.0.0.1".into(),
            port: self.silent_port.into(),
            ..metadata::MetadataResponseBroker::default()
        });
        let elsewhere =
            |topic: &&mut metadata::MetadataResponseTopic| topic.name.as_deref() == Some(ELSEWHERE);
        for topic in told.topics.iter_mut().filter(elsewhere) {
            for partition in &mut topic.partitions {
                partition.leader_id = NOBODY;
            }
        }
    }
}

fn falsify(topic: &mut fetch::FetchableTopicResponse) {
    for part in &mut topic.partitions {
        let Some(records) = part.records.as_ref().filter(|records| !records.is_empty()) else {
            continue;
        };
        let mut records = BytesMut::from(records.as_ref());
        match topic.topic.as_str() {
            BACKWARDS => {
                let base = i64::from_be_bytes(records[..8].try_into().unwrap());
                records[..8].copy_from_slice(&(base - 15).to_be_bytes());
                // Both: what is there, and again what was there before.
                let first = part.records.take().unwrap_or_default();
                records = BytesMut::from([&first[..], &records].concat().as_slice());
            }
            FLIPPED => records[80] ^= 1,
            _ => {}
        }
        part.records = Some(records.freeze());
    }
    if topic.topic == FOREIGN {
        GOOD.clone_into(&mut topic.topic);
    }
}

async fn produce_half(source: &Kafka, client: &Client, half: usize) {
    for topic in TOPICS {
        let range = half * HALF..(half + 1) * HALF;
        source
            .produce(client, topic, &numbered(topic, HALF, range))
            .await;
    }
}

async fn copied(target: &Client, topic: &str) -> Vec<Content> {
    let metadata = target.metadata(Some(&[topic])).await;
    if metadata.is_ok_and(|metadata| metadata.topic(topic).is_err()) {
        return Vec::new();
    }
    let all = contents(target, topic).await;
    all.into_iter().map(|(_, content)| content).collect()
}

fn anomaly(worker: &Worker, clock: &Clock, topic: &str) -> Option<String> {
    let view = worker.view(clock.boot_ms());
    let of_topic = view.partitions.into_iter().find(|p| p.topic == topic);
    of_topic.and_then(|partition| partition.anomaly)
}

async fn holds(clock: &Clock, target: &Client, topic: &str, records: usize) {
    until(clock, &format!("{topic} is copied"), async || {
        copied(target, topic).await.len() >= records
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_source_that_lies_nothing_wrong_is_written_and_the_others_go_on() {
    let Some(libs) = libs() else {
        println!("skipped: WHIMBREL_KAFKA_LIBS does not name a folder with Kafka's jars");
        return;
    };
    let (tasks, clock) = (Tasks::new(Shutdown::new()), Clock::system());
    let (east, west) = tokio::join!(
        Kafka::start(&libs, &tasks, &clock),
        Kafka::start(&libs, &tasks, &clock)
    );
    let (source, target) = (east.client(&tasks, &clock), west.client(&tasks, &clock));
    for topic in TOPICS {
        source.create_topic(&NewTopic::new(topic, 1)).await.unwrap();
    }
    produce_half(&east, &source, 0).await;
    let middle = Middle::start(&east.bootstrap, &tasks).await;
    let flow = || {
        let through = format!("127.0.0.1:{}", middle.own_port);
        let mut options = FlowOptions::new("test", through, west.bootstrap.clone());
        options.topic_interval = Span::millis(500);
        options
    };
    let first = Tasks::new(Shutdown::new());
    let worker = start(flow(), &first, &clock).unwrap();
    for topic in TOPICS {
        holds(&clock, &target, topic, HALF).await;
    }

    middle.lies.store(true, Ordering::SeqCst);
    produce_half(&east, &source, 1).await;
    holds(&clock, &target, GOOD, 2 * HALF).await;
    let expected = format!("at or above {HALF}:");
    for topic in [BACKWARDS, FLIPPED] {
        until(&clock, &format!("{topic} is stopped"), async || {
            anomaly(&worker, &clock, topic).is_some_and(|why| why.contains(&expected))
        })
        .await;
    }
    // Whatever is there is what the source has.
    for topic in TOPICS {
        let (here, there) = (copied(&target, topic).await, copied(&source, topic).await);
        assert_eq!(here, there[..here.len()], "{topic}");
        if [BACKWARDS, FLIPPED, FOREIGN, LONG].contains(&topic) {
            assert_eq!(here.len(), HALF, "{topic}");
        }
    }

    // It lies no more: who was not stopped goes on by himself, and the others with the next start.
    middle.lies.store(false, Ordering::SeqCst);
    for topic in [FOREIGN, LONG, ELSEWHERE] {
        holds(&clock, &target, topic, 2 * HALF).await;
    }
    assert!(first.stop(Duration::from_secs(10)).await.is_empty());
    let second = Tasks::new(Shutdown::new());
    start(flow(), &second, &clock).unwrap();
    for topic in TOPICS {
        holds(&clock, &target, topic, 2 * HALF).await;
        let (here, there) = (copied(&target, topic).await, copied(&source, topic).await);
        assert_eq!(here, there, "{topic}");
    }
    second.stop(Duration::from_secs(10)).await;
    tasks.stop(Duration::from_secs(10)).await;
}
