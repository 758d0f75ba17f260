//! What the documents that commands write have in common: who wrote them, where and when; tables.

use gradus_train::machine::Machine;

/// The title, the command that repeats the document, versions, machine and time.
pub(crate) fn head(
    title: &str,
    command: &str,
    machine: &Machine,
    time: &str,
    versions: &[&str],
) -> String {
    let mut text = format!(
        "# {title}\n\n\
         Written by `{command}`; do not edit. Gradus {}, Burn {}, {}, {} ({} cores, {:.0} GiB), {}; {time}.\n",
        machine.gradus,
        machine.burn,
        machine.rustc,
        machine.cpu,
        machine.cores,
        machine.memory_bytes as f64 / (1u64 << 30) as f64,
        machine.os,
    );
    if !versions.is_empty() {
        text.push_str(&format!("\nBeside: {}.\n", versions.join(", ")));
    }
    text
}

/// A table whose first column is text and whose others are numbers, aligned to the right.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let rows: Vec<&[String]> = rows.iter().map(<[String; N]>::as_slice).collect();
    table_of(&header, &rows)
}

/// As [`table`], where the number of columns is known only when it runs.
pub(crate) fn table_of(header: &[&str], rows: &[&[String]]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let names: Vec<String> = header.iter().map(|cell| (*cell).to_owned()).collect();
    let rule: Vec<String> = (0..header.len())
        .map(|column| if column == 0 { "---" } else { "---:" }.to_owned())
        .collect();
    let rows: String = rows.iter().map(|row| line(row)).collect();
    format!("{}{}{rows}", line(&names), line(&rule))
}
