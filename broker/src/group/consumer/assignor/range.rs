//! Neighbouring partitions of each topic, by the members' order: static members by instance id, then the others by id.

use std::collections::BTreeMap;

use super::{Subscriber, subscribers};
use crate::group::consumer::Assignment;

pub(super) fn assign(members: &BTreeMap<&str, Subscriber<'_>>) -> BTreeMap<String, Assignment> {
    let mut assigned: BTreeMap<String, Assignment> = BTreeMap::new();
    for (topic, (partitions, mut readers)) in subscribers(members) {
        readers.sort_by_key(|id| {
            let instance = members.get(id).and_then(|member| member.instance_id);
            (instance.is_none(), instance, *id)
        });
        let count = i32::try_from(readers.len()).unwrap_or(i32::MAX).max(1);
        let (share, more) = (partitions / count, partitions % count);
        let mut next = 0;
        for (index, id) in (0_i32..).zip(readers) {
            let end = next + share + i32::from(index < more);
            for partition in next..end {
                assigned
                    .entry(id.to_owned())
                    .or_default()
                    .insert(topic, partition);
            }
            next = end;
        }
    }
    assigned
}
