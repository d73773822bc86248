//! `meta.properties`: whose directory this is (Kafka's `MetaProperties`, version 1). A directory of
//! another fleet or node is refused, so that no broker serves or overwrites another's log.

use std::io;
use std::path::Path;

use uuid::Uuid;

use crate::checkpoint::read_text;
use crate::error::OpenError;
use crate::naming::META_PROPERTIES;
use crate::replace::{Durability, replace};
use crate::uuid_text;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MetaProperties {
    pub(crate) cluster_id: String,
    pub(crate) node_id: i32,
    pub(crate) directory_id: Uuid,
}

impl MetaProperties {
    fn encode(&self) -> String {
        format!(
            "cluster.id={}\ndirectory.id={}\nnode.id={}\nversion=1\n",
            self.cluster_id,
            uuid_text::encode(self.directory_id),
            self.node_id,
        )
    }

    fn decode(text: &str) -> Option<MetaProperties> {
        let value = |key: &str| {
            text.lines().find_map(|line| {
                let (name, value) = line.trim_start().split_once('=')?;
                (name.trim() == key).then(|| value.trim())
            })
        };
        if value("version") != Some("1") {
            return None;
        }
        Some(MetaProperties {
            cluster_id: value("cluster.id")?.to_owned(),
            node_id: value("node.id")?.parse().ok()?,
            // Kafka wrote this field only since 3.7.
            directory_id: value("directory.id")
                .and_then(uuid_text::decode)
                .unwrap_or_default(),
        })
    }
}

/// Compares the directory's owner with the caller; a directory without an owner becomes the caller's.
pub(crate) fn claim(root: &Path, cluster_id: &str, node_id: i32) -> Result<(), OpenError> {
    let path = root.join(META_PROPERTIES);
    let io = |source: io::Error| OpenError::io(&path, source);
    if let Some(text) = read_text(&path).map_err(io)? {
        let found = MetaProperties::decode(&text)
            .ok_or_else(|| OpenError::BadMeta { path: path.clone() })?;
        if found.cluster_id != cluster_id {
            return Err(OpenError::ForeignFleet {
                found: found.cluster_id,
                expected: cluster_id.to_owned(),
            });
        }
        if found.node_id != node_id {
            return Err(OpenError::ForeignNode {
                found: found.node_id,
                expected: node_id,
            });
        }
        return Ok(());
    }
    let meta = MetaProperties {
        cluster_id: cluster_id.to_owned(),
        node_id,
        directory_id: Uuid::new_v4(),
    };
    replace(&path, meta.encode().as_bytes(), Durability::Now).map_err(io)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_written_by_kafka_is_read() {
        let text = "#\n#Sat Nov 21 00:00:00 UTC 2026\ncluster.id=abc\ndirectory.id=AAAAAAAAAAAAAAAAAAAABw\nnode.id=3\nversion=1\n";
        let meta = MetaProperties::decode(text).unwrap();
        assert_eq!(
            (meta.cluster_id.as_str(), meta.node_id, meta.directory_id),
            ("abc", 3, Uuid::from_u128(7))
        );
        assert_eq!(MetaProperties::decode(&meta.encode()), Some(meta));
        assert_eq!(MetaProperties::decode("version=0\nbroker.id=3\n"), None);
    }

    #[test]
    fn a_directory_of_another_fleet_or_node_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        claim(dir.path(), "a", 1).unwrap();
        claim(dir.path(), "a", 1).unwrap();
        assert!(matches!(
            claim(dir.path(), "b", 1),
            Err(OpenError::ForeignFleet { .. })
        ));
        assert!(matches!(
            claim(dir.path(), "a", 2),
            Err(OpenError::ForeignNode { .. })
        ));
    }
}
