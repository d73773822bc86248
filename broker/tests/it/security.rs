//! Who a client is: SASL over a raw socket, from the first byte to the hour's end.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use ring::{digest, hmac, pbkdf2};
use tokio::io::AsyncWriteExt;
use whimbrel_broker::{
    Options,
    auth::{self, Mechanism, scram},
};
use whimbrel_fleet::credential::{CredentialChange, Mechanism as Scram};
use whimbrel_runtime::unit::Span;
use whimbrel_wire::{
    ApiKey, ErrorCode,
    messages::{
        alter_user_scram_credentials as alter, api_versions,
        describe_user_scram_credentials as describe, metadata, sasl_authenticate, sasl_handshake,
    },
};

use crate::{
    client::Client,
    fleet::{Broker, EAST, Fleet, eventually},
};

const PASSWORD: &str = "pencil";
pub const ROOT: &str = "root";

/// A user with the password of these tests, for both mechanisms.
pub fn user(name: &str, password: &str) -> Vec<CredentialChange> {
    let of = |mechanism| CredentialChange {
        user: name.into(),
        mechanism,
        credential: Some(scram::from_password(
            mechanism,
            b"salt of tests".to_vec(),
            password.as_bytes(),
            4_096,
        )),
    };
    Scram::ALL.map(of).to_vec()
}

pub fn options(fleet: &Fleet, auth: auth::Options) -> Options {
    Options {
        auth: Some(auth),
        ..fleet.options(1, EAST)
    }
}

fn usual() -> auth::Options {
    auth::Options {
        mechanisms: vec![
            Mechanism::ScramSha512,
            Mechanism::ScramSha256,
            Mechanism::Plain,
        ],
        super_users: vec![ROOT.into()],
        plain_without_tls: true,
        ..auth::Options::default()
    }
}

/// A broker that asks, and its fleet, in which `ann` and the super user have passwords.
pub async fn asking(auth: auth::Options) -> (Fleet, Broker) {
    let fleet = Fleet::start().await;
    let broker = fleet.try_broker(options(&fleet, auth)).await.unwrap();
    let users = [user("ann", PASSWORD), user(ROOT, PASSWORD)].concat();
    fleet.client.alter_credentials(&users).await.unwrap();
    // The broker works from a view in which they are.
    eventually("users", async || {
        let mut client = Client::connect(broker.handle.kafka).await;
        prove(&mut client, Scram::ScramSha256, ROOT, PASSWORD)
            .await
            .ok()
    })
    .await;
    (fleet, broker)
}

pub async fn known(broker: &Broker, name: &str) -> Client {
    let mut client = Client::connect(broker.handle.kafka).await;
    prove(&mut client, Scram::ScramSha512, name, PASSWORD)
        .await
        .unwrap();
    client
}

pub async fn handshake(client: &mut Client, mechanism: &str) -> sasl_handshake::Response {
    let mechanism = mechanism.to_owned();
    client.call(1, sasl_handshake::Request { mechanism }).await
}

pub async fn token(client: &mut Client, token: impl Into<Vec<u8>>) -> sasl_authenticate::Response {
    let auth_bytes = Bytes::from(token.into());
    client
        .call(2, sasl_authenticate::Request { auth_bytes })
        .await
}

fn sign(mechanism: Scram, key: &[u8], message: &[u8]) -> Vec<u8> {
    let algorithm = match mechanism {
        Scram::ScramSha256 => hmac::HMAC_SHA256,
        Scram::ScramSha512 => hmac::HMAC_SHA512,
    };
    hmac::sign(&hmac::Key::new(algorithm, key), message)
        .as_ref()
        .to_vec()
}

/// The client's half of SCRAM: what it sends last, and what the server has to answer.
fn proof(mechanism: Scram, user: &str, password: &str, challenge: &str) -> (String, String) {
    let field = |name: &str| {
        let found = challenge
            .split(',')
            .find_map(|part| part.strip_prefix(name));
        found.unwrap().to_owned()
    };
    let (nonce, salt, rounds) = (field("r="), field("s="), field("i="));
    let (algorithm, hash) = match mechanism {
        Scram::ScramSha256 => (pbkdf2::PBKDF2_HMAC_SHA256, &digest::SHA256),
        Scram::ScramSha512 => (pbkdf2::PBKDF2_HMAC_SHA512, &digest::SHA512),
    };
    let mut salted = vec![0; mechanism.hash_len()];
    let salt = STANDARD.decode(salt).unwrap();
    let rounds = rounds.parse().unwrap();
    pbkdf2::derive(algorithm, rounds, &salt, password.as_bytes(), &mut salted);
    let client_key = sign(mechanism, &salted, b"Client Key");
    let stored = digest::digest(hash, &client_key);
    let last = format!("c=biws,r={nonce}");
    let message = format!("n={user},r=fyko,{challenge},{last}");
    let signature = sign(mechanism, stored.as_ref(), message.as_bytes());
    let proof: Vec<u8> = client_key
        .iter()
        .zip(&signature)
        .map(|(a, b)| a ^ b)
        .collect();
    let server_key = sign(mechanism, &salted, b"Server Key");
    let verifier = sign(mechanism, &server_key, message.as_bytes());
    (
        format!("{last},p={}", STANDARD.encode(proof)),
        format!("v={}", STANDARD.encode(verifier)),
    )
}

