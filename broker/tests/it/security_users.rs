//! Users and their passwords: who makes them, and what is shown of them.

use bytes::Bytes;
use ring::pbkdf2;
use whimbrel_fleet::credential::Mechanism as Scram;
use whimbrel_wire::{
    ErrorCode,
    messages::{
        alter_user_scram_credentials as alter, describe_user_scram_credentials as describe,
    },
};

use crate::{
    client::Client,
    sasl::{PASSWORD, ROOT, asking, known, prove, usual},
};

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
