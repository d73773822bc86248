//! A healthy client among hostile ones: everything it asks is answered. How long that takes is printed, not judged:
//! `cargo test -p whimbrel-broker --test it bad_storm -- --nocapture`.
#![expect(
    clippy::print_stdout,
    reason = "the figures are what it is run by hand for"
)]

use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use whimbrel_broker::{Limits, Options};
use whimbrel_runtime::{Clock, Shutdown, Tasks, unit::Span};
use whimbrel_wire::{ApiKey, BatchBuilder, Codec, ErrorCode, messages::metadata};

use crate::{
    client::{Client, batch, produce_request},
    fleet::{Broker, EAST, Fleet, unoffended},
    memory,
    patient::Patient,
    raw::{NOBODY, encoded, frame, head, plain, unsigned_varint},
};

/// Produced and read by the healthy client, each way of measuring.
const ROUNDS: usize = 200;

async fn started() -> (Fleet, Broker) {
    let fleet = Fleet::start().await;
    let limits = Limits {
        request_time: Span::secs(2),
        write_time: Span::secs(2),
        ..Limits::default()
    };
    let options = Options {
        limits: unoffended(limits),
        ..fleet.options(1, EAST)
    };
    let broker = fleet.try_broker(options).await.unwrap();
    let mut client = Client::connect(broker.handle.kafka).await;
    client.create_topic("t", 1, &[]).await;
    let compact = [("cleanup.policy", "compact")];
    client.create_topic("compacted", 1, &compact).await;
    client.produce_ok("t", 0, batch(&["before"])).await;
    (fleet, broker)
}

/// Bytes that one hostile client writes again and again, each time on a connection of its own.
fn storm() -> Vec<Vec<u8>> {
    let mut bomb = BatchBuilder::new(0).codec(Codec::Zstd);
    let now_ms = Clock::system().wall_ms();
    bomb.add(now_ms, Some(b"k"), Some(&vec![0; 80 << 20]), &[])
        .unwrap();
    let bomb = produce_request("compacted", 0, bomb.finish().unwrap(), -1);
    let mut tags = head(ApiKey::ApiVersions as i16, 3, NOBODY);
    tags.extend(unsigned_varint(1_000_000));
    tags.extend(vec![0; 2_000_000]);
    let all = metadata::Request {
        topics: None,
        ..metadata::Request::default()
    };
    let claim = [&plain(ApiKey::Metadata, 8)[..], &i32::MAX.to_be_bytes()].concat();
    vec![
        (-1_i32).to_be_bytes().to_vec(),
        i32::MAX.to_be_bytes().to_vec(),
        0_i32.to_be_bytes().to_vec(),
        // Begun, and never ended.
        [&(31_i32 << 20).to_be_bytes()[..], &vec![0; 100_000]].concat(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        // Ten thousand requests in a row, answers unread.
        encoded(12, None, &all).repeat(10_000),
        frame(&tags),
        frame(&claim),
        encoded(10, None, &bomb),
    ]
}

/// Writes, waits for a while for an answer or the end, and comes again.
async fn rage(to: std::net::SocketAddr, bytes: Bytes) {
    let clock = Clock::system();
    loop {
        let mut client = Client::connect(to).await;
        let written = client.stream.write_all(&bytes);
        if let Some(Ok(())) = clock.within(Duration::from_millis(500), written).await {
            clock
                .within(Duration::from_millis(200), client.frame())
                .await;
        }
    }
}

/// What each round took.
async fn work(client: &mut Patient) -> Vec<Duration> {
    let clock = Clock::system();
    let mut took = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let before_ns = clock.boot_ns();
        let answer = client.produce("t", batch(&["healthy"])).await;
        assert_eq!(answer.error_code, ErrorCode::NONE);
        let read = client.fetch("t", answer.base_offset).await;
        assert_eq!(read.error_code, ErrorCode::NONE);
        assert!(read.records.is_some_and(|records| !records.is_empty()));
        took.push(Duration::from_nanos(clock.boot_ns() - before_ns));
    }
    took.sort();
    took
}

fn print(what: &str, client: &Patient, took: &[Duration]) {
    let at = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)];
    println!(
        "{what}: produce and read p50 {:?}, p99 {:?}, {} of {ROUNDS} asked again",
        at(50),
        at(99),
        client.again,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_client_is_served_through_a_storm() {
    let (_fleet, broker) = started().await;
    memory::exempt_this_thread();
    let mut calm = Patient::new(broker.handle.kafka);
    let took = work(&mut calm).await;
    print("calm", &calm, &took);

    let raging = Tasks::new(Shutdown::new());
    for bytes in storm().into_iter().map(Bytes::from) {
        for _ in 0..2 {
            let (to, bytes) = (broker.handle.kafka, bytes.clone());
            raging.spawn_ok("hostile", rage(to, bytes));
        }
    }
    let mut healthy = Patient::new(broker.handle.kafka);
    let took = work(&mut healthy).await;
    print("storm", &healthy, &took);
    raging.stop(Duration::ZERO).await;
    broker.stop().await;
}
