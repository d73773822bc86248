//! A path that can be held up: bytes wait in it, nothing is lost and nobody is told.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp},
    sync::watch,
};
use whimbrel_fleet::HostPort;
use whimbrel_runtime::{Shutdown, Tasks};

pub struct Relay {
    pub at: HostPort,
    held: watch::Sender<bool>,
    tasks: Tasks,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.tasks.shutdown().request();
    }
}

impl Relay {
    pub async fn start(to: &HostPort) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = HostPort::new("127.0.0.1", listener.local_addr().unwrap().port());
        let to: SocketAddr = format!("127.0.0.1:{}", to.port).parse().unwrap();
        let held = watch::Sender::new(false);
        let tasks = Tasks::new(Shutdown::new());
        let (shutdown, spawner, hold) = (tasks.shutdown(), tasks.clone(), held.clone());
        tasks.spawn_ok("relay", async move {
            while let Some(Ok((near, _))) = shutdown.unless(listener.accept()).await {
                let Ok(far) = TcpStream::connect(to).await else {
                    continue;
                };
                let (near_rx, near_tx) = near.into_split();
                let (far_rx, far_tx) = far.into_split();
                for (rx, tx) in [(near_rx, far_tx), (far_rx, near_tx)] {
                    let (shutdown, held) = (shutdown.clone(), hold.subscribe());
                    spawner.spawn_ok("relayed", async move {
                        let _ = shutdown.unless(copy(rx, tx, held)).await;
                    });
                }
            }
        });
        Self { at, held, tasks }
    }

    pub fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }
}

async fn copy(
    mut rx: tcp::OwnedReadHalf,
    mut tx: tcp::OwnedWriteHalf,
    mut held: watch::Receiver<bool>,
) -> Option<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = rx.read(&mut buffer).await.ok().filter(|n| *n > 0)?;
        held.wait_for(|held| !held).await.ok()?;
        tx.write_all(&buffer[..read]).await.ok()?;
    }
}
