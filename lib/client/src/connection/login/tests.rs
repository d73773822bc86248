use std::time::Duration;

use tokio::io::DuplexStream;
use whimbrel_runtime::{Clock, Shutdown};
use whimbrel_wire::{ErrorCode, Message, messages::api_versions};

use super::{
    super::{
        Connection, ConnectionOptions,
        tests::{answer, pipe, request},
    },
    *,
};
use crate::{endpoint::Endpoint, sasl::Password};

fn ann() -> Sasl {
    Sasl::Password(Credentials {
        mechanism: Mechanism::Plain,
        user: "ann".to_owned(),
        password: Password("of-ann".to_owned()),
    })
}

/// Answers one request, whatever it asks.
async fn next(far: &mut DuplexStream, response: &impl Message, api: ApiKey) -> i16 {
    let header = request(far).await;
    assert_eq!(header.api_key, api);
    let body = Message::to_bytes(response, header.api_version);
    answer(far, header.correlation_id, &body).await;
    header.api_version
}

/// What becomes of a connection to a broker that answers so.
async fn logged_in(
    clock: &Clock,
    handshake: sasl_handshake::Response,
    authenticated: Option<sasl_authenticate::Response>,
) -> Result<Connection, ClientError> {
    let (options, mut far) = pipe();
    let options = ConnectionOptions {
        sasl: Some(ann()),
        ..options
    };
    let offered = [(ApiKey::SaslHandshake, 1), (ApiKey::SaslAuthenticate, 1)];
    let keys = offered.map(|(key, max_version)| api_versions::ApiVersion {
        api_key: key as i16,
        min_version: 0,
        max_version,
    });
    let versions = api_versions::Response {
        api_keys: keys.to_vec(),
        ..api_versions::Response::default()
    };
    let server = async {
        next(&mut far, &versions, ApiKey::ApiVersions).await;
        assert_eq!(next(&mut far, &handshake, ApiKey::SaslHandshake).await, 1);
        if let Some(response) = authenticated {
            next(&mut far, &response, ApiKey::SaslAuthenticate).await;
        }
        far
    };
    let tasks = Tasks::new(Shutdown::new());
    let broker = Endpoint::new("broker", 1);
    let (connection, _far) = tokio::join!(
        Connection::connect(&broker, &options, &tasks, clock),
        server
    );
    connection
}

#[tokio::test]
async fn a_session_is_given_up_before_it_ends() {
    let clock = Clock::manual();
    let lasting = sasl_authenticate::Response {
        session_lifetime_ms: 1_000,
        ..sasl_authenticate::Response::default()
    };
    let connection = logged_in(&clock, sasl_handshake::Response::default(), Some(lasting));
    let connection = connection.await.unwrap();
    let at = connection.inner.until_ms;
    assert_eq!(at, Some(clock.boot_ms() + 900));
    clock.advance(Duration::from_millis(900));
    assert!(connection.is_closed());
}

#[tokio::test]
async fn who_is_not_let_in_hears_why_and_does_not_try_again() {
    let clock = Clock::system();
    let other = sasl_handshake::Response {
        error_code: ErrorCode::UNSUPPORTED_SASL_MECHANISM,
        mechanisms: vec!["SCRAM-SHA-512".to_owned()],
    };
    let wrong = sasl_authenticate::Response {
        error_code: ErrorCode::SASL_AUTHENTICATION_FAILED,
        error_message: Some("no".to_owned()),
        ..sasl_authenticate::Response::default()
    };
    let refused = [
        (other, None, "SCRAM-SHA-512"),
        (sasl_handshake::Response::default(), Some(wrong), "no"),
    ];
    for (handshake, authenticated, word) in refused {
        let error = logged_in(&clock, handshake, authenticated).await;
        let error = error.map(drop).unwrap_err();
        assert!(!error.is_retryable(), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
}
