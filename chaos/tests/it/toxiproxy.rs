//! The client against the real Toxiproxy.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use whimbrel_chaos::toxiproxy::{Effect, Proxy, Stream, Toxic, ToxiproxyServer};
use whimbrel_runtime::Clock;

#[tokio::test]
async fn a_proxy_is_made_poisoned_disabled_and_reset() {
    if !super::peers("Toxiproxy's API") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let server = ToxiproxyServer::start(folder.path(), &Clock::system())
        .await
        .expect("WHIMBREL_TOXIPROXY names no binary")
        .unwrap();
    let upstream = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let to = upstream.local_addr().unwrap().to_string();
    let wanted = Proxy {
        name: "path".to_owned(),
        listen: "127.0.0.1:0".to_owned(),
        upstream: to,
        enabled: true,
    };
    let made = server.client.create(&wanted).await.unwrap();
    assert_eq!(server.client.proxies().await.unwrap()["path"], made);

    let mut near = TcpStream::connect(&made.listen).await.unwrap();
    let (mut far, _) = upstream.accept().await.unwrap();
    near.write_all(b"before").await.unwrap();
    let mut bytes = [0; 6];
    far.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"before");

    let toxic = Toxic {
        name: "cut".to_owned(),
        stream: Stream::Upstream,
        toxicity: 1.0,
        effect: Effect::Timeout { timeout: 0 },
    };
    server.client.add_toxic("path", &toxic).await.unwrap();
    near.write_all(b"during").await.unwrap();
    assert!(
        tokio::time::timeout(Duration::from_millis(100), far.read_exact(&mut bytes))
            .await
            .is_err()
    );
    server.client.remove_toxic("path", "cut").await.unwrap();
    assert!(
        matches!(far.read(&mut bytes).await, Ok(0) | Err(_)),
        "what a timeout swallowed is lost, not late"
    );

    assert!(!server.client.enable("path", false).await.unwrap().enabled);
    assert!(TcpStream::connect(&made.listen).await.is_err());
    server.client.reset().await.unwrap();
    assert!(TcpStream::connect(&made.listen).await.is_ok());
    server.client.delete("path").await.unwrap();
    let gone = server.client.enable("path", true).await.unwrap_err();
    assert_eq!(gone.status, Some(404));
}
