//! A consumer group's configs, whether there is such a group or not.

use whimbrel_fleet::{group_config::ENTRIES, resource_config::Resource};

use super::{Configs, Details, SOURCE_DEFAULT, SOURCE_GROUP, SOURCE_STATIC_BROKER, described};
use crate::{broker::Broker, broker_config};

pub(super) fn describe(broker: &Broker, group: &str, details: Details) -> Configs {
    let configs = &broker.catalog().view.configs;
    let own = configs.get(&Resource::Group(group.to_owned()));
    let of_broker = broker_config::all(&broker.options);
    let told = ENTRIES.iter().map(|entry| {
        let set = own.and_then(|values| values.get(entry.name));
        // Of a group that does not say, the broker's file decides.
        let inherited = of_broker
            .iter()
            .find(|config| Some(config.name) == entry.broker_name);
        let default = match inherited {
            Some(config) if config.set => (config.name, config.value.clone(), SOURCE_STATIC_BROKER),
            Some(config) => (config.name, config.value.clone(), SOURCE_DEFAULT),
            None => (entry.name, entry.default.to_owned(), SOURCE_DEFAULT),
        };
        let origins = set
            .map(|value| (entry.name, value.clone(), SOURCE_GROUP))
            .into_iter()
            .chain([default]);
        let kind = (entry.kind, entry.doc);
        described(entry.name, origins.collect(), kind, details)
    });
    told.collect()
}
