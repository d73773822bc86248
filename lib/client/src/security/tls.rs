//! TCP with TLS 1.2 or 1.3 around it; the broker's certificate is checked, its name included.

use std::{io, path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{SecurityError, TlsFiles};
use crate::{
    endpoint::Endpoint,
    stream::{Dial, Dialed, Stream},
};

#[derive(Clone, Debug)]
pub(super) struct Tls(Arc<ClientConfig>);

impl Tls {
    pub(super) fn new(files: &TlsFiles) -> Result<Self, SecurityError> {
        let mut roots = RootCertStore::empty();
        for root in certificates(&files.ca)? {
            let added = roots.add(root);
            added.map_err(|error| SecurityError::file(&files.ca, error))?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let config = match &files.own {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(certificate)?;
                let read = PrivateKeyDer::from_pem_file(key);
                let key = read.map_err(|error| SecurityError::file(key, error))?;
                builder.with_client_auth_cert(chain, key)?
            }
        };
        Ok(Self(Arc::new(config)))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, SecurityError> {
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| SecurityError::file(path, error))?;
    if found.is_empty() {
        return Err(SecurityError::file(path, "no certificate in it"));
    }
    Ok(found)
}

impl Dial for Tls {
    fn dial(&self, to: &Endpoint) -> Dialed {
        let (connector, to) = (TlsConnector::from(Arc::clone(&self.0)), to.clone());
        Box::pin(async move {
            let name = ServerName::try_from(to.host.clone())
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
            let tcp = TcpStream::connect((to.host.as_str(), to.port)).await?;
            tcp.set_nodelay(true)?;
            let stream: Box<dyn Stream> = Box::new(connector.connect(name, tcp).await?);
            Ok(stream)
        })
    }
}
