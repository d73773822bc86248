//! The suite against a real MinIO, straight and through a Toxiproxy that slows, cuts and resets. `WHIMBREL_MINIO`
//! and `WHIMBREL_TOXIPROXY` name the binaries; without them this says so and passes.

mod moves;
mod parts;

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use whimbrel_tiering::{
    format::{Key, Keys},
    store::{Answer, Asked, Location, Part, S3, Secret, Source, Store, StoreError, examine, probe},
};

use crate::contended;

const PASSWORD: &str = "numenius-phaeopus";
/// MinIO's own key service with one key, made for these tests.
const KMS: (&str, &str) = (
    "MINIO_KMS_SECRET_KEY",
    "whimbrel:OSMM+vkKUTCvQs9YL/CVMIMt43HFhkUpqJxTmGl6rYw=",
);

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Starts the program that `variable` names.
fn spawn(
    variable: &str,
    arguments: &[&str],
    environment: &[(&str, &str)],
    last: Option<&Path>,
) -> Option<Process> {
    let Some(binary) = std::env::var_os(variable) else {
        let peers = std::env::var_os("WHIMBREL_PEERS").is_some_and(|v| v == "1");
        assert!(
            !peers,
            "there are to be peers, and {variable} names no binary"
        );
        eprintln!("skipped: {variable} names no binary");
        return None;
    };
    let mut command = Command::new(binary);
    command.args(arguments).args(last);
    command.envs(environment.iter().copied());
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    Some(Process(child.unwrap()))
}

struct Minio {
    port: u16,
    _process: Process,
    _dir: tempfile::TempDir,
}

