//! Lets markers of transactions through, or holds them while a cut is taken. Pure: what time it is comes in.

/// One coordinator's side of a cut. A hold ends by itself: who takes the cut may be gone.
#[derive(Debug, Default)]
pub struct Gate {
    hold: Option<Hold>,
    under_way: u32,
}

#[derive(Clone, Copy, Debug)]
struct Hold {
    token: u64,
    until_ms: u64,
}

impl Gate {
    /// A transaction's markers may be written from now on, until [`Self::leave`].
    ///
    /// # Errors
    /// When to ask again at the latest: markers are held.
    pub fn enter(&mut self, now_ms: u64) -> Result<(), u64> {
        match self.hold.filter(|hold| now_ms < hold.until_ms) {
            Some(hold) => Err(hold.until_ms),
            None => {
                // Whoever held has lost it: a release finds none.
                self.hold = None;
                self.under_way = self.under_way.saturating_add(1);
                Ok(())
            }
        }
    }

    /// A transaction that was let through is complete, durably, or goes through [`Self::enter`] again.
    pub fn leave(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// Lets nothing new through until `until_ms`. False if somebody else holds already.
    pub fn hold(&mut self, token: u64, now_ms: u64, until_ms: u64) -> bool {
        if self.hold.is_some_and(|hold| now_ms < hold.until_ms) {
            return false;
        }
        self.hold = Some(Hold { token, until_ms });
        true
    }

    /// True if nothing is under way any more.
    pub fn is_drained(&self) -> bool {
        self.under_way == 0
    }

    /// Ends a hold. True if it stood until now, so that nothing came through since it began.
    pub fn release(&mut self, token: u64, now_ms: u64) -> bool {
        match self.hold {
            Some(hold) if hold.token == token => {
                self.hold = None;
                now_ms < hold.until_ms
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_keeps_new_markers_out_and_waits_for_those_under_way() {
        let mut gate = Gate::default();
        assert_eq!(gate.enter(0), Ok(()));
        assert!(gate.hold(7, 0, 100));
        assert!(!gate.is_drained());
        assert_eq!(gate.enter(1), Err(100));
        gate.leave();
        assert!(gate.is_drained());
        assert!(gate.release(7, 99));
        assert_eq!(gate.enter(99), Ok(()));
    }

    #[test]
    fn a_hold_that_ran_out_is_not_confirmed() {
        let mut gate = Gate::default();
        assert!(gate.hold(7, 0, 100));
        assert!(!gate.release(7, 100));
        assert!(gate.hold(8, 100, 200));
        assert_eq!(gate.enter(200), Ok(()));
        assert!(!gate.release(8, 150));
    }

    #[test]
    fn one_holds_at_a_time() {
        let mut gate = Gate::default();
        assert!(gate.hold(7, 0, 100));
        assert!(!gate.hold(8, 50, 150));
        assert!(!gate.release(8, 50));
        assert!(gate.hold(8, 100, 200));
        assert!(!gate.release(7, 110));
        assert!(gate.release(8, 110));
    }
}
