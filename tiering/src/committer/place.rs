//! Which daemon of a region owns a shard. Pure: a rule over the fleet's view, the root, and who answers.
//!
//! Ownership stays where the root says it is, as long as that daemon is registered, its broker is not fenced
//! and it answers. Else the shard goes to the one of the others that a hash prefers, so that all daemons
//! name the same one and a dead daemon's shards spread. Two that disagree for a moment do no harm: a claim
//! fences whoever held the shard before.

use std::collections::BTreeSet;

use uuid::Uuid;
use whimbrel_fleet::{HostPort, Incarnation, NodeId, Role, View};

use crate::format::fnv;

/// Another daemon of the region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub incarnation: Incarnation,
    pub rpc: HostPort,
}

/// Who is to own a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Mine,
    Theirs(Peer),
    /// Nobody that may.
    Vacant,
}

/// The region's other daemons that a view shows.
pub fn peers(view: &View, region: &str, me: Uuid) -> Vec<Peer> {
    let others = members(view, region).filter(|(_, peer)| peer.incarnation != me);
    others.map(|(_, peer)| peer).collect()
}

fn members<'a>(view: &'a View, region: &'a str) -> impl Iterator<Item = (NodeId, Peer)> + 'a {
    let daemons = view.daemons.iter();
    let tiering = daemons.filter(move |d| d.role == Role::Tiering && d.region.as_str() == region);
    tiering.filter_map(|d| {
        let peer = Peer {
            incarnation: d.incarnation,
            rpc: d.rpc.clone()?,
        };
        (!view.fenced.contains(&d.node)).then_some((d.node, peer))
    })
}

/// Where the tiering daemons of a region are asked.
pub fn daemons<'a>(view: &'a View, region: &'a str) -> impl Iterator<Item = HostPort> + 'a {
    members(view, region).map(|(_, peer)| peer.rpc)
}

/// `owner` is who wrote the root last; `silent` are daemons that have not answered `me` for long.
pub fn place(
    shard: u16,
    owner: Option<Uuid>,
    (region, me): (&str, Uuid),
    view: &View,
    silent: &BTreeSet<Uuid>,
) -> Place {
    let able: Vec<_> = members(view, region)
        .filter(|(_, peer)| !silent.contains(&peer.incarnation))
        .collect();
    let stays = able
        .iter()
        .find(|(_, peer)| Some(peer.incarnation) == owner);
    let preferred = || able.iter().max_by_key(|(node, _)| rank(shard, *node));
    match stays.or_else(preferred) {
        Some((_, peer)) if peer.incarnation == me => Place::Mine,
        Some((_, peer)) => Place::Theirs(peer.clone()),
        None => Place::Vacant,
    }
}

fn rank(shard: u16, node: NodeId) -> (u64, NodeId) {
    (fnv(&[&shard.to_be_bytes(), &node.0.to_be_bytes()]), node)
}

#[cfg(test)]
mod tests {
    use whimbrel_fleet::Daemon;

    use super::*;

    const SHARDS: u16 = 16;

    fn id(n: i32) -> Uuid {
        Uuid::from_u128(u128::from(n.unsigned_abs()))
    }

    fn view(nodes: &[i32]) -> View {
        let daemon = |n: &i32| Daemon {
            role: Role::Tiering,
            region: "east".into(),
            node: NodeId(*n),
            incarnation: id(*n),
            rpc: Some(HostPort::new("127.0.0.1", 1)),
            admin: HostPort::new("127.0.0.1", 2),
        };
        View {
            daemons: nodes.iter().map(daemon).collect(),
            ..View::default()
        }
    }

    /// How many shards each of `nodes` believes to be its own.
    fn owned(
        owner: Option<Uuid>,
        view: &View,
        silent: &BTreeSet<Uuid>,
        nodes: &[i32],
    ) -> Vec<usize> {
        let mine = |me: &i32| {
            (0..SHARDS)
                .filter(|s| place(*s, owner, ("east", id(*me)), view, silent) == Place::Mine)
                .count()
        };
        nodes.iter().map(mine).collect()
    }

    #[test]
    fn every_shard_has_one_owner_and_nobody_all() {
        let counts = owned(None, &view(&[1, 11, 21]), &BTreeSet::new(), &[1, 11, 21]);
        assert_eq!(counts.iter().sum::<usize>(), usize::from(SHARDS));
        assert!(counts.iter().all(|n| *n > 0), "{counts:?}");
    }

    #[test]
    fn a_shard_stays_with_its_owner_until_that_one_is_fenced_or_gone_or_silent() {
        let mut view = view(&[1, 11, 21]);
        let (quiet, nodes) = (BTreeSet::new(), [1, 11, 21]);
        assert_eq!(owned(Some(id(11)), &view, &quiet, &nodes), [0, 16, 0]);
        let silent = BTreeSet::from([id(11)]);
        let left = owned(Some(id(11)), &view, &silent, &[1, 21]);
        assert_eq!(left.iter().sum::<usize>(), 16);
        view.fenced.insert(NodeId(11));
        let left = owned(Some(id(11)), &view, &quiet, &nodes);
        assert_eq!((left[0] + left[2], left[1]), (16, 0));
        assert_eq!(
            owned(Some(id(99)), &view, &quiet, &nodes)
                .iter()
                .sum::<usize>(),
            16,
            "an earlier start owns nothing"
        );
    }

    #[test]
    fn daemons_of_other_regions_and_roles_own_nothing() {
        let view = view(&[1]);
        let quiet = BTreeSet::new();
        let foreign = place(0, None, ("west", id(1)), &view, &quiet);
        assert_eq!(foreign, Place::Vacant);
        assert_eq!(peers(&view, "east", id(1)), []);
        assert_eq!(peers(&view, "east", id(2)).len(), 1);
    }
}
