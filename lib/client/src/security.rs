//! TLS and authentication, set as Kafka's clients are: one properties file, which other tools take as well.
//!
//! ```text
//! security.protocol = SASL_SSL
//! sasl.mechanism = SCRAM-SHA-512
//! sasl.username = ann
//! sasl.password = ..
//! ssl.ca.location = /etc/kafka/ca.pem
//! ```
//!
//! `sasl.jaas.config` with a name and a password is understood too, and a truststore of type PEM. A key about security
//! that is not known is refused: it would be meant, and passed over.

mod properties;
mod tls;

use std::path::{Path, PathBuf};

use crate::{connection::ConnectionOptions, sasl::Sasl};
use properties::Settings;

/// Why a client has no security to work with.
#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    #[error("{path}: {reason}")]
    File { path: PathBuf, reason: String },
    #[error("{key}: {reason}")]
    Setting { key: String, reason: String },
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

impl SecurityError {
    fn setting(key: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Setting {
            key: key.into(),
            reason: reason.into(),
        }
    }

    fn file(path: &Path, reason: impl ToString) -> Self {
        Self::File {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}

impl ConnectionOptions {
    /// As the properties file says. Files are read once, here.
    ///
    /// # Errors
    /// [`SecurityError`] for a file that cannot be read and for the first key that cannot be used.
    pub fn from_properties(path: &Path) -> Result<Self, SecurityError> {
        /// A file of keys is some lines long.
        const LONGEST: u64 = 1 << 20;
        let length = std::fs::metadata(path).map_err(|error| SecurityError::file(path, error))?;
        if length.len() > LONGEST {
            return Err(SecurityError::file(path, "longer than 1 MiB"));
        }
        let text =
            std::fs::read_to_string(path).map_err(|error| SecurityError::file(path, error))?;
        let settings = Settings::read(&text)?;
        let mut options = Self {
            sasl: settings.sasl,
            ..Self::default()
        };
        if let Some(files) = &settings.tls {
            options.dial = std::sync::Arc::new(tls::Tls::new(files)?);
        }
        Ok(options)
    }
}

/// What a client proves itself with, and whom it believes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct TlsFiles {
    ca: PathBuf,
    /// Certificate and key, where brokers ask for one.
    own: Option<(PathBuf, PathBuf)>,
}

/// Who a client is.
pub(crate) type Login = Sasl;
