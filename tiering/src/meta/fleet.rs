//! What is kept of the fleet, taken from a view, and as bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use whimbrel_fleet::{
    FailoverGroup, GroupName, LossMode, OffsetsBlock, Region, RegionEpoch, RegionName, TopicId,
    View, acl::Acls, credential::Credentials, quota::Quota, resource_config::Configs,
};

use crate::format::{FieldError, Fields, FormatError, Put};

const WHAT: &str = "description of the fleet";
const INTERNAL: u8 = 1;
const LOST: u8 = 1;
/// Name, id, group, flags, replication factor, and two counts.
const TOPIC_MIN: usize = 2 + 16 + 2 + 1 + 2 + 4 + 4;
const GROUP_MIN: usize = 2 + 2 + 4 + 8 + 1 + 4 + 16;

/// A fleet without its machines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fleet {
    /// Every producer id that was given lies below; zero where that is not known.
    pub producer_ids: i64,
    pub regions: Vec<Region>,
    /// By name, rising.
    pub groups: Vec<Group>,
    /// By name, rising.
    pub topics: Vec<Topic>,
    /// Of the topics that were deleted last, oldest first.
    pub deleted: Vec<TopicId>,
    pub properties: Properties,
}

/// A failover group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    pub name: GroupName,
    pub home: RegionName,
    /// The highest that was given, to a fence under way too.
    pub epoch: RegionEpoch,
    pub lease_ms: u64,
    pub loss_mode: LossMode,
    pub sync_set: Vec<RegionName>,
    pub offsets: OffsetsBlock,
    pub transactions: OffsetsBlock,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topic {
    pub name: String,
    pub id: TopicId,
    pub group: GroupName,
    pub internal: bool,
    pub replication_factor: i16,
    pub configs: BTreeMap<String, String>,
    /// The highest that was given, of each partition.
    pub leader_epochs: Vec<i32>,
}

/// What is small and has many forms: JSON, as the controllers keep it. The credentials are verifiers: whoever reads
/// them can check guesses of passwords.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Properties {
    pub quotas: Vec<Quota>,
    pub configs: Configs,
    pub acls: Acls,
    pub credentials: Credentials,
}

impl Fleet {
    pub fn of(view: &View) -> Self {
        let topic = |topic: &whimbrel_fleet::Topic| Topic {
            name: topic.name.clone(),
            id: topic.id,
            group: topic.group.clone(),
            internal: topic.internal,
            replication_factor: topic.replication_factor,
            configs: topic.configs.clone(),
            leader_epochs: topic.partitions.iter().map(|p| p.leader_epoch.0).collect(),
        };
        Self {
            producer_ids: view.producer_ids,
            regions: view.regions.values().cloned().collect(),
            groups: view.groups.values().map(group).collect(),
            topics: view.topics.values().map(topic).collect(),
            deleted: view.deleted.clone(),
            properties: Properties {
                quotas: view.quotas.clone(),
                configs: view.configs.clone(),
                acls: view.acls.clone(),
                credentials: view.credentials.clone(),
            },
        }
    }

    /// Refused where a text is longer than the format can say: a shortened one would be restored as another.
    pub fn encode(&self) -> Result<Vec<u8>, FormatError> {
        let mut out = Vec::new();
        out.put_i64(self.producer_ids);
        out.put_count(self.regions.len());
        for region in &self.regions {
            text(&mut out, region.name.as_str())?;
            out.put_u8(if region.lost { LOST } else { 0 });
        }
        out.put_count(self.groups.len());
        for group in &self.groups {
            put_group(&mut out, group)?;
        }
        out.put_count(self.topics.len());
        for topic in &self.topics {
            put_topic(&mut out, topic)?;
        }
        out.put_count(self.deleted.len());
        for id in &self.deleted {
            out.put(id.as_bytes());
        }
        let properties = serde_json::to_vec(&self.properties).map_err(malformed)?;
        out.put_count(properties.len());
        out.put(&properties);
        Ok(out)
    }

    /// Nothing but what [`Fleet::encode`] writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut fields = Fields::new(bytes);
        let fleet = read(&mut fields).map_err(malformed)?;
        fields.end().map_err(malformed)?;
        Ok(fleet)
    }

    pub fn partitions(&self) -> usize {
        self.topics.iter().map(|t| t.leader_epochs.len()).sum()
    }
}

fn malformed(error: impl ToString) -> FormatError {
    FormatError::malformed(WHAT, error)
}

fn group(group: &FailoverGroup) -> Group {
    let fenced = group.fence.as_ref().map(|fence| fence.epoch);
    Group {
        name: group.name.clone(),
        home: group.home.clone(),
        epoch: fenced.map_or(group.epoch, |epoch| epoch.max(group.epoch)),
        lease_ms: group.lease_ms,
        loss_mode: group.loss_mode,
        sync_set: group.sync_set.iter().cloned().collect(),
        offsets: group.offsets,
        transactions: group.transactions,
    }
}

fn text(out: &mut Vec<u8>, text: &str) -> Result<(), FormatError> {
    if u16::try_from(text.len()).is_err() {
        return Err(malformed(format_args!("a text of {} bytes", text.len())));
    }
    out.put_text(text);
    Ok(())
}

