//! What bad input may cost: each test counts every byte that a broker holds, in a process of its own.

use tokio::io::AsyncWriteExt;
use whimbrel_broker::{Limits, Options, api::OFFERED};
use whimbrel_runtime::unit::Span;
use whimbrel_wire::{
    ApiKey, ErrorCode,
    messages::{describe_groups, fetch, join_group},
};

use crate::{
    client::{Client, batch, fetch_request},
    dense::{self, Measure},
    fleet::{Broker, EAST, Fleet, unoffended},
    memory::{self, is_apart, watch},
    patient::Patient,
    raw::{NOBODY, answer, closes, encoded, frame, head, plain, unsigned_varint},
};

pub const MIB: usize = 1 << 20;
/// What a broker takes for itself meanwhile: connections, timers, a lease.
pub const IDLE: usize = 4 * MIB;

pub async fn started(limits: Limits) -> (Fleet, Broker) {
    let fleet = Fleet::start().await;
    let options = Options {
        limits: unoffended(limits),
        ..fleet.options(1, EAST)
    };
    let broker = fleet.try_broker(options).await.unwrap();
    let mut client = Client::connect(broker.handle.kafka).await;
    client.create_topic("t", 1, &[]).await;
    memory::exempt_this_thread();
    serves(&broker).await;
    (fleet, broker)
}

