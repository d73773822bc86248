//! How far another copy is, and when it last had everything. Arithmetic only.

#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// Everything below is fsynced there.
    pub(super) end: i64,
    /// A log end of ours and the instant it was taken: once the copy reaches it, it was caught up then.
    mark: (i64, u64),
    /// `None` if it was never seen to be.
    caught_up_ns: Option<u64>,
}

impl Progress {
    /// A copy that is heard of for the first time.
    pub(super) fn new(end: i64, log_end: i64, now_ns: u64) -> Self {
        Self {
            end,
            mark: (log_end, now_ns),
            caught_up_ns: (end >= log_end).then_some(now_ns),
        }
    }

    /// It holds everything below `end`; ours ends at `log_end`.
    pub(super) fn note(&mut self, end: i64, log_end: i64, now_ns: u64) {
        self.end = end;
        if end >= log_end {
            self.caught_up_ns = Some(now_ns);
            self.mark = (log_end, now_ns);
        } else if end >= self.mark.0 {
            self.caught_up_ns = self.caught_up_ns.max(Some(self.mark.1));
            self.mark = (log_end, now_ns);
        }
    }
}

/// Kafka's rule for who is in sync (`replica.lag.time.max.ms`): it has everything, or had it not long ago. `since_ns`:
/// an instant from which on it is taken to have had everything, if there is one.
pub(super) fn keeps_up(
    progress: Option<&Progress>,
    since_ns: Option<u64>,
    log_end: i64,
    now_ns: u64,
    lag_ns: u64,
) -> bool {
    let (end, caught_up_ns) = progress.map_or((-1, None), |p| (p.end, p.caught_up_ns));
    let caught_up_ns = caught_up_ns.max(since_ns);
    end >= log_end || caught_up_ns.is_some_and(|at| now_ns.saturating_sub(at) <= lag_ns)
}
