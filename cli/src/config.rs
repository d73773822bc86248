//! Configuration files: everything wrong with one is said at once, with place, cause and fix.

mod place;
mod rules;

use std::{
    fmt,
    fs::File,
    io::{Error, ErrorKind, Read},
    path::Path,
};

use whimbrel_dev::ProcessConfig;

use place::Place;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub code: &'static str,
    pub message: String,
    /// Line and column from 1; `None` for the file as a whole.
    pub at: Option<(usize, usize)>,
    pub fix: Option<String>,
}

/// All that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    pub file: String,
    pub problems: Vec<Problem>,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            problem.tell(f, "error", &self.file)?;
        }
        write!(f, "{} problem(s); nothing was started", self.problems.len())
    }
}

impl Problem {
    fn tell(&self, f: &mut impl fmt::Write, kind: &str, file: &str) -> fmt::Result {
        writeln!(f, "{kind}[{}]: {}", self.code, self.message)?;
        match self.at {
            Some((line, column)) => writeln!(f, "  at {file}:{line}:{column}")?,
            None => writeln!(f, "  in {file}")?,
        }
        if let Some(fix) = &self.fix {
            writeln!(f, "  fix: {fix}")?;
        }
        writeln!(f, "  more: whimbrel explain {}", self.code)
    }
}

/// What a sound file would better not say; empty for nothing.
pub fn warnings(path: &Path, config: &ProcessConfig) -> std::io::Result<String> {
    let text = read(path)?;
    let mut told = String::new();
    for warning in rules::warnings(config, &text) {
        let written = warning.tell(&mut told, "warning", &path.display().to_string());
        written.map_err(Error::other)?;
    }
    Ok(told)
}

/// Reads and checks a file.
pub fn load(path: &Path) -> Result<ProcessConfig, Problems> {
    let file = path.display().to_string();
    let text = read(path).map_err(|error| Problems {
        file: file.clone(),
        problems: vec![Problem {
            code: "WB-001",
            message: error.to_string(),
            at: None,
            fix: None,
        }],
    })?;
    check(&text).map_err(|problems| Problems { file, problems })
}

/// The whole file, if it can be a configuration: what never ends or is some other file is not read into memory.
fn read(path: &Path) -> std::io::Result<String> {
    /// A site's file is a few KiB.
    const LONGEST: u64 = 1 << 20;
    let mut text = String::new();
    let read = File::open(path)?
        .take(LONGEST + 1)
        .read_to_string(&mut text)?;
    if read as u64 > LONGEST {
        let message = "longer than 1 MiB: this is not a configuration file";
        return Err(Error::new(ErrorKind::FileTooLarge, message));
    }
    Ok(text)
}

/// Parses `text` again and again, each time without what was wrong before, so that one mistake does not
/// hide the next; then applies the rules that span several keys.
pub fn check(text: &str) -> Result<ProcessConfig, Vec<Problem>> {
    /// More than this is not a configuration with mistakes but another file.
    const MOST: usize = 50;
    let mut left = text.to_owned();
    let mut problems: Vec<Problem> = Vec::new();
    let mut removed: Vec<String> = Vec::new();
    while problems.len() < MOST {
        let error = match toml::from_str::<ProcessConfig>(&left) {
            Ok(config) if problems.is_empty() => {
                problems.extend(rules::check(&config, text));
                return if problems.is_empty() {
                    Ok(config)
                } else {
                    Err(problems)
                };
            }
            Ok(_) => return Err(problems),
            Err(error) => error,
        };
        let follows_from_removal = removed
            .iter()
            .any(|key| error.message().contains(&format!("missing field `{key}`")));
        if follows_from_removal {
            return Err(problems);
        }
        problems.push(describe(&error, text));
        match error.span().and_then(|span| Place::of(&left, &span)) {
            Some(place) => {
                removed.push(place.key.clone());
                left = place.blank(&left);
            }
            None => return Err(problems),
        }
    }
    Err(problems)
}

fn describe(error: &toml::de::Error, text: &str) -> Problem {
    let message = error.message().to_owned();
    let at = error
        .span()
        .map(|span| place::line_and_column(text, span.start));
    let (code, fix) = if message.contains("unknown field") {
        ("WB-003", nearest(&message))
    } else if place::parses(text) {
        ("WB-004", None)
    } else {
        ("WB-002", None)
    };
    Problem {
        code,
        message,
        at,
        fix,
    }
}

/// The known name closest to an unknown one, from serde's own list of what it expected.
fn nearest(message: &str) -> Option<String> {
    let mut names = message.split('`').skip(1).step_by(2);
    let unknown = names.next()?;
    let best = names.max_by(|a, b| {
        strsim::jaro_winkler(unknown, a).total_cmp(&strsim::jaro_winkler(unknown, b))
    })?;
    (strsim::jaro_winkler(unknown, best) > 0.7).then(|| format!("did you mean `{best}`?"))
}

#[cfg(test)]
mod tests;
