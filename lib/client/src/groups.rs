//! Consumer groups from outside: who they are, where they stand, and setting their positions while they
//! are not at work.

use std::collections::BTreeMap;

use whimbrel_wire::{
    ErrorCode,
    messages::{
        delete_groups, describe_groups, find_coordinator, list_groups, offset_commit, offset_fetch,
    },
};

use crate::{client::Client, connection::Connection, endpoint::Endpoint, error::ClientError};

/// Topics by name; later versions name them by id.
const MOST_OFFSETS: i16 = 9;
/// One group a request; later versions ask for several.
const MOST_OFFSET_FETCH: i16 = 7;
/// One key a request; later versions ask for several.
const MOST_FIND: i16 = 3;

/// Kafka's numbers of what is coordinated.
const GROUP: i8 = 0;
pub(crate) const TRANSACTION: i8 = 1;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    pub group: String,
    pub protocol_type: String,
    /// Empty where the broker is too old to say.
    pub state: String,
    pub kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    pub group: String,
    /// Kafka's word: `Empty`, `Dead`, `Stable`, `PreparingRebalance`, `CompletingRebalance`.
    pub state: String,
    pub protocol: String,
    pub members: usize,
}

impl GroupDescription {
    /// No member could be disturbed by setting its positions.
    pub fn is_idle(&self) -> bool {
        self.state == "Empty" || self.state == "Dead"
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPosition {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    /// -1 = unknown.
    pub leader_epoch: i32,
    pub metadata: Option<String>,
}

impl Client {
    async fn coordinator(&self, group: &str) -> Result<Connection, ClientError> {
        self.coordinator_of(GROUP, group).await
    }

    /// Whoever coordinates this key of a kind.
    pub(crate) async fn coordinator_of(
        &self,
        kind: i8,
        key: &str,
    ) -> Result<Connection, ClientError> {
        let request = find_coordinator::Request {
            key: key.to_owned(),
            key_type: kind,
            ..find_coordinator::Request::default()
        };
        let timeout = self.request_timeout();
        let response = self
            .any()
            .await?
            .call_upto(&request, MOST_FIND, timeout)
            .await?;
        let what = || format!("coordinator of {key}");
        ClientError::check(what, response.error_code, response.error_message)?;
        let endpoint = Endpoint::advertised(&response.host, response.port);
        let endpoint = endpoint.ok_or_else(|| ClientError::Missing { what: what() })?;
        self.connection(&endpoint).await
    }

    /// All groups of the cluster: every broker lists those it coordinates.
    pub async fn list_groups(&self) -> Result<Vec<ListedGroup>, ClientError> {
        let metadata = self.metadata(Some(&[])).await?;
        let mut groups = BTreeMap::new();
        for broker in metadata.brokers {
            let timeout = self.request_timeout();
            let endpoint = &broker.endpoint;
            let listed = self.keep_trying(|| async move {
                let connection = self.connection(endpoint).await?;
                let response = connection
                    .call(&list_groups::Request::default(), timeout)
                    .await?;
                ClientError::check(
                    || format!("list groups of broker {}", broker.id),
                    response.error_code,
                    None,
                )?;
                Ok(response.groups)
            });
            for group in listed.await? {
                let listed = ListedGroup {
                    group: group.group_id.clone(),
                    protocol_type: group.protocol_type,
                    state: group.group_state,
                    kind: group.group_type,
                };
                groups.insert(group.group_id, listed);
            }
        }
        Ok(groups.into_values().collect())
    }

    /// A group that does not exist is described as `Dead`.
    pub async fn describe_group(&self, group: &str) -> Result<GroupDescription, ClientError> {
        let request = describe_groups::Request {
            groups: vec![group.to_owned()],
            ..describe_groups::Request::default()
        };
        let (request, timeout) = (&request, self.request_timeout());
        let described = self.keep_trying(|| async move {
            let connection = self.coordinator(group).await?;
            let response = connection.call(request, timeout).await?;
            let what = || format!("describe group {group}");
            let found = response.groups.into_iter().find(|g| g.group_id == group);
            let found = found.ok_or_else(|| ClientError::Missing { what: what() })?;
            if found.error_code == ErrorCode::GROUP_ID_NOT_FOUND {
                return Ok(None);
            }
            ClientError::check(what, found.error_code, found.error_message.clone())?;
            Ok(Some(found))
        });
        let found = described.await?;
        Ok(found.map_or_else(
            || GroupDescription {
                group: group.to_owned(),
                state: "Dead".to_owned(),
                protocol: String::new(),
                members: 0,
            },
            |found| GroupDescription {
                group: found.group_id,
                state: found.group_state,
                protocol: found.protocol_data,
                members: found.members.len(),
            },
        ))
    }

    /// All committed positions of a group.
    pub async fn group_positions(&self, group: &str) -> Result<Vec<GroupPosition>, ClientError> {
        let request = offset_fetch::Request {
            group_id: group.to_owned(),
            topics: None,
            require_stable: true,
            ..offset_fetch::Request::default()
        };
        let (request, timeout) = (&request, self.request_timeout());
        let response = self.keep_trying(|| async move {
            let connection = self.coordinator(group).await?;
            let response = connection
                .call_upto(request, MOST_OFFSET_FETCH, timeout)
                .await?;
            ClientError::check(
                || format!("positions of group {group}"),
                response.error_code,
                None,
            )?;
            for p in response.topics.iter().flat_map(|t| &t.partitions) {
                ClientError::check(|| format!("positions of group {group}"), p.error_code, None)?;
            }
            Ok(response.topics)
        });
        let mut positions = Vec::new();
        for topic in response.await? {
            for p in topic
                .partitions
                .into_iter()
                .filter(|p| p.committed_offset >= 0)
            {
                positions.push(GroupPosition {
                    topic: topic.name.clone(),
                    partition: p.partition_index,
                    offset: p.committed_offset,
                    leader_epoch: p.committed_leader_epoch,
                    metadata: p.metadata,
                });
            }
        }
        Ok(positions)
    }

    /// Sets positions as an administrator: works only while the group has no members.
    pub async fn set_group_positions(
        &self,
        group: &str,
        positions: &[GroupPosition],
    ) -> Result<(), ClientError> {
        if positions.is_empty() {
            return Ok(());
        }
        let request = commit_request(group, positions);
        let (request, timeout) = (&request, self.request_timeout());
        self.keep_trying(|| async move {
            let connection = self.coordinator(group).await?;
            let response = connection.call_upto(request, MOST_OFFSETS, timeout).await?;
            for topic in &response.topics {
                for p in &topic.partitions {
                    let what = || {
                        format!(
                            "position of group {group} in {}-{}",
                            topic.name, p.partition_index
                        )
                    };
                    ClientError::check(what, p.error_code, None)?;
                }
            }
            Ok(())
        })
        .await
    }

    pub async fn delete_group(&self, group: &str) -> Result<(), ClientError> {
        let request = delete_groups::Request {
            groups_names: vec![group.to_owned()],
        };
        let (request, timeout) = (&request, self.request_timeout());
        self.keep_trying(|| async move {
            let connection = self.coordinator(group).await?;
            let response = connection.call(request, timeout).await?;
            for result in response.results {
                ClientError::check(|| format!("delete group {group}"), result.error_code, None)?;
            }
            Ok(())
        })
        .await
    }
}

fn commit_request(group: &str, positions: &[GroupPosition]) -> offset_commit::Request {
    let mut topics: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for p in positions {
        let partition = offset_commit::OffsetCommitRequestPartition {
            partition_index: p.partition,
            committed_offset: p.offset,
            committed_leader_epoch: p.leader_epoch,
            committed_metadata: p.metadata.clone(),
        };
        topics.entry(&p.topic).or_default().push(partition);
    }
    let topics =
        topics.into_iter().map(
            |(name, partitions)| offset_commit::OffsetCommitRequestTopic {
                name: name.to_owned(),
                partitions,
                ..offset_commit::OffsetCommitRequestTopic::default()
            },
        );
    offset_commit::Request {
        group_id: group.to_owned(),
        topics: topics.collect(),
        ..offset_commit::Request::default()
    }
}
