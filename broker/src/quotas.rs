//! Quotas: what clients use is charged after the fact, and who is in debt is kept quiet for as long as it takes
//! (KIP-13, KIP-124, KIP-219).
//!
//! The answer goes out at once and says for how long; then nothing more is read from the connection. Limits
//! come from the controller (`whimbrel_fleet::quota`), and from this broker's file where there are none, so
//! that everybody has some. Each broker counts for itself, as in Kafka.

mod bucket;

use std::{
    collections::HashMap,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use parking_lot::Mutex;
use whimbrel_fleet::{
    View,
    quota::{self, Granted, Scope, key},
};
use whimbrel_runtime::Clock;

pub use bucket::Bucket;

/// Buckets kept: beyond, those who come share one of each kind.
const MOST: usize = 20_000;

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Bytes of produce requests.
    Produce,
    /// Bytes of fetch answers.
    Fetch,
    /// Time that handlers take, in hundredths of a second.
    Request,
    /// Partitions created and deleted.
    Mutation,
}

const KINDS: [(Kind, &str); 4] = [
    (Kind::Produce, key::PRODUCER_BYTE_RATE),
    (Kind::Fetch, key::CONSUMER_BYTE_RATE),
    (Kind::Request, key::REQUEST_PERCENTAGE),
    (Kind::Mutation, key::CONTROLLER_MUTATION_RATE),
];

/// What those have for whom the fleet has no quota; a second.
#[derive(Clone, Copy, Debug)]
pub struct Defaults {
    pub produce_bytes: f64,
    pub fetch_bytes: f64,
    pub request_percentage: f64,
    pub mutations: f64,
    pub connections: f64,
}

impl Defaults {
    fn of(&self, kind: Kind) -> f64 {
        match kind {
            Kind::Produce => self.produce_bytes,
            Kind::Fetch => self.fetch_bytes,
            Kind::Request => self.request_percentage,
            Kind::Mutation => self.mutations,
        }
    }
}

type Shared = Arc<Mutex<Bucket>>;

#[derive(Debug)]
pub struct Quotas {
    defaults: Defaults,
    clock: Clock,
    buckets: Mutex<HashMap<(Kind, Scope), Shared>>,
    addresses: Mutex<HashMap<IpAddr, Bucket>>,
}

/// A client's allowances, under one version of the fleet's quotas.
#[derive(Debug)]
pub struct Account {
    version: u64,
    user: String,
    client_id: String,
    clock: Clock,
    /// As [`KINDS`] has them.
    buckets: [Shared; KINDS.len()],
}

impl Quotas {
    pub fn new(defaults: Defaults, clock: Clock) -> Self {
        Self {
            defaults,
            clock,
            buckets: Mutex::default(),
            addresses: Mutex::default(),
        }
    }

    /// The account of a client; `known` is the one it had, which is kept while nothing changed.
    pub fn account(
        &self,
        view: &View,
        user: &str,
        client_id: Option<&str>,
        known: &mut Option<Arc<Account>>,
    ) -> Arc<Account> {
        let client_id = client_id.unwrap_or_default();
        if let Some(known) = known
            && known.version == view.version
            && known.client_id == client_id
            && known.user == user
        {
            return Arc::clone(known);
        }
        let bucket = |(kind, name): (Kind, &str)| {
            let granted = quota::granted(&view.quotas, user, client_id, name);
            let granted = granted.unwrap_or_else(|| Granted {
                rate: self.defaults.of(kind),
                scope: Scope {
                    user: Some(user.to_owned()),
                    client_id: Some(client_id.to_owned()),
                },
            });
            self.bucket(kind, granted)
        };
        let account = Arc::new(Account {
            version: view.version,
            user: user.to_owned(),
            client_id: client_id.to_owned(),
            clock: self.clock.clone(),
            buckets: KINDS.map(bucket),
        });
        *known = Some(Arc::clone(&account));
        account
    }

