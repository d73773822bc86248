//! A TCP relay that can be cut: while it is, everything is swallowed and nothing is closed, as by a path that
//! lost its route. Healing closes what was held, so bytes are lost, never delayed. New connections are accepted
//! and held too.
//!
//! It stands in for Toxiproxy where that is not at hand.

use std::io;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};
use whimbrel_fleet::HostPort;
use whimbrel_runtime::{OnError, Tasks};

/// All relays that are cut and healed together.
#[derive(Clone, Debug)]
pub struct Relays {
    tasks: Tasks,
    cut: watch::Sender<bool>,
}

impl Relays {
    pub fn new(tasks: &Tasks) -> Self {
        Self {
            tasks: tasks.clone(),
            cut: watch::Sender::new(false),
        }
    }

    /// Listens on loopback and leads to `upstream`; answers where it listens.
    pub async fn open(&self, upstream: &HostPort) -> io::Result<HostPort> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let at = HostPort::new("127.0.0.1", listener.local_addr()?.port());
        let (cut, tasks, upstream) = (self.cut.subscribe(), self.tasks.clone(), upstream.clone());
        self.tasks
            .spawn(format!("relay to {upstream}"), OnError::Log, async move {
                let shutdown = tasks.shutdown();
                while let Some(accepted) = shutdown.unless(listener.accept()).await {
                    let (client, _) = accepted?;
                    let (shutdown, upstream, cut) =
                        (shutdown.clone(), upstream.clone(), cut.clone());
                    tasks.spawn_ok("relayed connection", async move {
                        shutdown.unless(carry(client, &upstream, cut)).await;
                    });
                }
                Ok::<_, io::Error>(())
            });
        Ok(at)
    }

    pub fn set_cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }
}

async fn carry(mut client: TcpStream, upstream: &HostPort, mut cut: watch::Receiver<bool>) {
    let mut server = None;
    if !*cut.borrow() {
        // A refused connection is passed on as a close.
        let Ok(mut stream) = TcpStream::connect((upstream.host.as_str(), upstream.port)).await
        else {
            return;
        };
        tokio::select! {
            biased;
            _ = cut.wait_for(|cut| *cut) => {}
            _ended = copy_bidirectional(&mut client, &mut stream) => return,
        }
        server = Some(stream);
    }
    // Both ends stay open and hear nothing.
    let _all_relays_gone = cut.wait_for(|cut| !*cut).await;
    drop((client, server));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use whimbrel_runtime::Shutdown;

    use super::*;

    #[tokio::test]
    async fn a_cut_path_swallows_and_a_healed_one_carries_again() {
        let echo = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let upstream = HostPort::new("127.0.0.1", echo.local_addr().unwrap().port());
        let tasks = Tasks::new(Shutdown::new());
        tasks.spawn_ok("echo", async move {
            loop {
                let (mut stream, _) = echo.accept().await.unwrap();
                let mut byte = [0];
                while stream.read_exact(&mut byte).await.is_ok() {
                    stream.write_all(&byte).await.unwrap();
                }
            }
        });
        let relays = Relays::new(&tasks);
        let at = relays.open(&upstream).await.unwrap();
        let connect = || TcpStream::connect((at.host.as_str(), at.port));
        let mut byte = [0];
        let mut before = connect().await.unwrap();
        before.write_all(b"a").await.unwrap();
        before.read_exact(&mut byte).await.unwrap();
        assert_eq!(&byte, b"a");

        relays.set_cut(true);
        let mut during = connect().await.unwrap();
        for stream in [&mut before, &mut during] {
            stream.write_all(b"b").await.unwrap();
            assert!(
                tokio::time::timeout(Duration::from_millis(50), stream.read_exact(&mut byte))
                    .await
                    .is_err(),
                "it was answered"
            );
        }
        relays.set_cut(false);
        for stream in [&mut before, &mut during] {
            assert!(
                matches!(stream.read(&mut byte).await, Ok(0) | Err(_)),
                "what was held is closed, not delivered"
            );
        }
        let mut after = connect().await.unwrap();
        after.write_all(b"c").await.unwrap();
        after.read_exact(&mut byte).await.unwrap();
        assert_eq!(&byte, b"c");
        tasks.stop(Duration::ZERO).await;
    }
}
