//! Whose signatures count: JSON web key sets (RFC 7517) in files, read again when they have changed.
//!
//! A file is changed by whoever follows the issuer. What cannot be read is said (WB-123), and the keys of before
//! hold on: half a file must not lock everybody out.

use std::{
    fs::{File, Metadata},
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::Value;

/// A set has a few keys; with their certificates some KiB each.
const LONGEST_FILE: u64 = 1 << 20;
/// Bytes of a coordinate on P-256.
const COORDINATE: usize = 32;
/// Bytes of the moduli that `ring` takes: 2,048 to 8,192 bits.
const MODULUS: std::ops::RangeInclusive<usize> = 256..=1_024;

/// Why keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    #[error("{path}: {source}")]
    File {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path}: not a regular file of at most 1 MiB")]
    NotAFile { path: PathBuf },
    #[error("{path}: not a JSON web key set: {source}")]
    NotASet {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("{path}: has a private key in it, which nobody but the issuer may have")]
    Private { path: PathBuf },
    #[error("two keys have the kid {kid:?}, so that nobody knows which is meant")]
    Twice { kid: String },
    #[error("none of the files has a key for RS256 or ES256")]
    None,
}

/// How a token is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Rs256,
    Es256,
}

impl Algorithm {
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            _ => None,
        }
    }
}

#[derive(Debug)]
enum Material {
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// 4, x, y.
    P256(Vec<u8>),
}

/// A public key.
#[derive(Debug)]
pub struct Key {
    kid: Option<String>,
    material: Material,
}

impl Key {
    fn algorithm(&self) -> Algorithm {
        match self.material {
            Material::Rsa { .. } => Algorithm::Rs256,
            Material::P256(_) => Algorithm::Es256,
        }
    }

    pub fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let checked = match &self.material {
            Material::Rsa { modulus, exponent } => RsaPublicKeyComponents {
                n: modulus,
                e: exponent,
            }
            .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature),
            Material::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
        };
        checked.is_ok()
    }
}

/// The keys of all files.
#[derive(Debug, Default)]
pub struct KeySet(Vec<Key>);

impl KeySet {
    /// The key of that name; without a name the only one there is.
    pub fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<&Key> {
        let mut fitting = self.0.iter().filter(|key| key.algorithm() == algorithm);
        if let Some(kid) = kid {
            return fitting.find(|key| key.kid.as_deref() == Some(kid));
        }
        let only = fitting.next()?;
        fitting.next().is_none().then_some(only)
    }

    /// Keys that are for something else, or of a kind that is not known, are passed over (RFC 7517, 5).
    fn read(files: &[PathBuf]) -> Result<Self, JwksError> {
        let mut all: Vec<Key> = Vec::new();
        for path in files {
            for value in document(path)?.keys {
                let Ok(jwk) = Jwk::deserialize(value) else {
                    continue;
                };
                if matches!(jwk.kty.as_str(), "RSA" | "EC") && jwk.d.is_some() {
                    return Err(JwksError::Private { path: path.clone() });
                }
                let Some(key) = jwk.key() else { continue };
                let is_same = |other: &Key| {
                    other.kid.is_some()
                        && other.kid == key.kid
                        && other.algorithm() == key.algorithm()
                };
                if all.iter().any(is_same) {
                    let kid = key.kid.unwrap_or_default();
                    return Err(JwksError::Twice { kid });
                }
                all.push(key);
            }
        }
        match all.is_empty() {
            true => Err(JwksError::None),
            false => Ok(Self(all)),
        }
    }
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    used_for: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    d: Option<Value>,
}

impl Jwk {
    fn key(self) -> Option<Key> {
        let is_for_signatures = self.used_for.as_deref().is_none_or(|it| it == "sig");
        let verifies = |ops: &Vec<String>| ops.iter().any(|op| op == "verify");
        if !is_for_signatures || !self.key_ops.as_ref().is_none_or(verifies) {
            return None;
        }
        let material = match self.kty.as_str() {
            "RSA" => Material::Rsa {
                modulus: number(self.n.as_deref()?).filter(|n| MODULUS.contains(&n.len()))?,
                exponent: number(self.e.as_deref()?)?,
            },
            "EC" if self.crv.as_deref() == Some("P-256") => {
                let [x, y] = [self.x.as_deref()?, self.y.as_deref()?].map(coordinate);
                Material::P256([vec![4], x?, y?].concat())
            }
            _ => return None,
        };
        let key = Key {
            kid: self.kid,
            material,
        };
        let named = self.alg.as_deref();
        named
            .is_none_or(|name| Algorithm::from_name(name) == Some(key.algorithm()))
            .then_some(key)
    }
}

/// Big-endian, without zeros in front, which some issuers write and `ring` refuses.
fn number(text: &str) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let first = bytes.iter().position(|byte| *byte != 0)?;
    bytes.get(first..).map(<[u8]>::to_vec)
}

fn coordinate(text: &str) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    (bytes.len() == COORDINATE).then_some(bytes)
}

fn document(path: &Path) -> Result<Document, JwksError> {
    let failed = |source| JwksError::File {
        path: path.to_owned(),
        source,
    };
    let not_a_file = || JwksError::NotAFile {
        path: path.to_owned(),
    };
    // A pipe would be waited for without an end.
    if !path.metadata().map_err(failed)?.is_file() {
        return Err(not_a_file());
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    let read = file.take(LONGEST_FILE + 1).read_to_end(&mut bytes);
    if read.map_err(failed)? as u64 > LONGEST_FILE {
        return Err(not_a_file());
    }
    serde_json::from_slice(&bytes).map_err(|source| JwksError::NotASet {
        path: path.to_owned(),
        source,
    })
}

/// What tells that a file is not the one of before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    modified_ns: (i64, i64),
    changed_ns: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            length: metadata.len(),
            modified_ns: (metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    let of = |path: &PathBuf| path.metadata().ok().map(|it| Stamp::of(&it));
    files.iter().map(of).collect()
}

/// Keys in files that may change.
#[derive(Debug)]
pub struct Keys {
    files: Vec<PathBuf>,
    /// What the files were when they were last looked at, taken before they were read: what changed meanwhile is
    /// read again. Who has this looks; nobody waits for it, so that a disk that hangs takes one thread and no more.
    looked_at: Mutex<Vec<Option<Stamp>>>,
    held: Mutex<Arc<KeySet>>,
}

impl Keys {
    pub fn open(files: Vec<PathBuf>) -> Result<Self, JwksError> {
        let looked_at = Mutex::new(stamps(&files));
        let held = Mutex::new(Arc::new(KeySet::read(&files)?));
        Ok(Self {
            files,
            looked_at,
            held,
        })
    }

    /// What the files say now, or said when they could last be read.
    pub fn now(&self) -> Arc<KeySet> {
        if let Some(mut looked_at) = self.looked_at.try_lock() {
            let stamps = stamps(&self.files);
            if stamps != *looked_at {
                *looked_at = stamps;
                self.read_again();
            }
        }
        Arc::clone(&self.held.lock())
    }

    fn read_again(&self) {
        match KeySet::read(&self.files) {
            Ok(keys) => {
                tracing::info!(keys = keys.0.len(), "keys of tokens were read again");
                *self.held.lock() = Arc::new(keys);
            }
            Err(error) => {
                tracing::error!(code = "WB-123", %error, "keys of tokens cannot be read; those of before hold on");
            }
        }
    }
}
