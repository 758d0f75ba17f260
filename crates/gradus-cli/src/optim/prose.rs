//! Markdown of doc comments as text for a terminal.
//!
//! Only what the library's comments use: paragraphs, lists, tables, fenced blocks, links and
//! backquotes.

use crate::output::terminal_width;

/// The largest width of a line of prose; on a narrower terminal, its width.
const WIDTH: usize = 88;

/// The comment without the space that follows the slashes.
pub(crate) fn unindented(markdown: &str) -> String {
    let lines: Vec<&str> = markdown
        .lines()
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .collect();
    lines.join("\n").trim_end().to_owned()
}

/// The whole comment: prose wrapped, formulas and code indented.
pub(crate) fn rendered(markdown: &str) -> String {
    rendered_to(
        markdown,
        terminal_width().map_or(WIDTH, |width| width.min(WIDTH)),
    )
}

fn rendered_to(markdown: &str, width: usize) -> String {
    let mut blocks = Vec::new();
    let mut paragraph = Vec::new();
    let mut fence: Option<Vec<String>> = None;
    let end = |paragraph: &mut Vec<String>, blocks: &mut Vec<String>| {
        if !paragraph.is_empty() {
            blocks.push(wrapped(&plain(&paragraph.join(" ")), width));
            paragraph.clear();
        }
    };
    for line in unindented(markdown).lines() {
        if let Some(info) = line.trim_start().strip_prefix("```") {
            match fence.take() {
                Some(lines) => blocks.push(lines.join("\n")),
                None => {
                    end(&mut paragraph, &mut blocks);
                    if info.trim().is_empty() || info.contains("rust") {
                        blocks.push("In Rust:".to_owned());
                    }
                    fence = Some(Vec::new());
                }
            }
        } else if let Some(lines) = &mut fence {
            // Lines that rustdoc hides belong to the test, not to the text.
            if !(line == "#" || line.starts_with("# ")) {
                lines.push(format!("    {line}").trim_end().to_owned());
            }
        } else if line.trim().is_empty() {
            end(&mut paragraph, &mut blocks);
        } else if line.starts_with(['|', '-', '#']) {
            // Rows, items and headings keep their lines.
            end(&mut paragraph, &mut blocks);
            let row = plain(line.trim_start_matches(['#', ' ']));
            match blocks.last_mut() {
                Some(last) if last.starts_with(['|', '-']) => {
                    last.push('\n');
                    last.push_str(&row);
                }
                _ => blocks.push(row),
            }
        } else {
            paragraph.push(line.trim().to_owned());
        }
    }
    end(&mut paragraph, &mut blocks);
    blocks.join("\n\n")
}

/// Links and emphasis as the words alone; names keep their backquotes.
pub(crate) fn plain(markdown: &str) -> String {
    let mut out = String::new();
    let mut rest = markdown;
    while let Some(open) = rest.find('[') {
        let (before, link) = rest.split_at(open);
        out.push_str(before);
        let close = link.find(']');
        let words = close.map(|close| &link[1..close]);
        let after = close.map_or("", |close| &link[close + 1..]);
        match (words, after.strip_prefix('(')) {
            // [words](target)
            (Some(words), Some(target)) if target.contains(')') => {
                out.push_str(words);
                rest = &target[target.find(')').map_or(0, |end| end + 1)..];
            }
            // [`Name`], a link of rustdoc's
            (Some(words), _) if words.starts_with('`') && words.ends_with('`') => {
                out.push_str(words);
                rest = after;
            }
            // A bracket of mathematics.
            _ => {
                out.push('[');
                rest = &link[1..];
            }
        }
    }
    out.push_str(rest);
    out.replace('*', "").replace("\\_", "_")
}

fn wrapped(text: &str, width: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doc_comment_reads_well_in_a_terminal() {
        let comment = " A *rule*: see [`Adam`] and [the paper](https://example.org/a), in [0, 1).\n \n \
                       ```text\n v ← μ·v\n   + g\n ```\n \n ```\n let x = 1;\n # hidden();\n ```\n - one\n - two\n";
        assert_eq!(
            rendered(comment),
            "A rule: see `Adam` and the paper, in [0, 1).\n\n    v ← μ·v\n      + g\n\n\
             In Rust:\n\n    let x = 1;\n\n- one\n- two"
        );
    }

    #[test]
    fn long_lines_are_wrapped_between_words() {
        for width in [WIDTH, 40, 3] {
            let text = rendered_to(&"word ".repeat(60), width);
            assert!(text.lines().count() > 1);
            assert!(
                text.lines()
                    .all(|line| line.chars().count() <= width.max(4))
            );
            assert_eq!(text.split_whitespace().count(), 60);
        }
    }
}
