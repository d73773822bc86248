//! AlterUserScramCredentials: passwords of users, as salted by their clients. What is kept of them is made here.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use whimbrel_fleet::credential::{CredentialChange, MAX_ITERATIONS, MIN_ITERATIONS, Mechanism};
use whimbrel_wire::{
    ErrorCode,
    messages::alter_user_scram_credentials::{
        AlterUserScramCredentialsResult, Request, Response, ScramCredentialDeletion,
        ScramCredentialUpsertion,
    },
};

use super::{create_acls::LONGEST_WAIT, create_topics::code_of};
use crate::{auth::scram, broker::Broker};

/// Changes that are sent to the controller at once.
const AT_ONCE: usize = 500;

type Refusal = (ErrorCode, String);

pub async fn handle(broker: &Arc<Broker>, request: Request) -> Response {
    let mut outcomes: BTreeMap<String, Result<Vec<CredentialChange>, Refusal>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let deletions = request.deletions.into_iter();
    let deletions = deletions.map(|it| (it.name.clone(), it.mechanism, delete(broker, &it)));
    let upsertions = request.upsertions.into_iter();
    let upsertions = upsertions.map(|it| (it.name.clone(), it.mechanism, upsert(it)));
    for (user, mechanism, change) in deletions.chain(upsertions) {
        let change = if seen.insert((user.clone(), mechanism)) {
            change
        } else {
            let why = "a user's credential cannot be changed twice at once";
            Err((ErrorCode::DUPLICATE_RESOURCE, why.to_owned()))
        };
        let of_user = outcomes.entry(user).or_insert_with(|| Ok(Vec::new()));
        match (of_user.as_mut(), change) {
            (Ok(changes), Ok(change)) => changes.push(change),
            (Ok(_), Err(refusal)) => *of_user = Err(refusal),
            (Err(_), _) => {}
        }
    }
    let mut newest = 0;
    let (mut good, mut results) = (Vec::new(), Vec::with_capacity(outcomes.len()));
    for (user, outcome) in outcomes {
        match outcome {
            Ok(changes) => good.push((user, changes)),
            Err(refusal) => results.push(result(user, Some(refusal))),
        }
    }
    for part in good.chunks(AT_ONCE) {
        let changes: Vec<_> = part
            .iter()
            .flat_map(|(_, changes)| changes.clone())
            .collect();
        let done = broker.controller.alter_credentials(&changes).await;
        let refusal = done.as_ref().err().map(code_of);
        newest = done.unwrap_or(0).max(newest);
        let users = part
            .iter()
            .map(|(user, _)| result(user.clone(), refusal.clone()));
        results.extend(users);
    }
    if newest > 0 {
        broker.until_applied(newest, LONGEST_WAIT).await;
    }
    Response {
        results,
        ..Response::default()
    }
}

fn result(user: String, refusal: Option<Refusal>) -> AlterUserScramCredentialsResult {
    let (error_code, error_message) = match refusal {
        None => (ErrorCode::NONE, None),
        Some((error_code, why)) => (error_code, Some(why)),
    };
    AlterUserScramCredentialsResult {
        user,
        error_code,
        error_message,
    }
}

fn mechanism(code: i8) -> Result<Mechanism, Refusal> {
    Mechanism::from_code(code).ok_or_else(|| {
        let why = format!("there is no SCRAM mechanism {code}");
        (ErrorCode::UNSUPPORTED_SASL_MECHANISM, why)
    })
}

fn delete(broker: &Broker, it: &ScramCredentialDeletion) -> Result<CredentialChange, Refusal> {
    let mechanism = mechanism(it.mechanism)?;
    let catalog = broker.catalog();
    if catalog.view.credentials.get(&it.name, mechanism).is_none() {
        let why = "the user has no such credential";
        return Err((ErrorCode::RESOURCE_NOT_FOUND, why.to_owned()));
    }
    Ok(CredentialChange {
        user: it.name.clone(),
        mechanism,
        credential: None,
    })
}

fn upsert(it: ScramCredentialUpsertion) -> Result<CredentialChange, Refusal> {
    let mechanism = mechanism(it.mechanism)?;
    let unacceptable = |why: String| (ErrorCode::UNACCEPTABLE_CREDENTIAL, why);
    if !(MIN_ITERATIONS..=MAX_ITERATIONS).contains(&it.iterations) {
        let bounds = format!("iterations are {MIN_ITERATIONS} to {MAX_ITERATIONS}");
        return Err(unacceptable(bounds));
    }
    if it.salted_password.len() != mechanism.hash_len() {
        let length = mechanism.hash_len();
        return Err(unacceptable(format!(
            "a salted password has {length} bytes"
        )));
    }
    let change = CredentialChange {
        user: it.name,
        mechanism,
        credential: Some(scram::from_salted(
            mechanism,
            it.salt.to_vec(),
            &it.salted_password,
            it.iterations,
        )),
    };
    match change.refuse() {
        None => Ok(change),
        Some(why) => Err(unacceptable(why)),
    }
}
