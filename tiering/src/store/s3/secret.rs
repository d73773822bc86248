//! Credentials: from the environment, or from a file that is read anew after a refusal, so that whoever
//! rotates them replaces the file and nothing is started again.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use aws_credential_types::provider::future;
use aws_sdk_s3::config::{Credentials, ProvideCredentials};
use object_store::{CredentialProvider, aws::AwsCredential};
use parking_lot::RwLock;

use crate::store::{StoreError, location::Bucket};

/// A file of credentials has a few lines.
const LONGEST: u64 = 64 << 10;

/// They are shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    pub key: String,
    pub secret: String,
    pub token: Option<String>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The credentials of now. Clones share them.
#[derive(Clone, Debug)]
pub struct Wallet {
    /// File and profile, where they can change.
    file: Option<(PathBuf, String)>,
    now: Arc<RwLock<Secret>>,
}

impl Wallet {
    pub fn fixed(secret: Secret) -> Self {
        Self {
            file: None,
            now: Arc::new(RwLock::new(secret)),
        }
    }

    /// From AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN; without the first from the profile
    /// AWS_PROFILE of the file AWS_SHARED_CREDENTIALS_FILE. A bucket that names a profile has its credentials there.
    pub fn from_env(bucket: &Bucket) -> Result<Self, StoreError> {
        let refused = |reason: String| StoreError::Refused {
            op: "open",
            key: bucket.name.clone(),
            reason,
        };
        let var = |name: &str| std::env::var(name).ok();
        let file = var("AWS_SHARED_CREDENTIALS_FILE");
        if bucket.profile.is_some() && file.is_none() {
            return Err(refused(
                "it names a profile, and AWS_SHARED_CREDENTIALS_FILE is not set".to_owned(),
            ));
        }
        let fixed = var("AWS_ACCESS_KEY_ID").filter(|_| bucket.profile.is_none());
        if let (None, Some(file)) = (fixed, file) {
            let profile = bucket.profile.clone().or_else(|| var("AWS_PROFILE"));
            let profile = profile.unwrap_or_else(|| "default".to_owned());
            return Self::open(Path::new(&file), &profile)
                .map_err(|e| refused(format!("{file}: {e}")));
        }
        let need = |name: &str| var(name).ok_or_else(|| refused(format!("{name} is not set")));
        Ok(Self::fixed(Secret {
            key: need("AWS_ACCESS_KEY_ID")?,
            secret: need("AWS_SECRET_ACCESS_KEY")?,
            token: var("AWS_SESSION_TOKEN"),
        }))
    }

    pub fn open(file: &Path, profile: &str) -> io::Result<Self> {
        Ok(Self {
            file: Some((file.to_owned(), profile.to_owned())),
            now: Arc::new(RwLock::new(read(file, profile)?)),
        })
    }

    /// The store refused what we have: perhaps the file has something newer.
    pub async fn refused(&self) {
        let Some((file, profile)) = self.file.clone() else {
            return;
        };
        let now = Arc::clone(&self.now);
        let reading = tokio::task::spawn_blocking(move || match read(&file, &profile) {
            Ok(found) if *now.read() != found => {
                tracing::info!(file = %file.display(), "the credentials have changed");
                *now.write() = found;
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "the credentials cannot be read");
            }
        });
        // It neither panics nor is cancelled; the next refusal reads again anyway.
        drop(reading.await);
    }
}

#[async_trait]
impl CredentialProvider for Wallet {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let Secret { key, secret, token } = self.now.read().clone();
        Ok(Arc::new(AwsCredential {
            key_id: key,
            secret_key: secret,
            token,
        }))
    }
}

impl ProvideCredentials for Wallet {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let Secret { key, secret, token } = self.now.read().clone();
        future::ProvideCredentials::ready(Ok(Credentials::new(
            key, secret, token, None, "whimbrel",
        )))
    }
}

fn read(file: &Path, profile: &str) -> io::Result<Secret> {
    let mut text = String::new();
    File::open(file)?.take(LONGEST).read_to_string(&mut text)?;
    parse(&text, profile).ok_or_else(|| {
        let reason =
            format!("profile `{profile}` has no aws_access_key_id and aws_secret_access_key");
        io::Error::new(io::ErrorKind::InvalidData, reason)
    })
}

/// The file that Amazon's own tools read: `[profile]`, then `name = value`.
fn parse(text: &str, profile: &str) -> Option<Secret> {
    let (mut here, mut key, mut secret, mut token) = (false, None, None, None);
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            here = name.trim() == profile;
        } else if let (true, Some((name, value))) = (here, line.split_once('=')) {
            let place = match name.trim() {
                "aws_access_key_id" => &mut key,
                "aws_secret_access_key" => &mut secret,
                "aws_session_token" => &mut token,
                _ => continue,
            };
            *place = Some(value.trim().to_owned());
        }
    }
    Some(Secret {
        key: key?,
        secret: secret?,
        token,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# ours\n[default]\naws_access_key_id = A\naws_secret_access_key=B==\n\n[tier]\naws_access_key_id=C\naws_secret_access_key = D\naws_session_token = E\nregion = eu-1\n[half]\naws_access_key_id=F\n";

    #[test]
    fn a_profile_is_found_and_half_of_one_is_none() {
        let found = parse(FILE, "default").unwrap();
        assert_eq!((found.key.as_str(), found.secret.as_str()), ("A", "B=="));
        assert_eq!(parse(FILE, "tier").unwrap().token.as_deref(), Some("E"));
        assert_eq!(parse(FILE, "half"), None);
        assert_eq!(parse(FILE, "none"), None);
    }

    #[tokio::test]
    async fn a_refusal_reads_the_file_again() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("credentials");
        std::fs::write(&file, FILE).unwrap();
        let wallet = Wallet::open(&file, "tier").unwrap();
        std::fs::write(&file, FILE.replace("=C", "=New")).unwrap();
        assert_eq!(wallet.get_credential().await.unwrap().key_id, "C");
        wallet.refused().await;
        assert_eq!(wallet.get_credential().await.unwrap().key_id, "New");
        std::fs::write(&file, "").unwrap();
        wallet.refused().await;
        assert_eq!(wallet.get_credential().await.unwrap().key_id, "New");
    }
}
