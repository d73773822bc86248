//! Ports for a fleet whose place does not matter.

use std::net::TcpListener;

use crate::layout::{HOST, MOST_BROKERS, REGION_STEP, ports};

/// Below the ports that the system gives to outgoing connections.
const LOWEST: u16 = 20_092;
const HIGHEST: u16 = 32_000;
/// From one base to the next.
const STEP: u16 = 3 * REGION_STEP;

/// No range of ports is free.
#[derive(Debug, thiserror::Error)]
#[error("no free range of ports found below {HIGHEST}")]
pub struct NoPorts;

/// A base whose ports were all free when it was found. As long as this lives nobody else finds it, in this process or
/// in another: one port of the range that no fleet uses stays bound, and whoever looks tries that one first.
#[derive(Debug)]
pub struct FreePorts {
    base: u16,
    _held: TcpListener,
}

impl FreePorts {
    /// The lowest that is free.
    ///
    /// # Errors
    /// If none is.
    pub fn find() -> Result<Self, NoPorts> {
        (LOWEST..HIGHEST)
            .step_by(usize::from(STEP))
            .find_map(Self::hold)
            .ok_or(NoPorts)
    }

    fn hold(base: u16) -> Option<Self> {
        let held = TcpListener::bind((HOST, base.checked_add(STEP - 1)?)).ok()?;
        ports(base, MOST_BROKERS)
            .all(|port| TcpListener::bind((HOST, port)).is_ok())
            .then_some(Self { base, _held: held })
    }

    /// What a [`crate::Layout`] is made with.
    pub fn base(&self) -> u16 {
        self.base
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn whoever_looks_at_the_same_time_finds_other_ports() {
        let found: Vec<FreePorts> = std::thread::scope(|scope| {
            let looking: Vec<_> = (0..8).map(|_| scope.spawn(FreePorts::find)).collect();
            let found = looking.into_iter().map(|one| one.join().unwrap().unwrap());
            found.collect()
        });
        let bases: BTreeSet<u16> = found.iter().map(FreePorts::base).collect();
        assert_eq!(bases.len(), found.len());
    }

    #[test]
    fn a_fleet_never_uses_the_port_that_is_held() {
        assert!(ports(LOWEST, MOST_BROKERS).all(|port| port < LOWEST + STEP - 1));
    }
}
