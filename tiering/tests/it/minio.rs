//! The suite against a real MinIO. `WHIMBREL_MINIO` names its binary; without it this says so and passes.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use whimbrel_tiering::{
    format::Keys,
    store::{Location, S3, Secret, Store, StoreError, probe},
};

struct Minio {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Drop for Minio {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Minio {
    fn start() -> Option<Self> {
        let Some(binary) = std::env::var_os("WHIMBREL_MINIO") else {
            eprintln!("skipped: WHIMBREL_MINIO does not name a minio binary");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        // A folder of the drive is a bucket.
        std::fs::create_dir(dir.path().join("whimbrel")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut command = Command::new(binary);
        command
            .args([
                "server",
                "--quiet",
                "--address",
                &format!("127.0.0.1:{port}"),
            ])
            .arg(dir.path());
        command.envs([
            ("MINIO_ROOT_USER", "whimbrel"),
            ("MINIO_ROOT_PASSWORD", "numenius-phaeopus"),
            ("MINIO_CI_CD", "1"),
        ]);
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Some(Self {
            child,
            port,
            _dir: dir,
        })
    }

    fn store(&self, bucket: &str, secret: &str) -> Arc<dyn Store> {
        let url = format!(
            "s3://{bucket}/fleet/a?endpoint=http://127.0.0.1:{}&region=us-east-1",
            self.port
        );
        let Location::S3(bucket) = Location::parse(&url).unwrap() else {
            unreachable!()
        };
        let secret = Secret {
            key: "whimbrel".into(),
            secret: secret.into(),
            token: None,
        };
        Arc::new(S3::open(&bucket, &secret).unwrap())
    }

    async fn ready(&self) -> Arc<dyn Store> {
        let store = self.store("whimbrel", "numenius-phaeopus");
        for _ in 0..200 {
            if store.list("v1/").await.is_ok() {
                return store;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("MinIO did not come up: {:?}", store.list("v1/").await);
    }
}

#[tokio::test]
async fn minio_conforms_and_refusals_are_told_apart() {
    let Some(minio) = Minio::start() else { return };
    let store = minio.ready().await;
    crate::conformance::suite(Arc::clone(&store)).await;
    let capabilities = probe(&store, &Keys::new("east")).await.unwrap();
    assert!(capabilities.checksum, "{capabilities:?}");
    for (bucket, secret) in [
        ("not-there", "numenius-phaeopus"),
        ("whimbrel", "wrong-secret"),
    ] {
        let refused = minio.store(bucket, secret).list("v1/").await.unwrap_err();
        assert!(matches!(refused, StoreError::Refused { .. }), "{refused}");
    }
    let away =
        Location::parse("s3://whimbrel/x?endpoint=http://127.0.0.1:1&region=us-east-1").unwrap();
    let Location::S3(bucket) = away else {
        unreachable!()
    };
    let store = S3::open(
        &bucket,
        &Secret {
            key: "k".into(),
            secret: "s".into(),
            token: None,
        },
    )
    .unwrap();
    assert!(store.list("v1/").await.unwrap_err().is_retryable());
}
