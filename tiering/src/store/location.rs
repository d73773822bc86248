//! Bucket URLs: `file:///dir` and `s3://bucket/prefix?endpoint=http://host:port&region=name`, the latter with
//! what [`keeping`](super::keeping) knows.

use std::{fmt, path::PathBuf};

use url::Url;

use super::keeping::{Keeping, Typed};

/// Where a bucket is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    Folder { root: PathBuf },
    S3(Bucket),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    pub name: String,
    /// Without slashes at its ends; empty for the bucket's root.
    pub prefix: String,
    pub endpoint: Option<String>,
    pub region: String,
    /// Of the file of credentials; what the environment says without it.
    pub profile: Option<String>,
    pub keeping: Keeping,
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "s3://{}/{}?region={}",
            self.name, self.prefix, self.region
        )?;
        if let Some(endpoint) = &self.endpoint {
            write!(f, "&endpoint={endpoint}")?;
        }
        if let Some(profile) = &self.profile {
            write!(f, "&profile={profile}")?;
        }
        write!(f, "{}", self.keeping)
    }
}

/// Why a bucket URL was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "bucket `{text}`: {reason} (examples: file:///var/lib/whimbrel/bucket, s3://bucket/prefix?endpoint=http://127.0.0.1:9000&region=us-east-1)"
)]
pub struct LocationError {
    pub text: String,
    pub reason: String,
}

impl Location {
    pub fn parse(text: &str) -> Result<Self, LocationError> {
        let fail = |reason: &str| LocationError {
            text: without_userinfo(text),
            reason: reason.to_owned(),
        };
        let url = Url::parse(text).map_err(|e| fail(&e.to_string()))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(fail(
                "credentials do not belong into the URL; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            ));
        }
        match url.scheme() {
            "file" => {
                folder(&url).ok_or_else(|| fail("an absolute path and nothing else is expected"))
            }
            "s3" => Ok(Self::S3(bucket(&url).map_err(|reason| fail(&reason))?)),
            other => Err(fail(&format!("scheme `{other}` is not known"))),
        }
    }
}

fn folder(url: &Url) -> Option<Location> {
    let local = url.host_str().is_none_or(|host| host == "localhost");
    if !local || url.query().is_some() {
        return None;
    }
    let root = url.to_file_path().ok()?;
    Some(Location::Folder { root })
}

fn bucket(url: &Url) -> Result<Bucket, String> {
    let name = url.host_str().unwrap_or_default().to_owned();
    if name.len() < 3 {
        return Err("a bucket name of three characters or more is expected after s3://".to_owned());
    }
    let prefix = url.path().trim_matches('/').to_owned();
    if !prefix.is_empty() && crate::format::Key::parse(&prefix).is_none() {
        return Err(format!(
            "prefix `{prefix}` has characters other than letters, digits, `.`, `_`, `-`, `=` and `/`"
        ));
    }
    let mut found = Bucket {
        name,
        prefix,
        endpoint: None,
        region: String::new(),
        profile: None,
        keeping: Keeping::default(),
    };
    let mut typed = Typed::default();
    for (key, value) in url.query_pairs() {
        match &*key {
            "endpoint" => {
                let endpoint =
                    Url::parse(&value).map_err(|e| format!("endpoint `{value}`: {e}"))?;
                if !matches!(endpoint.scheme(), "http" | "https") || endpoint.host_str().is_none() {
                    return Err(format!(
                        "endpoint `{value}` is not http://host:port or https://host"
                    ));
                }
                found.endpoint = Some(value.trim_end_matches('/').to_owned());
            }
            "region" => found.region = value.into_owned(),
            "profile" => found.profile = Some(value.into_owned()),
            other if typed.take(other, &value) => {}
            other => {
                return Err(format!(
                    "`{other}` is not known; `endpoint`, `region`, `profile`, {} are",
                    Typed::NAMES
                ));
            }
        }
    }
    found.keeping = typed.check()?;
    if found.region.is_empty() {
        found.region = std::env::var("AWS_REGION")
            .or_else(|_| std::env::var("AWS_DEFAULT_REGION"))
            .unwrap_or_else(|_| "us-east-1".to_owned());
    }
    Ok(found)
}

/// What may be printed of a URL that somebody put a secret into.
fn without_userinfo(text: &str) -> String {
    match (text.find("://"), text.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => {
            format!("{}://..{}", &text[..scheme], &text[at..])
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_and_a_bucket_are_read() {
        assert_eq!(
            Location::parse("file:///a/b").unwrap(),
            Location::Folder {
                root: "/a/b".into()
            }
        );
        let s3 = Location::parse(
            "s3://logs/whimbrel/a?endpoint=http://127.0.0.1:9000/&region=eu-1&profile=b",
        )
        .unwrap();
        let expected = Bucket {
            name: "logs".into(),
            prefix: "whimbrel/a".into(),
            endpoint: Some("http://127.0.0.1:9000".into()),
            region: "eu-1".into(),
            profile: Some("b".into()),
            keeping: Keeping::default(),
        };
        assert_eq!(s3, Location::S3(expected));
    }

    #[test]
    fn nonsense_is_refused_with_a_reason_and_without_the_secret() {
        for text in [
            "",
            "bucket",
            "gs://b/x",
            "s3://",
            "s3://ab",
            "s3://bkt/../x y",
            "s3://bkt?endpoit=x",
            "s3://bkt?endpoint=ftp://x",
            "s3://bkt?lock=compliance",
            "s3://bkt?storage-class=DEEP_ARCHIVE",
            "file://host/x",
        ] {
            assert!(Location::parse(text).is_err(), "{text}");
        }
        let error = Location::parse("s3://key:secret@bucket")
            .unwrap_err()
            .to_string();
        assert!(!error.contains("secret@"), "{error}");
    }
}
