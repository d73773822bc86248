//! Users' credentials and the access control list: the fleet's own, in every broker's view.

use whimbrel_fleet::{acl::Acl, credential::CredentialChange};

use super::{Change, Outcome, State, kafka};

/// Users with a password: they are in every broker's view.
const MAX_USERS: usize = 10_000;
/// Entries of the access control list, likewise.
const MAX_ACLS: usize = 20_000;

impl State {
    pub(super) fn alter_credentials(&mut self, changes: Vec<CredentialChange>) -> Change {
        let mut credentials = self.view.credentials.clone();
        let mut changed = false;
        for change in changes {
            changed |= credentials.apply(change);
        }
        if credentials.users() > MAX_USERS {
            return Change::hidden(Outcome::kafka(
                kafka::INVALID_REQUEST,
                format!("more than {MAX_USERS} users would have passwords"),
            ));
        }
        if !changed {
            return Change::hidden(Outcome::Done);
        }
        self.view.credentials = credentials;
        Change::shown(Outcome::Done)
    }

    pub(super) fn alter_acls(&mut self, delete: &[Acl], create: Vec<Acl>) -> Change {
        let mut acls = self.view.acls.clone();
        let mut changed = false;
        for acl in delete {
            changed |= acls.remove(acl);
        }
        for acl in create {
            changed |= acls.insert(acl);
        }
        if acls.len() > MAX_ACLS {
            return Change::hidden(Outcome::kafka(
                kafka::INVALID_REQUEST,
                format!("there would be more than {MAX_ACLS} entries"),
            ));
        }
        if !changed {
            return Change::hidden(Outcome::Done);
        }
        self.view.acls = acls;
        Change::shown(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use whimbrel_fleet::{
        acl::{Operation, Pattern, PatternType, Permission, ResourceType},
        credential::{Credential, Mechanism, Secret},
    };

    use super::*;
    use crate::state::{Command, tests::fleet};

    fn credential(user: &str) -> CredentialChange {
        CredentialChange {
            user: user.into(),
            mechanism: Mechanism::ScramSha256,
            credential: Some(Credential {
                salt: Secret(vec![1; 16]),
                stored_key: Secret(vec![0xcd; 32]),
                server_key: Secret(vec![0xef; 32]),
                iterations: 4_096,
            }),
        }
    }

    fn acl(name: &str) -> Acl {
        Acl {
            on: Pattern {
                resource: ResourceType::Topic,
                pattern: PatternType::Literal,
                name: name.into(),
            },
            principal: "User:ann".into(),
            host: "*".into(),
            operation: Operation::Read,
            permission: Permission::Allow,
        }
    }

    #[test]
    fn credentials_are_in_the_view_and_nowhere_that_people_look() {
        let mut state = fleet();
        let command = Command::AlterCredentials {
            changes: vec![credential("ann")],
        };
        assert_eq!(state.apply(9, command.clone()).version, 9);
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state);
        assert_eq!(state.apply(10, command.clone()).version, 9, "a repeat");
        let shown = serde_json::to_string(&state.view.without_secrets()).unwrap();
        let printed = format!("{state:?} {command:?} {command}");
        for text in [shown, printed] {
            assert!(!text.contains("cdcd") && !text.contains("205"), "{text}");
        }
    }

    #[test]
    fn a_state_of_an_older_fleet_has_no_users_and_no_entries() {
        let state = fleet();
        let mut older = serde_json::to_value(&state).unwrap();
        let view = older["view"].as_object_mut().unwrap();
        assert!(view.remove("acls").is_some() && view.remove("credentials").is_some());
        assert_eq!(serde_json::from_value::<State>(older).unwrap(), state);
    }

    #[test]
    fn entries_go_before_others_come_and_their_number_is_bounded() {
        let mut state = fleet();
        let alter = |delete, create| Command::AlterAcls { delete, create };
        state.apply(9, alter(vec![], vec![acl("a"), acl("b")]));
        let swap = alter(vec![acl("a")], vec![acl("a"), acl("b")]);
        assert_eq!(state.apply(10, swap).outcome, Outcome::Done);
        assert_eq!(state.view.acls.len(), 2);
        let many = (0..MAX_ACLS).map(|n| acl(&n.to_string())).collect();
        let refused = state.apply(11, alter(vec![], many));
        assert!(matches!(refused.outcome, Outcome::Kafka { .. }));
        assert_eq!(state.view.acls.len(), 2);
        let many = (0..=MAX_USERS)
            .map(|n| credential(&n.to_string()))
            .collect();
        let refused = state.apply(12, Command::AlterCredentials { changes: many });
        assert!(matches!(refused.outcome, Outcome::Kafka { .. }));
        assert!(state.view.credentials.is_empty());
    }
}
