//! Stdout for results, stderr for talk.

use std::io::{self, Write};

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};
use serde::Serialize;

/// Writes `text` and a line end to stdout.
///
/// # Errors
/// The operating system's; a reader that left is made a success in [`crate::failure`].
pub(crate) fn line(text: impl AsRef<str>) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_ref().as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()?;
    Ok(())
}

/// Writes `value` as one JSON object to stdout.
///
/// # Errors
/// As [`line`].
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    line(serde_json::to_string_pretty(value)?)
}

/// Says something on stderr, unless `quiet`. Nobody listening is no failure.
pub(crate) fn say(quiet: bool, text: impl AsRef<str>) {
    if !quiet {
        let _ = writeln!(io::stderr(), "{}", text.as_ref());
    }
}

/// `error: …`, in red where the terminal and `NO_COLOR` allow it (anstream strips it elsewhere).
pub(crate) fn error_line(message: &str) -> String {
    format!("\u{1b}[1;31merror:\u{1b}[0m {message}\n")
}

/// Columns two spaces apart, a rule below the header.
const STYLE: TableStyle =
    TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// A table with a rule under its header; the columns in `right` are aligned to the right. On a
/// terminal, long cells are wrapped to its width.
pub(crate) fn table(header: &[&str], right: &[usize], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table
        .load_style(STYLE)
        .set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header.to_vec());
    for row in rows {
        table.add_row(row);
    }
    let last = header.len().saturating_sub(1);
    for place in 0..header.len() {
        if let Some(column) = table.column_mut(place) {
            column.set_padding((0, if place == last { 0 } else { 3 }));
            if right.contains(&place) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect::<Vec<_>>()
        .join("\n")
}

/// The columns of the terminal that stdout is, if it is one.
pub(crate) fn terminal_width() -> Option<usize> {
    Table::new().width().map(usize::from)
}

/// Lines `name   value`, the values in one column.
pub(crate) fn pairs(rows: &[(&str, String)]) -> String {
    let width = rows
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or(0);
    let lines: Vec<String> = rows
        .iter()
        .map(|(name, value)| format!("{name:width$}   {value}").trim_end().to_owned())
        .collect();
    lines.join("\n")
}
