//! APIs that tell which topics there are: who may not describe one is not told that it exists, unless it names it.

use std::{collections::BTreeSet, sync::Arc};

use whimbrel_fleet::acl::{Operation, ResourceType};
use whimbrel_wire::{
    ErrorCode,
    messages::{describe_topic_partitions, metadata},
};

use super::{Ask, Guarded, Inscribe, Rights, Verdict};

/// First version of Metadata in which an empty list is not all topics.
const FIRST_VERSION_WITH_NULL: i16 = 1;
/// Last version of Metadata that tells of the cluster's operations.
const LAST_WITH_CLUSTER: i16 = 10;

impl Ask {
    fn hidden(&self, name: &str) -> bool {
        self.topic(Operation::Describe, name).is_err()
    }

    /// Why a topic that is asked for is not described, or not created on demand.
    fn unmentionable(
        &self,
        topic: &metadata::MetadataRequestTopic,
        creates: bool,
    ) -> Option<ErrorCode> {
        let Some(name) = &topic.name else {
            // An id that nobody told must not tell a name.
            let known = self.catalog.topic_by_id(topic.topic_id)?;
            return self
                .hidden(&known.name)
                .then_some(ErrorCode::UNKNOWN_TOPIC_ID);
        };
        let refused = ErrorCode::TOPIC_AUTHORIZATION_FAILED;
        if self.hidden(name) {
            return Some(refused);
        }
        let may_create = || {
            self.cluster(Operation::Create).is_ok() || self.topic(Operation::Create, name).is_ok()
        };
        let is_missing = self.catalog.topic(name).is_none();
        (creates && is_missing && !may_create()).then_some(refused)
    }
}

impl Guarded for metadata::Request {
    fn guard(&mut self, ask: &Ask) -> Verdict<Self::Response> {
        let mut refused = Vec::new();
        let all = self
            .topics
            .as_ref()
            .is_none_or(|topics| ask.version < FIRST_VERSION_WITH_NULL && topics.is_empty());
        if let (Some(topics), false) = (&mut self.topics, all) {
            let creates = self.allow_auto_topic_creation;
            let mut kept = Vec::with_capacity(topics.len());
            for topic in std::mem::take(topics) {
                match ask.unmentionable(&topic, creates) {
                    None => kept.push(topic),
                    Some(error) => refused.push((topic, error)),
                }
            }
            *topics = kept;
            if topics.is_empty() && ask.version < FIRST_VERSION_WITH_NULL {
                // There it would ask for all.
                return Verdict::Refused(metadata::Response {
                    topics: refused.into_iter().map(not_told).collect(),
                    ..metadata::Response::default()
                });
            }
        }
        let ask = Ask {
            caller: Arc::clone(&ask.caller),
            catalog: Arc::clone(&ask.catalog),
            version: ask.version,
        };
        Verdict::Partly(Box::new(move |response: &mut metadata::Response| {
            if all {
                let is_told = |name: &String| !ask.hidden(name);
                let topics = &mut response.topics;
                topics.retain(|topic| topic.name.as_ref().is_some_and(is_told));
            }
            response.topics.extend(refused.into_iter().map(not_told));
        }))
    }

    fn rights(&self, version: i16) -> Option<Inscribe<Self::Response>> {
        let of_topics = self.include_topic_authorized_operations;
        let of_cluster = self.include_cluster_authorized_operations && version <= LAST_WITH_CLUSTER;
        if !of_topics && !of_cluster {
            return None;
        }
        Some(Box::new(
            move |response: &mut metadata::Response, rights: &Rights| {
                for topic in response.topics.iter_mut().filter(|_| of_topics) {
                    if let (Some(name), true) = (&topic.name, topic.error_code.is_none()) {
                        topic.topic_authorized_operations = rights.on(ResourceType::Topic, name);
                    }
                }
                if of_cluster {
                    response.cluster_authorized_operations = rights.on_cluster();
                }
            },
        ))
    }
}

fn not_told(
    (topic, error_code): (metadata::MetadataRequestTopic, ErrorCode),
) -> metadata::MetadataResponseTopic {
    metadata::MetadataResponseTopic {
        error_code,
        topic_id: if topic.name.is_none() {
            topic.topic_id
        } else {
            uuid::Uuid::nil()
        },
        name: topic.name,
        ..metadata::MetadataResponseTopic::default()
    }
}

impl Guarded for describe_topic_partitions::Request {
    fn guard(&mut self, ask: &Ask) -> Verdict<Self::Response> {
        use describe_topic_partitions::{
            DescribeTopicPartitionsResponseTopic as Described, Response, TopicRequest,
        };
        if self.topics.is_empty() {
            let names = ask.catalog.view.topics.keys();
            let told = names.filter(|name| !ask.hidden(name)).cloned();
            self.topics = told.map(|name| TopicRequest { name }).collect();
            if self.topics.is_empty() {
                return Verdict::Refused(Response::default());
            }
            return Verdict::Granted;
        }
        let from = self.cursor.as_ref().map(|cursor| cursor.topic_name.clone());
        let mut seen = BTreeSet::new();
        super::sift(
            &mut self.topics,
            |topic| ask.topic(Operation::Describe, &topic.name),
            move |response: &mut Response, refused| {
                for (topic, error_code) in refused {
                    // Told on the page on which their place in the order is.
                    let is_past = from.as_ref().is_some_and(|from| topic.name < *from);
                    if is_past || !seen.insert(topic.name.clone()) {
                        continue;
                    }
                    response.topics.push(Described {
                        error_code,
                        name: Some(topic.name),
                        ..Described::default()
                    });
                }
            },
        )
    }

    /// Of what is described, asked for or not.
    fn rights(&self, _: i16) -> Option<Inscribe<Self::Response>> {
        Some(Box::new(
            |response: &mut describe_topic_partitions::Response, rights: &Rights| {
                for topic in &mut response.topics {
                    if let Some(name) = &topic.name {
                        topic.topic_authorized_operations = rights.on(ResourceType::Topic, name);
                    }
                }
            },
        ))
    }
}
