//! The tour's records: one line of the input is one record, byte for byte.

use std::{
    io::{self, Read},
    path::PathBuf,
};

use bytes::Bytes;

/// More input than this is refused: the tour keeps it in memory to compare with.
const MAX_INPUT_BYTES: u64 = 1 << 30;
/// Kafka's default `max.message.bytes` less a batch's overhead.
const MAX_LINE_BYTES: usize = 1_000_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    File(PathBuf),
    Stdin,
}

#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error("input {path}: {source}")]
    Read { path: String, source: io::Error },
    #[error("input {0} is empty: there is nothing to produce")]
    Empty(String),
    #[error("input {0} is larger than 1 GiB")]
    TooLarge(String),
    #[error("input {path}, line {line} has {bytes} bytes; a record may have {MAX_LINE_BYTES}")]
    LineTooLong {
        path: String,
        line: usize,
        bytes: usize,
    },
}

impl Input {
    /// All records, `repeat` times over. A line ends at `\n`, which is not part of it; a `\r` is.
    pub fn lines(&self, repeat: usize) -> Result<Vec<Bytes>, InputError> {
        let name = self.name();
        let read = |source: io::Result<Vec<u8>>| {
            source.map_err(|source| InputError::Read {
                path: name.clone(),
                source,
            })
        };
        let bytes = match self {
            Self::File(path) => read(std::fs::File::open(path).and_then(limited))?,
            Self::Stdin => read(limited(io::stdin().lock()))?,
        };
        if bytes.len() as u64 > MAX_INPUT_BYTES
            || (bytes.len() as u64).saturating_mul(repeat as u64) > MAX_INPUT_BYTES
        {
            return Err(InputError::TooLarge(name));
        }
        let lines = split(Bytes::from(bytes));
        if lines.is_empty() || repeat == 0 {
            return Err(InputError::Empty(name));
        }
        if let Some((at, line)) = lines
            .iter()
            .enumerate()
            .find(|(_, l)| l.len() > MAX_LINE_BYTES)
        {
            return Err(InputError::LineTooLong {
                path: name,
                line: at + 1,
                bytes: line.len(),
            });
        }
        let all = lines.len().saturating_mul(repeat);
        Ok(lines.iter().cycle().take(all).cloned().collect())
    }

    pub fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Stdin => "-".to_owned(),
        }
    }
}

fn limited(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MAX_INPUT_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Slices of `bytes`; a last line without `\n` counts, an empty rest does not.
fn split(bytes: Bytes) -> Vec<Bytes> {
    let mut lines = Vec::new();
    let mut begin = 0;
    for (at, _) in bytes.iter().enumerate().filter(|(_, b)| **b == b'\n') {
        lines.push(bytes.slice(begin..at));
        begin = at + 1;
    }
    if begin < bytes.len() {
        lines.push(bytes.slice(begin..));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(input: &'static [u8]) -> Vec<Vec<u8>> {
        split(Bytes::from_static(input))
            .into_iter()
            .map(|l| l.to_vec())
            .collect()
    }

    #[test]
    fn lines_keep_every_byte_but_the_line_feed() {
        assert_eq!(
            text(b"a\r\n\n\xff\xfe\n"),
            [b"a\r".to_vec(), b"".to_vec(), b"\xff\xfe".to_vec()]
        );
        assert_eq!(text(b"one\ntwo"), [b"one".to_vec(), b"two".to_vec()]);
        assert!(text(b"").is_empty());
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Input::File("/no/such/file".into()).lines(1).unwrap_err();
        assert!(error.to_string().contains("/no/such/file"), "{error}");
    }

    #[test]
    fn repetition_goes_round_the_input() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("in");
        std::fs::write(&path, "a\nb\n").unwrap();
        assert_eq!(
            Input::File(path).lines(2).unwrap(),
            ["a", "b", "a", "b"].map(Bytes::from)
        );
    }
}
