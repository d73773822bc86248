//! APIs about the cluster as a whole, all or nothing.

use whimbrel_fleet::acl::Operation;
use whimbrel_wire::{
    ErrorCode,
    messages::{
        alter_client_quotas, alter_partition_reassignments, alter_user_scram_credentials,
        api_versions, create_acls, delete_acls, describe_acls, describe_client_quotas,
        describe_cluster, describe_log_dirs, describe_quorum, describe_user_scram_credentials,
        elect_leaders, list_config_resources, list_partition_reassignments, update_features,
        write_txn_markers,
    },
};

use super::{Ask, Guarded, Inscribe, Rights, Verdict, whole};

fn words() -> Option<String> {
    Some("Cluster authorization failed.".to_owned())
}

/// Requests that ask for one operation on the cluster, with the answer to who may not.
macro_rules! on_cluster {
    ($($module:ident $operation:ident |$request:ident, $error:ident| $refused:expr;)*) => {
        $(
            impl Guarded for $module::Request {
                fn guard(&mut self, ask: &Ask) -> Verdict<Self::Response> {
                    let $request = self;
                    whole(ask.cluster(Operation::$operation), |$error| $refused)
                }
            }
        )*
    };
}

on_cluster! {
    describe_acls Describe |_request, error_code| describe_acls::Response {
        error_code,
        error_message: words(),
        ..describe_acls::Response::default()
    };
    create_acls Alter |request, error_code| create_acls::Response {
        results: request.creations.iter().map(|_| create_acls::AclCreationResult {
            error_code,
            error_message: words(),
        }).collect(),
        ..create_acls::Response::default()
    };
    delete_acls Alter |request, error_code| delete_acls::Response {
        filter_results: request.filters.iter().map(|_| delete_acls::DeleteAclsFilterResult {
            error_code,
            error_message: words(),
            matching_acls: Vec::new(),
        }).collect(),
        ..delete_acls::Response::default()
    };
    describe_user_scram_credentials Describe |_request, error_code| describe_user_scram_credentials::Response {
        error_code,
        error_message: words(),
        ..describe_user_scram_credentials::Response::default()
    };
    alter_user_scram_credentials Alter |request, error_code| {
        let deleted = request.deletions.iter().map(|it| &it.name);
        let names = deleted.chain(request.upsertions.iter().map(|it| &it.name));
        let results = names.map(|name| alter_user_scram_credentials::AlterUserScramCredentialsResult {
            user: name.clone(),
            error_code,
            error_message: words(),
        });
        alter_user_scram_credentials::Response {
            results: results.collect(),
            ..alter_user_scram_credentials::Response::default()
        }
    };
    describe_log_dirs Describe |_request, error_code| describe_log_dirs::Response {
        error_code,
        ..describe_log_dirs::Response::default()
    };
    elect_leaders Alter |_request, error_code| elect_leaders::Response {
        error_code,
        ..elect_leaders::Response::default()
    };
    alter_partition_reassignments Alter |_request, error_code| alter_partition_reassignments::Response {
        error_code,
        error_message: words(),
        ..alter_partition_reassignments::Response::default()
    };
    list_partition_reassignments Describe |_request, error_code| list_partition_reassignments::Response {
        error_code,
        error_message: words(),
        ..list_partition_reassignments::Response::default()
    };
    describe_client_quotas DescribeConfigs |_request, error_code| describe_client_quotas::Response {
        error_code,
        error_message: words(),
        entries: None,
        ..describe_client_quotas::Response::default()
    };
    alter_client_quotas AlterConfigs |request, error_code| alter_client_quotas::Response {
        entries: request.entries.drain(..).map(|entry| alter_client_quotas::EntryResult {
            error_code,
            error_message: words(),
            entity: entry.entity,
        }).collect(),
        ..alter_client_quotas::Response::default()
    };
    describe_quorum Describe |_request, error_code| describe_quorum::Response {
        error_code,
        error_message: words(),
        ..describe_quorum::Response::default()
    };
    update_features Alter |_request, error_code| update_features::Response {
        error_code,
        error_message: words(),
        ..update_features::Response::default()
    };
    list_config_resources DescribeConfigs |_request, error_code| list_config_resources::Response {
        error_code,
        ..list_config_resources::Response::default()
    };
}

impl Guarded for api_versions::Request {
    /// Whoever connects may know what is spoken here.
    fn guard(&mut self, _: &Ask) -> Verdict<Self::Response> {
        Verdict::Granted
    }
}

impl Guarded for describe_cluster::Request {
    /// As Metadata, which names the brokers to everybody.
    fn guard(&mut self, _: &Ask) -> Verdict<Self::Response> {
        Verdict::Granted
    }

    fn rights(&self, _: i16) -> Option<Inscribe<Self::Response>> {
        if !self.include_cluster_authorized_operations {
            return None;
        }
        Some(Box::new(
            |response: &mut describe_cluster::Response, rights: &Rights| {
                if response.error_code.is_none() {
                    response.cluster_authorized_operations = rights.on_cluster();
                }
            },
        ))
    }
}

impl Guarded for write_txn_markers::Request {
    /// Operators abort hanging transactions with it, which Kafka lets those do who may alter the cluster.
    fn guard(&mut self, ask: &Ask) -> Verdict<Self::Response> {
        let may = ask
            .cluster(Operation::ClusterAction)
            .or_else(|_| ask.cluster(Operation::Alter));
        whole(may, |error| write_txn_markers::Response {
            markers: self
                .markers
                .drain(..)
                .map(|marker| refused(marker, error))
                .collect(),
        })
    }
}

fn refused(
    marker: write_txn_markers::WritableTxnMarker,
    error_code: ErrorCode,
) -> write_txn_markers::WritableTxnMarkerResult {
    let topics = marker.topics.into_iter().map(|topic| {
        let partitions = topic.partition_indexes.into_iter().map(|partition_index| {
            write_txn_markers::WritableTxnMarkerPartitionResult {
                partition_index,
                error_code,
            }
        });
        write_txn_markers::WritableTxnMarkerTopicResult {
            name: topic.name,
            partitions: partitions.collect(),
        }
    });
    write_txn_markers::WritableTxnMarkerResult {
        producer_id: marker.producer_id,
        topics: topics.collect(),
    }
}
