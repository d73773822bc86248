//! The client's half of SASL over a raw socket, and brokers that ask for it.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use ring::{digest, hmac, pbkdf2};
use whimbrel_broker::{
    Limits, Options,
    auth::{self, Mechanism, scram},
};
use whimbrel_fleet::credential::{CredentialChange, Mechanism as Scram};
use whimbrel_wire::{
    ErrorCode,
    messages::{metadata, sasl_authenticate, sasl_handshake},
};

use crate::{
    client::Client,
    fleet::{Broker, EAST, Fleet, eventually},
};

pub const PASSWORD: &str = "pencil";
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

pub fn usual() -> auth::Options {
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
    asking_within(Limits::default(), auth).await
}

pub async fn asking_within(limits: Limits, auth: auth::Options) -> (Fleet, Broker) {
    let fleet = Fleet::start().await;
    let options = Options {
        limits,
        ..options(&fleet, auth)
    };
    let broker = fleet.try_broker(options).await.unwrap();
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
pub fn proof(mechanism: Scram, user: &str, password: &str, challenge: &str) -> (String, String) {
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
pub async fn prove(
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
