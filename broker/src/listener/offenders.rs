//! Addresses from which comes what no Kafka client sends, or one wrong password after the other: who connects from there
//! next waits a while first.
//!
//! A connection that had to be closed for what came over it is charged to its address, and so is every login that
//! fails: guessing costs time, and each guess costs work here. One that owes more than its
//! rate allows is slowed: its next connections are read only after a pause, and while very many wait already, more are
//! closed at once. Charged is only what cannot be a client's bad luck: slow, idle and cut off peers cost their address
//! nothing. Others behind the same address pay as little as can be: connections that stand are not touched, and the pause
//! is shorter than any client's patience with a new connection.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use whimbrel_runtime::Clock;

use crate::quotas::Bucket;

/// Addresses kept. When so many offend at once that nobody can be forgotten, further ones are not slowed: what one of them
/// can do is bounded by the caps on connections, and a stranger is not made to pay for it.
const MOST: usize = 10_000;
/// librdkafka takes a new connection for dead after ten seconds without an answer.
const LONGEST: Duration = Duration::from_secs(2);
/// Connections of one address that wait at a time. Each keeps a place among those that an address may have.
const WAITING: usize = 500;
/// Addresses that the status names.
const NAMED: usize = 20;

#[derive(Debug)]
pub struct Offenders {
    /// Bad connections a second that cost nothing.
    rate: f64,
    clock: Clock,
    by: Mutex<HashMap<IpAddr, Offender>>,
}

#[derive(Debug)]
struct Offender {
    bucket: Bucket,
    waiting: usize,
    /// Since its bucket was last full.
    is_told: bool,
}

/// What a new connection is answered with.
#[derive(Debug)]
pub enum Door {
    Open,
    /// It is read after a pause.
    Later(Pause),
    Shut,
}

/// A connection's place among those that wait, until it is dropped.
#[derive(Debug)]
pub struct Pause {
    pub length: Duration,
    network: IpAddr,
    offenders: Arc<Offenders>,
}

impl Offenders {
    pub fn new(rate: f64, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            rate,
            clock,
            by: Mutex::default(),
        })
    }

    /// Charges an address, and tells of it when it is time to.
    pub fn note(&self, ip: IpAddr, reason: &str) {
        if self.charge(ip) {
            tracing::warn!(code = "WB-124", address = %ip, reason, "much comes from an address that no Kafka client sends, or wrong passwords: its next connections wait");
        }
    }

    /// A connection from there was closed for what came over it; true when it is time to tell of that address.
    fn charge(&self, ip: IpAddr) -> bool {
        let (network, now_ns) = (network(ip), self.clock.boot_ns());
        let mut by = self.by.lock();
        if by.len() >= MOST && !by.contains_key(&network) {
            by.retain(|_, offender| !offender.is_forgotten(now_ns));
            if by.len() >= MOST {
                return false;
            }
        }
        let offender = by.entry(network).or_insert_with(|| Offender {
            bucket: Bucket::new(self.rate, now_ns),
            waiting: 0,
            is_told: false,
        });
        offender.is_told &= !offender.bucket.is_full(now_ns);
        let owes = !offender.bucket.charge(1.0, now_ns).is_zero();
        owes && !std::mem::replace(&mut offender.is_told, true)
    }

    /// A connection from there.
    pub fn door(self: &Arc<Self>, ip: IpAddr) -> Door {
        let network = network(ip);
        let mut by = self.by.lock();
        let Some(offender) = by.get_mut(&network) else {
            return Door::Open;
        };
        let owes = offender.bucket.owes(self.clock.boot_ns());
        if owes.is_zero() {
            return Door::Open;
        }
        if offender.waiting >= WAITING {
            return Door::Shut;
        }
        offender.waiting += 1;
        Door::Later(Pause {
            length: owes.min(LONGEST),
            network,
            offenders: Arc::clone(self),
        })
    }

    /// Some of those that are slowed now.
    pub fn named(&self) -> Vec<IpAddr> {
        let now_ns = self.clock.boot_ns();
        let mut by = self.by.lock();
        let owing = by.iter_mut().filter_map(|(network, offender)| {
            let owes = offender.bucket.owes(now_ns);
            (!owes.is_zero()).then_some(*network)
        });
        owing.take(NAMED).collect()
    }
}

