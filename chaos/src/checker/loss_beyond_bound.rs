//! A move that lost more acknowledged records than was stated before it.

use super::Evidence;

pub(super) fn check(evidence: &Evidence<'_>) -> Vec<String> {
    let promotions = &evidence.history.promotions;
    let mut lost = vec![0_u64; promotions.len()];
    for (send, offset) in evidence.missing() {
        let cut = evidence.cut_off_by(&send.key, offset, send.invoked_ns);
        if let Some(count) = cut.and_then(|(index, _)| lost.get_mut(index)) {
            *count += 1;
        }
    }
    promotions
        .iter()
        .zip(lost)
        .filter_map(|(p, lost)| p.bound.filter(|bound| lost > *bound).map(|bound| (p, lost, bound)))
        .map(|(p, lost, bound)| format!("the move to {} in epoch {} lost {lost} acknowledged records; at most {bound} were stated", p.to, p.epoch))
        .collect()
}
