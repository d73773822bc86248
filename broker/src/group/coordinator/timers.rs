//! When sessions end and rounds are over.
//!
//! One task drives the timers of all shards, at the next one's time; whoever asks about a group does not depend on it:
//! what is due is done first, so that a session is over for every request that comes after its end. While the lease is
//! away nobody is heard, and time stands still; unless it was back at once and nobody had said anything.

use std::time::Duration;

use super::{
    super::{machine::Now, store::Topics},
    Coordinator,
    shard::{Contents, Shard},
    work::{Then, Work},
};

/// Timers are looked at no more often than this: a look costs as much as there are groups.
const LEAST_WAIT_MS: i64 = 5;
/// Without a lease for this long, members may have been cut off or gone to ask elsewhere: that nobody was turned away
/// here says nothing.
const LONG_MS: i64 = 1_000;

/// Since when members can be heard.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hearing {
    /// The last instant at which the partition was known to be led (monotone ms).
    last_ms: i64,
    /// Since then it was seen that it is not.
    deaf: bool,
    /// Since then somebody was sent away because of it.
    turned_away: bool,
}

impl Hearing {
    pub(super) fn since(now: Now) -> Self {
        Self {
            last_ms: now.mono_ms,
            ..Self::default()
        }
    }

    /// Members are heard now: for how long they could not be, if that may have cost one of them its word.
    fn again(&mut self, now: Now) -> Option<i64> {
        let Self {
            last_ms,
            deaf,
            turned_away,
        } = std::mem::replace(self, Self::since(now));
        let deaf_ms = now.mono_ms.saturating_sub(last_ms);
        (turned_away || deaf && deaf_ms >= LONG_MS).then_some(deaf_ms)
    }
}

impl Coordinator {
    /// A member said something that could not be taken down for want of a lease, whatever it was answered.
    pub fn could_not_hear(&self, group: &str) {
        let shards = self.shards.read();
        if let Some(shard) = shards.get(&self.partition_of(group)) {
            shard.turned_away();
        }
    }

    pub(super) async fn drive_timers(&self) {
        let shutdown = self.tasks.shutdown();
        let mut next_sweep_ms = self
            .now()
            .mono_ms
            .saturating_add(self.options.sweep_interval_ms);
        let longest = Duration::from_millis(self.options.tick_ms.max(1));
        let mut wait = longest;
        while shutdown.unless(self.clock.sleep(wait)).await.is_some() {
            let now = self.now();
            let sweep = now.mono_ms >= next_sweep_ms;
            if sweep {
                next_sweep_ms = now.mono_ms.saturating_add(self.options.sweep_interval_ms);
            }
            let shards: Vec<_> = self.shards.read().values().cloned().collect();
            let mut due_ms = i64::MAX;
            for shard in shards {
                let led = self.log.led(shard.partition()) == Some(shard.epoch());
                due_ms = due_ms.min(shard.tick(now, &*self.topics, led));
                if sweep {
                    shard.push(Work::Sweep);
                }
            }
            let left_ms = due_ms.saturating_sub(now.mono_ms).max(LEAST_WAIT_MS);
            wait = Duration::from_millis(left_ms.unsigned_abs()).min(longest);
        }
        // Nobody is left waiting for a process that ends.
        for shard in self.shards.write().drain().map(|(_, shard)| shard) {
            shard.close();
        }
    }
}

impl Shard {
    /// Lets everything happen that is due; nothing is while the partition is not `led`. Returns before when nothing else
    /// will be due (monotone ms).
    pub(super) fn tick(&self, now: Now, topics: &dyn Topics, led: bool) -> i64 {
        let mut state = self.state.lock();
        if !led {
            state.hearing.deaf = true;
            return i64::MAX;
        }
        if let Some(deaf_ms) = state.hearing.again(now) {
            let groups = state.groups.values_mut();
            groups.for_each(|group| group.stood_still(now, deaf_ms));
            let consumers = state.consumers.values_mut();
            consumers.for_each(|group| group.stood_still(now, deaf_ms));
        }
        let wakes = state.groups.iter().map(|(id, group)| (id, group.wake_ms()));
        let of_consumers = state.consumers.iter();
        let wakes = wakes.chain(of_consumers.map(|(id, group)| (id, group.wake_ms())));
        let due: Vec<_> = wakes
            .filter(|(_, wake_ms)| *wake_ms <= now.mono_ms)
            .map(|(id, _)| id.clone())
            .collect();
        for id in due {
            self.tick_one(&mut state, &id, topics, now);
        }
        let groups = state.groups.values().map(|group| group.wake_ms());
        let consumers = state.consumers.values().map(|group| group.wake_ms());
        groups.chain(consumers).min().unwrap_or(i64::MAX)
    }

    /// Somebody could not be heard.
    pub(super) fn turned_away(&self) {
        self.state.lock().hearing.turned_away = true;
    }

    /// Lets happen what is due in one group, before it is looked at.
    pub(super) fn overtake(&self, id: &str, topics: &dyn Topics, now: Now) {
        let mut state = self.state.lock();
        // Who could not be heard a moment ago gets the time first.
        if !state.hearing.deaf && !state.hearing.turned_away {
            self.tick_one(&mut state, id, topics, now);
        }
    }

    fn tick_one(&self, state: &mut Contents, id: &str, topics: &dyn Topics, now: Now) {
        if let Some(group) = state.consumers.get_mut(id) {
            let changes = group.tick(now, topics);
            if !changes.is_empty() {
                self.queue_changes(state, id, changes, Then::Nothing);
                self.hand_back(state, id, topics, now);
            }
        }
        if let Some(group) = state.groups.get_mut(id) {
            let effects = group.tick(now);
            self.settle(state, id, effects);
        }
    }
}
