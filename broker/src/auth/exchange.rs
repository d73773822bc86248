//! SaslHandshake and SaslAuthenticate: tokens in, tokens out, and in the end a caller.
//!
//! Handled when they are read, not when their turn to be answered comes: what the next frame may be depends on
//! them. Whoever fails is told so a moment later and closed.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use whimbrel_fleet::{View, credential::Mechanism as Scram};
use whimbrel_runtime::random;
use whimbrel_wire::{
    ApiKey, Decoder, ErrorCode, Message, RequestHeader,
    frame::{LENGTH_LEN, encode_response_frame},
    messages::{sasl_authenticate, sasl_handshake},
};

use super::{
    Authority, Mechanism,
    oauthbearer::{Failed as Unproven, Refused, Tokens},
    plain,
    scram::{self, Failed, Server},
    session::{Chosen, Exchange, Proven},
};
use crate::{
    api::{Begun, ready},
    broker::Broker,
    connection::{Closed, Peer},
};

/// Kafka's `connection.failed.authentication.delay.ms`: a guess costs at least this.
const FAILED_DELAY: Duration = Duration::from_millis(100);
/// From this version on tokens come in SaslAuthenticate requests.
const WRAPPED: i16 = 1;
/// Random bytes of a nonce, in words of eight.
const NONCE_WORDS: usize = 3;