fn put_group(out: &mut Vec<u8>, group: &Group) -> Result<(), FormatError> {
    text(out, group.name.as_str())?;
    text(out, group.home.as_str())?;
    out.put_u32(group.epoch.0);
    out.put_u64(group.lease_ms);
    out.put_u8(match group.loss_mode {
        LossMode::Exact => 0,
        LossMode::Lease => 1,
    });
    out.put_count(group.sync_set.len());
    for region in &group.sync_set {
        text(out, region.as_str())?;
    }
    for block in [group.offsets, group.transactions] {
        out.put_i32(block.start);
        out.put_i32(block.len);
    }
    Ok(())
}

fn put_topic(out: &mut Vec<u8>, topic: &Topic) -> Result<(), FormatError> {
    text(out, &topic.name)?;
    out.put(topic.id.as_bytes());
    text(out, topic.group.as_str())?;
    out.put_u8(if topic.internal { INTERNAL } else { 0 });
    out.put(&topic.replication_factor.to_be_bytes());
    out.put_count(topic.configs.len());
    for (name, value) in &topic.configs {
        text(out, name)?;
        text(out, value)?;
    }
    out.put_count(topic.leader_epochs.len());
    for epoch in &topic.leader_epochs {
        out.put_i32(*epoch);
    }
    Ok(())
}

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Field(#[from] FieldError),
    #[error("{what} `{name}` is not in its place")]
    Order { what: &'static str, name: String },
    #[error("{what} {value} is not known")]
    Unknown { what: &'static str, value: u8 },
    #[error(transparent)]
    Properties(#[from] serde_json::Error),
}

fn read(fields: &mut Fields<'_>) -> Result<Fleet, Fault> {
    let producer_ids = fields.i64()?;
    let regions = list(fields, 3, |fields| {
        Ok(Region {
            name: fields.text()?.into(),
            lost: flag(fields, "mark of a region", LOST)?,
        })
    })?;
    rising("region", regions.iter().map(|r| r.name.as_str()))?;
    let groups = list(fields, GROUP_MIN, read_group)?;
    rising("group", groups.iter().map(|g| g.name.as_str()))?;
    let topics = list(fields, TOPIC_MIN, read_topic)?;
    rising("topic", topics.iter().map(|t| t.name.as_str()))?;
    let deleted = list(fields, 16, |fields| Ok(fields.uuid()?))?;
    let length = fields.count(1)?;
    let properties = serde_json::from_slice(fields.take(length)?)?;
    Ok(Fleet {
        producer_ids,
        regions,
        groups,
        topics,
        deleted,
        properties,
    })
}

/// A count that fits into what is left, and its elements.
fn list<T>(
    fields: &mut Fields<'_>,
    min_bytes: usize,
    mut element: impl FnMut(&mut Fields<'_>) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let count = fields.count(min_bytes)?;
    (0..count).map(|_| element(fields)).collect()
}

fn rising<'a>(what: &'static str, names: impl Iterator<Item = &'a str>) -> Result<(), Fault> {
    let mut before = None;
    for name in names {
        if before.is_some_and(|before| before >= name) {
            let name = name.to_owned();
            return Err(Fault::Order { what, name });
        }
        before = Some(name);
    }
    Ok(())
}

fn flag(fields: &mut Fields<'_>, what: &'static str, set: u8) -> Result<bool, Fault> {
    match fields.u8()? {
        0 => Ok(false),
        value if value == set => Ok(true),
        value => Err(Fault::Unknown { what, value }),
    }
}

fn read_group(fields: &mut Fields<'_>) -> Result<Group, Fault> {
    Ok(Group {
        name: fields.text()?.into(),
        home: fields.text()?.into(),
        epoch: RegionEpoch(fields.u32()?),
        lease_ms: fields.u64()?,
        loss_mode: match fields.u8()? {
            0 => LossMode::Exact,
            1 => LossMode::Lease,
            value => {
                return Err(Fault::Unknown {
                    what: "loss mode",
                    value,
                });
            }
        },
        sync_set: list(fields, 2, |fields| Ok(fields.text()?.into()))?,
        offsets: block(fields)?,
        transactions: block(fields)?,
    })
}

fn block(fields: &mut Fields<'_>) -> Result<OffsetsBlock, Fault> {
    Ok(OffsetsBlock {
        start: fields.i32()?,
        len: fields.i32()?,
    })
}

fn read_topic(fields: &mut Fields<'_>) -> Result<Topic, Fault> {
    let mut topic = Topic {
        name: fields.text()?,
        id: fields.uuid()?,
        group: fields.text()?.into(),
        internal: flag(fields, "mark of a topic", INTERNAL)?,
        replication_factor: i16::from_be_bytes(fields.array()?),
        ..Topic::default()
    };
    let configs = list(fields, 4, |fields| Ok((fields.text()?, fields.text()?)))?;
    rising("config", configs.iter().map(|(name, _)| name.as_str()))?;
    topic.configs = configs.into_iter().collect();
    topic.leader_epochs = list(fields, 4, |fields| Ok(fields.i32()?))?;
    Ok(topic)
}

#[cfg(test)]
mod tests;
