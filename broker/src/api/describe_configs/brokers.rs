//! What a broker runs with, which is its file's, and what was set on it or on all of them.

use whimbrel_fleet::{broker_config as dynamic, resource_config::Resource};

use super::{
    Configs, Details, SOURCE_BROKER, SOURCE_BROKERS, SOURCE_DEFAULT, SOURCE_STATIC_BROKER,
    described,
};
use crate::{broker::Broker, broker_config};

/// All of a broker's, or only what was set on all.
pub(super) fn describe(broker: &Broker, resource: &Resource, details: Details) -> Configs {
    let configs = &broker.catalog().view.configs;
    let can_be_set = dynamic::all();
    let of_file = broker_config::all(&broker.options);
    let of_one = configs
        .get(resource)
        .filter(|_| *resource != Resource::Brokers);
    let mut all: Configs = can_be_set
        .iter()
        .filter_map(|entry| {
            let own = of_one.and_then(|values| values.get(entry.name));
            let of_all = configs.of_brokers.get(entry.name);
            if *resource == Resource::Brokers && of_all.is_none() {
                return None;
            }
            let origin = |value: &str, source| (entry.name, value.to_owned(), source);
            let origins = own
                .map(|value| origin(value, SOURCE_BROKER))
                .into_iter()
                .chain(of_all.map(|value| origin(value, SOURCE_BROKERS)))
                .chain([of_file
                    .iter()
                    .find(|config| config.name == entry.name)
                    .map_or_else(
                        || origin(entry.default, SOURCE_DEFAULT),
                        |config| origin(&config.value, source(config)),
                    )]);
            let kind = (entry.kind, entry.doc);
            Some(described(entry.name, origins.collect(), kind, details))
        })
        .collect();
    if *resource == Resource::Brokers {
        return all;
    }
    let of_file = of_file.into_iter();
    let of_file = of_file.filter(|config| can_be_set.iter().all(|entry| entry.name != config.name));
    all.extend(of_file.map(|config| {
        let source = source(&config);
        let origins = vec![(config.name, config.value, source)];
        let mut told = described(config.name, origins, (config.kind, config.doc), details);
        told.read_only = true;
        told
    }));
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

fn source(config: &broker_config::Config) -> i8 {
    if config.set {
        SOURCE_STATIC_BROKER
    } else {
        SOURCE_DEFAULT
    }
}
