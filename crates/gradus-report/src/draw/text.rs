//! How wide a text is, from the font that is drawn.
//!
//! Inter (The Inter Project Authors, SIL Open Font License 1.1, `assets/Inter-LICENSE.txt`), subset
//! to Latin, Greek, Cyrillic and the signs that figures need. It is embedded, so pictures look the
//! same on a machine without fonts; characters outside the subset are measured as one em and drawn
//! with a system font where there is one.

use std::sync::OnceLock;

use ttf_parser::Face;

pub(super) static REGULAR: &[u8] = include_bytes!("../../assets/Inter-Regular-subset.ttf");
pub(super) static SEMIBOLD: &[u8] = include_bytes!("../../assets/Inter-SemiBold-subset.ttf");
pub(crate) static REGULAR_WOFF2: &[u8] = include_bytes!("../../assets/Inter-Regular-subset.woff2");
pub(crate) static SEMIBOLD_WOFF2: &[u8] =
    include_bytes!("../../assets/Inter-SemiBold-subset.woff2");

/// Weight of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Weight {
    /// 400.
    #[default]
    Regular,
    /// 600.
    Bold,
}

fn face(weight: Weight) -> &'static Face<'static> {
    static FACES: OnceLock<[Face<'static>; 2]> = OnceLock::new();
    let faces = FACES.get_or_init(|| {
        [REGULAR, SEMIBOLD].map(|bytes| Face::parse(bytes, 0).expect("the embedded font is valid"))
    });
    match weight {
        Weight::Regular => &faces[0],
        Weight::Bold => &faces[1],
    }
}

/// Whether the embedded font has every character of `text`.
pub(super) fn covered(text: &str) -> bool {
    text.chars()
        .all(|c| c.is_whitespace() || face(Weight::Regular).glyph_index(c).is_some())
}

/// Width in the scene's units of `text` set at `size` (the em, same units); without kerning, so a
/// little wide.
#[must_use]
pub fn text_width(text: &str, size: f64, weight: Weight) -> f64 {
    let face = face(weight);
    let em = f64::from(face.units_per_em());
    let advance = |c| {
        face.glyph_index(c)
            .and_then(|glyph| face.glyph_hor_advance(glyph))
    };
    text.chars()
        .map(|c| advance(c).map_or(1.0, |a| f64::from(a) / em) * size)
        .sum()
}

/// `text`, cut and ended with "…" if it is wider than `room`.
#[must_use]
pub fn ellipsis(text: &str, size: f64, weight: Weight, room: f64) -> String {
    if text_width(text, size, weight) <= room {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = text_width("…", size, weight);
    for c in text.chars() {
        used += text_width(c.encode_utf8(&mut [0; 4]), size, weight);
        if used > room {
            break;
        }
        kept.push(c);
    }
    format!("{}…", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_text_fits_and_says_so() {
        let name = "a class name of sixty characters, which is a lot of characters";
        let cut = ellipsis(name, 11.0, Weight::Regular, 100.0);
        assert!(
            cut.ends_with('…') && text_width(&cut, 11.0, Weight::Regular) <= 100.0,
            "{cut}"
        );
        assert_eq!(ellipsis("cat", 11.0, Weight::Regular, 100.0), "cat");
    }

    #[test]
    fn the_signs_of_the_figures_are_in_the_embedded_font() {
        assert!(covered("η ‖g‖ 10⁻³ ×10⁴ → ± − … · é ß Å λ Ж ✓ % ₀"));
        assert!(!covered("猫"));
    }
}
