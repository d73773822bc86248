//! Rules that span several keys, checked once every key by itself is right.

use std::str::FromStr;

use toml::{Table, Value};
use whimbrel_broker::auth::Security;
use whimbrel_dev::ProcessConfig;
use whimbrel_fleet::HostPort;

use super::{Problem, place};

/// Everything that the configuration as a whole gets wrong.
pub fn check(config: &ProcessConfig, text: &str) -> Vec<Problem> {
    let mut problems = regions(config, text);
    problems.extend(options(config));
    problems.extend(security(config, text));
    let table = match Table::try_from(config) {
        Ok(table) => table,
        Err(error) => {
            problems.push(Problem {
                code: "WB-004",
                message: error.to_string(),
                at: None,
                fix: None,
            });
            return problems;
        }
    };
    for (role, options) in &table {
        if let Value::Table(options) = options {
            problems.extend(binds(role, options, text));
        }
    }
    problems
}

/// What a role itself would refuse to start with.
fn options(config: &ProcessConfig) -> Vec<Problem> {
    let broker = config.broker.as_ref().map(|b| b.problems());
    let controller = config.controller.as_ref().map(|c| c.problems());
    let tiering = config.tiering.as_ref().map(|t| t.problems());
    let mirror = config.mirror.as_ref().map(|m| {
        // That one has a rule of its own, with its place.
        let listed = m
            .problems()
            .into_iter()
            .filter(|p| !p.place.ends_with("listen"));
        listed
            .map(|p| format!("{} {}", p.place, p.problem))
            .collect()
    });
    let roles = [
        ("broker", "WB-121", broker),
        ("controller", "WB-404", controller),
        ("tiering", "WB-300", tiering),
        ("mirror", "WB-200", mirror),
    ];
    let found = roles.into_iter().flat_map(|(role, code, list)| {
        let list = list.unwrap_or_default().into_iter();
        list.map(move |message| Problem {
            code,
            message: format!("[{role}] {message}"),
            at: None,
            fix: None,
        })
    });
    found.collect()
}

/// How the Kafka listener protects itself.
fn security(config: &ProcessConfig, text: &str) -> Option<Problem> {
    let broker = config.broker.as_ref()?;
    let error = Security::check(broker.auth.as_ref(), broker.tls.as_ref()).err()?;
    let (key, fix) = error.place_and_fix().unzip();
    Some(Problem {
        code: "WB-120",
        message: error.to_string(),
        at: key.and_then(|key| place::of_value(text, key)),
        fix: fix.map(str::to_owned),
    })
}

/// What is allowed by name, and still no way to run a fleet.
pub fn warnings(config: &ProcessConfig, text: &str) -> Vec<Problem> {
    let auth = config.broker.as_ref().and_then(|b| b.auth.as_ref());
    let tokens = auth.and_then(|auth| auth.oauthbearer.as_ref());
    let unsecured = tokens.filter(|tokens| tokens.unsecured_tokens);
    let warning = unsecured.map(|_| Problem {
        code: "WB-122",
        message: "tokens that nobody signed are believed: whoever connects is who it says to be"
            .to_owned(),
        at: place::of_value(text, "broker.auth.oauthbearer.unsecured-tokens"),
        fix: Some("for tests only; elsewhere set jwks, issuer and audience instead".to_owned()),
    });
    warning.into_iter().chain(stranger(config, text)).collect()
}

/// The tiering daemon is to repair the bucket from brokers that would not let it in.
fn stranger(config: &ProcessConfig, text: &str) -> Option<Problem> {
    let (broker, tiering) = (config.broker.as_ref()?, config.tiering.as_ref()?);
    let asks = broker.auth.is_some() || broker.tls.is_some();
    (asks && tiering.client_config.is_none()).then(|| Problem {
        code: "WB-326",
        message: "[tiering] has no client-config, and the brokers have TLS or ask who connects: `tier verify --repair` can read from none of them".to_owned(),
        at: place::of_value(text, "tiering.broker"),
        fix: Some("set client-config to a file of Kafka's client properties; its user needs READ on the topics".to_owned()),
    })
}

/// Every role stands in a region that the fleet has.
fn regions(config: &ProcessConfig, text: &str) -> Vec<Problem> {
    let Some(bootstrap) = config
        .controller
        .as_ref()
        .and_then(|c| c.bootstrap.as_ref())
    else {
        return Vec::new();
    };
    let known: Vec<&str> = bootstrap.regions.iter().map(|r| r.as_str()).collect();
    let named = [
        (
            "broker.region",
            config.broker.as_ref().map(|b| b.region.as_str()),
        ),
        (
            "tiering.region",
            config.tiering.as_ref().map(|t| t.region.as_str()),
        ),
        (
            "mirror.region",
            config.mirror.as_ref().map(|m| m.region.as_str()),
        ),
        ("controller.bootstrap.home", Some(bootstrap.home.as_str())),
    ];
    named
        .into_iter()
        .filter_map(|(key, region)| region.filter(|r| !known.contains(r)).map(|r| (key, r)))
        .map(|(key, region)| Problem {
            code: "WB-005",
            message: format!(
                "{key} = \"{region}\" is a region that does not exist; the fleet has {}",
                known.join(", ")
            ),
            at: place::of_value(text, key),
            fix: known
                .iter()
                .max_by(|a, b| {
                    strsim::jaro_winkler(region, a).total_cmp(&strsim::jaro_winkler(region, b))
                })
                .map(|best| format!("did you mean \"{best}\"?")),
        })
        .collect()
}

/// No address is open to other machines unless that is said by name.
fn binds(role: &str, options: &Table, text: &str) -> Vec<Problem> {
    if options.get("insecure-bind") == Some(&Value::Boolean(true)) {
        return Vec::new();
    }
    options
        .iter()
        .filter(|(key, _)| key.ends_with("listen"))
        .filter_map(|(key, value)| Some((key, value.as_str()?)))
        .filter(|(_, at)| HostPort::from_str(at).is_ok_and(|at| !at.is_loopback()))
        .filter(|(key, _)| !(role == "broker" && *key == "listen" && is_secured(options)))
        .map(|(key, at)| Problem {
            code: "WB-007",
            message: format!("{role}.{key} = \"{at}\" can be reached from other machines, without TLS and authentication"),
            at: place::of_value(text, &format!("{role}.{key}")),
            fix: Some("bind to 127.0.0.1, give the Kafka listener both [broker.tls] and [broker.auth], or set insecure-bind = true on a network that only you can reach".to_owned()),
        })
        .collect()
}

/// TLS and authentication are both on: the Kafka listener may be reached by others.
fn is_secured(broker: &Table) -> bool {
    let is_on = |table: &Table, key| table.get(key) == Some(&Value::Boolean(true));
    let auth = broker.get("auth").and_then(Value::as_table);
    let asks = auth.is_some_and(|auth| {
        let tokens = auth.get("oauthbearer").and_then(Value::as_table);
        !is_on(auth, "anonymous") && !tokens.is_some_and(|it| is_on(it, "unsecured-tokens"))
    });
    asks && broker.contains_key("tls")
}
