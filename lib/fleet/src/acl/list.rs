//! All entries, by what they speak of, so that a decision looks at those only that fit the resource.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    Acl, AclFilter, EVERYBODY, Operation, Pattern, PatternType, Permission, ResourceType, WILDCARD,
};

/// What an entry says of its pattern.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    principal: String,
    host: String,
    operation: Operation,
    permission: Permission,
}

/// The fleet's access control list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Acl>", into = "Vec<Acl>")]
pub struct Acls {
    by_pattern: BTreeMap<Pattern, BTreeSet<Entry>>,
    len: usize,
}

/// Who asks to do what.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// With its `User:`.
    pub principal: &'a str,
    /// Where the connection comes from.
    pub host: &'a str,
    pub operation: Operation,
}

/// What the list says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Allowed,
    Denied,
    /// No entry speaks of the resource.
    Unspoken,
}

impl Entry {
    fn concerns(&self, asked: &Asked<'_>) -> bool {
        (self.principal == asked.principal || self.principal == EVERYBODY)
            && (self.host == asked.host || self.host == WILDCARD)
    }

    fn denies(&self, asked: &Asked<'_>) -> bool {
        self.permission == Permission::Deny
            && self.operation.denies(asked.operation)
            && self.concerns(asked)
    }

    fn allows(&self, asked: &Asked<'_>) -> bool {
        self.permission == Permission::Allow
            && self.operation.permits(asked.operation)
            && self.concerns(asked)
    }
}

impl Acls {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn iter(&self) -> impl Iterator<Item = Acl> {
        self.by_pattern.iter().flat_map(|(on, entries)| {
            entries.iter().map(|entry| Acl {
                on: on.clone(),
                principal: entry.principal.clone(),
                host: entry.host.clone(),
                operation: entry.operation,
                permission: entry.permission,
            })
        })
    }

    pub fn matching<'a>(&'a self, filter: &'a AclFilter) -> impl Iterator<Item = Acl> + 'a {
        self.iter().filter(|acl| filter.fits(acl))
    }

    /// False when it was there already.
    pub fn insert(&mut self, acl: Acl) -> bool {
        let (on, entry) = split(acl);
        let new = self.by_pattern.entry(on).or_default().insert(entry);
        self.len += usize::from(new);
        new
    }

    /// False when it was not there.
    pub fn remove(&mut self, acl: &Acl) -> bool {
        let (on, entry) = split(acl.clone());
        let Some(entries) = self.by_pattern.get_mut(&on) else {
            return false;
        };
        let gone = entries.remove(&entry);
        if entries.is_empty() {
            self.by_pattern.remove(&on);
        }
        self.len -= usize::from(gone);
        gone
    }

    fn of(
        &self,
        resource: ResourceType,
        pattern: PatternType,
        name: &str,
    ) -> Option<&BTreeSet<Entry>> {
        self.by_pattern.get(&Pattern {
            resource,
            pattern,
            name: name.to_owned(),
        })
    }

    /// The entries that speak of a resource.
    fn spoken_of<'a>(
        &'a self,
        resource: ResourceType,
        name: &'a str,
    ) -> impl Iterator<Item = &'a BTreeSet<Entry>> + 'a {
        let literal = self.of(resource, PatternType::Literal, name);
        let wild = self.of(resource, PatternType::Literal, WILDCARD);
        let prefixes = Prefixes {
            acls: self,
            resource,
            name,
            bound: Some(name),
        };
        literal.into_iter().chain(wild).chain(prefixes)
    }

    /// What the list says of an operation on the resource of that name.
    pub fn decide(&self, resource: ResourceType, name: &str, asked: &Asked<'_>) -> Decision {
        let mut decision = Decision::Unspoken;
        for entry in self.spoken_of(resource, name).flatten() {
            if entry.denies(asked) {
                return Decision::Denied;
            }
            if decision == Decision::Unspoken {
                decision = Decision::Denied;
            }
            if entry.allows(asked) {
                decision = Decision::Allowed;
            }
        }
        decision
    }

    /// Whether the operation is permitted on any resource of a type, one that does not exist yet included.
    pub fn decide_any(&self, resource: ResourceType, asked: &Asked<'_>) -> Decision {
        let wild = self.of(resource, PatternType::Literal, WILDCARD);
        if wild.is_some_and(|entries| entries.iter().any(|entry| entry.denies(asked))) {
            return Decision::Denied;
        }
        let mut decision = Decision::Unspoken;
        for (on, entries) in &self.by_pattern {
            if on.resource != resource {
                continue;
            }
            decision = Decision::Denied;
            if !entries.iter().any(|entry| entry.allows(asked)) {
                continue;
            }
            let is_denied = |pattern, name: &str| {
                self.of(resource, pattern, name)
                    .is_some_and(|entries| entries.iter().any(|entry| entry.denies(asked)))
            };
            let of_prefix = Prefixes {
                acls: self,
                resource,
                name: &on.name,
                bound: Some(&on.name),
            };
            let by_prefix = of_prefix.flatten().any(|entry| entry.denies(asked));
            let by_name =
                on.pattern == PatternType::Literal && is_denied(PatternType::Literal, &on.name);
            if !by_prefix && !by_name {
                return Decision::Allowed;
            }
        }
        decision
    }
}

