//! Peers that send slowly, never read, or come in crowds: they cost what they sent and nobody waits for them.

use serde_json::json;
use tokio::io::AsyncWriteExt;
use whimbrel_broker::{Limits, Options};
use whimbrel_runtime::{
    Clock,
    unit::{Size, Span},
};
use whimbrel_wire::{
    ErrorCode,
    messages::{describe_groups, fetch},
};

use crate::{
    client::{Client, batch, fetch_request},
    fleet::{Broker, EAST, Fleet, eventually},
    memory,
    raw::{answer, encoded},
};

async fn started(limits: Limits) -> (Fleet, Broker, Client) {
    let fleet = Fleet::start().await;
    let options = Options {
        limits,
        ..fleet.options(1, EAST)
    };
    let broker = fleet.try_broker(options).await.unwrap();
    let mut client = Client::connect(broker.handle.kafka).await;
    client.create_topic("t", 1, &[]).await;
    client.produce_ok("t", 0, batch(&["before"])).await;
    (fleet, broker, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_frame_in_small_pieces_costs_what_came_and_ends_at_its_time() {
    let (_fleet, broker, mut healthy) = started(Limits {
        request_time: Span::millis(500),
        ..Limits::default()
    })
    .await;
    let dripping = async {
        let mut client = Client::connect(broker.handle.kafka).await;
        let length = 31_i32 << 20;
        client
            .stream
            .write_all(&length.to_be_bytes())
            .await
            .unwrap();
        eventually("the close", async || {
            Clock::system()
                .sleep(std::time::Duration::from_millis(20))
                .await;
            client.stream.write_all(&[0]).await.is_err().then_some(())
        })
        .await;
    };
    let served = async {
        for _ in 0..10 {
            healthy.produce_ok("t", 0, batch(&["meanwhile"])).await;
        }
    };
    tokio::join!(dripping, served);
    memory::assert_bounded();
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_asks_and_never_reads_is_closed_and_its_pipeline_is_bounded() {
    let (_fleet, broker, mut healthy) = started(Limits {
        write_time: Span::millis(500),
        pipeline: 16,
        ..Limits::default()
    })
    .await;
    for _ in 0..20 {
        healthy
            .produce_ok("t", 0, batch(&[&"x".repeat(200_000)]))
            .await;
    }
    let greedy = async {
        let mut client = Client::connect(broker.handle.kafka).await;
        let mut request = fetch_request("t", 0, 0, 0);
        request.max_bytes = i32::MAX;
        let header = whimbrel_wire::RequestHeader {
            api_key: <fetch::Request as whimbrel_wire::Request>::KEY,
            api_version: 11,
            correlation_id: 1,
            client_id: None,
        };
        let frame: Vec<u8> = whimbrel_wire::frame::encode_request_frame(&header, &request).concat();
        // The broker stops reading when its queue is full, and closes when nothing is taken off it.
        let clock = Clock::system();
        let until_ms = clock.boot_ms() + 20_000;
        while client.stream.write_all(&frame).await.is_ok() {
            assert!(clock.boot_ms() < until_ms, "still open");
        }
    };
    let served = async {
        for _ in 0..10 {
            healthy.produce_ok("t", 0, batch(&["meanwhile"])).await;
        }
    };
    tokio::join!(greedy, served);
    memory::assert_bounded();
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_is_turned_away_at_the_door_and_comes_in_when_there_is_room() {
    const MOST: usize = 20;
    let (_fleet, broker, mut healthy) = started(Limits {
        connections_per_ip: MOST,
        ..Limits::default()
    })
    .await;
    let mut crowd = Vec::new();
    let mut refused = 0;
    for _ in 0..MOST + 10 {
        let mut client = Client::connect(broker.handle.kafka).await;
        client
            .send(12, &whimbrel_wire::messages::metadata::Request::default())
            .await;
        match client.frame().await {
            Some(_) => crowd.push(client),
            None => refused += 1,
        }
    }
    assert_eq!((crowd.len(), refused), (MOST - 1, 11));
    healthy.produce_ok("t", 0, batch(&["meanwhile"])).await;
    drop(crowd);
    eventually("room", async || {
        let mut client = Client::connect(broker.handle.kafka).await;
        client
            .send(12, &whimbrel_wire::messages::metadata::Request::default())
            .await;
        client.frame().await.map(drop)
    })
    .await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_beyond_the_shared_memory_wait_for_their_turn_and_small_ones_go_on() {
    let (_fleet, broker, mut healthy) = started(Limits {
        request_bytes: Size::mib(4),
        request_memory: Size::mib(4),
        request_time: Span::millis(700),
        ..Limits::default()
    })
    .await;
    let hoarding = async {
        let mut hoarders = Vec::new();
        for _ in 0..8 {
            let mut client = Client::connect(broker.handle.kafka).await;
            client
                .stream
                .write_all(&(3_i32 << 20).to_be_bytes())
                .await
                .unwrap();
            let _cut_when_there_is_no_room = client.stream.write_all(&vec![0; 2 << 20]).await;
            hoarders.push(client);
        }
        for client in &mut hoarders {
            assert_eq!(client.frame().await, None);
        }
    };
    let served = async {
        for _ in 0..10 {
            let answer = healthy.produce("t", 0, batch(&["meanwhile"])).await;
            assert_eq!(answer.error_code, ErrorCode::NONE);
        }
    };
    tokio::join!(hoarding, served);
    memory::assert_bounded();
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_short_request_is_decoded_to_waits_for_room_and_little_ones_do_not() {
    let (_fleet, broker, mut healthy) = started(Limits {
        request_bytes: Size::mib(1),
        request_memory: Size::mib(2),
        request_time: Span::millis(300),
        ..Limits::default()
    })
    .await;
    // A long request waits behind a fetch that waits for records: with all the memory there is for what it may become.
    let long = describe_groups::Request {
        groups: vec!["g".into(); 40_000],
        ..describe_groups::Request::default()
    };
    let waits = encoded(11, None, &fetch_request("t", 0, 1, 120_000));
    let mut hoarder = Client::connect(broker.handle.kafka).await;
    let both = [waits, encoded(0, None, &long)].concat();
    hoarder.stream.write_all(&both).await.unwrap();

    let dense = describe_groups::Request {
        groups: vec!["g".into(); 15_000],
        ..describe_groups::Request::default()
    };
    let dense = encoded(0, None, &dense);
    let little = encoded(0, None, &describe_groups::Request::default());
    eventually("no room", async || {
        answer(&broker, &dense).await.is_none().then_some(())
    })
    .await;
    assert!(answer(&broker, &little).await.is_some());
    let closed = broker.get("/metrics").await;
    assert!(closed.contains("reason=\"no_room\""), "{closed}");

    drop(hoarder);
    eventually("room", async || answer(&broker, &dense).await).await;
    healthy.produce_ok("t", 0, batch(&["after"])).await;
    broker.stop().await;
}

/// Connections that had to wait because of their address; of all brokers of this process, which share their metrics.
pub async fn slowed(broker: &Broker) -> u64 {
    let metrics = broker.get("/metrics").await;
    let counters = metrics
        .lines()
        .filter(|line| line.starts_with("whimbrel_connections_slowed_total"));
    let values = counters.filter_map(|line| line.rsplit_once(' '));
    values.map(|(_, value)| value.parse::<u64>().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_sends_garbage_waits_and_its_healthy_clients_go_on() {
    let (_fleet, broker, mut healthy) = started(Limits {
        bad_connections_per_second: 1,
        ..Limits::default()
    })
    .await;
    let little = encoded(0, None, &describe_groups::Request::default());
    let mut storm = Vec::new();
    for _ in 0..40 {
        let mut client = Client::connect(broker.handle.kafka).await;
        client.stream.write_all(&little).await.unwrap();
        assert!(client.frame().await.is_some());
        storm.push(client);
    }
    assert_eq!(broker.status().await["offenders"], json!([]));
    let before = slowed(&broker).await;
    for client in &mut storm {
        client
            .stream
            .write_all(b"GET / HTTP/1.1\r\n\r\n")
            .await
            .unwrap();
        assert_eq!(client.frame().await, None);
    }
    // The last is charged after it was closed.
    eventually("an offender", async || {
        let named = broker.status().await["offenders"].clone();
        (named == json!(["127.0.0.1"])).then_some(())
    })
    .await;
    healthy.produce_ok("t", 0, batch(&["meanwhile"])).await;
    // Whoever is new from there comes in, only later.
    assert!(answer(&broker, &little).await.is_some());
    assert!(slowed(&broker).await > before);
    broker.stop().await;
}
