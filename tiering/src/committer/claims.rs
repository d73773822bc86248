//! Roots that this process has written at another place than where their shard was.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use uuid::Uuid;

use super::Committer;

/// Attempts of a shard that are remembered: an early one may still be what stands there.
const REMEMBERED: usize = 16;

/// By their nonces. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Claims(Arc<Mutex<BTreeMap<u16, Vec<Uuid>>>>);

impl Claims {
    pub(super) fn knows(&self, shard: u16, nonce: Uuid) -> bool {
        let claims = self.0.lock();
        claims.get(&shard).is_some_and(|all| all.contains(&nonce))
    }

    fn remember(&self, shard: u16, nonce: Uuid) {
        let mut claims = self.0.lock();
        let all = claims.entry(shard).or_default();
        all.push(nonce);
        let surplus = all.len().saturating_sub(REMEMBERED);
        all.drain(..surplus);
    }
}

impl Committer {
    /// A root with this nonce is about to be written at the shard's new place: the shard's task goes on with it, and
    /// with no other that it did not write itself.
    pub(crate) fn expect(&self, shard: u16, nonce: Uuid) {
        self.context.claims.remember(shard, nonce);
    }
}