impl Minio {
    fn start() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        // A folder of the drive is a bucket.
        std::fs::create_dir(dir.path().join("whimbrel")).unwrap();
        let port = free_port();
        let address = format!("127.0.0.1:{port}");
        let arguments = ["server", "--quiet", "--address", &address];
        let environment = [
            ("MINIO_ROOT_USER", "whimbrel"),
            ("MINIO_ROOT_PASSWORD", PASSWORD),
            ("MINIO_CI_CD", "1"),
            KMS,
        ];
        let process = spawn("WHIMBREL_MINIO", &arguments, &environment, Some(dir.path()))?;
        Some(Self {
            port,
            _process: process,
            _dir: dir,
        })
    }

    fn store(&self, bucket: &str, secret: &str) -> Arc<dyn Store> {
        store(self.port, bucket, secret, "")
    }

    /// Its objects of twice as many bytes go up in parts of so many.
    fn in_parts_of(&self, part_bytes: u64) -> S3 {
        s3(self.port, "whimbrel", PASSWORD, "").in_parts_of(part_bytes)
    }

    async fn ready(&self) -> Arc<dyn Store> {
        let store = self.store("whimbrel", PASSWORD);
        for _ in 0..200 {
            if store.list("v1/").await.is_ok() {
                return store;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("MinIO did not come up: {:?}", store.list("v1/").await);
    }
}

fn store(port: u16, bucket: &str, secret: &str, options: &str) -> Arc<dyn Store> {
    Arc::new(s3(port, bucket, secret, options))
}

fn s3(port: u16, bucket: &str, secret: &str, options: &str) -> S3 {
    let url =
        format!("s3://{bucket}/fleet/a?endpoint=http://127.0.0.1:{port}&region=us-east-1{options}");
    let Location::S3(bucket) = Location::parse(&url).unwrap() else {
        unreachable!()
    };
    let secret = Secret {
        key: "whimbrel".into(),
        secret: secret.into(),
        token: None,
    };
    S3::open(&bucket, &secret).unwrap()
}

#[tokio::test]
async fn minio_conforms_and_refusals_are_told_apart() {
    let Some(minio) = Minio::start() else { return };
    let store = minio.ready().await;
    crate::conformance::suite(Arc::clone(&store)).await;
    let capabilities = probe(&store, &Keys::new("east")).await.unwrap();
    assert!(capabilities.checksum, "{capabilities:?}");
    for (bucket, secret) in [("not-there", PASSWORD), ("whimbrel", "wrong-secret")] {
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

fn key(name: &str) -> Key {
    Key::parse(&format!("v1/east/{name}")).unwrap()
}

fn source(bytes: Bytes) -> Source {
    let crc64 = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &bytes);
    Source::new(vec![Part::Bytes(bytes)], crc64)
}

/// A client of Amazon's own, for what our store does not do.
fn sdk(port: u16) -> aws_sdk_s3::Client {
    use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
    let http = aws_smithy_http_client::Builder::new().build_http();
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("whimbrel", PASSWORD, None, None, "test"))
        .http_client(http)
        .endpoint_url(format!("http://127.0.0.1:{port}"))
        .force_path_style(true);
    aws_sdk_s3::Client::from_conf(config.build())
}

#[tokio::test]
async fn minio_encrypts_locks_and_tells_until_when() {
    let Some(minio) = Minio::start() else { return };
    minio.ready().await;
    let sdk = sdk(minio.port);
    let locked = sdk.create_bucket().bucket("locked");
    locked
        .object_lock_enabled_for_bucket(true)
        .send()
        .await
        .unwrap();
    let lock = "&lock=governance&lock-for=1h";
    // A bucket without Object Lock is found out before anything is written.
    let plain = store(minio.port, "whimbrel", PASSWORD, lock);
    let report = examine(&plain, &Keys::new("east")).await;
    let said = report.failure.unwrap().to_string();
    assert!(said.contains("no Object Lock"), "{said}");
    for (options, encryption) in [
        ("&sse=s3", "AES256"),
        ("&sse=kms&kms-key=whimbrel", "aws:kms"),
    ] {
        let store = store(minio.port, "locked", PASSWORD, &format!("{lock}{options}"));
        let report = examine(&store, &Keys::new("east")).await;
        assert!(report.failure.is_none(), "{:?}", report.failure);
        let all_yes = report.findings.iter().all(|f| f.answer == Answer::Yes);
        assert!(all_yes, "{:?}", report.findings);
        assert_eq!(report.answer(Asked::Delete), Some(&Answer::Yes));
        let name = format!("data/00/0/{encryption}").replace(':', "-");
        let (data, root) = (key(&name), key(&format!("root/{}", name.len())));
        store.put_if_absent(&root, "root".into()).await.unwrap();
        // Twice, as after an answer that was lost: two versions.
        for _ in 0..2 {
            let source = source("records".into());
            store.put_file(&data, &source).await.unwrap();
        }
        for key in [&data, &root] {
            let full = format!("fleet/a/{key}");
            let told = sdk.head_object().bucket("locked").key(full).send().await;
            let told = told.unwrap();
            let how = told.server_side_encryption().map(|e| e.as_str());
            assert_eq!(how, Some(encryption), "{key}");
            assert_eq!(told.object_lock_mode().is_some(), *key == data, "{key}");
        }
        let blocked = store.delete(&data).await.unwrap_err();
        let StoreError::Locked {
            until_ms: Some(until_ms),
            ..
        } = blocked
        else {
            panic!("{blocked}");
        };
        let left_ms = until_ms - whimbrel_runtime::Clock::system().wall_ms();
        assert!((1..=3_600_000).contains(&left_ms), "{left_ms}");
        assert_eq!(store.get(&data, 100).await.unwrap().bytes, "records");
        store.delete(&root).await.unwrap();
    }
    ends_with_its_lock(&minio, &sdk).await;
}

/// Every version of an object goes when its lock is over.
async fn ends_with_its_lock(minio: &Minio, sdk: &aws_sdk_s3::Client) {
    let short = store(
        minio.port,
        "locked",
        PASSWORD,
        "&lock=compliance&lock-for=1s",
    );
    let data = key("data/00/0/short");
    for _ in 0..2 {
        short.put_file(&data, &source("x".into())).await.unwrap();
    }
    let mut last = Ok(());
    for _ in 0..100 {
        last = short.delete(&data).await;
        if last.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    last.unwrap();
    let versions = sdk.list_object_versions().bucket("locked");
    let versions = versions.prefix(format!("fleet/a/{data}")).send().await;
    assert!(versions.unwrap().versions().is_empty());
}

/// A Toxiproxy in front of a MinIO.
struct Toxic {
    api: u16,
    port: u16,
    _process: Process,
}

impl Toxic {
    async fn start(upstream: u16) -> Option<Self> {
        let api = free_port();
        let arguments = ["-host", "127.0.0.1", "-port", &api.to_string()];
        let process = spawn("WHIMBREL_TOXIPROXY", &arguments, &[], None)?;
        let proxy = Self {
            api,
            port: free_port(),
            _process: process,
        };
        for _ in 0..200 {
            if proxy.try_call("GET", "/version", "").await.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let port = proxy.port;
        let body = format!(
            r#"{{"name":"s3","listen":"127.0.0.1:{port}","upstream":"127.0.0.1:{upstream}","enabled":true}}"#
        );
        proxy.call("POST", "/proxies", &body).await;
        Some(proxy)
    }

    async fn try_call(&self, method: &str, path: &str, body: &str) -> Option<String> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let at = ("127.0.0.1", self.api);
        let mut stream = tokio::net::TcpStream::connect(at).await.ok()?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    }

    async fn call(&self, method: &str, path: &str, body: &str) {
        let answer = self.try_call(method, path, body).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 2"), "{path}: {answer}");
    }

    /// `stream` is as seen from the store's side: `downstream` are its answers.
    async fn add(&self, kind: &str, stream: &str, toxicity: f64, attributes: &str) {
        let body = format!(
            r#"{{"name":"{kind}","type":"{kind}","stream":"{stream}","toxicity":{toxicity},"attributes":{{{attributes}}}}}"#
        );
        self.call("POST", "/proxies/s3/toxics", &body).await;
    }

    async fn heal(&self) {
        self.call("POST", "/reset", "").await;
    }
}

/// A MinIO, a Toxiproxy in front of it, and the store through both; from a prefix of its own each time.
async fn through_a_toxiproxy() -> Option<(Minio, Toxic, Arc<dyn Store>)> {
    let minio = Minio::start()?;
    minio.ready().await;
    let toxic = Toxic::start(minio.port).await?;
    let store = store(toxic.port, "whimbrel", PASSWORD, "");
    Some((minio, toxic, store))
}

#[tokio::test]
async fn minio_behind_latency_and_a_narrow_link_conforms() {
    let Some((_minio, toxic, store)) = through_a_toxiproxy().await else {
        return;
    };
    toxic
        .add("latency", "downstream", 1.0, r#""latency":15,"jitter":10"#)
        .await;
    // KiB a second.
    toxic
        .add("bandwidth", "upstream", 1.0, r#""rate":20000"#)
        .await;
    crate::conformance::suite(store).await;
}

#[tokio::test]
async fn minio_whose_answers_are_cut_never_gives_less_than_was_asked_for() {
    let Some((_minio, toxic, store)) = through_a_toxiproxy().await else {
        return;
    };
    let bytes = Bytes::from(vec![7_u8; 4 << 20]);
    let (whole, half) = (key("data/00/0/whole"), key("data/00/0/half"));
    store
        .put_file(&whole, &source(bytes.clone()))
        .await
        .unwrap();
    toxic
        .add("limit_data", "downstream", 1.0, r#""bytes":1000000"#)
        .await;
    for error in [
        store.get(&whole, 8 << 20).await.map(drop).unwrap_err(),
        store
            .get_range(&whole, 0..4 << 20)
            .await
            .map(drop)
            .unwrap_err(),
    ] {
        assert!(error.is_retryable(), "{error}");
    }
    assert_eq!(
        store.get_range(&whole, 5..9).await.unwrap(),
        bytes.slice(5..9)
    );
    toxic.heal().await;
    toxic
        .add("limit_data", "upstream", 1.0, r#""bytes":1000000"#)
        .await;
    let error = store.put_file(&half, &source(bytes.clone())).await;
    assert!(error.unwrap_err().is_retryable());
    toxic.heal().await;
    assert!(store.head(&half).await.unwrap_err().is_not_found());
    assert_eq!(store.get(&whole, 8 << 20).await.unwrap().bytes, bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_swap_is_lost_on_a_link_that_resets_and_cuts() {
    let Some((_minio, toxic, store)) = through_a_toxiproxy().await else {
        return;
    };
    // Every connection is given a short life, in either direction.
    for (kind, stream, attributes) in [
        ("reset_peer", "downstream", r#""timeout":40"#),
        ("limit_data", "upstream", r#""bytes":4000"#),
    ] {
        contended::begin(&*store).await;
        toxic.add(kind, stream, 0.5, attributes).await;
        contended::write(vec![Arc::clone(&store); 3], 15).await;
        toxic.heal().await;
        contended::check(&*store, 3, 15).await;
    }
}