/// Entries of prefixes of a name, the longest first: each step goes to the largest pattern that can still be one.
struct Prefixes<'a> {
    acls: &'a Acls,
    resource: ResourceType,
    name: &'a str,
    /// A prefix of the name: what is looked for is not longer.
    bound: Option<&'a str>,
}

impl<'a> Iterator for Prefixes<'a> {
    type Item = &'a BTreeSet<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let bound = self.bound?;
            let pattern = |name: &str| Pattern {
                resource: self.resource,
                pattern: PatternType::Prefixed,
                name: name.to_owned(),
            };
            let (found, entries) = self
                .acls
                .by_pattern
                .range(pattern("")..=pattern(bound))
                .next_back()?;
            let common = common_prefix(&found.name, self.name);
            if common == found.name.len() {
                // Nothing is shorter than a prefix of one character.
                self.bound = self.name[..common]
                    .char_indices()
                    .next_back()
                    .map(|(at, _)| &self.name[..at]);
                return Some(entries);
            }
            self.bound = Some(&self.name[..common]);
        }
    }
}

/// Bytes that both begin with, in whole characters.
fn common_prefix(a: &str, b: &str) -> usize {
    a.chars()
        .zip(b.chars())
        .take_while(|(a, b)| a == b)
        .map(|(a, _)| a.len_utf8())
        .sum()
}

fn split(acl: Acl) -> (Pattern, Entry) {
    let Acl {
        on,
        principal,
        host,
        operation,
        permission,
    } = acl;
    let entry = Entry {
        principal,
        host,
        operation,
        permission,
    };
    (on, entry)
}

impl From<Vec<Acl>> for Acls {
    fn from(list: Vec<Acl>) -> Self {
        let mut acls = Self::default();
        for acl in list {
            acls.insert(acl);
        }
        acls
    }
}