    fn bucket(&self, kind: Kind, granted: Granted) -> Shared {
        let now_ns = self.clock.boot_ns();
        let mut buckets = self.buckets.lock();
        let mut scope = (kind, granted.scope);
        if buckets.len() >= MOST && !buckets.contains_key(&scope) {
            // Whose connections are gone and who owe nothing are as good as never seen.
            buckets.retain(|_, b| Arc::strong_count(b) > 1 || !b.lock().is_full(now_ns));
            if buckets.len() >= MOST {
                (scope.1.user, scope.1.client_id) = (None, None);
            }
        }
        let bucket = buckets
            .entry(scope)
            .or_insert_with(|| Arc::new(Mutex::new(Bucket::new(granted.rate, now_ns))));
        bucket.lock().set_rate(granted.rate, now_ns);
        Arc::clone(bucket)
    }

    /// A connection from there: how long it has to wait before it is served.
    pub fn connect(&self, view: &View, ip: IpAddr) -> Duration {
        let now_ns = self.clock.boot_ns();
        let rate = quota::granted_to(&view.quotas, ip).unwrap_or(self.defaults.connections);
        let mut addresses = self.addresses.lock();
        if addresses.len() >= MOST && !addresses.contains_key(&ip) {
            addresses.retain(|_, bucket| !bucket.is_full(now_ns));
            if addresses.len() >= MOST {
                // More addresses at once than are kept: nobody new is let in at speed.
                return bucket::LONGEST;
            }
        }
        let bucket = addresses
            .entry(ip)
            .or_insert_with(|| Bucket::new(rate, now_ns));
        bucket.set_rate(rate, now_ns);
        bucket.charge(1.0, now_ns)
    }
}

impl Account {
    fn of(&self, kind: Kind) -> &Shared {
        // The array is in the kinds' order.
        &self.buckets[kind as usize]
    }

    /// Charges what was used; how long the client has to be quiet.
    pub fn charge(&self, kind: Kind, used: f64) -> Duration {
        self.of(kind).lock().charge(used, self.clock.boot_ns())
    }

    /// How long the client still has to be quiet.
    pub fn owes(&self, kind: Kind) -> Duration {
        self.of(kind).lock().owes(self.clock.boot_ns())
    }

    /// Charges the time that a handler took.
    pub fn charge_time(&self, took: Duration) -> Duration {
        self.charge(Kind::Request, took.as_secs_f64() * 100.0)
    }

    /// Runs a handler and measures how long it keeps a thread.
    pub fn timed<F: Future>(&self, work: F) -> Timed<F> {
        Timed {
            work: Box::pin(work),
            clock: self.clock.clone(),
            took_ns: 0,
        }
    }
}

/// A future whose polls are timed: waiting costs nothing.
pub struct Timed<F> {
    work: Pin<Box<F>>,
    clock: Clock,
    took_ns: u64,
}

impl<F> std::fmt::Debug for Timed<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timed")
            .field("took_ns", &self.took_ns)
            .finish_non_exhaustive()
    }
}

impl<F: Future> Future for Timed<F> {
    type Output = (F::Output, Duration);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let before_ns = self.clock.boot_ns();
        let polled = self.work.as_mut().poll(context);
        self.took_ns += self.clock.boot_ns().saturating_sub(before_ns);
        let took = Duration::from_nanos(self.took_ns);
        polled.map(|output| (output, took))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use whimbrel_fleet::quota::{Entity, QuotaChange, Rate, Who};

    use super::*;
    use crate::auth::ANONYMOUS;

    const DEFAULTS: Defaults = Defaults {
        produce_bytes: 1_000.0,
        fetch_bytes: 1_000.0,
        request_percentage: 100.0,
        mutations: 10.0,
        connections: 2.0,
    };

    fn quotas() -> (Quotas, Clock) {
        let clock = Clock::manual();
        (Quotas::new(DEFAULTS, clock.clone()), clock)
    }

