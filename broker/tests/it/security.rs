//! Who a client is: SASL over a raw socket, from the first byte to the hour's end.

use bytes::Bytes;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use whimbrel_broker::{Limits, auth};
use whimbrel_fleet::credential::Mechanism as Scram;
use whimbrel_runtime::unit::Span;
use whimbrel_wire::{
    ApiKey, ErrorCode,
    messages::{api_versions, sasl_authenticate, sasl_handshake},
};

use crate::{
    bad_peers::slowed,
    client::Client,
    fleet::{EAST, Fleet, eventually},
    sasl::{
        PASSWORD, ROOT, asking, asking_within, asks_metadata, handshake, is_closed, known, options,
        proof, prove, token, user, usual,
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn both_mechanisms_prove_both_sides_and_last_an_hour() {
    let (_fleet, broker) = asking(usual()).await;
    for mechanism in Scram::ALL {
        let mut client = Client::connect(broker.handle.kafka).await;
        let lasts = prove(&mut client, mechanism, "ann", PASSWORD).await;
        assert_eq!(lasts, Ok(3_600_000));
        assert!(asks_metadata(&mut client).await.is_some());
    }
    let mut client = Client::connect(broker.handle.kafka).await;
    handshake(&mut client, "PLAIN").await;
    let answer = token(&mut client, format!("\0ann\0{PASSWORD}")).await;
    assert_eq!(answer.error_code, ErrorCode::NONE);
    assert!(asks_metadata(&mut client).await.is_some());
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn before_that_nothing_is_heard_but_who_one_is() {
    let (_fleet, broker) = asking(usual()).await;
    let connect = || Client::connect(broker.handle.kafka);
    let mut client = connect().await;
    let offered = client
        .call(3, api_versions::Request::default())
        .await
        .api_keys;
    for key in [ApiKey::SaslHandshake, ApiKey::SaslAuthenticate] {
        assert!(offered.iter().any(|api| api.api_key == key as i16));
    }
    assert_eq!(asks_metadata(&mut client).await, None);
    // In the middle of it as little.
    let mut client = connect().await;
    handshake(&mut client, "SCRAM-SHA-256").await;
    assert_eq!(asks_metadata(&mut client).await, None);
    // A frame that would be fine later.
    let mut client = connect().await;
    client.stream.write_u32(65 << 10).await.unwrap();
    assert!(is_closed(&mut client).await);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_an_unknown_user_and_another_nonce_are_told_alike_and_closed() {
    let (_fleet, broker) = asking(usual()).await;
    let connect = || Client::connect(broker.handle.kafka);
    let failed = Err(ErrorCode::SASL_AUTHENTICATION_FAILED);
    for (user, password) in [("ann", "pencils"), ("nobody", PASSWORD)] {
        let mut client = connect().await;
        let outcome = prove(&mut client, Scram::ScramSha512, user, password).await;
        assert_eq!(outcome, failed, "{user}");
        assert!(is_closed(&mut client).await);
    }
    let mut client = connect().await;
    handshake(&mut client, "SCRAM-SHA-256").await;
    let first = token(&mut client, "n,,n=ann,r=fyko").await;
    let challenge = String::from_utf8(first.auth_bytes.to_vec()).unwrap();
    let (last, _) = proof(Scram::ScramSha256, "ann", PASSWORD, &challenge);
    // What is compared at the end only would take it.
    let longer = last.replacen("r=", "r=x", 1);
    let answer = token(&mut client, longer).await;
    assert_eq!(answer.error_code, ErrorCode::SASL_AUTHENTICATION_FAILED);
    assert!(is_closed(&mut client).await);
    for wrong in [
        "\0ann\0pencils",
        "\0nobody\0pencil",
        "root\0ann\0pencil",
        "ann",
    ] {
        let mut client = connect().await;
        handshake(&mut client, "PLAIN").await;
        let answer = token(&mut client, wrong).await;
        assert_eq!(
            answer.error_code,
            ErrorCode::SASL_AUTHENTICATION_FAILED,
            "{wrong:?}"
        );
        assert!(is_closed(&mut client).await);
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_guesses_waits_and_who_knows_the_password_there_comes_in() {
    let limits = Limits {
        bad_connections_per_second: 1,
        ..Limits::default()
    };
    let (_fleet, broker) = asking_within(limits, usual()).await;
    let mut standing = known(&broker, "ann").await;
    // A busy machine may take so long over them that the address owes nothing any more.
    eventually("a new connection that has to wait", async || {
        guess(&broker).await;
        let before = slowed(&broker).await;
        let named = broker.status().await["offenders"] == json!(["127.0.0.1"]);
        assert!(asks_metadata(&mut standing).await.is_some());
        // Whoever is new from there comes in with the right one, only later.
        let mut new = known(&broker, "ann").await;
        assert!(asks_metadata(&mut new).await.is_some());
        (named && slowed(&broker).await > before).then_some(())
    })
    .await;
    broker.stop().await;
}

/// Some connections with a wrong password each, told at once when all of them are in.
async fn guess(broker: &crate::fleet::Broker) {
    let mut storm = Vec::new();
    for mechanism in ["PLAIN", "SCRAM-SHA-256"].repeat(6) {
        let mut client = Client::connect(broker.handle.kafka).await;
        handshake(&mut client, mechanism).await;
        let last = if mechanism == "PLAIN" {
            "\0ann\0pencils".to_owned()
        } else {
            let first = token(&mut client, "n,,n=ann,r=fyko").await;
            let challenge = String::from_utf8(first.auth_bytes.to_vec()).unwrap();
            proof(Scram::ScramSha256, "ann", "pencils", &challenge).0
        };
        storm.push((client, Bytes::from(last.into_bytes())));
    }
    for (client, last) in &mut storm {
        let auth_bytes = last.clone();
        client
            .send(2, &sasl_authenticate::Request { auth_bytes })
            .await;
    }
    for (client, _) in &mut storm {
        let (_, answer) = client.receive::<sasl_authenticate::Request>(2).await;
        assert_eq!(answer.error_code, ErrorCode::SASL_AUTHENTICATION_FAILED);
        assert!(is_closed(client).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_out_of_order_is_told_and_closed() {
    let (_fleet, broker) = asking(usual()).await;
    let connect = || Client::connect(broker.handle.kafka);
    let mut client = connect().await;
    handshake(&mut client, "SCRAM-SHA-256").await;
    let second = handshake(&mut client, "SCRAM-SHA-256").await;
    assert_eq!(second.error_code, ErrorCode::ILLEGAL_SASL_STATE);
    assert!(is_closed(&mut client).await);
    let mut client = known(&broker, "ann").await;
    let at_once = handshake(&mut client, "SCRAM-SHA-512").await;
    assert_eq!(at_once.error_code, ErrorCode::ILLEGAL_SASL_STATE);
    assert!(is_closed(&mut client).await);
    let mut client = connect().await;
    let first = token(&mut client, "n,,n=ann,r=x").await;
    assert_eq!(first.error_code, ErrorCode::ILLEGAL_SASL_STATE);
    assert!(is_closed(&mut client).await);
    let mut client = connect().await;
    let unknown = handshake(&mut client, "GSSAPI").await;
    assert_eq!(unknown.error_code, ErrorCode::UNSUPPORTED_SASL_MECHANISM);
    assert_eq!(
        unknown.mechanisms,
        ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"]
    );
    assert!(is_closed(&mut client).await);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_old_clients_come_without_a_request() {
    let (_fleet, broker) = asking(usual()).await;
    for (password, is_right) in [(PASSWORD, true), ("pencils", false)] {
        let mut client = Client::connect(broker.handle.kafka).await;
        let mechanism = "PLAIN".to_owned();
        client.call(0, sasl_handshake::Request { mechanism }).await;
        let token = format!("\0ann\0{password}");
        client.stream.write_u32(token.len() as u32).await.unwrap();
        client.stream.write_all(token.as_bytes()).await.unwrap();
        assert_eq!(client.frame().await, is_right.then(Bytes::new));
        if is_right {
            assert!(asks_metadata(&mut client).await.is_some());
        }
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_proven_ends_with_its_time_and_with_the_password() {
    let (fleet, broker) = asking(usual()).await;
    let mut client = known(&broker, "ann").await;
    assert!(asks_metadata(&mut client).await.is_some());
    let changed = user("ann", "another");
    fleet.client.alter_credentials(&changed).await.unwrap();
    eventually("the end of the session", async || {
        asks_metadata(&mut client).await.is_none().then_some(())
    })
    .await;
    broker.stop().await;
    let brief = auth::Options {
        max_reauth: Span::millis(1),
        ..usual()
    };
    let (_fleet, broker) = asking(brief).await;
    let mut client = known(&broker, ROOT).await;
    eventually("the end of the session", async || {
        asks_metadata(&mut client).await.is_none().then_some(())
    })
    .await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_is_not_waited_for() {
    let brief = auth::Options {
        authentication_time: Span::millis(50),
        ..usual()
    };
    let fleet = Fleet::start().await;
    let broker = fleet.try_broker(options(&fleet, brief)).await.unwrap();
    let mut client = Client::connect(broker.handle.kafka).await;
    assert!(is_closed(&mut client).await);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_is_asked_a_handshake_is_out_of_place() {
    let fleet = Fleet::start().await;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    let answer = handshake(&mut client, "PLAIN").await;
    assert_eq!(answer.error_code, ErrorCode::ILLEGAL_SASL_STATE);
    assert!(is_closed(&mut client).await);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_in_the_clear_have_to_be_allowed_by_name() {
    let fleet = Fleet::start().await;
    let refusals = [
        auth::Options {
            plain_without_tls: false,
            ..usual()
        },
        auth::Options {
            mechanisms: Vec::new(),
            ..usual()
        },
        auth::Options {
            anonymous: true,
            ..usual()
        },
    ];
    for auth in refusals {
        let refused = fleet.try_broker(options(&fleet, auth)).await;
        assert_eq!(refused.err().map(|error| error.code()), Some("WB-120"));
    }
}
