//! Whether the fleet can hold what comes back, looked at before anything is changed.

use whimbrel_fleet::{
    GroupName, Role, View,
    restore::{Description, MOST_BYTES},
};

use crate::exit::{Exit, Refusal};

/// So many topics are named.
const NAMED: usize = 5;

/// Refuses what the fleet could not be filled with. A restore that stands was looked at when it began. Returns the topics whose
/// `min.insync.replicas` was lowered.
pub fn fit(view: &View, of: &mut Description, lower: bool) -> anyhow::Result<Vec<String>> {
    let daemons = &view.daemons;
    if !daemons.iter().any(|daemon| daemon.role == Role::Mirror) {
        let message = "no mirror daemon is registered in the fleet: nobody would fetch its logs";
        return Err(Refusal::coded(Exit::Refused, "WB-013", message));
    }
    if view.restore.is_some() {
        return Ok(Vec::new());
    }
    let home = view.groups.get(&GroupName::default_group());
    let live = view.nodes.values().filter(|node| {
        home.is_some_and(|group| group.home == node.region) && view.is_live(node.id)
    });
    let brokers = live.count();
    let short = of.short_of_copies(brokers);
    let lowered: Vec<_> = short.iter().map(|(name, ..)| (*name).to_owned()).collect();
    if !short.is_empty() && !lower {
        let named: Vec<_> = short
            .iter()
            .take(NAMED)
            .map(|(name, wanted, copies)| {
                format!("{name} asks for {wanted} and would have {copies}")
            })
            .collect();
        let message = format!(
            "{} topics ask for more copies (min.insync.replicas) than the {brokers} brokers of the region can hold: {}; \
             nothing was changed",
            short.len(),
            named.join(", ")
        );
        return Err(Refusal::coded(Exit::Refused, "WB-014", message));
    }
    of.lower_copies(brokers);
    let bytes = serde_json::to_vec(of)?.len();
    if bytes > MOST_BYTES {
        let partitions: usize = of.topics.iter().map(|topic| topic.partitions.len()).sum();
        let message = format!(
            "{} topics of {partitions} partitions take {bytes} bytes, and one commit holds {MOST_BYTES}: nothing was changed",
            of.topics.len()
        );
        return Err(Refusal::coded(Exit::Refused, "WB-015", message));
    }
    Ok(lowered)
}
