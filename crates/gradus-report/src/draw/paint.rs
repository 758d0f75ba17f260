//! Colours by role. Each role has a light and a dark value; accents keep their order and stay
//! distinct to colour-blind readers (blue, orange, green, purple, red, teal: neighbours differ in
//! lightness too).

use std::fmt::Write;

/// What a colour is for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Paint {
    /// Text and axes.
    Ink,
    /// Secondary text.
    Muted,
    /// Grid lines and borders.
    Grid,
    /// Faint fill behind things: bar tracks, empty tiles.
    Soft,
    /// The page itself: text on a strong fill.
    Surface,
    /// Data, by order of appearance; wraps round after [`Paint::ACCENTS`].
    Accent(usize),
    /// Something went wrong here.
    Alarm,
    /// A fixed colour, in every theme: data that *is* colour.
    Rgb(u8, u8, u8),
}

/// Where a picture will be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theme {
    /// White background: print, slides, PNG.
    Light,
    /// Dark background.
    Dark,
    /// No literal colours but class names, for SVG inside a page that carries [`style_sheet`].
    Page,
}

/// Name, light value, dark value.
const ROLES: [(&str, &str, &str); 12] = [
    ("ink", "#1a1d23", "#e8eaee"),
    ("muted", "#697180", "#98a1b0"),
    ("grid", "#e4e7ec", "#2c323c"),
    ("soft", "#f3f4f7", "#20252d"),
    ("surface", "#ffffff", "#14171c"),
    ("alarm", "#c42b3a", "#ff7b83"),
    ("a0", "#2563c9", "#6ea8ff"),
    ("a1", "#d9660f", "#ff9f55"),
    ("a2", "#178a63", "#4ecb9d"),
    ("a3", "#8450c4", "#bb93f2"),
    ("a4", "#b93263", "#f27ba4"),
    ("a5", "#0f8296", "#53c3d6"),
];

impl Paint {
    /// How many accents there are before they repeat.
    pub const ACCENTS: usize = 6;

    fn role(self) -> Option<&'static (&'static str, &'static str, &'static str)> {
        let index = match self {
            Paint::Ink => 0,
            Paint::Muted => 1,
            Paint::Grid => 2,
            Paint::Soft => 3,
            Paint::Surface => 4,
            Paint::Alarm => 5,
            Paint::Accent(i) => 6 + i % Self::ACCENTS,
            Paint::Rgb(..) => return None,
        };
        ROLES.get(index)
    }

    /// Class name of the role ("ink", "a0"); none for a fixed colour.
    pub(super) fn class(self) -> Option<&'static str> {
        self.role().map(|r| r.0)
    }

    /// Red, green, blue on a light page: for pictures, whose pixels know no theme.
    pub(crate) fn light_rgb(self) -> [u8; 3] {
        let hex = self.hex(Theme::Light);
        [1, 3, 5].map(|at| {
            let digits = hex.get(at..at + 2).unwrap_or_default();
            u8::from_str_radix(digits, 16).unwrap_or_default()
        })
    }

    /// The literal colour under a theme ([`Theme::Page`] is read as light).
    pub(super) fn hex(self, theme: Theme) -> String {
        match (self, self.role()) {
            (Paint::Rgb(r, g, b), _) => format!("#{r:02x}{g:02x}{b:02x}"),
            (_, Some(role)) if theme == Theme::Dark => role.2.to_owned(),
            (_, Some(role)) => role.1.to_owned(),
            (_, None) => "#000000".to_owned(),
        }
    }
}

/// The CSS that colours [`Theme::Page`] pictures: custom properties `--ink`, `--a0`, … for light,
/// dark and print, and the classes that use them.
#[must_use]
pub fn style_sheet() -> String {
    let mut css = String::new();
    let block = |dark: bool| {
        ROLES
            .iter()
            .fold(String::new(), |mut out, (name, light, night)| {
                let _ = write!(out, "--{name}:{};", if dark { night } else { light });
                out
            })
    };
    let _ = writeln!(css, ":root{{color-scheme:light dark;{}}}", block(false));
    let _ = writeln!(
        css,
        "@media (prefers-color-scheme:dark){{:root{{{}}}}}",
        block(true)
    );
    let _ = writeln!(
        css,
        "@media print{{:root{{color-scheme:light;{}}}}}",
        block(false)
    );
    for (name, _, _) in ROLES {
        let _ = writeln!(
            css,
            ".f-{name}{{fill:var(--{name})}}.s-{name}{{stroke:var(--{name})}}"
        );
    }
    css
}

#[cfg(test)]
mod tests {
    use super::*;

    /// WCAG 2.1 relative luminance and contrast ratio.
    fn contrast(a: &str, b: &str) -> f64 {
        let luminance = |hex: &str| {
            let channel = |i: usize| {
                let c = f64::from(u8::from_str_radix(&hex[i..i + 2], 16).unwrap()) / 255.0;
                if c <= 0.03928 {
                    c / 12.92
                } else {
                    ((c + 0.055) / 1.055).powf(2.4)
                }
            };
            0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
        };
        let (x, y) = (luminance(a), luminance(b));
        (x.max(y) + 0.05) / (x.min(y) + 0.05)
    }

    #[test]
    fn text_and_data_stand_out_from_the_page_in_both_themes() {
        for theme in [Theme::Light, Theme::Dark] {
            let page = Paint::Surface.hex(theme);
            for text in [Paint::Ink, Paint::Muted, Paint::Alarm] {
                let ratio = contrast(&text.hex(theme), &page);
                assert!(ratio >= 4.5, "{text:?} on {theme:?}: {ratio:.2}");
            }
            for i in 0..Paint::ACCENTS {
                let ratio = contrast(&Paint::Accent(i).hex(theme), &page);
                assert!(ratio >= 3.0, "accent {i} on {theme:?}: {ratio:.2}");
            }
        }
    }
}
