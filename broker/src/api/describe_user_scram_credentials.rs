//! DescribeUserScramCredentials: who has a password for which mechanism.

use std::{collections::BTreeMap, sync::Arc};

use whimbrel_fleet::credential::Mechanism;
use whimbrel_wire::{
    ErrorCode,
    messages::describe_user_scram_credentials::{
        CredentialInfo, DescribeUserScramCredentialsResult, Request, Response,
    },
};

use crate::broker::Broker;

pub fn handle(broker: &Arc<Broker>, request: Request) -> Response {
    let catalog = broker.catalog();
    let known: BTreeMap<&str, Vec<CredentialInfo>> = catalog
        .view
        .credentials
        .iter()
        .map(|(user, of_user)| {
            let infos = of_user.map(|(mechanism, credential)| CredentialInfo {
                mechanism: Mechanism::code(mechanism),
                iterations: credential.iterations,
            });
            (user, infos.collect())
        })
        .collect();
    let asked = request.users.unwrap_or_default();
    let results = if asked.is_empty() {
        known
            .into_iter()
            .map(|(user, infos)| described(user, infos))
            .collect()
    } else {
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        for user in &asked {
            *times.entry(&user.name).or_default() += 1;
        }
        times
            .into_iter()
            .map(|(user, times)| match known.get(user) {
                _ if times > 1 => refused(user, ErrorCode::DUPLICATE_RESOURCE, "asked for twice"),
                Some(infos) => described(user, infos.clone()),
                None => refused(
                    user,
                    ErrorCode::RESOURCE_NOT_FOUND,
                    "the user has no SCRAM credentials",
                ),
            })
            .collect()
    };
    Response {
        error_message: None,
        results,
        ..Response::default()
    }
}

fn described(
    user: &str,
    credential_infos: Vec<CredentialInfo>,
) -> DescribeUserScramCredentialsResult {
    DescribeUserScramCredentialsResult {
        user: user.to_owned(),
        error_message: None,
        credential_infos,
        ..DescribeUserScramCredentialsResult::default()
    }
}

fn refused(user: &str, error_code: ErrorCode, why: &str) -> DescribeUserScramCredentialsResult {
    DescribeUserScramCredentialsResult {
        user: user.to_owned(),
        error_code,
        error_message: Some(why.to_owned()),
        credential_infos: Vec::new(),
    }
}
