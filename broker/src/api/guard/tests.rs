//! Every API that asks somebody, against a list that says nothing, allows, denies, and speaks of prefixes.
#![expect(
    clippy::needless_update,
    reason = "small messages have all their fields set"
)]

mod table;

use std::collections::{BTreeSet, HashMap};

use whimbrel_fleet::{
    Topic, View,
    acl::{Acl, Operation::*, Pattern, PatternType, Permission},
};
use whimbrel_wire::{ApiKey, messages};

use self::table::{GROUP, ID, OTHER, Row, TOPIC, message, name, rows, told};
use super::*;
use crate::auth::Options;

fn entry(
    (operation, resource): (Operation, ResourceType),
    permission: Permission,
    pattern: PatternType,
    name: &str,
) -> Acl {
    Acl {
        on: Pattern {
            resource,
            pattern,
            name: name.to_owned(),
        },
        principal: "User:ann".to_owned(),
        host: "*".to_owned(),
        operation,
        permission,
    }
}

fn ask_as(user: &str, acls: Vec<Acl>, version: i16) -> Ask {
    let mut view = View {
        acls: acls.into(),
        ..View::default()
    };
    for (number, name) in (1..).zip([TOPIC, OTHER]) {
        let topic = Topic {
            name: name.to_owned(),
            id: Uuid::from_u128(number),
            group: "default".into(),
            partitions: Vec::new(),
            configs: Default::default(),
            replication_factor: 1,
            internal: false,
        };
        view.topics.insert(name.to_owned(), topic);
    }
    let options = Options {
        super_users: vec!["root".to_owned()],
        ..Options::default()
    };
    Ask {
        caller: Arc::new(Caller::new(
            user.to_owned(),
            [127, 0, 0, 1].into(),
            &options,
        )),
        catalog: Arc::new(Catalog::new(Arc::new(view), HashMap::new())),
        version,
    }
}

fn ask(acls: Vec<Acl>, version: i16) -> Ask {
    ask_as("ann", acls, version)
}

