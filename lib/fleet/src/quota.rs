//! Client quotas: who may use how much, and which of them counts for a client (KIP-13, KIP-124, KIP-599, KIP-612).

use std::{cmp::Ordering, collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};

/// Longest name of a user or client id.
const MAX_NAME: usize = 1_024;

/// Kafka's names of the limits.
pub mod key {
    pub const PRODUCER_BYTE_RATE: &str = "producer_byte_rate";
    pub const CONSUMER_BYTE_RATE: &str = "consumer_byte_rate";
    pub const REQUEST_PERCENTAGE: &str = "request_percentage";
    pub const CONTROLLER_MUTATION_RATE: &str = "controller_mutation_rate";
    pub const CONNECTION_CREATION_RATE: &str = "connection_creation_rate";
}

/// Limits of users and client ids.
const OF_CLIENTS: [&str; 4] = [
    key::PRODUCER_BYTE_RATE,
    key::CONSUMER_BYTE_RATE,
    key::REQUEST_PERCENTAGE,
    key::CONTROLLER_MUTATION_RATE,
];

/// One part of an entity: a name, or all that have no quota of their own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    Default,
    Named(String),
}

/// Whom a quota is for: a user, a client id or both, or an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Entity {
    pub user: Option<Who>,
    pub client_id: Option<Who>,
    pub ip: Option<Who>,
}

/// A limit: finite and above zero.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rate(pub f64);

impl PartialEq for Rate {
    fn eq(&self, other: &Self) -> bool {
        self.0.total_cmp(&other.0) == Ordering::Equal
    }
}

impl Eq for Rate {}

/// An entity's limits, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    pub entity: Entity,
    pub limits: BTreeMap<String, Rate>,
}

/// What becomes of an entity's limits: those without a rate go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaChange {
    pub entity: Entity,
    pub limits: BTreeMap<String, Option<Rate>>,
}

/// A limit that counts for a client, and with whom it is shared.
#[derive(Clone, Debug, PartialEq)]
pub struct Granted {
    pub rate: f64,
    pub scope: Scope,
}

/// Clients with an equal scope share one allowance.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    pub user: Option<String>,
    pub client_id: Option<String>,
}