/// Others are served as before.
pub async fn serves(broker: &Broker) {
    let mut client = Patient::new(broker.handle.kafka);
    let answer = client.produce("t", batch(&["healthy"])).await;
    assert_eq!(answer.error_code, ErrorCode::NONE);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_only_claimed_costs_nothing() {
    if !is_apart("bad_memory::what_is_only_claimed_costs_nothing") {
        return;
    }
    let limits = Limits {
        request_time: Span::millis(500),
        ..Limits::default()
    };
    let (_fleet, broker) = started(limits).await;
    let held = watch();
    for length in [-1, i32::MAX, 0, i32::MIN, 33 << 20] {
        assert!(closes(&broker, &length.to_be_bytes()).await, "{length}");
    }
    for hello in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x16, 3, 1, 2, 0, 1, 0]] {
        assert!(closes(&broker, hello).await);
    }
    // Within the limit, and never sent: twenty at once, until their time is over.
    let mut dripping = Vec::new();
    for _ in 0..20 {
        let mut client = Client::connect(broker.handle.kafka).await;
        client
            .stream
            .write_all(&(31_i32 << 20).to_be_bytes())
            .await
            .unwrap();
        client.stream.write_all(&[0; 1_000]).await.unwrap();
        dripping.push(client);
    }
    for client in &mut dripping {
        assert_eq!(client.frame().await, None);
    }
    // Counts of 2^31 and 2^32 elements in each request's first list, or wherever these bytes fall.
    for &key in OFFERED {
        for version in key.versions().0..=key.versions().1 {
            for claim in [
                &[0x7f, 0xff, 0xff, 0xff][..],
                &[0xff, 0xff, 0xff, 0xff, 0x0f],
            ] {
                let body = [&plain(key, version)[..], &claim.repeat(20)].concat();
                let _answered_or_closed = answer(&broker, &frame(&body)).await;
            }
        }
    }
    held.assert_at_most(IDLE, "claims");
    serves(&broker).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tagged_fields_by_the_million_are_not_read() {
    if !is_apart("bad_memory::tagged_fields_by_the_million_are_not_read") {
        return;
    }
    let (_fleet, broker) = started(Limits::default()).await;
    let mut body = head(ApiKey::ApiVersions as i16, 3, NOBODY);
    body.extend(unsigned_varint(5_000_000));
    for tag in 0..5_000_000 {
        body.extend(unsigned_varint(tag));
        body.push(0);
    }
    let held = watch();
    assert!(closes(&broker, &frame(&body)).await);
    // The frame, and what of it there was before its buffer grew.
    held.assert_at_most(body.len() * 5 / 2 + IDLE, "tagged fields");
    serves(&broker).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_worth_a_multiple_of_the_longest_one() {
    if !is_apart("bad_memory::no_request_is_worth_a_multiple_of_the_longest_one") {
        return;
    }
    let (_fleet, broker) = started(Limits::default()).await;
    let measures = [
        // Small structs by the million; names that are repeated for each of them; both.
        Measure {
            letters: 1,
            elements: 1_000_000,
        },
        Measure {
            letters: 30_000,
            elements: 100_000,
        },
        Measure {
            letters: 200,
            elements: 250_000,
        },
    ];
    for &key in OFFERED {
        for measure in measures {
            let request = frame(&dense::request(key, measure));
            let held = watch();
            let _answered_or_closed = answer(&broker, &request).await;
            let what = format!("{} of {} bytes", key.name(), request.len());
            held.assert_at_most(256 * MIB, &what);
        }
    }
    serves(&broker).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_megabytes_are_not_kept() {
    if !is_apart("bad_memory::names_of_megabytes_are_not_kept") {
        return;
    }
    let (_fleet, broker) = started(Limits::default()).await;
    let join = |instance: String| join_group::Request {
        group_id: "g".into(),
        session_timeout_ms: 1_800_000,
        rebalance_timeout_ms: 1_800_000,
        protocol_type: "consumer".into(),
        group_instance_id: Some(instance),
        protocols: vec![join_group::JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: "m".into(),
        }],
        ..join_group::Request::default()
    };
    let mut patient = Patient::new(broker.handle.kafka);
    patient
        .settled(5, &join("first".into()), |joined| joined.error_code)
        .await;
    let held = watch();
    // Clients of whom nothing stays but their names: in quotas, and as members.
    for n in 0..300 {
        let name = format!("{n:0>32000}");
        let known = encoded(
            1,
            Some(&name),
            &whimbrel_wire::messages::list_groups::Request::default(),
        );
        assert!(answer(&broker, &known).await.is_some());
    }
    let long = Measure {
        letters: 400_000,
        elements: 1,
    };
    for key in [
        ApiKey::JoinGroup,
        ApiKey::ConsumerGroupHeartbeat,
        ApiKey::InitProducerId,
    ] {
        for _ in 0..20 {
            assert!(closes(&broker, &frame(&dense::request(key, long))).await);
        }
    }
    held.assert_at_most(16 * MIB, "names");
    serves(&broker).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_wait_cost_their_bytes() {
    if !is_apart("bad_memory::requests_that_wait_cost_their_bytes") {
        return;
    }
    const WAITING: usize = 120;
    let (_fleet, broker) = started(Limits::default()).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    let end = client.fetch("t", 0, 0, 0).await.high_watermark;
    // Each is worth twenty times its bytes once it is decoded; none is a long one.
    let groups = vec!["g".into(); 15_000];
    let request = describe_groups::Request {
        groups,
        ..describe_groups::Request::default()
    };
    let request = encoded(0, None, &request);
    assert!(request.len() < 64 << 10);
    let waiting = request.repeat(WAITING);
    let held = watch();
    // Nothing comes for this one for a while, and all others wait behind it.
    client.send(11, &fetch_request("t", 0, end, 2_000)).await;
    client.stream.write_all(&waiting).await.unwrap();
    for answer in 0..=WAITING {
        assert!(client.frame().await.is_some(), "{answer}");
    }
    // Their bytes, twice at most while they are read; what one is decoded to, and its answer.
    held.assert_at_most(2 * waiting.len() + 16 * MIB, "requests that wait");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fetches_that_wait_for_more_hold_no_records_meanwhile() {
    if !is_apart("bad_memory::fetches_that_wait_for_more_hold_no_records_meanwhile") {
        return;
    }
    const THERE: usize = 8 * MIB;
    let (_fleet, broker) = started(Limits::default()).await;
    let text = "x".repeat(MIB / 2);
    let mut patient = Patient::new(broker.handle.kafka);
    for _ in 0..THERE / text.len() {
        patient.produce("t", batch(&[&text])).await;
    }
    // As many as the machine reads for at a time may hold what they have just read.
    let at_once = std::thread::available_parallelism().unwrap().get() + 1;
    let mut request = fetch::Request {
        min_bytes: i32::MAX,
        max_bytes: i32::MAX,
        ..fetch_request("t", 0, 0, 300_000)
    };
    request.topics[0].partitions[0].partition_max_bytes = i32::MAX;
    let held = watch();
    let mut waiting = Vec::new();
    for _ in 0..5 * at_once {
        let mut client = Client::connect(broker.handle.kafka).await;
        client.send(11, &request).await;
        waiting.push(client);
    }
    // Each of these wakes them.
    for _ in 0..10 {
        serves(&broker).await;
    }
    held.assert_at_most(at_once * THERE + 4 * IDLE, "fetches that wait");
    broker.stop().await;
}