impl Offender {
    /// As good as never seen.
    fn is_forgotten(&mut self, now_ns: u64) -> bool {
        self.waiting == 0 && self.bucket.is_full(now_ns)
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        if let Some(offender) = self.offenders.by.lock().get_mut(&self.network) {
            offender.waiting = offender.waiting.saturating_sub(1);
        }
    }
}

/// What one customer of a network has: an IPv4 address, or 64 bits of an IPv6 one.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
        ip @ IpAddr::V4(_) => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: f64 = 10.0;

    fn offenders() -> (Arc<Offenders>, Clock) {
        let clock = Clock::manual();
        (Offenders::new(RATE, clock.clone()), clock)
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn pause(door: &Door) -> Option<Duration> {
        match door {
            Door::Later(pause) => Some(pause.length),
            Door::Open | Door::Shut => None,
        }
    }

    #[test]
    fn some_bad_connections_are_free_and_more_cost_their_address_a_pause() {
        let (offenders, clock) = offenders();
        for _ in 0..10 {
            assert!(!offenders.charge(address(1)));
        }
        assert!(matches!(offenders.door(address(1)), Door::Open));
        assert!(offenders.charge(address(1)), "told once");
        assert!(!offenders.charge(address(1)));
        assert_eq!(
            pause(&offenders.door(address(1))),
            Some(Duration::from_millis(200))
        );
        assert!(matches!(offenders.door(address(2)), Door::Open));
        assert_eq!(offenders.named(), [address(1)]);
        clock.advance(Duration::from_millis(200));
        assert!(matches!(offenders.door(address(1)), Door::Open));
        assert!(offenders.named().is_empty());
        // Still the same storm: it is told of again when there was peace in between.
        assert!(!offenders.charge(address(1)));
        clock.advance(Duration::from_secs(2));
        assert!((0..11).any(|_| offenders.charge(address(1))));
    }

    #[test]
    fn a_pause_is_shorter_than_a_clients_patience_and_those_who_wait_are_bounded() {
        let (offenders, _clock) = offenders();
        for _ in 0..1_000 {
            offenders.charge(address(1));
        }
        let mut doors: Vec<_> = (0..WAITING).map(|_| offenders.door(address(1))).collect();
        assert!(doors.iter().all(|door| pause(door) == Some(LONGEST)));
        assert!(matches!(offenders.door(address(1)), Door::Shut));
        doors.pop();
        assert!(matches!(offenders.door(address(1)), Door::Later(_)));
    }

    #[test]
    fn addresses_are_bounded_and_those_in_peace_make_room() {
        let (offenders, clock) = offenders();
        let nth = |n: u32| IpAddr::from(n.to_be_bytes());
        let most = u32::try_from(MOST).unwrap();
        for n in 0..most {
            offenders.charge(nth(n));
        }
        for _ in 0..100 {
            assert!(!offenders.charge(nth(most)));
        }
        assert!(matches!(offenders.door(nth(most)), Door::Open));
        assert_eq!(offenders.by.lock().len(), MOST);
        clock.advance(Duration::from_secs(2));
        offenders.charge(nth(most));
        assert_eq!(offenders.by.lock().len(), 1);
    }

    #[test]
    fn one_network_is_one_address_however_it_is_written() {
        let (offenders, _clock) = offenders();
        let of = |text: &str| text.parse::<IpAddr>().unwrap();
        for n in 0..20 {
            offenders.charge(of(&format!("2001:db8::{n}")));
            offenders.charge(of("::ffff:10.0.0.9"));
        }
        assert!(pause(&offenders.door(of("2001:db8::ffff"))).is_some());
        assert!(matches!(offenders.door(of("2001:db8:0:1::")), Door::Open));
        assert!(pause(&offenders.door(address(9))).is_some());
    }
}