#[test]
fn every_api_is_refused_without_an_entry_and_to_whom_one_denies() {
    use PatternType::{Literal, Prefixed};
    use Permission::{Allow, Deny};
    for row in rows() {
        let place = format!("{} v{}", row.key.name(), row.version);
        let judge = |acls: Vec<Acl>| (row.judge)(&ask(acls, row.version));
        let refused = |text: &str| text.contains("AUTHORIZATION_FAILED");
        let allowed = |pattern, prefix: fn(&'static str) -> &'static str| -> Vec<Acl> {
            let needs = row.needs.iter();
            needs
                .map(|need| entry(*need, Allow, pattern, prefix(name(need.1))))
                .collect()
        };
        let nothing = judge(Vec::new());
        assert!(
            nothing.contains(&format!("{:?}", row.error)),
            "{place}: {nothing}"
        );
        let granted = judge(allowed(Literal, |name| name));
        assert!(!refused(&granted), "{place}: {granted}");
        let by_prefix = judge(allowed(Prefixed, |name| &name[..1]));
        assert!(!refused(&by_prefix), "{place}: {by_prefix}");
        let by_wildcard = judge(allowed(Literal, |_| "*"));
        assert!(!refused(&by_wildcard), "{place}: {by_wildcard}");
        let elsewhere = judge(allowed(Prefixed, |_| "zz"));
        assert!(refused(&elsewhere), "{place}: {elsewhere}");
        let root = (row.judge)(&ask_as("root", Vec::new(), row.version));
        assert!(!refused(&root), "{place}: {root}");
        for (number, need) in row.needs.iter().enumerate() {
            let mut one_less = allowed(Literal, |name| name);
            one_less.remove(number);
            assert!(refused(&judge(one_less)), "{place} without {need:?}");
            let mut denied = allowed(Literal, |_| "*");
            denied.push(entry(*need, Deny, Prefixed, &name(need.1)[..1]));
            assert!(refused(&judge(denied)), "{place}, {need:?} denied");
        }
    }
}

/// What is not in the table: asked before anybody is known, asked of nobody, judged topic by topic in the plan of the
/// fetch, or filtered on the way back (tests below).
#[test]
fn the_table_names_every_api() {
    let elsewhere = [
        ApiKey::SaslHandshake,
        ApiKey::SaslAuthenticate,
        ApiKey::ApiVersions,
        ApiKey::DescribeCluster,
        ApiKey::Fetch,
        ApiKey::ListGroups,
        ApiKey::ListTransactions,
    ];
    let named: BTreeSet<ApiKey> = rows().iter().map(|row| row.key).chain(elsewhere).collect();
    let offered: BTreeSet<ApiKey> = crate::api::OFFERED.iter().copied().collect();
    assert_eq!(named, offered);
}

fn allow(operation: Operation, resource: ResourceType) -> Acl {
    let (allow, literal) = (Permission::Allow, PatternType::Literal);
    entry((operation, resource), allow, literal, name(resource))
}

#[test]
fn lists_name_what_the_caller_may_describe() {
    let nobody = ask(Vec::new(), 5);
    let group_seer = ask(vec![allow(Describe, ResourceType::Group)], 5);
    let cluster_seer = ask(vec![allow(Describe, ResourceType::Cluster)], 5);
    let listed = |ask: &Ask| {
        let group = |group_id: &str| {
            message!(list_groups::ListedGroup {
                group_id: group_id.to_owned()
            })
        };
        let mut response = message!(list_groups::Response {
            groups: vec![group(GROUP), group("other")]
        });
        messages::list_groups::Request::default()
            .guard(ask)
            .tell(&mut response);
        response.groups.len()
    };
    assert_eq!([&nobody, &group_seer, &cluster_seer].map(listed), [0, 1, 2]);
    let id_seer = ask(vec![allow(Write, ResourceType::TransactionalId)], 2);
    let listed = |ask: &Ask| {
        let state = |id: &str| {
            message!(list_transactions::TransactionState {
                transactional_id: id.to_owned()
            })
        };
        let mut response = message!(list_transactions::Response {
            transaction_states: vec![state(ID), state("other")]
        });
        messages::list_transactions::Request::default()
            .guard(ask)
            .tell(&mut response);
        response.transaction_states.len()
    };
    assert_eq!([&nobody, &id_seer].map(listed), [0, 1]);
}

#[test]
fn metadata_of_all_topics_hides_those_that_may_not_be_described() {
    let listed = |ask: &Ask, topics| {
        let topic = |name: &str| {
            message!(metadata::MetadataResponseTopic {
                name: Some(name.to_owned())
            })
        };
        let mut response = message!(metadata::Response {
            topics: vec![topic(TOPIC), topic(OTHER)]
        });
        let mut request = message!(metadata::Request { topics: topics });
        request.guard(ask).tell(&mut response);
        let names = response.topics.into_iter();
        names.filter_map(|topic| topic.name).collect::<Vec<_>>()
    };
    for (version, all) in [(12, None), (0, Some(Vec::new()))] {
        assert_eq!(listed(&ask(Vec::new(), version), all.clone()), [""; 0]);
        let reader = ask(vec![allow(Read, ResourceType::Topic)], version);
        assert_eq!(listed(&reader, all), [TOPIC]);
    }
    let paged = |ask: &Ask| {
        let mut request = messages::describe_topic_partitions::Request::default();
        match request.guard(ask) {
            Verdict::Refused(response) => response.topics.len(),
            _ => request.topics.len(),
        }
    };
    let reader = ask(vec![allow(Read, ResourceType::Topic)], 0);
    assert_eq!((paged(&ask(Vec::new(), 0)), paged(&reader)), (0, 1));
}

#[test]
fn ids_tell_nothing_of_topics_that_may_not_be_described() {
    let by_id = |ask: &Ask, id| {
        let asked = message!(metadata::MetadataRequestTopic {
            name: None,
            topic_id: Uuid::from_u128(id)
        });
        told(
            message!(metadata::Request {
                topics: Some(vec![asked])
            }),
            ask,
        )
    };
    let hidden = by_id(&ask(Vec::new(), 12), 1);
    assert!(
        hidden.contains("UNKNOWN_TOPIC_ID") && !hidden.contains(TOPIC),
        "{hidden}"
    );
    let produce = |ask: &Ask, id| {
        let topic = message!(produce::TopicProduceData {
            topic_id: Uuid::from_u128(id),
            partition_data: vec![Default::default()]
        });
        told(
            message!(produce::Request {
                topic_data: vec![topic]
            }),
            ask,
        )
    };
    let writer = ask(vec![allow(Write, ResourceType::Topic)], 13);
    assert_eq!(produce(&writer, 1), "");
    assert!(produce(&writer, 2).contains("TOPIC_AUTHORIZATION_FAILED"));
    assert!(
        produce(&writer, 3).contains("UNKNOWN_TOPIC_ID"),
        "not known by now"
    );
}

#[test]
fn topics_are_created_on_demand_by_those_who_may_create() {
    let asked = || {
        message!(metadata::MetadataRequestTopic {
            name: Some("r-new".to_owned())
        })
    };
    let created = |acls: Vec<Acl>, allow_auto_topic_creation| {
        let request = message!(metadata::Request {
            topics: Some(vec![asked()]),
            allow_auto_topic_creation: allow_auto_topic_creation
        });
        !told(request, &ask(acls, 12)).contains("TOPIC_AUTHORIZATION_FAILED")
    };
    let (allow_it, prefixed) = (Permission::Allow, PatternType::Prefixed);
    let on_new = |operation| entry((operation, ResourceType::Topic), allow_it, prefixed, "r-");
    assert!(!created(vec![on_new(Describe)], true));
    assert!(
        created(vec![on_new(Describe)], false),
        "it is not there, and nothing else"
    );
    assert!(created(vec![on_new(Describe), on_new(Create)], true));
    assert!(created(
        vec![on_new(Describe), allow(Create, ResourceType::Cluster)],
        true
    ));
}

#[test]
fn some_apis_are_open_to_those_with_either_right() {
    let may = |acl: Acl, row: Row| !(row.judge)(&ask(vec![acl], row.version)).contains("FAILED");
    let find = |key| {
        move |row: &Row| row.key == key && row.error == ErrorCode::CLUSTER_AUTHORIZATION_FAILED
    };
    let init = rows()
        .into_iter()
        .find(find(ApiKey::InitProducerId))
        .unwrap();
    assert!(may(allow(Write, ResourceType::Topic), init));
    let markers = rows()
        .into_iter()
        .find(find(ApiKey::WriteTxnMarkers))
        .unwrap();
    assert!(may(allow(Alter, ResourceType::Cluster), markers));
    let create = rows()
        .into_iter()
        .find(|row| row.key == ApiKey::CreateTopics)
        .unwrap();
    assert!(may(allow(Create, ResourceType::Cluster), create));
}

#[test]
fn rights_are_told_as_bits_and_are_all_there_are_where_nobody_is_asked() {
    let reader = ask(vec![allow(Read, ResourceType::Topic)], 12);
    let mut rights = Rights {
        caller: Some(reader.caller),
        catalog: reader.catalog,
    };
    let bits = (1 << Read.code()) | (1 << Describe.code());
    assert_eq!(rights.on(ResourceType::Topic, TOPIC), bits);
    assert_eq!(rights.on(ResourceType::Topic, OTHER), 0);
    assert_eq!(rights.on_cluster(), 0);
    rights.caller = None;
    // As Kafka's clients decode them.
    assert_eq!(rights.on(ResourceType::Topic, TOPIC), 0b1101_1111_1000);
    assert_eq!(rights.on(ResourceType::Group, GROUP), 0b1101_0100_1000);
    assert_eq!(rights.on_cluster(), 0b1_1111_1010_0000);
}

#[test]
fn what_a_reader_may_do_is_told_of_each_thing_described() {
    use messages::{consumer_group_describe, describe_groups, metadata};
    fn inscribed<R: Guarded>(request: &R, mut response: R::Response) -> R::Response
    where
        R::Response: 'static,
    {
        let reader = ask(vec![allow(Describe, ResourceType::Group)], 12);
        let rights = Rights {
            caller: Some(reader.caller),
            catalog: reader.catalog,
        };
        let inscribe = request.rights(10).unwrap();
        Verdict::Granted
            .inscribing(rights, inscribe)
            .tell(&mut response);
        response
    }
    let request = describe_groups::Request {
        include_authorized_operations: true,
        ..describe_groups::Request::default()
    };
    assert!(describe_groups::Request::default().rights(5).is_none());
    let of = |name: &str, error_code| describe_groups::DescribedGroup {
        group_id: name.to_owned(),
        error_code,
        ..describe_groups::DescribedGroup::default()
    };
    let response = describe_groups::Response {
        groups: vec![
            of(GROUP, ErrorCode::NONE),
            of(GROUP, ErrorCode::NOT_COORDINATOR),
        ],
        ..describe_groups::Response::default()
    };
    let told = inscribed(&request, response).groups;
    assert_eq!(told[0].authorized_operations, 1 << Describe.code());
    assert_eq!(told[1].authorized_operations, i32::MIN, "nothing is known");
    let request = consumer_group_describe::Request {
        include_authorized_operations: true,
        ..consumer_group_describe::Request::default()
    };
    let response = consumer_group_describe::Response {
        groups: vec![consumer_group_describe::DescribedGroup {
            group_id: GROUP.to_owned(),
            ..consumer_group_describe::DescribedGroup::default()
        }],
        ..consumer_group_describe::Response::default()
    };
    let told = inscribed(&request, response).groups;
    assert_eq!(told[0].authorized_operations, 1 << Describe.code());
    let request = messages::describe_topic_partitions::Request::default();
    let mut response = messages::describe_topic_partitions::Response::default();
    response.topics.push(Default::default());
    response.topics[0].name = Some(TOPIC.to_owned());
    let told = inscribed(&request, response).topics;
    assert_eq!(told[0].topic_authorized_operations, 0);
    let request = metadata::Request {
        include_cluster_authorized_operations: true,
        ..metadata::Request::default()
    };
    let told = inscribed(&request, metadata::Response::default());
    assert_eq!(
        told.cluster_authorized_operations, 0,
        "it may not describe it"
    );
}
