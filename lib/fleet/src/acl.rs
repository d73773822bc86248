//! Access control lists: who may do what with which resource, by Kafka's rules (KIP-11, KIP-290).
//!
//! An operation is decided by the entries whose pattern fits the resource: one denial is enough, then one
//! permission; where no entry speaks of the resource at all, the caller's configuration decides.

mod list;

use serde::{Deserialize, Serialize};

pub use list::{Acls, Asked, Decision};

/// Longest name of a resource, principal or host.
pub const MAX_NAME: usize = 1_024;
/// As a resource name: every resource of its type. As a host: every host.
pub const WILDCARD: &str = "*";
/// Everybody, as a principal of an entry.
pub const EVERYBODY: &str = "User:*";
/// The one cluster there is, as a resource name.
pub const CLUSTER: &str = "kafka-cluster";
/// What principals begin with: there are users only.
pub const USER_PREFIX: &str = "User:";

macro_rules! numbered {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $code:literal $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)*
        }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Kafka's number.
            pub const fn code(self) -> i8 {
                match self {
                    $(Self::$variant => $code,)*
                }
            }

            /// `None` for Kafka's "unknown", "any" and "match", and for what it does not list.
            pub const fn from_code(code: i8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// As people write it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }

            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|it| it.name() == name)
            }
        }
    };
}

numbered! {
    /// What an entry speaks of.
    ResourceType {
        Topic = 2 "topic",
        Group = 3 "group",
        Cluster = 4 "cluster",
        TransactionalId = 5 "transactional-id",
        /// Kept for those who set it: delegation tokens are not offered.
        DelegationToken = 6 "delegation-token",
        User = 7 "user",
    }
}

numbered! {
    /// How an entry's name is compared.
    PatternType {
        Literal = 3 "literal",
        Prefixed = 4 "prefixed",
    }
}

numbered! {
    /// What is done.
    Operation {
        /// As an entry's: every one of the others.
        All = 2 "all",
        Read = 3 "read",
        Write = 4 "write",
        Create = 5 "create",
        Delete = 6 "delete",
        Alter = 7 "alter",
        Describe = 8 "describe",
        ClusterAction = 9 "cluster-action",
        DescribeConfigs = 10 "describe-configs",
        AlterConfigs = 11 "alter-configs",
        IdempotentWrite = 12 "idempotent-write",
        CreateTokens = 13 "create-tokens",
        DescribeTokens = 14 "describe-tokens",
    }
}

numbered! {
    /// What an entry says.
    Permission {
        Deny = 2 "deny",
        Allow = 3 "allow",
    }
}

impl Operation {
    /// Whether a permission for `self` permits `asked` as well.
    pub fn permits(self, asked: Self) -> bool {
        match asked {
            _ if self == asked || self == Self::All => true,
            Self::Describe => {
                matches!(self, Self::Read | Self::Write | Self::Delete | Self::Alter)
            }
            Self::DescribeConfigs => self == Self::AlterConfigs,
            _ => false,
        }
    }

    /// Whether a denial of `self` denies `asked` as well.
    pub fn denies(self, asked: Self) -> bool {
        self == asked || self == Self::All
    }
}

/// What makes sense of each type of resource: Kafka refuses others.
pub fn operations_of(resource: ResourceType) -> &'static [Operation] {
    use Operation::*;
    match resource {
        ResourceType::Topic => &[
            Read,
            Write,
            Create,
            Delete,
            Alter,
            Describe,
            DescribeConfigs,
            AlterConfigs,
        ],
        ResourceType::Group => &[Read, Describe, Delete, DescribeConfigs, AlterConfigs],
        ResourceType::Cluster => &[
            Create,
            ClusterAction,
            DescribeConfigs,
            AlterConfigs,
            IdempotentWrite,
            Alter,
            Describe,
        ],
        ResourceType::TransactionalId => &[Describe, Write],
        ResourceType::DelegationToken => &[Describe],
        ResourceType::User => &[CreateTokens, DescribeTokens],
    }
}

/// The resources that an entry speaks of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pattern {
    pub resource: ResourceType,
    pub pattern: PatternType,
    pub name: String,
}

/// An entry of the list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Acl {
    #[serde(flatten)]
    pub on: Pattern,
    /// `User:` and a name, or [`EVERYBODY`].
    pub principal: String,
    /// An address, or [`WILDCARD`].
    pub host: String,
    pub operation: Operation,
    pub permission: Permission,
}