/// The whole exchange; how long the session lasts, or the code that refused it.
async fn prove(
    client: &mut Client,
    mechanism: Scram,
    user: &str,
    password: &str,
) -> Result<i64, ErrorCode> {
    let shaken = handshake(client, mechanism.name()).await;
    assert_eq!(shaken.error_code, ErrorCode::NONE);
    let first = token(client, format!("n,,n={user},r=fyko")).await;
    if !first.error_code.is_none() {
        return Err(first.error_code);
    }
    let challenge = String::from_utf8(first.auth_bytes.to_vec()).unwrap();
    let (last, verifier) = proof(mechanism, user, password, &challenge);
    let answer = token(client, last).await;
    if !answer.error_code.is_none() {
        return Err(answer.error_code);
    }
    assert_eq!(
        answer.auth_bytes,
        verifier.as_bytes(),
        "the server proves itself too"
    );
    Ok(answer.session_lifetime_ms)
}

pub async fn is_closed(client: &mut Client) -> bool {
    client.frame().await.is_none()
}

pub async fn asks_metadata(client: &mut Client) -> Option<Bytes> {
    client.send(12, &metadata::Request::default()).await;
    client.frame().await
}

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

fn upsertion(name: &str, iterations: i32) -> alter::ScramCredentialUpsertion {
    let mut salted = vec![0; 32];
    let rounds = 4_096.try_into().unwrap();
    let sha = pbkdf2::PBKDF2_HMAC_SHA256;
    pbkdf2::derive(sha, rounds, b"some salt", PASSWORD.as_bytes(), &mut salted);
    alter::ScramCredentialUpsertion {
        name: name.into(),
        mechanism: 1,
        iterations,
        salt: Bytes::from_static(b"some salt"),
        salted_password: salted.into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_made_described_and_taken_away_by_their_administrator() {
    let (_fleet, broker) = asking(usual()).await;
    let mut root = known(&broker, ROOT).await;
    let request = alter::Request {
        upsertions: vec![
            upsertion("bob", 4_096),
            upsertion("few", 1),
            upsertion("many", 1_000_000),
        ],
        deletions: vec![alter::ScramCredentialDeletion {
            name: "nobody".into(),
            mechanism: 1,
        }],
    };
    let mut done = outcome(root.call(0, request).await);
    done.sort();
    let unacceptable = ErrorCode::UNACCEPTABLE_CREDENTIAL;
    let expected = [
        ("bob", ErrorCode::NONE),
        ("few", unacceptable),
        ("many", unacceptable),
        ("nobody", ErrorCode::RESOURCE_NOT_FOUND),
    ];
    assert_eq!(done, expected.map(|(user, code)| (user.to_owned(), code)));
    let mut bob = Client::connect(broker.handle.kafka).await;
    prove(&mut bob, Scram::ScramSha256, "bob", PASSWORD)
        .await
        .unwrap();
    let described = root.call(0, describe::Request::default()).await;
    let users = described.results.iter();
    let users: Vec<_> = users
        .map(|it| (it.user.as_str(), it.credential_infos.len()))
        .collect();
    assert_eq!(users, [("ann", 2), ("bob", 1), (ROOT, 2)]);
    let deletions = vec![alter::ScramCredentialDeletion {
        name: "bob".into(),
        mechanism: 1,
    }];
    let request = alter::Request {
        deletions,
        ..alter::Request::default()
    };
    assert_eq!(
        outcome(root.call(0, request).await),
        [("bob".to_owned(), ErrorCode::NONE)]
    );
    let mut bob = Client::connect(broker.handle.kafka).await;
    let outcome = prove(&mut bob, Scram::ScramSha256, "bob", PASSWORD).await;
    assert_eq!(outcome, Err(ErrorCode::SASL_AUTHENTICATION_FAILED));
    broker.stop().await;
}

fn outcome(response: alter::Response) -> Vec<(String, ErrorCode)> {
    let results = response.results.into_iter();
    results.map(|it| (it.user, it.error_code)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_changes_passwords_and_nothing_shows_what_is_kept_of_them() {
    let (fleet, broker) = asking(usual()).await;
    let mut ann = known(&broker, "ann").await;
    // Who administers nothing changes nobody's password.
    let request = alter::Request {
        upsertions: vec![upsertion(ROOT, 4_096)],
        ..alter::Request::default()
    };
    let refused = outcome(ann.call(0, request).await);
    assert_eq!(
        refused,
        [(ROOT.to_owned(), ErrorCode::CLUSTER_AUTHORIZATION_FAILED)]
    );
    // Nothing that people look at shows a key.
    let credentials = &fleet.view().credentials;
    let key = &credentials
        .get("ann", Scram::ScramSha256)
        .unwrap()
        .stored_key;
    let key = serde_json::to_value(key).unwrap();
    let key = key.as_str().unwrap();
    let shown = format!(
        "{} {}",
        broker.get("/status").await,
        broker.get("/metrics").await
    );
    assert!(!shown.contains(key) && !format!("{credentials:?}").contains(key));
    assert!(
        fleet
            .client
            .status()
            .await
            .unwrap()
            .view
            .credentials
            .is_empty()
    );
    broker.stop().await;
}
