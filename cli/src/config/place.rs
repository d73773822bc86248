//! Where in a TOML text a mistake stands, and the text without it.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// A key and its value.
pub struct Place {
    pub key: String,
    span: Range<usize>,
}

impl Place {
    /// The innermost key whose name or value holds the start of `at`.
    pub fn of(text: &str, at: &Range<usize>) -> Option<Self> {
        let table = DeTable::parse(text).ok()?;
        find(table.get_ref(), at.start)
    }

    /// `text` with the key and value as spaces: every other place keeps its line and column.
    pub fn blank(&self, text: &str) -> String {
        text.char_indices()
            .map(|(at, c)| {
                if self.span.contains(&at) && c != '\n' {
                    ' '
                } else {
                    c
                }
            })
            .collect()
    }
}

fn find(table: &DeTable<'_>, at: usize) -> Option<Place> {
    table.iter().find_map(|(key, value)| {
        let inner = match value.get_ref() {
            DeValue::Table(inner) => find(inner, at),
            _ => None,
        };
        if inner.is_some() {
            return inner;
        }
        let own = key.span().contains(&at) || value.span().contains(&at);
        let is_table_header =
            matches!(value.get_ref(), DeValue::Table(_)) && !text_value(&value.span(), &key.span());
        (own && !is_table_header).then(|| Place {
            key: key.get_ref().to_string(),
            span: key.span().start..value.span().end,
        })
    })
}

/// Line and column of the value of a dotted key, `broker.region`.
pub fn of_value(text: &str, dotted: &str) -> Option<(usize, usize)> {
    let table = DeTable::parse(text).ok()?;
    let mut inner = table.get_ref();
    let mut keys = dotted.split('.').peekable();
    while let Some(key) = keys.next() {
        let value = inner.get(key)?;
        match (keys.peek(), value.get_ref()) {
            (Some(_), DeValue::Table(next)) => inner = next,
            (Some(_), _) => return None,
            (None, _) => return Some(line_and_column(text, value.span().start)),
        }
    }
    None
}

/// An inline table follows its key; a `[table]` encloses or precedes it.
fn text_value(value: &Range<usize>, key: &Range<usize>) -> bool {
    value.start > key.end
}

/// Line and column, both from 1, of a byte position.
pub fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
    (line, column)
}

/// True when the text is TOML at all.
pub fn parses(text: &str) -> bool {
    DeTable::parse(text).is_ok()
}
