//! What a verification is asked to do.

use whimbrel_runtime::unit::Size;

/// What is done about what is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Repair {
    #[default]
    No,
    /// Say what could be repaired, and from where.
    Plan,
    Apply,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Request {
    /// Share of the objects to look at, drawn at random; all of them without it.
    pub percent: f64,
    /// Bytes of blocks to read and compare with their CRCs; none without it.
    pub bytes: u64,
    pub max_requests: u64,
    pub max_dollars: f64,
    /// Bytes per second; 0 is no limit.
    pub rate: u64,
    pub repair: Repair,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            percent: 100.0,
            bytes: 0,
            max_requests: u64::MAX,
            max_dollars: f64::INFINITY,
            rate: 0,
            repair: Repair::No,
        }
    }
}

impl Request {
    /// Reads `sample=5&bytes=true`: five percent of the objects, all bytes of them. `bytes` may also be a
    /// budget, `bytes=1GiB`. Further: `max-requests=1000`, `max-dollars=0.5`, `rate=20MiB` (a second),
    /// `repair=plan` or `repair=apply`.
    pub fn parse(query: &str) -> Result<Self, String> {
        let mut request = Self::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            request.set(&name, &value)?;
        }
        Ok(request)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "sample" => {
                let percent = value.parse().ok().filter(|p| *p > 0.0 && *p <= 100.0);
                self.percent = percent
                    .ok_or_else(|| format!("sample `{value}` is not a percentage above 0"))?;
            }
            "bytes" => self.bytes = bytes(value)?,
            "rate" => self.rate = size(value)?,
            "max-requests" => {
                self.max_requests = value
                    .parse()
                    .map_err(|_| format!("max-requests `{value}` is not a number"))?;
            }
            "max-dollars" => {
                let dollars = value.parse().ok().filter(|d: &f64| *d >= 0.0);
                self.max_dollars =
                    dollars.ok_or_else(|| format!("max-dollars `{value}` is not an amount"))?;
            }
            "repair" => {
                self.repair = match value {
                    "no" => Repair::No,
                    "plan" => Repair::Plan,
                    "apply" => Repair::Apply,
                    _ => return Err(format!("repair `{value}`: `plan` or `apply`")),
                };
            }
            other => {
                return Err(format!(
                    "`{other}` is not known; sample, bytes, rate, max-requests, max-dollars and repair are"
                ));
            }
        }
        Ok(())
    }

    /// At least one object of those that there are.
    pub(super) fn objects(&self, all: usize) -> usize {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a count far below 2^52, between 0 and that count"
        )]
        let wanted = (all as f64 * self.percent / 100.0).ceil() as usize;
        wanted.min(all)
    }
}

fn bytes(value: &str) -> Result<u64, String> {
    match value {
        "true" => Ok(u64::MAX),
        "false" => Ok(0),
        budget => size(budget),
    }
}

fn size(value: &str) -> Result<u64, String> {
    value
        .parse::<Size>()
        .map(|size| size.0)
        .map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for bad in [
            "sample=0",
            "sample=x",
            "sample=101",
            "bytes=7",
            "rate=fast",
            "max-requests=-1",
            "max-dollars=-1",
            "repair=yes",
            "other=1",
        ] {
            assert!(Request::parse(bad).is_err(), "{bad}");
        }
        let request = Request::parse("sample=5&bytes=true&rate=2MiB&repair=plan").unwrap();
        assert_eq!((request.bytes, request.rate), (u64::MAX, 2 << 20));
        assert_eq!((request.objects(100), request.objects(1)), (5, 1));
    }
}
