//! Frames and headers that are not what a client sends: the connection ends, or goes on as if nothing had been.

use std::net::SocketAddr;

use tokio::{io::AsyncWriteExt, net::TcpSocket};
use whimbrel_broker::{Limits, Options, api::OFFERED};
use whimbrel_wire::{
    ApiKey,
    frame::{decode_response_header, encode_request_frame},
    messages::{describe_groups, metadata},
};

use crate::{
    client::{Client, batch},
    fleet::{Broker, EAST, Fleet, eventually, unoffended},
    raw::{NOBODY, answer, closes, encoded, frame, head, plain},
};

async fn started(limits: Limits) -> (Fleet, Broker, Client) {
    let fleet = Fleet::start().await;
    let options = Options {
        limits: unoffended(limits),
        ..fleet.options(1, EAST)
    };
    let broker = fleet.try_broker(options).await.unwrap();
    let mut client = Client::connect(broker.handle.kafka).await;
    client.create_topic("t", 1, &[]).await;
    client.produce_ok("t", 0, batch(&["before"])).await;
    (fleet, broker, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_ends_within_a_frame_leaves_nothing_behind() {
    const MOST: usize = 5;
    let (_fleet, broker, mut healthy) = started(Limits {
        connections_per_ip: MOST,
        ..Limits::default()
    })
    .await;
    let whole = encoded(12, Some("c"), &metadata::Request::default());
    for cut in 1..whole.len() {
        let mut client = eventually("a place", async || {
            let mut client = Client::connect(broker.handle.kafka).await;
            client.stream.write_all(&whole[..cut]).await.ok()?;
            client.stream.shutdown().await.ok()?;
            Some(client)
        })
        .await;
        assert_eq!(client.frame().await, None, "{cut} of {} bytes", whole.len());
    }
    // All their places are free again, but for the one that is held.
    let mut crowd = Vec::new();
    for _ in 1..MOST {
        crowd.push(
            eventually("a place", async || {
                let mut client = Client::connect(broker.handle.kafka).await;
                client.stream.write_all(&whole).await.ok()?;
                client.frame().await.map(|_| client)
            })
            .await,
        );
    }
    healthy.produce_ok("t", 0, batch(&["after"])).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_behind_a_request_are_passed_over() {
    let (_fleet, broker, _healthy) = started(Limits::default()).await;
    let request = metadata::Request {
        topics: None,
        ..metadata::Request::default()
    };
    for version in [1, 12] {
        let mut padded = encoded(version, None, &request);
        padded.extend([0xff, 0, 0x7f]);
        let length = i32::try_from(padded.len() - 4).unwrap();
        padded[..4].copy_from_slice(&length.to_be_bytes());
        assert!(
            answer(&broker, &padded).await.is_some(),
            "version {version}"
        );
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_address_gets_more_than_its_share_nor_all_more_than_there_is() {
    let (_fleet, broker, healthy) = started(Limits {
        connections: 8,
        connections_per_ip: 5,
        ..Limits::default()
    })
    .await;
    drop(healthy);
    let whole = encoded(12, None, &metadata::Request::default());
    let connect = async |ip: [u8; 4]| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((ip, 0))).unwrap();
        let mut client = Client::over(socket.connect(broker.handle.kafka).await.unwrap());
        let _cut_off = client.stream.write_all(&whole).await;
        client.frame().await.map(|_| client)
    };
    let (one, two, three) = ([127, 0, 0, 1], [127, 0, 0, 2], [127, 0, 0, 3]);
    let mut crowd = Vec::new();
    for _ in 0..5 {
        crowd.push(eventually("a place", async || connect(one).await).await);
    }
    assert!(connect(one).await.is_none(), "a sixth from one address");
    for _ in 0..3 {
        crowd.push(connect(two).await.unwrap());
    }
    assert!(connect(three).await.is_none(), "a ninth in all");
    drop(crowd);
    eventually("a place", async || connect(three).await).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_pipelined_requests_are_answered_in_their_order() {
    const MANY: i32 = 10_000;
    let (_fleet, broker, _healthy) = started(Limits::default()).await;
    let client = Client::connect(broker.handle.kafka).await;
    let (read, mut write) = client.stream.into_split();
    let sending = async move {
        for correlation_id in 0..MANY {
            // Slow ones and quick ones, so that their order is not that of their work.
            let frame = if correlation_id % 3 == 0 {
                let request = metadata::Request {
                    topics: None,
                    ..metadata::Request::default()
                };
                encoded_as(12, correlation_id, &request)
            } else {
                let request = describe_groups::Request {
                    groups: vec!["g".into()],
                    ..describe_groups::Request::default()
                };
                encoded_as(4, correlation_id, &request)
            };
            write.write_all(&frame).await.unwrap();
        }
        write
    };
    let reading = async move {
        let mut read = tokio::io::BufReader::new(read);
        for expected in 0..MANY {
            let (key, version) = if expected % 3 == 0 {
                (ApiKey::Metadata, 12)
            } else {
                (ApiKey::DescribeGroups, 4)
            };
            let frame = crate::client::frame_from(&mut read).await.unwrap();
            let mut input = whimbrel_wire::Decoder::new(frame, whimbrel_wire::Budget::new(1 << 20));
            assert_eq!(
                decode_response_header(key, version, &mut input),
                Ok(expected)
            );
        }
    };
    tokio::join!(sending, reading);
    broker.stop().await;
}

fn encoded_as<R: whimbrel_wire::Request>(
    version: i16,
    correlation_id: i32,
    request: &R,
) -> Vec<u8> {
    let header = whimbrel_wire::RequestHeader {
        api_key: R::KEY,
        api_version: version,
        correlation_id,
        client_id: None,
    };
    encode_request_frame(&header, request).concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn apis_that_are_not_offered_close() {
    let (_fleet, broker, mut healthy) = started(Limits::default()).await;
    // Those of brokers among themselves, of telemetry (71, 72), of authentication (17, 36), of tokens, of the future.
    let offered = |key: i16| OFFERED.iter().any(|offered| *offered as i16 == key);
    let keys = (-1..100)
        .chain([i16::MIN, i16::MAX])
        .filter(|key| !offered(*key));
    for key in keys {
        for version in [0, 1, 3] {
            let mut body = head(key, version, NOBODY);
            body.extend([0; 20]);
            assert!(closes(&broker, &frame(&body)).await, "{key} v{version}");
        }
    }
    healthy.produce_ok("t", 0, batch(&["after"])).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_that_are_not_spoken_close() {
    let (_fleet, broker, mut healthy) = started(Limits::default()).await;
    for &key in OFFERED.iter().filter(|key| **key != ApiKey::ApiVersions) {
        let (low, high) = key.versions();
        for version in [low - 1, high + 1, -1, i16::MIN, i16::MAX] {
            if (low..=high).contains(&version) {
                continue;
            }
            let mut body = head(key as i16, version, NOBODY);
            body.extend([0; 40]);
            assert!(
                closes(&broker, &frame(&body)).await,
                "{} v{version}",
                key.name()
            );
        }
    }
    healthy.produce_ok("t", 0, batch(&["after"])).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn client_ids_of_any_content_are_taken_or_closed_and_show_nowhere() {
    let (_fleet, broker, mut healthy) = started(Limits::default()).await;
    let metadata = ApiKey::Metadata as i16;
    let with = |id: &[u8]| frame(&[&head(metadata, 1, id)[..], &(-1_i32).to_be_bytes()].concat());
    for (what, id) in [
        ("length -2", &[0xff, 0xfe][..]),
        ("length -32768", &[0x80, 0]),
        ("longer than the frame", &[0x7f, 0xff, b'x']),
        ("not UTF-8", &[0, 2, 0xc3, 0x28]),
    ] {
        assert!(closes(&broker, &with(id)).await, "{what}");
    }
    let named = |name: &str| {
        let length = u16::try_from(name.len()).unwrap().to_be_bytes();
        with(&[&length[..], name.as_bytes()].concat())
    };
    for name in [
        "",
        "zebra\r\nWB-999 forged=\"line\"",
        "zebra\0\u{1b}[2J",
        &"zebra".repeat(6_000),
    ] {
        assert!(answer(&broker, &named(name)).await.is_some(), "{name:?}");
    }
    for page in ["/metrics", "/status"] {
        assert!(!broker.get(page).await.contains("zebra"), "{page}");
    }
    healthy.produce_ok("t", 0, batch(&["after"])).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tagged_fields_and_lengths_that_lie_close() {
    let (_fleet, broker, mut healthy) = started(Limits::default()).await;
    let in_header = |tags: &[u8]| {
        let header = head(ApiKey::Metadata as i16, 12, NOBODY);
        frame(&[&header[..], tags, &[1, 1, 0, 0]].concat())
    };
    let body =
        |key: ApiKey, version, body: &[u8]| frame(&[&plain(key, version)[..], body].concat());
    let metadata = |bytes: &[u8]| body(ApiKey::Metadata, 12, bytes);
    assert!(answer(&broker, &in_header(&[0])).await.is_some());
    assert!(answer(&broker, &metadata(&[1, 1, 0, 0])).await.is_some());
    let cases: &[(&str, Vec<u8>)] = &[
        ("a tag past the end", in_header(&[1, 0, 0x7f])),
        (
            "a tag of 4 GiB",
            in_header(&[1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        ),
        ("tags twice", in_header(&[2, 1, 0, 1, 0])),
        ("tags that fall", in_header(&[2, 2, 0, 1, 0])),
        ("65 tags", in_header(&[65])),
        (
            "a tag past the end of the body",
            metadata(&[1, 1, 0, 1, 0, 0x7f]),
        ),
        (
            "tags of the body twice",
            metadata(&[1, 1, 0, 2, 1, 0, 1, 0]),
        ),
        (
            "a number of 6 bytes",
            metadata(&[0x80, 0x80, 0x80, 0x80, 0x80, 1]),
        ),
        (
            "a number over 32 bits",
            metadata(&[0xff, 0xff, 0xff, 0xff, 0x1f]),
        ),
        ("a number without end", metadata(&[0xff; 30])),
        (
            "a list of 2^32 - 2",
            metadata(&[0xff, 0xff, 0xff, 0xff, 0x0f]),
        ),
        (
            "a list of -2",
            body(ApiKey::Metadata, 8, &[0xff, 0xff, 0xff, 0xfe]),
        ),
        (
            "a list of -2^31",
            body(ApiKey::Metadata, 8, &[0x80, 0, 0, 0]),
        ),
        ("null for a list", body(ApiKey::Metadata, 0, &[0xff; 4])),
        (
            "null for a name",
            body(ApiKey::Metadata, 8, &[0, 0, 0, 1, 0xff, 0xff, 0, 0, 0]),
        ),
        (
            "null for a short name",
            body(ApiKey::DescribeGroups, 5, &[2, 0, 0, 0]),
        ),
        (
            "a name of -2",
            body(ApiKey::Metadata, 8, &[0, 0, 0, 1, 0xff, 0xfe, 0, 0, 0]),
        ),
    ];
    for (what, bytes) in cases {
        assert!(closes(&broker, bytes).await, "{what}");
    }
    healthy.produce_ok("t", 0, batch(&["after"])).await;
    broker.stop().await;
}
