//! Data goes to stdout, as a table for people or JSON for programs; everything else goes to stderr.

use std::io::{self, Write};

use comfy_table::{Table, presets};
use serde::Serialize;

use crate::args::Format;

/// Prints a value as JSON or, for people, as what `table` makes of it.
pub fn print<T: Serialize>(
    format: Format,
    value: &T,
    table: impl FnOnce(&T) -> String,
) -> anyhow::Result<()> {
    match format {
        Format::Json => line(&serde_json::to_string_pretty(value)?),
        Format::Table => line(table(value).trim_end()),
    }
}

/// One line to stdout. A reader that has gone away ends the program quietly, as it does for others.
pub fn line(text: &str) -> anyhow::Result<()> {
    bytes(text.as_bytes())
}

/// Bytes and a line feed to stdout.
pub fn bytes(text: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text)
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush())?;
    Ok(())
}

/// A remark to stderr.
pub fn note(text: &str) {
    // Nothing is left to tell it to if stderr is closed.
    let _closed = writeln!(io::stderr().lock(), "{text}");
}

/// A plain table: two spaces between columns, no lines.
pub fn table<const N: usize>(
    head: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(head);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
        .lines()
        .map(|l| l.trim_end().to_owned())
        .collect::<Vec<_>>()
        .join("\n")
}

/// `None` as a dash.
pub fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |v| v.to_string())
}
