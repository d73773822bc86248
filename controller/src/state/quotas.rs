//! Client quotas: the fleet's own list, in everybody's view.

use whimbrel_fleet::quota::{self, QuotaChange};

use super::{Change, Outcome, State, kafka};

/// Entities with quotas: they are in everybody's view.
const MAX_QUOTAS: usize = 10_000;

impl State {
    pub(super) fn alter_client_quotas(&mut self, changes: Vec<QuotaChange>) -> Change {
        let mut quotas = self.view.quotas.clone();
        let mut changed = false;
        for change in changes {
            changed |= quota::apply(&mut quotas, change);
        }
        if quotas.len() > MAX_QUOTAS {
            return Change::hidden(Outcome::kafka(
                kafka::INVALID_REQUEST,
                format!("more than {MAX_QUOTAS} entities would have quotas"),
            ));
        }
        if !changed {
            return Change::hidden(Outcome::Done);
        }
        self.view.quotas = quotas;
        Change::shown(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use whimbrel_fleet::quota::{Entity, Rate, Who};

    use super::*;
    use crate::state::{Command, tests::fleet};

    #[test]
    fn quotas_are_in_the_view_and_a_repeat_changes_nothing() {
        let mut state = fleet();
        let entity = Entity {
            user: Some(Who::Default),
            ..Entity::default()
        };
        let change = QuotaChange {
            entity,
            limits: BTreeMap::from([("request_percentage".to_owned(), Some(Rate(1.5)))]),
        };
        let command = Command::AlterClientQuotas {
            changes: vec![change],
        };
        let applied = state.apply(9, command.clone());
        assert_eq!((applied.version, applied.outcome), (9, Outcome::Done));
        assert_eq!(state.view.quotas.len(), 1);
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state);
        assert_eq!(state.apply(10, command).version, 9);
    }
}
