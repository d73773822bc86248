//! `user`: who may connect. Passwords come in by stdin and leave as salts and keys.

use std::io::BufRead;

use serde_json::json;
use whimbrel_broker::auth::scram;
use whimbrel_fleet::credential::{CredentialChange, Mechanism};
use whimbrel_runtime::random;

use super::fleet::At;
use crate::{
    args::{Format, User},
    exit::Exit,
    output,
};

pub async fn run(verb: User, at: &At) -> anyhow::Result<Exit> {
    match verb {
        User::Set { name, iterations } => set(at, &name, iterations).await,
        User::List => list(at).await,
        User::Remove { name } => remove(at, name).await,
    }
}

/// One credential for each mechanism, so that clients may choose.
async fn set(at: &At, name: &str, iterations: i32) -> anyhow::Result<Exit> {
    let mut password = String::new();
    std::io::stdin().lock().read_line(&mut password)?;
    let password = password.trim_end_matches(['\r', '\n']);
    anyhow::ensure!(
        !password.is_empty(),
        "the first line of stdin is the password, and it is empty"
    );
    let change = |mechanism| CredentialChange {
        user: name.to_owned(),
        mechanism,
        credential: Some(scram::from_password(
            mechanism,
            random::bytes::<16>().to_vec(),
            password.as_bytes(),
            iterations,
        )),
    };
    let changes = Mechanism::ALL.map(change);
    at.controller().await?.alter_credentials(&changes).await?;
    output::line(&format!("{name} has a password"))?;
    Ok(Exit::Ok)
}

async fn remove(at: &At, name: String) -> anyhow::Result<Exit> {
    let change = |mechanism| CredentialChange {
        user: name.clone(),
        mechanism,
        credential: None,
    };
    let changes = Mechanism::ALL.map(change);
    at.controller().await?.alter_credentials(&changes).await?;
    output::line(&format!("{name} has no password"))?;
    Ok(Exit::Ok)
}

async fn list(at: &At) -> anyhow::Result<Exit> {
    let view = at.view().await?;
    let users: Vec<(String, Vec<&str>)> = view
        .credentials
        .iter()
        .map(|(user, of_user)| {
            let mechanisms = of_user.map(|(mechanism, _)| mechanism.name());
            (user.to_owned(), mechanisms.collect())
        })
        .collect();
    let text = match at.format {
        Format::Json => {
            let users = users.iter();
            json!(
                users
                    .map(|(user, of_user)| json!({"user": user, "mechanisms": of_user}))
                    .collect::<Vec<_>>()
            )
            .to_string()
        }
        Format::Table => output::table(
            ["USER", "MECHANISMS"],
            users
                .into_iter()
                .map(|(user, of_user)| [user, of_user.join(", ")]),
        ),
    };
    output::line(&text)?;
    Ok(Exit::Ok)
}