impl Entity {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl QuotaChange {
    /// Why it cannot be, in words for the client.
    pub fn refuse(&self) -> Option<String> {
        let Entity {
            user,
            client_id,
            ip,
        } = &self.entity;
        let allowed: &[&str] = match (user.is_some() || client_id.is_some(), ip) {
            (false, None) => return Some("whom the quota is for is not said".to_owned()),
            (true, Some(_)) => return Some("an address has quotas of its own only".to_owned()),
            (true, None) => &OF_CLIENTS,
            (false, Some(_)) => &[key::CONNECTION_CREATION_RATE],
        };
        for who in [user, client_id, ip].into_iter().flatten() {
            if let Who::Named(name) = who
                && (name.is_empty() || name.len() > MAX_NAME)
            {
                return Some(format!("a name has 1 to {MAX_NAME} bytes"));
            }
        }
        if let Some(Who::Named(name)) = ip
            && name.parse::<IpAddr>().is_err()
        {
            return Some(format!("{name:.64} is no IP address"));
        }
        for (name, rate) in &self.limits {
            if !allowed.contains(&name.as_str()) {
                return Some(format!(
                    "{name:.64} is no limit here: there are {}",
                    allowed.join(", ")
                ));
            }
            if rate.is_some_and(|rate| !(rate.0.is_finite() && rate.0 > 0.0)) {
                return Some(format!("{name} is a number above 0"));
            }
        }
        None
    }
}

/// Makes the change in a list sorted by entity; true when it changed anything.
pub fn apply(quotas: &mut Vec<Quota>, change: QuotaChange) -> bool {
    let found = quotas.binary_search_by(|q| q.entity.cmp(&change.entity));
    let mut limits = found.map_or_else(|_| BTreeMap::new(), |at| quotas[at].limits.clone());
    for (name, rate) in change.limits {
        match rate {
            Some(rate) => limits.insert(name, rate),
            None => limits.remove(&name),
        };
    }
    match found {
        Ok(at) if limits.is_empty() => {
            quotas.remove(at);
            true
        }
        Ok(at) => {
            let changed = quotas[at].limits != limits;
            quotas[at].limits = limits;
            changed
        }
        Err(_) if limits.is_empty() => false,
        Err(at) => {
            let entity = change.entity;
            quotas.insert(at, Quota { entity, limits });
            true
        }
    }
}

fn limit(quotas: &[Quota], entity: &Entity, key: &str) -> Option<f64> {
    let at = quotas.binary_search_by(|q| q.entity.cmp(entity)).ok()?;
    quotas[at].limits.get(key).map(|rate| rate.0)
}

/// The limit that counts for a client, in Kafka's order: what names the user before what names only the
/// client id, names before defaults.
pub fn granted(quotas: &[Quota], user: &str, client_id: &str, key: &str) -> Option<Granted> {
    if quotas.is_empty() {
        return None;
    }
    let named = |name: &str| Some(Who::Named(name.to_owned()));
    let (users, clients) = (
        [named(user), Some(Who::Default)],
        [named(client_id), Some(Who::Default)],
    );
    let pairs = users.iter().flat_map(|user| {
        let both = clients.iter().map(move |client| (user, client));
        both.chain([(user, &None)])
    });
    let alone = clients.iter().map(|client| (&None, client));
    for (of_user, of_client) in pairs.chain(alone) {
        let entity = Entity {
            user: of_user.clone(),
            client_id: of_client.clone(),
            ip: None,
        };
        if let Some(rate) = limit(quotas, &entity, key) {
            let scope = Scope {
                user: of_user.as_ref().map(|_| user.to_owned()),
                client_id: of_client.as_ref().map(|_| client_id.to_owned()),
            };
            return Some(Granted { rate, scope });
        }
    }
    None
}

/// Connections a second that an address may open.
pub fn granted_to(quotas: &[Quota], ip: IpAddr) -> Option<f64> {
    if quotas.is_empty() {
        return None;
    }
    [Who::Named(ip.to_string()), Who::Default]
        .into_iter()
        .find_map(|who| {
            let entity = Entity {
                ip: Some(who),
                ..Entity::default()
            };
            limit(quotas, &entity, key::CONNECTION_CREATION_RATE)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entity(user: Option<&str>, client: Option<&str>) -> Entity {
        let who = |name: &str| match name {
            "*" => Who::Default,
            name => Who::Named(name.to_owned()),
        };
        Entity {
            user: user.map(who),
            client_id: client.map(who),
            ip: None,
        }
    }

    fn change(entity: Entity, key: &str, rate: Option<f64>) -> QuotaChange {
        QuotaChange {
            entity,
            limits: BTreeMap::from([(key.to_owned(), rate.map(Rate))]),
        }
    }

    #[test]
    fn the_most_particular_quota_counts_and_says_who_shares_it() {
        let key = key::PRODUCER_BYTE_RATE;
        let mut quotas = Vec::new();
        let in_order = [
            (None, Some("*"), (None, Some("c"))),
            (None, Some("c"), (None, Some("c"))),
            (Some("*"), None, (Some("u"), None)),
            (Some("*"), Some("*"), (Some("u"), Some("c"))),
            (Some("*"), Some("c"), (Some("u"), Some("c"))),
            (Some("u"), None, (Some("u"), None)),
            (Some("u"), Some("*"), (Some("u"), Some("c"))),
            (Some("u"), Some("c"), (Some("u"), Some("c"))),
        ];
        assert_eq!(granted(&quotas, "u", "c", key), None);
        for (rate, (user, client, shared)) in (1..).zip(in_order) {
            let rate = f64::from(rate);
            assert!(apply(
                &mut quotas,
                change(entity(user, client), key, Some(rate))
            ));
            let scope = Scope {
                user: shared.0.map(Into::into),
                client_id: shared.1.map(Into::into),
            };
            assert_eq!(
                granted(&quotas, "u", "c", key),
                Some(Granted { rate, scope })
            );
        }
        assert_eq!(granted(&quotas, "u", "c", key::CONSUMER_BYTE_RATE), None);
        assert!(quotas.windows(2).all(|w| w[0].entity < w[1].entity));
    }

    #[test]
    fn limits_come_and_go_and_an_empty_entity_with_them() {
        let mut quotas = Vec::new();
        let user = entity(Some("u"), None);
        let set = change(user.clone(), key::REQUEST_PERCENTAGE, Some(5.0));
        assert!(apply(&mut quotas, set.clone()));
        assert!(!apply(&mut quotas, set), "a repeat changes nothing");
        let gone = change(user, key::REQUEST_PERCENTAGE, None);
        assert!(apply(&mut quotas, gone.clone()));
        assert!(quotas.is_empty());
        assert!(!apply(&mut quotas, gone));
    }

    #[test]
    fn what_cannot_be_a_quota_is_refused() {
        let user = || entity(Some("u"), None);
        let ip = |name: &str| Entity {
            ip: Some(Who::Named(name.to_owned())),
            ..Entity::default()
        };
        for refused in [
            change(Entity::default(), key::PRODUCER_BYTE_RATE, Some(1.0)),
            change(entity(Some(""), None), key::PRODUCER_BYTE_RATE, Some(1.0)),
            change(user(), "no_such_rate", Some(1.0)),
            change(user(), key::CONNECTION_CREATION_RATE, Some(1.0)),
            change(user(), key::PRODUCER_BYTE_RATE, Some(0.0)),
            change(user(), key::PRODUCER_BYTE_RATE, Some(f64::NAN)),
            change(ip("example.org"), key::CONNECTION_CREATION_RATE, Some(1.0)),
            change(ip("10.0.0.1"), key::PRODUCER_BYTE_RATE, Some(1.0)),
        ] {
            assert!(refused.refuse().is_some(), "{refused:?}");
        }
        let fine = change(ip("10.0.0.1"), key::CONNECTION_CREATION_RATE, Some(1.0));
        assert_eq!(fine.refuse(), None);
        let mut quotas = Vec::new();
        apply(&mut quotas, fine);
        assert_eq!(granted_to(&quotas, IpAddr::from([10, 0, 0, 1])), Some(1.0));
        assert_eq!(granted_to(&quotas, IpAddr::from([10, 0, 0, 2])), None);
    }
}
