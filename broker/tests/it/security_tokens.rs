//! OAUTHBEARER over a raw socket: tokens that are believed, that are not, and that end.

use std::path::PathBuf;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use whimbrel_broker::auth::{self, Mechanism, OauthBearer};
use whimbrel_runtime::{Clock, unit::Span};
use whimbrel_wire::{
    ErrorCode,
    messages::{sasl_authenticate, sasl_handshake},
};

use crate::{
    client::Client,
    fleet::{Broker, Fleet, eventually},
    sasl::{asks_metadata, handshake, is_closed, options, token},
};

const ISSUER: &str = "https://issuer";
const REFUSED: &[u8] = br#"{"status":"invalid_token"}"#;

struct Issuer {
    pair: EcdsaKeyPair,
    kid: &'static str,
}

impl Issuer {
    fn new(kid: &'static str) -> Self {
        let (random, algorithm) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let made = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, made.as_ref(), &random).unwrap();
        Self { pair, kid }
    }

    fn jwks(&self) -> String {
        let (x, y) = self.pair.public_key().as_ref()[1..].split_at(32);
        let [x, y] = [x, y].map(|it| URL_SAFE_NO_PAD.encode(it));
        let key = json!({ "kty": "EC", "crv": "P-256", "kid": self.kid, "x": x, "y": y });
        json!({ "keys": [key] }).to_string()
    }

    fn token(&self, claims: &Value) -> String {
        let header = json!({ "alg": "ES256", "kid": self.kid });
        let signed = unsigned(&header, claims);
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(signature.unwrap());
        format!("{signed}.{signature}")
    }
}

fn unsigned(header: &Value, claims: &Value) -> String {
    let [header, claims] = [header, claims].map(|it| URL_SAFE_NO_PAD.encode(it.to_string()));
    format!("{header}.{claims}")
}

/// Of a token that ends so many seconds from now.
fn claims(user: &str, seconds: i64) -> Value {
    let end = Clock::system().wall_ms() / 1_000 + seconds;
    json!({ "iss": ISSUER, "aud": ["kafka"], "sub": user, "exp": end })
}

fn message(token: &str) -> String {
    format!("n,,\x01auth=Bearer {token}\x01traceId=1\x01\x01")
}

struct Setting {
    _fleet: Fleet,
    broker: Broker,
    issuer: Issuer,
    jwks: PathBuf,
    _dir: tempfile::TempDir,
}

async fn setting(change: impl FnOnce(&mut auth::Options)) -> Setting {
    let issuer = Issuer::new("one");
    let dir = tempfile::tempdir().unwrap();
    let jwks = dir.path().join("keys.json");
    std::fs::write(&jwks, issuer.jwks()).unwrap();
    let tokens = OauthBearer {
        jwks: vec![jwks.clone()],
        issuer: Some(ISSUER.into()),
        audience: vec!["kafka".into()],
        without_tls: true,
        ..OauthBearer::default()
    };
    let mut auth = auth::Options {
        mechanisms: vec![Mechanism::OauthBearer],
        oauthbearer: Some(tokens),
        allow_everyone_if_no_acl: true,
        ..auth::Options::default()
    };
    change(&mut auth);
    let fleet = Fleet::start().await;
    let broker = fleet.try_broker(options(&fleet, auth)).await.unwrap();
    Setting {
        _fleet: fleet,
        broker,
        issuer,
        jwks,
        _dir: dir,
    }
}

impl Setting {
    async fn asks(&self) -> Client {
        let mut client = Client::connect(self.broker.handle.kafka).await;
        let shaken = handshake(&mut client, "OAUTHBEARER").await;
        assert_eq!(shaken.error_code, ErrorCode::NONE);
        client
    }

