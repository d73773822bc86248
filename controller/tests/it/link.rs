//! A TCP link that can be cut: what is open breaks, what is new is closed at once.

use std::net::SocketAddr;

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use whimbrel_runtime::Tasks;

pub struct Link {
    pub at: SocketAddr,
    cut: watch::Sender<bool>,
    open: watch::Sender<usize>,
}

impl Link {
    pub async fn to(target: SocketAddr, tasks: &Tasks) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (cut, open) = (watch::Sender::new(false), watch::Sender::new(0));
        let (state, count, spawner) = (cut.clone(), open.clone(), tasks.clone());
        tasks.spawn_ok("link", async move {
            let shutdown = spawner.shutdown();
            while let Some(Ok((inside, _))) = shutdown.unless(listener.accept()).await {
                let mut is_cut = state.subscribe();
                let ending = spawner.shutdown();
                let count = count.clone();
                count.send_modify(|open| *open += 1);
                spawner.spawn_ok("link connection", async move {
                    tokio::select! {
                        biased;
                        _ = is_cut.wait_for(|cut| *cut) => {}
                        () = ending.wait() => {}
                        () = carry(inside, target) => {}
                    }
                    count.send_modify(|open| *open -= 1);
                });
            }
        });
        Self { at, cut, open }
    }

    pub fn cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }

    /// Cuts, and returns when no byte can pass any more.
    pub async fn sever(&self) {
        self.cut(true);
        let mut open = self.open.subscribe();
        open.wait_for(|open| *open == 0).await.unwrap();
    }
}

async fn carry(mut inside: TcpStream, target: SocketAddr) {
    let Ok(mut outside) = TcpStream::connect(target).await else {
        return;
    };
    inside.set_nodelay(true).unwrap();
    outside.set_nodelay(true).unwrap();
    let _ = tokio::io::copy_bidirectional(&mut inside, &mut outside).await;
}
