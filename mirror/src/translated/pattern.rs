//! Names by pattern: `*` stands for any characters, everything else for itself.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pattern(pub String);

impl Pattern {
    pub fn matches(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or("");
        let Some(mut rest) = name.strip_prefix(first) else {
            return false;
        };
        let mut last = None;
        for part in parts {
            if let Some(middle) = last.replace(part) {
                let Some((_, after)) = rest.split_once(middle) else {
                    return false;
                };
                rest = after;
            }
        }
        last.map_or(rest.is_empty(), |end| rest.ends_with(end))
    }
}

/// Chosen by one of `include` and none of `exclude`.
pub fn chosen(name: &str, include: &[Pattern], exclude: &[Pattern]) -> bool {
    include.iter().any(|p| p.matches(name)) && !exclude.iter().any(|p| p.matches(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        let yes = [
            ("*", ""),
            ("*", "a"),
            ("a*", "a"),
            ("a*c", "abc"),
            ("*b*", "abc"),
            ("a", "a"),
            ("a*b*c", "axbyc"),
            ("", ""),
        ];
        let no = [
            ("a*", "b"),
            ("a*c", "ab"),
            ("a", "ab"),
            ("*b*", "ac"),
            ("a*bc", "abca"),
            ("ab*ba", "aba"),
        ];
        for (pattern, name) in yes {
            assert!(Pattern(pattern.into()).matches(name), "{pattern} {name}");
        }
        for (pattern, name) in no {
            assert!(!Pattern(pattern.into()).matches(name), "{pattern} {name}");
        }
    }
}
