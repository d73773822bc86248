//! TLS on the Kafka listener, and certificates as what clients prove themselves with.

use std::{path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use whimbrel_broker::{
    Options,
    auth::{self, ClientCertificates, Tls},
};
use whimbrel_fleet::{
    HostPort,
    acl::{Acl, Operation, Pattern, PatternType, Permission, ResourceType},
};
use whimbrel_wire::{
    Budget, Decoder, ErrorCode, Message, RequestHeader,
    frame::{decode_response_header, encode_request_frame},
    messages::{Request, metadata, sasl_handshake},
};

use crate::{
    client::{Client, batch, produce_request},
    fleet::{Broker, EAST, Fleet, eventually},
};

fn file(name: &str) -> PathBuf {
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/certificates");
    PathBuf::from(here).join(name)
}

fn tls(client_certificates: ClientCertificates) -> Tls {
    Tls {
        certificate: file("server.pem"),
        key: file("server.key"),
        client_certificates,
        client_ca: Some(file("ca.pem")),
    }
}

struct Secure(TlsStream<TcpStream>);

impl Secure {
    /// With the certificate of that name, if any.
    async fn connect(broker: &Broker, certificate: Option<&str>) -> std::io::Result<Self> {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_file(file("ca.pem")).unwrap();
        roots.add(root).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match certificate {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let chain = CertificateDer::from_pem_file(file(&format!("{name}.pem"))).unwrap();
                let key = PrivateKeyDer::from_pem_file(file(&format!("{name}.key"))).unwrap();
                builder.with_client_auth_cert(vec![chain], key).unwrap()
            }
        };
        let to = ("127.0.0.1", broker.handle.kafka.port());
        let stream = TcpStream::connect(to).await?;
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, stream).await.map(Self)
    }

    /// `None` when the broker closed.
    async fn call<R: Request>(&mut self, api_version: i16, request: R) -> Option<R::Response> {
        let header = RequestHeader {
            api_key: R::KEY,
            api_version,
            correlation_id: 7,
            client_id: Some("test".into()),
        };
        for chunk in encode_request_frame(&header, &request) {
            self.0.write_all(&chunk).await.ok()?;
        }
        self.0.flush().await.ok()?;
        let length = self.0.read_u32().await.ok()?;
        let mut frame = vec![0; length as usize];
        self.0.read_exact(&mut frame).await.ok()?;
        let mut input = Decoder::new(frame.into(), Budget::new(1 << 30));
        decode_response_header(R::KEY, api_version, &mut input).unwrap();
        Some(R::Response::decode(api_version, &mut input).unwrap())
    }

    async fn topics(&mut self) -> Option<usize> {
        let request = metadata::Request {
            topics: None,
            ..metadata::Request::default()
        };
        self.call(12, request)
            .await
            .map(|answer| answer.topics.len())
    }
}

