//! Configs of brokers and of consumer groups, in everybody's view.

use whimbrel_fleet::resource_config::{self, Resource, Values};

use super::{Change, Outcome, State, kafka};

/// Groups with configs: they are in everybody's view.
const MAX_GROUPS: usize = 10_000;

impl State {
    /// Whether the resource may have configs.
    pub fn check_resource(&self, resource: &Resource) -> Result<(), Outcome> {
        let refuse = |why: String| Err(Outcome::kafka(kafka::INVALID_REQUEST, why));
        let configs = &self.view.configs;
        match resource {
            Resource::Broker(id) if !self.view.nodes.contains_key(id) => {
                refuse(format!("there is no broker {id}"))
            }
            Resource::Group(name)
                if !configs.groups.contains_key(name) && configs.groups.len() >= MAX_GROUPS =>
            {
                refuse(format!("more than {MAX_GROUPS} groups would have configs"))
            }
            _ => Ok(()),
        }
    }

    /// Only bounds are checked here: a log must replay the same under any table of configs.
    pub(super) fn alter_resource_configs(
        &mut self,
        resource: Resource,
        before: &Values,
        after: Values,
    ) -> Change {
        let none = Values::new();
        let now = self.view.configs.get(&resource).unwrap_or(&none);
        if *now == after {
            return Change::hidden(Outcome::Done);
        }
        if now != before {
            return Change::hidden(Outcome::Stale);
        }
        if let Err(refusal) = self.check_resource(&resource) {
            return Change::hidden(refusal);
        }
        if let Err(refusal) = resource_config::check_size(&resource, &after) {
            return Change::hidden(Outcome::kafka(kafka::INVALID_CONFIG, refusal.0));
        }
        self.view.configs.set(resource, after);
        Change::shown(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use whimbrel_fleet::{NodeId, resource_config::Configs};

    use super::*;
    use crate::state::{Applied, Command, tests::fleet};

    fn values(value: &str) -> Values {
        BTreeMap::from([("a.config".to_owned(), value.to_owned())])
    }

    fn alter(state: &mut State, index: u64, resource: &Resource, pair: [&Values; 2]) -> Applied {
        let command = Command::AlterResourceConfigs {
            resource: resource.clone(),
            before: pair[0].clone(),
            after: pair[1].clone(),
        };
        let text = serde_json::to_string(&command).unwrap();
        state.apply(index, serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn configs_are_in_the_view_and_only_their_next_state_replaces_them() {
        let none = Values::new();
        for resource in [
            Resource::Brokers,
            Resource::Broker(NodeId(1)),
            Resource::Group("g".into()),
        ] {
            let mut state = fleet();
            let (one, two) = (values("1"), values("2"));
            let set = alter(&mut state, 9, &resource, [&none, &one]);
            assert_eq!((set.version, set.outcome), (9, Outcome::Done));
            assert_eq!(state.view.configs.get(&resource), Some(&one));
            let again = alter(&mut state, 10, &resource, [&none, &one]);
            assert_eq!((again.version, again.outcome), (9, Outcome::Done));
            let late = alter(&mut state, 11, &resource, [&none, &two]);
            assert_eq!((late.version, late.outcome), (9, Outcome::Stale));
            let text = serde_json::to_string(&state).unwrap();
            assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state);
            alter(&mut state, 12, &resource, [&one, &none]);
            assert_eq!(state.view.configs, Configs::default());
        }
    }

    #[test]
    fn a_state_of_an_older_fleet_has_none() {
        let state = fleet();
        let mut older = serde_json::to_value(&state).unwrap();
        older["view"].as_object_mut().unwrap().remove("configs");
        assert_eq!(serde_json::from_value::<State>(older).unwrap(), state);
    }

    #[test]
    fn what_would_grow_without_bound_is_refused() {
        let (mut state, none) = (fleet(), Values::new());
        let stranger = Resource::Broker(NodeId(99));
        let refused = alter(&mut state, 9, &stranger, [&none, &values("1")]);
        assert!(matches!(refused.outcome, Outcome::Kafka { .. }));
        let long = values(&"x".repeat(40_000));
        let refused = alter(&mut state, 10, &Resource::Brokers, [&none, &long]);
        assert!(matches!(refused.outcome, Outcome::Kafka { .. }));
        let groups = (0..MAX_GROUPS).map(|n| (n.to_string(), values("1")));
        state.view.configs.groups = groups.collect();
        let another = Resource::Group("another".into());
        let refused = alter(&mut state, 11, &another, [&none, &values("1")]);
        assert!(matches!(refused.outcome, Outcome::Kafka { .. }));
        let known = Resource::Group("7".into());
        let done = alter(&mut state, 12, &known, [&values("1"), &values("2")]);
        assert_eq!(done.outcome, Outcome::Done);
    }
}
