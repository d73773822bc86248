//! How a bucket keeps what we write, as its URL asks for: storage class, encryption, Object Lock.
//!
//! Encryption goes for everything. Storage class and lock go for data and orphans alone: roots, markers and
//! what the probe writes are small, are replaced or removed, and cost more in a class for what is seldom read.

use std::{fmt, time::Duration};

use whimbrel_runtime::unit::Span;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keeping {
    pub storage_class: Option<String>,
    pub encryption: Option<Encryption>,
    pub lock: Option<Lock>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// SSE-S3: with keys of the store's own.
    Store,
    /// SSE-KMS: with this key, or with the account's default one.
    Kms { key: Option<String> },
}

/// Nobody deletes a version before its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    pub mode: LockMode,
    /// Counted from the upload.
    pub length: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// Who has the permission to lift it may.
    Governance,
    /// Nobody may, the account's owner included.
    Compliance,
}

/// As the bucket's URL says it.
impl fmt::Display for Keeping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(class) = &self.storage_class {
            write!(f, "&storage-class={class}")?;
        }
        match &self.encryption {
            None => {}
            Some(Encryption::Store) => f.write_str("&sse=s3")?,
            Some(Encryption::Kms { key: None }) => f.write_str("&sse=kms")?,
            Some(Encryption::Kms { key: Some(key) }) => write!(f, "&sse=kms&kms-key={key}")?,
        }
        match &self.lock {
            None => Ok(()),
            Some(lock) => {
                let mode = match lock.mode {
                    LockMode::Governance => "governance",
                    LockMode::Compliance => "compliance",
                };
                write!(f, "&lock={mode}&lock-for={}", Span(lock.length))
            }
        }
    }
}

/// Object Lock in the past or for less than a request takes is none; for more than a century is a slip.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(100 * 366 * 86_400);

/// Options of a bucket URL that belong together, before they are checked.
#[derive(Debug, Default)]
pub struct Typed {
    storage_class: Option<String>,
    sse: Option<String>,
    kms_key: Option<String>,
    lock: Option<String>,
    lock_for: Option<String>,
}

impl Typed {
    pub const NAMES: &str = "`storage-class`, `sse`, `kms-key`, `lock` and `lock-for`";

    /// False when `name` is none of these options.
    pub fn take(&mut self, name: &str, value: &str) -> bool {
        let place = match name {
            "storage-class" => &mut self.storage_class,
            "sse" => &mut self.sse,
            "kms-key" => &mut self.kms_key,
            "lock" => &mut self.lock,
            "lock-for" => &mut self.lock_for,
            _ => return false,
        };
        *place = Some(value.to_owned());
        true
    }

    pub fn check(self) -> Result<Keeping, String> {
        let storage_class = self.storage_class.map(storage_class).transpose()?;
        let encryption = match (self.sse.as_deref(), self.kms_key) {
            (None, None) => None,
            (Some("s3"), None) => Some(Encryption::Store),
            (Some("kms"), key) if key.as_deref() != Some("") => Some(Encryption::Kms { key }),
            (Some("kms"), _) => return Err("`kms-key` is empty".to_owned()),
            (_, Some(_)) => return Err("`kms-key` goes with `sse=kms` alone".to_owned()),
            (Some(other), None) => {
                return Err(format!("sse `{other}` is not known; `s3` and `kms` are"));
            }
        };
        let lock = match (self.lock, self.lock_for) {
            (None, None) => None,
            (Some(mode), Some(length)) => Some(lock(&mode, &length)?),
            (Some(_), None) => {
                return Err("`lock` needs `lock-for`, for example lock-for=30d".to_owned());
            }
            (None, Some(_)) => {
                return Err("`lock-for` needs `lock=governance` or `lock=compliance`".to_owned());
            }
        };
        Ok(Keeping {
            storage_class,
            encryption,
            lock,
        })
    }
}

/// Stores have classes of their own; those that cannot be read from at once are known and useless here.
fn storage_class(name: String) -> Result<String, String> {
    let legal = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    if name.is_empty() || name.len() > 64 || !name.bytes().all(legal) {
        return Err(format!(
            "storage-class `{name}` is not a name like STANDARD_IA or GLACIER_IR"
        ));
    }
    if matches!(name.as_str(), "GLACIER" | "DEEP_ARCHIVE") {
        return Err(format!(
            "objects of storage-class `{name}` cannot be read until they are restored; GLACIER_IR is the cheapest that can"
        ));
    }
    Ok(name)
}

fn lock(mode: &str, length: &str) -> Result<Lock, String> {
    let mode = match mode {
        "governance" => LockMode::Governance,
        "compliance" => LockMode::Compliance,
        other => {
            return Err(format!(
                "lock `{other}` is not known; `governance` and `compliance` are"
            ));
        }
    };
    let length = length.parse::<Span>().map_err(|e| e.to_string())?.0;
    if length < SHORTEST || length > LONGEST {
        return Err("lock-for is not between 1s and a century".to_owned());
    }
    Ok(Lock { mode, length })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(options: &[(&str, &str)]) -> Result<Keeping, String> {
        let mut typed = Typed::default();
        assert!(options.iter().all(|(name, value)| typed.take(name, value)));
        typed.check()
    }

    #[test]
    fn what_belongs_together_is_read_together() {
        let all = [
            ("storage-class", "STANDARD_IA"),
            ("sse", "kms"),
            ("kms-key", "arn:aws:kms:eu-1:1:key/a"),
            ("lock", "compliance"),
            ("lock-for", "30d"),
        ];
        let expected = Keeping {
            storage_class: Some("STANDARD_IA".into()),
            encryption: Some(Encryption::Kms {
                key: Some("arn:aws:kms:eu-1:1:key/a".into()),
            }),
            lock: Some(Lock {
                mode: LockMode::Compliance,
                length: Duration::from_secs(30 * 86_400),
            }),
        };
        assert_eq!(
            expected.to_string(),
            all.map(|(name, value)| format!("&{name}={value}")).concat()
        );
        assert_eq!(check(&all), Ok(expected));
        assert_eq!(check(&[]), Ok(Keeping::default()));
    }

    #[test]
    fn halves_and_slips_are_refused_by_name() {
        for (options, word) in [
            (&[("sse", "aes")][..], "`s3` and `kms`"),
            (&[("kms-key", "k")], "sse=kms"),
            (&[("sse", "s3"), ("kms-key", "k")], "sse=kms"),
            (&[("sse", "kms"), ("kms-key", "")], "empty"),
            (&[("lock", "compliance")], "lock-for"),
            (&[("lock-for", "1d")], "lock=governance"),
            (&[("lock", "legal"), ("lock-for", "1d")], "legal"),
            (&[("lock", "governance"), ("lock-for", "30")], "unit"),
            (
                &[("lock", "governance"), ("lock-for", "999999d")],
                "century",
            ),
            (&[("storage-class", "standard")], "STANDARD_IA"),
            (&[("storage-class", "DEEP_ARCHIVE")], "restored"),
        ] {
            let said = check(options).unwrap_err();
            assert!(said.contains(word), "{options:?}: {said}");
        }
    }
}
