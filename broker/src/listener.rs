//! Accepts Kafka connections, within the caps.

mod offenders;

pub use offenders::Offenders;

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use offenders::Door;
use parking_lot::Mutex;
use tokio::net::TcpListener;

use crate::{broker::Broker, connection};

/// How many connections stand, in all and per address.
#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_ip: HashMap<IpAddr, usize>,
}

/// A connection's place in the counts, given back when it is dropped.
#[derive(Debug)]
struct Place {
    counts: Arc<Mutex<Counts>>,
    ip: IpAddr,
}

impl Place {
    fn take(
        counts: &Arc<Mutex<Counts>>,
        ip: IpAddr,
        most: usize,
        most_per_ip: usize,
    ) -> Option<Self> {
        let mut now = counts.lock();
        let of_ip = now.by_ip.get(&ip).copied().unwrap_or(0);
        if now.all >= most || of_ip >= most_per_ip {
            return None;
        }
        now.all += 1;
        now.by_ip.insert(ip, of_ip + 1);
        Some(Self {
            counts: Arc::clone(counts),
            ip,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut now = self.counts.lock();
        now.all = now.all.saturating_sub(1);
        if let Some(of_ip) = now.by_ip.get_mut(&self.ip) {
            *of_ip = of_ip.saturating_sub(1);
            if *of_ip == 0 {
                now.by_ip.remove(&self.ip);
            }
        }
    }
}

pub async fn run(broker: Arc<Broker>, listener: TcpListener) {
    let shutdown = broker.tasks.shutdown();
    let counts = Arc::new(Mutex::new(Counts::default()));
    loop {
        let (stream, peer) = match shutdown.unless(listener.accept()).await {
            None => return,
            Some(Ok(accepted)) => accepted,
            Some(Err(error)) => {
                // Out of descriptors, most likely: others close theirs meanwhile.
                tracing::warn!(%error, "a connection cannot be accepted");
                broker.clock.sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let limits = &broker.options.limits;
        let Some(place) = Place::take(
            &counts,
            peer.ip(),
            limits.connections,
            limits.connections_per_ip,
        ) else {
            broker.meters.connections_refused.increment(1);
            continue;
        };
        let pause = match broker.offenders.door(peer.ip()) {
            Door::Open => None,
            Door::Later(pause) => {
                broker.meters.connections_slowed.increment(1);
                Some(pause)
            }
            Door::Shut => {
                broker.meters.connections_refused.increment(1);
                continue;
            }
        };
        let wait = broker.quotas.connect(&broker.catalog().view, peer.ip());
        let wait = wait.max(pause.as_ref().map_or(Duration::ZERO, |pause| pause.length));
        let broker = Arc::clone(&broker);
        broker.tasks.clone().spawn_ok("connection", async move {
            // It keeps its place meanwhile, so that those who wait are bounded too.
            if !wait.is_zero() {
                broker.clock.sleep(wait).await;
            }
            drop(pause);
            serve(&broker, stream, peer).await;
            drop(place);
        });
    }
}

async fn serve(broker: &Arc<Broker>, stream: tokio::net::TcpStream, peer: SocketAddr) {
    broker.meters.connections.increment(1.0);
    if let Err(closed) = connection::serve(broker, stream, peer).await {
        broker.meters.closed(closed.reason());
        if closed.is_offence() {
            broker.offenders.note(peer.ip(), closed.reason());
        }
        tracing::debug!(%peer, reason = %closed, "connection closed");
    }
    broker.meters.connections.decrement(1.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_come_back() {
        let counts = Arc::default();
        let (a, b) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let first = Place::take(&counts, a, 2, 1).unwrap();
        assert!(Place::take(&counts, a, 2, 1).is_none(), "per address");
        let second = Place::take(&counts, b, 2, 1).unwrap();
        assert!(
            Place::take(&counts, IpAddr::from([127, 0, 0, 3]), 2, 1).is_none(),
            "in all"
        );
        drop((first, second));
        assert!(Place::take(&counts, a, 2, 1).is_some());
        assert!(counts.lock().by_ip.is_empty());
    }
}