async fn started(auth: Option<auth::Options>, tls: Tls) -> (Fleet, Broker) {
    let fleet = Fleet::start().await;
    let options = Options {
        auth,
        tls: Some(tls),
        ..fleet.options(1, EAST)
    };
    let broker = fleet.try_broker(options).await.unwrap();
    (fleet, broker)
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_a_megabyte_go_both_ways() {
    let (fleet, broker) = started(None, tls(ClientCertificates::None)).await;
    let created = whimbrel_rpc::controller::NewTopic::new("t", 1);
    fleet.client.create_topic(created).await.unwrap();
    let mut client = Secure::connect(&broker, None).await.unwrap();
    let large = "x".repeat(900 << 10);
    eventually("an ack", async || {
        let request = produce_request("t", 0, batch(&[&large]), -1);
        let answer = client.call(10, request).await.unwrap();
        let partition = &answer.responses[0].partition_responses[0];
        partition.error_code.is_none().then_some(())
    })
    .await;
    let mut request = crate::client::fetch_request("t", 0, 0, 1_000);
    request.max_bytes = 8 << 20;
    let answer = client.call(11, request).await.unwrap();
    let records = answer.responses[0].partitions[0].records.as_ref();
    assert!(records.unwrap().len() > large.len());
    // Who speaks in the clear is not understood.
    let mut plain = Client::connect(broker.handle.kafka).await;
    plain.send(12, &metadata::Request::default()).await;
    assert!(plain.frame().await.is_none());
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_names_its_bearer() {
    let auth = auth::Options {
        mechanisms: Vec::new(),
        ..auth::Options::default()
    };
    let (fleet, broker) = started(Some(auth), tls(ClientCertificates::Required)).await;
    let created = whimbrel_rpc::controller::NewTopic::new("t", 1);
    fleet.client.create_topic(created).await.unwrap();
    let mut ann = Secure::connect(&broker, Some("ann")).await.unwrap();
    assert_eq!(ann.topics().await, Some(0));
    let acl = Acl {
        on: Pattern {
            resource: ResourceType::Topic,
            pattern: PatternType::Literal,
            name: "t".into(),
        },
        principal: "User:CN=ann,O=Whimbrel tests".into(),
        host: "127.0.0.1".into(),
        operation: Operation::Describe,
        permission: Permission::Allow,
    };
    fleet.client.alter_acls(&[acl], &[]).await.unwrap();
    eventually("the entry", async || {
        (ann.topics().await == Some(1)).then_some(())
    })
    .await;
    // TLS 1.3 tells the client only after it believes to be connected.
    for certificate in [None, Some("expired"), Some("stranger")] {
        let answered = match Secure::connect(&broker, certificate).await {
            Err(_) => None,
            Ok(mut client) => client.topics().await,
        };
        assert_eq!(answered, None, "{certificate:?}");
    }
    assert_eq!(ann.topics().await, Some(1), "nobody else is disturbed");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_both_the_listener_may_be_reached_from_elsewhere() {
    let fleet = Fleet::start().await;
    let open = |auth, tls| Options {
        auth,
        tls,
        listen: HostPort::new("0.0.0.0", 0),
        advertise: Some(HostPort::new("127.0.0.1", 9092)),
        ..fleet.options(1, EAST)
    };
    let auth = || Some(auth::Options::default());
    let tls = || Some(tls(ClientCertificates::None));
    let anonymous = auth::Options {
        mechanisms: Vec::new(),
        anonymous: true,
        ..auth::Options::default()
    };
    for (auth, tls) in [(None, tls()), (auth(), None), (Some(anonymous), tls())] {
        let refused = fleet.try_broker(open(auth, tls)).await;
        assert_eq!(refused.err().map(|error| error.code()), Some("WB-105"));
    }
    let elsewhere = Options {
        rpc_listen: HostPort::new("0.0.0.0", 0),
        ..open(auth(), tls())
    };
    let refused = fleet.try_broker(elsewhere).await;
    assert_eq!(refused.err().map(|error| error.code()), Some("WB-105"));
    let broker = fleet.try_broker(open(auth(), tls())).await.unwrap();
    let mut client = Secure::connect(&broker, None).await.unwrap();
    let mechanism = "SCRAM-SHA-512".to_owned();
    let answer = client.call(1, sasl_handshake::Request { mechanism }).await;
    assert_eq!(answer.unwrap().error_code, ErrorCode::NONE);
    assert_eq!(client.topics().await, None, "which was not proven");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_do_not_fit_are_named_at_start() {
    let fleet = Fleet::start().await;
    let usual = || tls(ClientCertificates::Required);
    let wrong = [
        Tls {
            key: file("ann.key"),
            ..usual()
        },
        Tls {
            certificate: file("server.key"),
            ..usual()
        },
        Tls {
            client_ca: None,
            ..usual()
        },
        Tls {
            client_ca: Some(file("missing.pem")),
            ..usual()
        },
    ];
    for tls in wrong {
        let options = Options {
            tls: Some(tls),
            ..fleet.options(1, EAST)
        };
        let refused = fleet.try_broker(options).await;
        assert_eq!(refused.err().map(|error| error.code()), Some("WB-120"));
    }
}