/// What a token came to.
enum Step {
    Challenge(Exchange, Vec<u8>),
    /// The client hears why, says that it did, and only then has failed.
    Refused(Exchange, Vec<u8>, Refused),
    Proven(Box<Proven>, Vec<u8>),
    Failed(&'static str),
    /// It took note of having failed.
    Told,
}

/// One of the two APIs.
pub(crate) async fn begin(
    broker: &Arc<Broker>,
    peer: &Peer,
    header: &RequestHeader,
    input: &mut Decoder,
) -> Result<Begun, Closed> {
    let Some(authority) = &broker.security.authority else {
        return Ok(last(refusal(header, ErrorCode::ILLEGAL_SASL_STATE)));
    };
    match header.api_key {
        ApiKey::SaslHandshake => handshake(broker, authority, peer, header, input).await,
        _ => authenticate(broker, authority, peer, header, input).await,
    }
}

fn decode<M: Message>(header: &RequestHeader, input: &mut Decoder) -> Result<M, Closed> {
    M::decode(header.api_version, input).map_err(|source| Closed::Malformed {
        api: header.api_key.name(),
        version: header.api_version,
        source,
    })
}

/// An answer of either API that says only what went wrong.
fn refusal(header: &RequestHeader, error_code: ErrorCode) -> Vec<Bytes> {
    match header.api_key {
        ApiKey::SaslHandshake => encode(
            header,
            &sasl_handshake::Response {
                error_code,
                ..sasl_handshake::Response::default()
            },
        ),
        _ => encode(
            header,
            &sasl_authenticate::Response {
                error_code,
                error_message: Some("not in this state of the connection".to_owned()),
                ..sasl_authenticate::Response::default()
            },
        ),
    }
}

fn encode(header: &RequestHeader, response: &impl Message) -> Vec<Bytes> {
    encode_response_frame(
        header.correlation_id,
        header.api_key,
        header.api_version,
        response,
    )
}

/// The connection is closed once this is written.
fn last(chunks: Vec<Bytes>) -> Begun {
    Begun {
        room: None,
        answer: Box::pin(std::future::ready(Err(Closed::Unauthenticated(chunks)))),
        quiet: Duration::ZERO,
        is_last: true,
    }
}

async fn handshake(
    broker: &Broker,
    authority: &Authority,
    peer: &Peer,
    header: &RequestHeader,
    input: &mut Decoder,
) -> Result<Begun, Closed> {
    let request: sasl_handshake::Request = decode(header, input)?;
    let offered = &authority.options.mechanisms;
    let mechanism = offered
        .iter()
        .find(|offered| offered.name() == request.mechanism);
    let is_raw = header.api_version < WRAPPED;
    let now_ns = broker.clock.boot_ns();
    let Some(session) = peer.session() else {
        return Ok(last(refusal(header, ErrorCode::ILLEGAL_SASL_STATE)));
    };
    let chosen = session.lock().choose(mechanism.copied(), is_raw, now_ns);
    let answer = |error_code| {
        let mechanisms = offered.iter().map(|it| it.name().to_owned()).collect();
        let response = sasl_handshake::Response {
            error_code,
            mechanisms,
        };
        encode(header, &response)
    };
    match chosen {
        Chosen::Done => Ok(ready(answer(ErrorCode::NONE))),
        Chosen::OutOfOrder => Ok(last(answer(ErrorCode::ILLEGAL_SASL_STATE))),
        Chosen::NotOffered => {
            broker.clock.sleep(FAILED_DELAY).await;
            Ok(last(answer(ErrorCode::UNSUPPORTED_SASL_MECHANISM)))
        }
    }
}

async fn authenticate(
    broker: &Arc<Broker>,
    authority: &Authority,
    peer: &Peer,
    header: &RequestHeader,
    input: &mut Decoder,
) -> Result<Begun, Closed> {
    let request: sasl_authenticate::Request = decode(header, input)?;
    let Some(session) = peer.session() else {
        return Ok(last(refusal(header, ErrorCode::ILLEGAL_SASL_STATE)));
    };
    let taken = session.lock().take();
    let Some((exchange, again)) = taken.filter(|(exchange, _)| !exchange.is_raw) else {
        return Ok(last(refusal(header, ErrorCode::ILLEGAL_SASL_STATE)));
    };
    let mechanism = exchange.mechanism;
    let answer = |auth_bytes: Vec<u8>, session_lifetime_ms| {
        let response = sasl_authenticate::Response {
            error_message: None,
            auth_bytes: auth_bytes.into(),
            session_lifetime_ms,
            ..sasl_authenticate::Response::default()
        };
        ready(encode(header, &response))
    };
    let why = match step(broker, authority, peer, exchange, request.auth_bytes).await {
        Step::Challenge(exchange, token) => {
            session.lock().go_on(exchange, again);
            return Ok(answer(token, 0));
        }
        Step::Refused(exchange, token, refused) => {
            failed(broker, peer, mechanism, refused.words()).await;
            session.lock().go_on(exchange, again);
            return Ok(answer(token, 0));
        }
        Step::Proven(proven, token) => {
            let lifetime_ms = proven.lifetime_ms();
            if session.lock().prove(*proven, again.as_ref()) {
                return Ok(answer(token, lifetime_ms));
            }
            Some("Cannot change principals during re-authentication")
        }
        Step::Failed(why) => Some(why),
        Step::Told => None,
    };
    if let Some(why) = why {
        failed(broker, peer, mechanism, why).await;
    }
    // Not why: a name that does not exist must look like a password that is wrong.
    let error_message = format!(
        "Authentication failed during authentication due to invalid credentials with SASL mechanism {}",
        mechanism.name()
    );
    let response = sasl_authenticate::Response {
        error_code: ErrorCode::SASL_AUTHENTICATION_FAILED,
        error_message: Some(error_message),
        ..sasl_authenticate::Response::default()
    };
    Ok(last(encode(header, &response)))
}

/// A token without a request around it, as clients send after SaslHandshake v0. Failing is told by closing.
pub(crate) async fn begin_raw(
    broker: &Arc<Broker>,
    peer: &Peer,
    token: Bytes,
) -> Result<Begun, Closed> {
    let (Some(authority), Some(session)) = (&broker.security.authority, peer.session()) else {
        return Err(Closed::Unauthenticated(Vec::new()));
    };
    let taken = session.lock().take();
    let Some((exchange, again)) = taken else {
        return Err(Closed::Unauthenticated(Vec::new()));
    };
    let mechanism = exchange.mechanism;
    let token = match step(broker, authority, peer, exchange, token).await {
        Step::Challenge(exchange, token) => {
            session.lock().go_on(exchange, again);
            token
        }
        Step::Refused(exchange, token, refused) => {
            failed(broker, peer, mechanism, refused.words()).await;
            session.lock().go_on(exchange, again);
            token
        }
        Step::Told => return Ok(last(Vec::new())),
        Step::Proven(proven, token) if session.lock().prove((*proven).clone(), again.as_ref()) => {
            token
        }
        Step::Proven(..) => {
            failed(broker, peer, mechanism, "another user than before").await;
            return Ok(last(Vec::new()));
        }
        Step::Failed(why) => {
            failed(broker, peer, mechanism, why).await;
            return Ok(last(Vec::new()));
        }
    };
    let mut framed = Vec::with_capacity(LENGTH_LEN + token.len());
    framed.extend_from_slice(&u32::try_from(token.len()).unwrap_or(0).to_be_bytes());
    framed.extend_from_slice(&token);
    Ok(ready(vec![framed.into()]))
}

async fn failed(broker: &Broker, peer: &Peer, mechanism: Mechanism, why: &str) {
    broker.meters.authentications_failed.increment(1);
    let mechanism = mechanism.name();
    tracing::info!(peer = %peer.address, mechanism, why, "authentication failed");
    broker.offenders.note(peer.address.ip(), "unauthenticated");
    broker.clock.sleep(FAILED_DELAY).await;
}

async fn step(
    broker: &Arc<Broker>,
    authority: &Authority,
    peer: &Peer,
    exchange: Exchange,
    token: Bytes,
) -> Step {
    let now_ns = broker.clock.boot_ns();
    let proven = |user: String, by, key| {
        let ip = peer.address.ip();
        Box::new(Proven::new(authority, user, ip, Some(by), key, now_ns))
    };
    let mechanism = match exchange.mechanism {
        Mechanism::Plain => {
            return match checked(broker, authority, &token).await {
                Some((user, key)) => Step::Proven(proven(user, Mechanism::Plain, key), Vec::new()),
                None => Step::Failed("wrong name or password"),
            };
        }
        Mechanism::ScramSha256 => Scram::ScramSha256,
        Mechanism::ScramSha512 => Scram::ScramSha512,
        Mechanism::OauthBearer if exchange.is_refused => return Step::Told,
        Mechanism::OauthBearer => {
            let Some(tokens) = &authority.tokens else {
                return Step::Failed("no tokens are believed");
            };
            return bearer(broker, authority, tokens, peer, exchange, token).await;
        }
    };
    let Some(server) = &exchange.scram else {
        let first = match scram::read_first(&token) {
            Ok(first) => first,
            Err(failed) => return Step::Failed(words(failed)),
        };
        let view = &broker.catalog().view;
        let credential = view.credentials.get(&first.user, mechanism).cloned();
        let nonce = nonce();
        let (server, challenge) =
            Server::challenge(mechanism, first, credential, &authority.decoy, &nonce);
        let exchange = Exchange {
            scram: Some(server),
            ..exchange
        };
        return Step::Challenge(exchange, challenge);
    };
    match server.verify(&token) {
        Ok(token) => {
            let key = (mechanism, server.credential.stored_key.0.clone());
            let user = server.user.clone();
            Step::Proven(proven(user, exchange.mechanism, Some(key)), token)
        }
        Err(failed) => Step::Failed(words(failed)),
    }
}

/// Signatures take part of a millisecond and keys may be read anew: a thread of its own.
async fn bearer(
    broker: &Arc<Broker>,
    authority: &Authority,
    tokens: &Arc<Tokens>,
    peer: &Peer,
    exchange: Exchange,
    message: Bytes,
) -> Step {
    let (wall_ms, now_ns) = (broker.clock.wall_ms(), broker.clock.boot_ns());
    let check = {
        let tokens = Arc::clone(tokens);
        move || tokens.check(&message, wall_ms)
    };
    match broker.tasks.blocking(check).await {
        Ok(token) => {
            // The token speaks of wall time; what it proves ends on a clock that nobody sets.
            let left_ms = u64::try_from(token.until_ms.saturating_sub(wall_ms)).unwrap_or(0);
            let until_ns = now_ns.saturating_add(left_ms.saturating_mul(1_000_000));
            let ip = peer.address.ip();
            let by = Some(exchange.mechanism);
            let proven = Proven::new(authority, token.user, ip, by, None, now_ns);
            Step::Proven(Box::new(proven.at_most_until(until_ns)), Vec::new())
        }
        Err(Unproven::Malformed) => Step::Failed("malformed message"),
        Err(Unproven::OtherIdentity) => Step::Failed(words(Failed::OtherIdentity)),
        Err(Unproven::Token(refused)) => {
            let exchange = Exchange {
                is_refused: true,
                ..exchange
            };
            Step::Refused(exchange, tokens.refusal(refused), refused)
        }
    }
}

fn words(failed: Failed) -> &'static str {
    match failed {
        Failed::Malformed => "malformed token",
        Failed::Unsupported => "an extension that is not known",
        Failed::OtherIdentity => "another identity was asked for",
        Failed::Nonce => "the nonce is not ours",
        Failed::Proof => "wrong name or password",
    }
}

