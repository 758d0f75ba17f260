//! A scene as SVG 1.1 text: no scripts, no outside references, numbers to a hundredth of a pixel.

use std::fmt::Write;

use base64::prelude::{BASE64_STANDARD, Engine};

use super::scene::Geometry;
use super::{Anchor, Mark, Paint, Scene, Theme, Weight};

/// The faces asked for, the embedded one first.
pub(super) const FONTS: &str = "Inter, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif";

/// Text made safe for element content and attribute values; control characters, which XML cannot
/// hold, are dropped.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(' '),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => out.push(c),
        }
    }
    out
}

/// A coordinate: two decimals, no trailing zeros, never NaN.
fn n(x: f64) -> String {
    if !x.is_finite() {
        return "0".into();
    }
    let text = format!("{x:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" {
        "0".into()
    } else {
        text.into()
    }
}

/// The whole `<svg>` element. `title` names the picture to screen readers.
pub(super) fn write(scene: &Scene, theme: Theme, title: &str) -> String {
    let (w, h) = (n(scene.width), n(scene.height));
    let mut out = String::new();
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w} {h}\" "
    );
    if theme != Theme::Page {
        let _ = write!(out, "width=\"{w}\" height=\"{h}\" ");
    }
    let _ = writeln!(
        out,
        "role=\"img\" aria-label=\"{}\" font-family=\"{FONTS}\">",
        escape(title)
    );
    for mark in &scene.marks {
        element(&mut out, mark, theme);
    }
    out.push_str("</svg>\n");
    out
}

fn element(out: &mut String, mark: &Mark, theme: Theme) {
    let style = style(mark, theme);
    let name = match &mark.geometry {
        Geometry::Rect {
            x,
            y,
            width,
            height,
            radius,
        } => {
            let (x, y, w, h) = (n(*x), n(*y), n(*width), n(*height));
            let _ = write!(
                out,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\""
            );
            if *radius > 0.0 {
                let _ = write!(out, " rx=\"{}\"", n(*radius));
            }
            "rect"
        }
        Geometry::Circle { x, y, radius } => {
            let _ = write!(
                out,
                "<circle cx=\"{}\" cy=\"{}\" r=\"{}\"",
                n(*x),
                n(*y),
                n(*radius)
            );
            "circle"
        }
        Geometry::Path { strokes, closed } => {
            let _ = write!(out, "<path d=\"{}\"", path_data(strokes, *closed));
            if !closed {
                out.push_str(" stroke-linejoin=\"round\" stroke-linecap=\"round\"");
            }
            "path"
        }
        Geometry::Text {
            x,
            y,
            text,
            size,
            anchor,
            weight,
            angle,
        } => {
            let (x, y) = (n(*x), n(*y));
            let _ = write!(out, "<text x=\"{x}\" y=\"{y}\" font-size=\"{}\"", n(*size));
            match anchor {
                Anchor::Start => {}
                Anchor::Middle => out.push_str(" text-anchor=\"middle\""),
                Anchor::End => out.push_str(" text-anchor=\"end\""),
            }
            if *weight == Weight::Bold {
                out.push_str(" font-weight=\"600\"");
            }
            if *angle != 0.0 {
                let _ = write!(out, " transform=\"rotate({} {x} {y})\"", n(*angle));
            }
            let _ = write!(out, "{style}>{}", escape(text));
            close(out, mark, "text");
            return;
        }
        Geometry::Image {
            x,
            y,
            width,
            height,
            pixels,
            smooth,
        } => {
            let (x, y, w, h) = (n(*x), n(*y), n(*width), n(*height));
            let _ = write!(
                out,
                "<image x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\""
            );
            let crisp = if *smooth {
                ""
            } else {
                " style=\"image-rendering:pixelated\""
            };
            let data = BASE64_STANDARD.encode(pixels.png());
            let _ = write!(
                out,
                " preserveAspectRatio=\"none\"{crisp} href=\"data:image/png;base64,{data}\""
            );
            "image"
        }
    };
    out.push_str(&style);
    if mark.tip.is_some() {
        out.push('>');
        close(out, mark, name);
    } else {
        out.push_str("/>\n");
    }
}

fn close(out: &mut String, mark: &Mark, name: &str) {
    if let Some(tip) = &mark.tip {
        let _ = write!(out, "<title>{}</title>", escape(tip));
    }
    let _ = writeln!(out, "</{name}>");
}

fn path_data(strokes: &[Vec<[f64; 2]>], closed: bool) -> String {
    let mut d = String::new();
    for stroke in strokes {
        for (i, [x, y]) in stroke.iter().enumerate() {
            let command = if i == 0 { 'M' } else { 'L' };
            let _ = write!(d, "{command}{} {}", n(*x), n(*y));
        }
        if closed && !stroke.is_empty() {
            d.push('Z');
        }
    }
    d
}

/// Fill, stroke, dash and opacity: as classes on a page (with literal attributes only for fixed
/// colours), as attributes elsewhere.
fn style(mark: &Mark, theme: Theme) -> String {
    let mut out = String::new();
    let mut classes = Vec::new();
    let mut colour = |out: &mut String, attribute: &str, prefix: &str, paint: Paint| match paint
        .class()
        .filter(|_| theme == Theme::Page)
    {
        Some(class) => classes.push(format!("{prefix}-{class}")),
        None => {
            let _ = write!(out, " {attribute}=\"{}\"", paint.hex(theme));
        }
    };
    let image = matches!(mark.geometry, Geometry::Image { .. });
    match mark.fill {
        Some(paint) => colour(&mut out, "fill", "f", paint),
        None if image => {}
        None => out.push_str(" fill=\"none\""),
    }
    if let Some((paint, width)) = mark.stroke {
        colour(&mut out, "stroke", "s", paint);
        let _ = write!(out, " stroke-width=\"{}\"", n(width));
    }
    if let Some([on, off]) = mark.dash {
        let _ = write!(out, " stroke-dasharray=\"{} {}\"", n(on), n(off));
    }
    if mark.opacity < 1.0 {
        let _ = write!(out, " opacity=\"{}\"", n(mark.opacity));
    }
    if !classes.is_empty() {
        let _ = write!(out, " class=\"{}\"", classes.join(" "));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_never_nan() {
        assert_eq!(
            [n(1.0), n(0.126), n(-0.001), n(f64::NAN)],
            ["1", "0.13", "0", "0"]
        );
    }

    #[test]
    fn text_cannot_leave_its_element() {
        assert_eq!(
            escape("<b a=\"1\">&'\u{1}"),
            "&lt;b a=&quot;1&quot;&gt;&amp;&#39;"
        );
    }
}