impl From<Acls> for Vec<Acl> {
    fn from(acls: Acls) -> Self {
        acls.iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn acl(pattern: PatternType, name: &str, operation: Operation, permission: Permission) -> Acl {
        Acl {
            on: Pattern {
                resource: ResourceType::Topic,
                pattern,
                name: name.into(),
            },
            principal: "User:ann".into(),
            host: WILDCARD.into(),
            operation,
            permission,
        }
    }

    fn decide(acls: &Acls, name: &str, operation: Operation) -> Decision {
        let asked = Asked {
            principal: "User:ann",
            host: "10.0.0.1",
            operation,
        };
        acls.decide(ResourceType::Topic, name, &asked)
    }

    #[test]
    fn one_denial_wins_whatever_allows() {
        use Decision::*;
        use PatternType::*;
        let mut acls = Acls::default();
        assert_eq!(decide(&acls, "orders", Operation::Read), Unspoken);
        acls.insert(acl(Literal, "*", Operation::All, Permission::Allow));
        assert_eq!(decide(&acls, "orders", Operation::Read), Allowed);
        let deny = acl(Prefixed, "ord", Operation::Read, Permission::Deny);
        assert!(acls.insert(deny.clone()) && !acls.insert(deny.clone()));
        assert_eq!(decide(&acls, "orders", Operation::Read), Denied);
        assert_eq!(decide(&acls, "orders", Operation::Write), Allowed);
        assert_eq!(decide(&acls, "or", Operation::Read), Allowed);
        assert!(acls.remove(&deny) && !acls.remove(&deny));
        assert_eq!(decide(&acls, "orders", Operation::Read), Allowed);
        assert_eq!(acls.len(), 1);
    }

    #[test]
    fn permissions_carry_descriptions_and_denials_do_not() {
        let mut acls = Acls::default();
        acls.insert(acl(
            PatternType::Literal,
            "t",
            Operation::Read,
            Permission::Allow,
        ));
        assert_eq!(decide(&acls, "t", Operation::Describe), Decision::Allowed);
        assert_eq!(
            decide(&acls, "t", Operation::DescribeConfigs),
            Decision::Denied
        );
        acls.insert(acl(
            PatternType::Literal,
            "t",
            Operation::Write,
            Permission::Deny,
        ));
        assert_eq!(decide(&acls, "t", Operation::Describe), Decision::Allowed);
    }

    #[test]
    fn principals_and_hosts_are_compared_whole() {
        let mut acls = Acls::default();
        acls.insert(Acl {
            host: "10.0.0.2".into(),
            ..acl(
                PatternType::Literal,
                "t",
                Operation::Read,
                Permission::Allow,
            )
        });
        assert_eq!(decide(&acls, "t", Operation::Read), Decision::Denied);
        acls.insert(Acl {
            principal: EVERYBODY.into(),
            ..acl(
                PatternType::Literal,
                "t",
                Operation::Read,
                Permission::Allow,
            )
        });
        assert_eq!(decide(&acls, "t", Operation::Read), Decision::Allowed);
        acls.insert(Acl {
            principal: "User:anna".into(),
            ..acl(PatternType::Literal, "t", Operation::Read, Permission::Deny)
        });
        assert_eq!(decide(&acls, "t", Operation::Read), Decision::Allowed);
    }

    #[test]
    fn any_resource_of_a_type_counts_what_denials_leave() {
        use PatternType::*;
        let asked = Asked {
            principal: "User:ann",
            host: "10.0.0.1",
            operation: Operation::Write,
        };
        let any = |acls: &Acls| acls.decide_any(ResourceType::Topic, &asked);
        let mut acls = Acls::default();
        assert_eq!(any(&acls), Decision::Unspoken);
        acls.insert(acl(Literal, "orders", Operation::Write, Permission::Allow));
        assert_eq!(any(&acls), Decision::Allowed);
        acls.insert(acl(Prefixed, "ord", Operation::Write, Permission::Deny));
        assert_eq!(any(&acls), Decision::Denied);
        acls.insert(acl(Prefixed, "p", Operation::All, Permission::Allow));
        assert_eq!(any(&acls), Decision::Allowed);
        acls.insert(acl(Literal, "*", Operation::Write, Permission::Deny));
        assert_eq!(any(&acls), Decision::Denied);
    }

    #[test]
    fn the_list_survives_json() {
        let mut acls = Acls::default();
        acls.insert(acl(
            PatternType::Prefixed,
            "a",
            Operation::All,
            Permission::Deny,
        ));
        acls.insert(acl(
            PatternType::Literal,
            "a",
            Operation::Read,
            Permission::Allow,
        ));
        let text = serde_json::to_string(&acls).unwrap();
        assert_eq!(serde_json::from_str::<Acls>(&text).unwrap(), acls);
    }

    proptest! {
        #[test]
        fn decisions_are_those_of_a_plain_search(
            entries in prop::collection::vec(
                ("[aäb]{1,4}", any::<bool>(), any::<bool>(), 0..3_usize), 0..24),
            name in "[aäb]{1,6}",
        ) {
            let operations = [Operation::Read, Operation::Write, Operation::All];
            let list: Vec<Acl> = entries.into_iter().map(|(on, literal, deny, op)| {
                let pattern = if literal { PatternType::Literal } else { PatternType::Prefixed };
                let permission = if deny { Permission::Deny } else { Permission::Allow };
                acl(pattern, &on, operations[op], permission)
            }).collect();
            let acls = Acls::from(list.clone());
            let spoken: Vec<_> = list.iter().filter(|acl| match acl.on.pattern {
                PatternType::Literal => acl.on.name == name,
                PatternType::Prefixed => name.starts_with(&acl.on.name),
            }).collect();
            let has = |permission| spoken.iter().any(|acl| {
                acl.permission == permission && matches!(acl.operation, Operation::Read | Operation::All)
            });
            let expected = if has(Permission::Deny) {
                Decision::Denied
            } else if has(Permission::Allow) {
                Decision::Allowed
            } else if spoken.is_empty() {
                Decision::Unspoken
            } else {
                Decision::Denied
            };
            prop_assert_eq!(decide(&acls, &name, Operation::Read), expected);
        }
    }
}
