//! `acl`: what users may do.

use whimbrel_fleet::acl::{
    self as acls, AclFilter, EVERYBODY, Operation, Pattern, PatternFilter, PatternType, Permission,
    ResourceType, USER_PREFIX,
};

use super::fleet::At;
use crate::{
    args::{Acl, Entry, Format},
    exit::Exit,
    output,
};

pub async fn run(verb: Acl, at: &At) -> anyhow::Result<Exit> {
    match verb {
        Acl::Add(entry) => add(at, &entry).await,
        Acl::List => list(at).await,
        Acl::Remove(entry) => remove(at, &entry).await,
    }
}

fn read(entry: &Entry) -> anyhow::Result<acls::Acl> {
    let one_of = |what: &str, name: &str, names: Vec<&str>| {
        anyhow::anyhow!("{name} is no {what}: there are {}", names.join(", "))
    };
    let resource = ResourceType::from_name(&entry.resource).ok_or_else(|| {
        let names = ResourceType::ALL.iter().map(|it| it.name());
        one_of("resource", &entry.resource, names.collect())
    })?;
    let operation = Operation::from_name(&entry.operation).ok_or_else(|| {
        let names = Operation::ALL.iter().map(|it| it.name());
        one_of("operation", &entry.operation, names.collect())
    })?;
    let acl = acls::Acl {
        on: Pattern {
            resource,
            pattern: if entry.prefix {
                PatternType::Prefixed
            } else {
                PatternType::Literal
            },
            name: entry.name.clone(),
        },
        principal: match entry.user.as_str() {
            "*" => EVERYBODY.to_owned(),
            user if user.starts_with(USER_PREFIX) => user.to_owned(),
            user => format!("{USER_PREFIX}{user}"),
        },
        host: entry.host.clone(),
        operation,
        permission: if entry.deny {
            Permission::Deny
        } else {
            Permission::Allow
        },
    };
    match acl.refuse() {
        None => Ok(acl),
        Some(why) => Err(anyhow::anyhow!(why)),
    }
}

fn described(acl: &acls::Acl) -> String {
    let Pattern {
        resource,
        pattern,
        name,
    } = &acl.on;
    let permission = match acl.permission {
        Permission::Allow => "may",
        Permission::Deny => "may not",
    };
    let (operation, resource, pattern) = (acl.operation.name(), resource.name(), pattern.name());
    format!(
        "{} {permission} {operation} {resource} {name} ({pattern}) from {}",
        acl.principal, acl.host
    )
}

async fn add(at: &At, entry: &Entry) -> anyhow::Result<Exit> {
    let acl = read(entry)?;
    let said = described(&acl);
    at.controller().await?.alter_acls(&[acl], &[]).await?;
    output::line(&said)?;
    Ok(Exit::Ok)
}

async fn remove(at: &At, entry: &Entry) -> anyhow::Result<Exit> {
    let acl = read(entry)?;
    let filter = AclFilter {
        resource: Some(acl.on.resource),
        pattern: PatternFilter::Exactly(acl.on.pattern),
        name: Some(acl.on.name),
        principal: Some(acl.principal),
        host: Some(acl.host),
        operation: Some(acl.operation),
        permission: Some(acl.permission),
    };
    let altered = at.controller().await?.alter_acls(&[], &[filter]).await?;
    anyhow::ensure!(!altered.deleted.is_empty(), "there is no such entry");
    for acl in &altered.deleted {
        output::line(&format!("removed: {}", described(acl)))?;
    }
    Ok(Exit::Ok)
}

async fn list(at: &At) -> anyhow::Result<Exit> {
    let view = at.view().await?;
    let text = match at.format {
        Format::Json => serde_json::to_string(&view.acls)?,
        Format::Table => output::table(
            [
                "PRINCIPAL",
                "PERMISSION",
                "OPERATION",
                "RESOURCE",
                "NAME",
                "PATTERN",
                "HOST",
            ],
            view.acls.iter().map(|acl| {
                [
                    acl.principal,
                    acl.permission.name().to_owned(),
                    acl.operation.name().to_owned(),
                    acl.on.resource.name().to_owned(),
                    acl.on.name,
                    acl.on.pattern.name().to_owned(),
                    acl.host,
                ]
            }),
        ),
    };
    output::line(&text)?;
    Ok(Exit::Ok)
}
