//! Looking at a page: whether it is sane, and its skeleton.

use resvg::usvg::roxmltree;

/// Panics unless the text is a sane page: parses as XML (void elements apart), asks for nothing
/// outside, runs nothing.
pub(crate) fn check_page(page: &str) {
    let void = regexless_close_void(page);
    let tree = roxmltree::Document::parse_with_options(
        &void,
        roxmltree::ParsingOptions {
            allow_dtd: true,
            ..Default::default()
        },
    );
    let tree = tree.unwrap_or_else(|e| panic!("not well formed: {e}"));
    for node in tree.descendants().filter(|n| n.is_element()) {
        assert_ne!(node.tag_name().name(), "script");
        assert_ne!(node.tag_name().name(), "link");
        for attribute in node.attributes() {
            assert!(
                !attribute.name().starts_with("on"),
                "event handler {}",
                attribute.name()
            );
            if matches!(attribute.name(), "src" | "href") {
                let value = attribute.value();
                assert!(
                    value.starts_with("data:") || value.starts_with('#'),
                    "outside: {value:.60}"
                );
            }
        }
    }
    let outside = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!outside.contains("http://") && !outside.contains("https://"));
    assert!(!page.contains("NaN") && !page.contains(">inf<"));
}

/// HTML's void elements closed, so that the page can be read as XML.
fn regexless_close_void(page: &str) -> String {
    let mut out = String::with_capacity(page.len());
    let mut rest = page.trim_start_matches("<!DOCTYPE html>");
    while let Some(at) = rest.find('<') {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let end = tag.find('>').expect("a tag ends");
        let void = ["<meta", "<img", "<br"].iter().any(|v| tag.starts_with(v));
        out.push_str(&tag[..end]);
        out.push_str(if void { "/>" } else { ">" });
        // A bare `open` attribute is HTML's; XML wants a value.
        rest = &tag[end + 1..];
    }
    out.push_str(rest);
    out.replace(" open>", " open=\"\">")
}

/// The page's skeleton: headings, figures, tables by size, and the numbers of each picture's marks.
pub(crate) fn outline(page: &str) -> String {
    let page = regexless_close_void(page);
    let options = roxmltree::ParsingOptions {
        allow_dtd: true,
        ..Default::default()
    };
    let tree = roxmltree::Document::parse_with_options(&page, options).unwrap();
    let mut out = String::new();
    let text = |n: roxmltree::Node| {
        n.descendants()
            .filter(|d| d.is_text())
            .filter_map(|d| d.text())
            .collect::<String>()
    };
    for node in tree.descendants() {
        match node.tag_name().name() {
            name @ ("h1" | "h2" | "h3" | "summary" | "th" | "dt") => {
                out += &format!("{name} {}\n", text(node).trim());
            }
            "section" => out += &format!("\nsection #{}\n", node.attribute("id").unwrap_or("")),
            "li" if node.parent().and_then(|p| p.attribute("class")) == Some("notices") => {
                out += &format!("notice {}\n", text(node));
            }
            "svg" => {
                let kinds = ["rect", "circle", "path", "text", "image"].map(|kind| {
                    let n = node
                        .descendants()
                        .filter(|d| d.tag_name().name() == kind)
                        .count();
                    format!("{n} {kind}")
                });
                out += &format!(
                    "svg {}: {}\n",
                    node.attribute("viewBox").unwrap_or(""),
                    kinds.join(", ")
                );
            }
            "tbody" => {
                let rows = node.children().filter(|c| c.is_element()).count();
                out += &format!("table of {rows} rows\n");
            }
            _ => {}
        }
    }
    out
}