    async fn shows(&self, shown: &str) -> (Client, sasl_authenticate::Response) {
        let mut client = self.asks().await;
        let answer = token(&mut client, message(shown)).await;
        (client, answer)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_proves_its_user_for_as_long_as_it_lasts_and_an_hour_at_most() {
    let setting = setting(|_| {}).await;
    for (seconds, least_ms, most_ms) in [(600, 600_000, 631_000), (7_200, 3_600_000, 3_600_000)] {
        let shown = setting.issuer.token(&claims("ann", seconds));
        let (mut client, answer) = setting.shows(&shown).await;
        assert_eq!(answer.error_code, ErrorCode::NONE);
        assert_eq!(answer.auth_bytes, Bytes::new());
        let lasts = answer.session_lifetime_ms;
        assert!((least_ms..=most_ms).contains(&lasts), "{lasts}");
        assert!(asks_metadata(&mut client).await.is_some());
    }
    setting.broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_believed_is_told_and_closed() {
    let setting = setting(|_| {}).await;
    let good = claims("ann", 600);
    let but = |key: &str, value: &str| {
        let mut claims = good.clone();
        claims[key] = value.into();
        setting.issuer.token(&claims)
    };
    let bad = [
        but("iss", "https://other"),
        but("aud", "others"),
        but("sub", ""),
        setting.issuer.token(&claims("ann", -31)),
        Issuer::new("one").token(&good),
        Issuer::new("two").token(&good),
        format!("{}.", unsigned(&json!({ "alg": "none" }), &good)),
        "a".repeat(30_000),
    ];
    for shown in bad {
        let (mut client, answer) = setting.shows(&shown).await;
        assert_eq!(answer.error_code, ErrorCode::NONE, "{shown}");
        assert_eq!(answer.auth_bytes, REFUSED, "{shown}");
        let answer = token(&mut client, "\x01").await;
        assert_eq!(answer.error_code, ErrorCode::SASL_AUTHENTICATION_FAILED);
        assert!(is_closed(&mut client).await);
    }
    // Who was refused does not try another one, and asks for nothing.
    let (mut client, _) = setting.shows("a.b.c").await;
    let again = message(&setting.issuer.token(&good));
    let answer = token(&mut client, again).await;
    assert_eq!(answer.error_code, ErrorCode::SASL_AUTHENTICATION_FAILED);
    assert!(is_closed(&mut client).await);
    let (mut client, _) = setting.shows("a.b.c").await;
    assert_eq!(asks_metadata(&mut client).await, None);
    // What is no message of the mechanism hears nothing more.
    let huge = message(&"a".repeat(33_000));
    for wrong in ["", "\x01", "n,,\x01auth=Basic a\x01\x01", &huge] {
        let mut client = setting.asks().await;
        let answer = token(&mut client, wrong).await;
        assert_eq!(answer.error_code, ErrorCode::SASL_AUTHENTICATION_FAILED);
        assert!(is_closed(&mut client).await);
    }
    setting.broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_old_clients_come_without_a_request_around_them() {
    let setting = setting(|_| {}).await;
    let good = setting.issuer.token(&claims("ann", 600));
    for (shown, told) in [(&*good, &b""[..]), ("a.b.c", REFUSED)] {
        let mut client = Client::connect(setting.broker.handle.kafka).await;
        let mechanism = "OAUTHBEARER".to_owned();
        client.call(0, sasl_handshake::Request { mechanism }).await;
        let message = message(shown);
        client.stream.write_u32(message.len() as u32).await.unwrap();
        client.stream.write_all(message.as_bytes()).await.unwrap();
        assert_eq!(client.frame().await.as_deref(), Some(told));
        if told.is_empty() {
            assert!(asks_metadata(&mut client).await.is_some());
        } else {
            client.stream.write_u32(1).await.unwrap();
            client.stream.write_all(b"\x01").await.unwrap();
            assert!(is_closed(&mut client).await);
        }
    }
    setting.broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_session_ends_with_the_token() {
    let setting = setting(|auth| {
        let tokens = auth.oauthbearer.as_mut().unwrap();
        tokens.clock_skew = Span::millis(0);
    })
    .await;
    // One that has a moment left: a second, of which the whole or nothing may be over.
    let mut client = eventually("a login before the end", async || {
        let shown = setting.issuer.token(&claims("ann", 1));
        let (client, answer) = setting.shows(&shown).await;
        let lasts = answer.session_lifetime_ms;
        assert!((0..=1_000).contains(&lasts), "{lasts}");
        (lasts > 0).then_some(client)
    })
    .await;
    eventually("the end of the session", async || {
        asks_metadata(&mut client).await.is_none().then_some(())
    })
    .await;
    setting.broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_read_anew_at_the_next_login() {
    let setting = setting(|_| {}).await;
    let next = Issuer::new("two");
    let of_next = next.token(&claims("ann", 600));
    let (_, answer) = setting.shows(&of_next).await;
    assert_eq!(answer.auth_bytes, REFUSED);
    let beside = setting.jwks.with_extension("new");
    std::fs::write(&beside, next.jwks()).unwrap();
    std::fs::rename(&beside, &setting.jwks).unwrap();
    let (mut client, answer) = setting.shows(&of_next).await;
    assert_eq!(answer.auth_bytes, Bytes::new());
    assert!(asks_metadata(&mut client).await.is_some());
    let of_before = setting.issuer.token(&claims("ann", 600));
    let (_, answer) = setting.shows(&of_before).await;
    assert_eq!(answer.auth_bytes, REFUSED);
    setting.broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_token_goes_on_with_the_session_and_another_users_ends_it() {
    let setting = setting(|_| {}).await;
    for (user, code) in [
        ("ann", ErrorCode::NONE),
        ("bob", ErrorCode::SASL_AUTHENTICATION_FAILED),
    ] {
        let shown = setting.issuer.token(&claims("ann", 600));
        let (mut client, _) = setting.shows(&shown).await;
        let clock = Clock::system();
        let since_ms = clock.boot_ms();
        eventually("the second in which nobody proves again", async || {
            (clock.boot_ms() > since_ms + 1_000).then_some(())
        })
        .await;
        let shaken = handshake(&mut client, "OAUTHBEARER").await;
        assert_eq!(shaken.error_code, ErrorCode::NONE);
        let next = setting.issuer.token(&claims(user, 600));
        let answer = token(&mut client, message(&next)).await;
        assert_eq!(answer.error_code, code);
        assert_eq!(asks_metadata(&mut client).await.is_some(), user == "ann");
    }
    setting.broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_nobody_signed_are_believed_where_that_is_said_by_name() {
    let setting = setting(|auth| {
        auth.oauthbearer = Some(OauthBearer {
            unsecured_tokens: true,
            ..OauthBearer::default()
        });
    })
    .await;
    let header = json!({ "alg": "none" });
    let shown = format!("{}.", unsigned(&header, &claims("ann", 600)));
    let (mut client, answer) = setting.shows(&shown).await;
    assert_eq!(answer.error_code, ErrorCode::NONE);
    assert_eq!(answer.auth_bytes, Bytes::new());
    assert!(asks_metadata(&mut client).await.is_some());
    let signed = setting.issuer.token(&claims("ann", 600));
    let (_, answer) = setting.shows(&signed).await;
    assert_eq!(answer.auth_bytes, REFUSED);
    setting.broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_cannot_be_read_refuse_the_start() {
    let fleet = Fleet::start().await;
    let tokens = OauthBearer {
        jwks: vec!["/no/such/keys.json".into()],
        issuer: Some(ISSUER.into()),
        audience: vec!["kafka".into()],
        without_tls: true,
        ..OauthBearer::default()
    };
    let auth = auth::Options {
        mechanisms: vec![Mechanism::OauthBearer],
        oauthbearer: Some(tokens),
        ..auth::Options::default()
    };
    let refused = fleet.try_broker(options(&fleet, auth)).await;
    let error = refused.err().unwrap();
    assert_eq!(error.code(), "WB-120");
    assert!(error.to_string().contains("/no/such/keys.json"), "{error}");
}