impl Acl {
    /// Why it cannot be, in words for the client.
    pub fn refuse(&self) -> Option<String> {
        let named = [
            ("resource name", &self.on.name),
            ("principal", &self.principal),
            ("host", &self.host),
        ];
        for (what, name) in named {
            if name.is_empty() || name.len() > MAX_NAME {
                return Some(format!("a {what} has 1 to {MAX_NAME} bytes"));
            }
        }
        let user = self.principal.strip_prefix(USER_PREFIX);
        if user.is_none_or(str::is_empty) {
            return Some(format!("{:.64} does not begin with User:", self.principal));
        }
        if self.on.resource == ResourceType::Cluster && self.on.name != CLUSTER {
            return Some(format!("the one cluster there is has the name {CLUSTER}"));
        }
        let sensible = operations_of(self.on.resource);
        if self.operation != Operation::All && !sensible.contains(&self.operation) {
            return Some(format!(
                "{} makes no sense of a {}",
                self.operation.name(),
                self.on.resource.name()
            ));
        }
        None
    }
}

/// How the name of a filter is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PatternFilter {
    /// Any entry with that very name.
    #[default]
    Any,
    /// Any entry that speaks of the resource of that name.
    Match,
    Exactly(PatternType),
}

/// Which entries are meant: what is `None` fits every entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AclFilter {
    pub resource: Option<ResourceType>,
    pub pattern: PatternFilter,
    pub name: Option<String>,
    pub principal: Option<String>,
    pub host: Option<String>,
    pub operation: Option<Operation>,
    pub permission: Option<Permission>,
}

impl AclFilter {
    pub fn fits(&self, acl: &Acl) -> bool {
        fn is<T: PartialEq>(wanted: &Option<T>, it: &T) -> bool {
            wanted.as_ref().is_none_or(|wanted| wanted == it)
        }
        is(&self.resource, &acl.on.resource)
            && is(&self.principal, &acl.principal)
            && is(&self.host, &acl.host)
            && is(&self.operation, &acl.operation)
            && is(&self.permission, &acl.permission)
            && self.fits_name(&acl.on)
    }

    fn fits_name(&self, on: &Pattern) -> bool {
        match (self.pattern, self.name.as_deref()) {
            (PatternFilter::Exactly(pattern), _) if pattern != on.pattern => false,
            (_, None) => true,
            (PatternFilter::Any | PatternFilter::Exactly(_), Some(name)) => name == on.name,
            (PatternFilter::Match, Some(name)) => match on.pattern {
                PatternType::Literal => name == on.name || on.name == WILDCARD,
                PatternType::Prefixed => name.starts_with(&on.name),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(pattern: PatternType, name: &str) -> Acl {
        Acl {
            on: Pattern {
                resource: ResourceType::Topic,
                pattern,
                name: name.into(),
            },
            principal: "User:ann".into(),
            host: WILDCARD.into(),
            operation: Operation::Read,
            permission: Permission::Allow,
        }
    }

    #[test]
    fn numbers_and_names_come_back() {
        for &operation in Operation::ALL {
            assert_eq!(Operation::from_code(operation.code()), Some(operation));
            assert_eq!(Operation::from_name(operation.name()), Some(operation));
        }
        // Unknown and any are no operations.
        assert_eq!(
            (Operation::from_code(0), Operation::from_code(1)),
            (None, None)
        );
        assert_eq!(ResourceType::from_code(2), Some(ResourceType::Topic));
        assert_eq!(PatternType::from_code(2), None);
    }

    #[test]
    fn what_cannot_be_an_entry_is_refused() {
        let good = acl(PatternType::Literal, "t");
        assert_eq!(good.refuse(), None);
        let broken: [fn(&mut Acl); 6] = [
            |a| a.on.name.clear(),
            |a| a.on.name = "x".repeat(MAX_NAME + 1),
            |a| a.principal = "Group:ann".into(),
            |a| a.principal = "User:".into(),
            |a| a.operation = Operation::IdempotentWrite,
            |a| a.on.resource = ResourceType::Cluster,
        ];
        for breaks in broken {
            let mut acl = good.clone();
            breaks(&mut acl);
            assert!(acl.refuse().is_some(), "{acl:?}");
        }
    }

    #[test]
    fn filters_fit_by_name_or_by_what_is_spoken_of() {
        let (literal, wild, prefixed) = (
            acl(PatternType::Literal, "orders"),
            acl(PatternType::Literal, WILDCARD),
            acl(PatternType::Prefixed, "ord"),
        );
        let fits = |pattern, name: Option<&str>| {
            let filter = AclFilter {
                pattern,
                name: name.map(Into::into),
                ..AclFilter::default()
            };
            [&literal, &wild, &prefixed].map(|acl| filter.fits(acl))
        };
        assert_eq!(fits(PatternFilter::Any, None), [true; 3]);
        assert_eq!(
            fits(PatternFilter::Any, Some("orders")),
            [true, false, false]
        );
        assert_eq!(fits(PatternFilter::Match, Some("orders")), [true; 3]);
        let exactly = PatternFilter::Exactly(PatternType::Prefixed);
        assert_eq!(fits(exactly, Some("ord")), [false, false, true]);
        assert_eq!(fits(exactly, None), [false, false, true]);
    }
}