    fn limited(version: u64, entity: Entity, name: &str, rate: f64) -> View {
        let mut view = View {
            version,
            ..View::default()
        };
        let limits = BTreeMap::from([(name.to_owned(), Some(Rate(rate)))]);
        quota::apply(&mut view.quotas, QuotaChange { entity, limits });
        view
    }

    #[test]
    fn connections_of_one_client_share_and_others_do_not_pay() {
        let (quotas, clock) = quotas();
        let view = View::default();
        let (mut one, mut two, mut other) = (None, None, None);
        let one = quotas.account(&view, ANONYMOUS, Some("a"), &mut one);
        let two = quotas.account(&view, ANONYMOUS, Some("a"), &mut two);
        let other = quotas.account(&view, ANONYMOUS, Some("b"), &mut other);
        assert_eq!(one.charge(Kind::Produce, 1_000.0), Duration::ZERO);
        assert_eq!(two.charge(Kind::Produce, 500.0), Duration::from_millis(500));
        assert_eq!(other.charge(Kind::Produce, 500.0), Duration::ZERO);
        assert_eq!(one.owes(Kind::Fetch), Duration::ZERO);
        clock.advance(Duration::from_millis(500));
        assert_eq!(one.owes(Kind::Produce), Duration::ZERO);
    }

    #[test]
    fn a_quota_of_the_fleet_takes_hold_of_clients_that_are_there() {
        let (quotas, _clock) = quotas();
        let mut known = None;
        let before = quotas.account(&View::default(), ANONYMOUS, Some("a"), &mut known);
        let same = quotas.account(&View::default(), ANONYMOUS, Some("a"), &mut known);
        assert!(Arc::ptr_eq(&before, &same));
        let entity = Entity {
            client_id: Some(Who::Default),
            ..Entity::default()
        };
        let view = limited(1, entity, key::PRODUCER_BYTE_RATE, 10.0);
        let after = quotas.account(&view, ANONYMOUS, Some("a"), &mut known);
        assert_eq!(after.charge(Kind::Produce, 30.0), Duration::from_secs(2));
        assert_eq!(after.charge(Kind::Fetch, 30.0), Duration::ZERO);
    }

    #[test]
    fn addresses_open_connections_at_their_rate() {
        let (quotas, clock) = quotas();
        let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let view = View::default();
        let waits: Vec<_> = (0..4)
            .map(|_| quotas.connect(&view, a).as_millis())
            .collect();
        assert_eq!(waits, [0, 0, 500, 1_000]);
        assert_eq!(quotas.connect(&view, b), Duration::ZERO);
        clock.advance(Duration::from_secs(2));
        let entity = Entity {
            ip: Some(Who::Named("10.0.0.1".into())),
            ..Entity::default()
        };
        let view = limited(1, entity, key::CONNECTION_CREATION_RATE, 100.0);
        assert_eq!(quotas.connect(&view, a), Duration::ZERO);
    }

    #[test]
    fn buckets_are_bounded() {
        let (quotas, _clock) = quotas();
        let view = View::default();
        for n in 0..MOST {
            let account = quotas.account(&view, ANONYMOUS, Some(&n.to_string()), &mut None);
            // In debt: nobody's is as good as new.
            account.charge(Kind::Produce, 5_000.0);
        }
        assert!(quotas.buckets.lock().len() <= MOST + KINDS.len());
    }

    #[tokio::test]
    async fn waiting_is_not_work() {
        let (quotas, clock) = quotas();
        let account = quotas.account(&View::default(), ANONYMOUS, None, &mut None);
        let work = async {
            clock.advance(Duration::from_millis(3));
            tokio::task::yield_now().await;
            clock.advance(Duration::from_millis(4));
            "done"
        };
        let timed = account.timed(work);
        assert_eq!(timed.await, ("done", Duration::from_millis(7)));
        assert_eq!(
            account.charge_time(Duration::from_millis(1_500)),
            Duration::from_millis(500)
        );
    }
}
