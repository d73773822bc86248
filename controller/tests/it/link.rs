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
}

impl Link {
    pub async fn to(target: SocketAddr, tasks: &Tasks) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let cut = watch::Sender::new(false);
        let (state, spawner) = (cut.clone(), tasks.clone());
        tasks.spawn_ok("link", async move {
            let shutdown = spawner.shutdown();
            while let Some(Ok((inside, _))) = shutdown.unless(listener.accept()).await {
                let mut is_cut = state.subscribe();
                let ending = spawner.shutdown();
                spawner.spawn_ok("link connection", async move {
                    tokio::select! {
                        _ = is_cut.wait_for(|cut| *cut) => {}
                        () = ending.wait() => {}
                        () = carry(inside, target) => {}
                    }
                });
            }
        });
        Self { at, cut }
    }

    pub fn cut(&self, cut: bool) {
        self.cut.send_replace(cut);
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