/// Printable, without a comma.
fn nonce() -> String {
    (0..NONCE_WORDS)
        .map(|_| format!("{:016x}", random::u64()))
        .collect()
}

/// Whom a PLAIN token proves. Hashing takes milliseconds and so a thread of its own.
async fn checked(
    broker: &Arc<Broker>,
    authority: &Authority,
    token: &[u8],
) -> Option<(String, Option<(Scram, Vec<u8>)>)> {
    let plain = plain::read(token)?;
    let user = plain.user.to_owned();
    let found = credential(&broker.catalog().view, &user);
    let exists = found.is_some();
    let (mechanism, credential) = found.unwrap_or_else(|| {
        let mechanism = Scram::ScramSha512;
        (mechanism, scram::decoy(mechanism, &authority.decoy, &user))
    });
    let key = credential.stored_key.0.clone();
    let password = plain.password.to_vec();
    let check = move || scram::is_password(mechanism, &credential, &password);
    let is_right = broker.tasks.blocking(check).await;
    (is_right && exists).then_some((user, Some((mechanism, key))))
}

fn credential(view: &View, user: &str) -> Option<(Scram, whimbrel_fleet::credential::Credential)> {
    Scram::ALL.into_iter().find_map(|mechanism| {
        let credential = view.credentials.get(user, mechanism)?;
        Some((mechanism, credential.clone()))
    })
}
