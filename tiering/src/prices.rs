//! What the store's provider charges, from a file of the operator's; the default is a list price with its
//! date and source beside it.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// The file that is used unless the options name another.
const DEFAULT: &str = include_str!("../prices/aws-s3-us-east-1.toml");
/// Larger files are not price files.
const MAX_BYTES: u64 = 64 << 10;
const GIB: f64 = (1_u64 << 30) as f64;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    pub name: String,
    pub source: String,
    pub date: String,
    pub currency: String,
    pub put_per_1000: f64,
    pub get_per_1000: f64,
    pub delete_per_1000: f64,
    pub download_per_gib: f64,
    pub upload_per_gib: f64,
    pub storage_per_gib_month: f64,
}

/// How a request is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    Put,
    Get,
    Delete,
}

#[derive(Debug, thiserror::Error)]
pub enum PriceError {
    #[error("prices {path}: {source}")]
    Io {
        path: String,
        source: std::io::Error,
    },
    #[error("prices {path}: {reason}")]
    Content { path: String, reason: String },
}

impl Prices {
    /// `path`, or the list prices that come with the program.
    pub fn load(path: Option<&Path>) -> Result<Self, PriceError> {
        let Some(path) = path else {
            return Self::parse(DEFAULT, "built in");
        };
        let name = path.display().to_string();
        let io = |source| PriceError::Io {
            path: name.clone(),
            source,
        };
        if std::fs::metadata(path).map_err(io)?.len() > MAX_BYTES {
            return Err(PriceError::Content {
                path: name,
                reason: format!("more than {MAX_BYTES} bytes"),
            });
        }
        Self::parse(&std::fs::read_to_string(path).map_err(io)?, &name)
    }

    fn parse(text: &str, path: &str) -> Result<Self, PriceError> {
        let refuse = |reason: String| PriceError::Content {
            path: path.to_owned(),
            reason,
        };
        let prices: Self = toml::from_str(text).map_err(|e| refuse(e.to_string()))?;
        let all = [
            prices.put_per_1000,
            prices.get_per_1000,
            prices.delete_per_1000,
            prices.download_per_gib,
            prices.upload_per_gib,
            prices.storage_per_gib_month,
        ];
        if all.iter().all(|price| price.is_finite() && *price >= 0.0) {
            Ok(prices)
        } else {
            Err(refuse("a price that is negative or no number".to_owned()))
        }
    }

    pub fn request(&self, class: Class) -> f64 {
        match class {
            Class::Put => self.put_per_1000 / 1_000.0,
            Class::Get => self.get_per_1000 / 1_000.0,
            Class::Delete => self.delete_per_1000 / 1_000.0,
        }
    }

    pub fn download(&self, bytes: u64) -> f64 {
        gib(bytes) * self.download_per_gib
    }

    pub fn upload(&self, bytes: u64) -> f64 {
        gib(bytes) * self.upload_per_gib
    }

    pub fn storage_month(&self, bytes: u64) -> f64 {
        gib(bytes) * self.storage_per_gib_month
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "an amount of money, not a position"
)]
fn gib(bytes: u64) -> f64 {
    bytes as f64 / GIB
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_prices_are_dated_and_count() {
        let prices = Prices::load(None).unwrap();
        assert!(prices.date.starts_with("20") && prices.source.starts_with("https://"));
        assert!((prices.request(Class::Put) - 0.000_005).abs() < 1e-12);
        assert!((prices.storage_month(1 << 40) - 23.552).abs() < 1e-9);
    }

    #[test]
    fn a_file_that_cannot_be_meant_is_refused() {
        let bad = DEFAULT.replace("0.005", "-1");
        assert!(Prices::parse(&bad, "x").is_err());
        assert!(Prices::parse("put = 1", "x").is_err());
        assert!(Prices::load(Some(Path::new("/nowhere.toml"))).is_err());
    }
}
