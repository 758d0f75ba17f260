//! A scene as PNG: the very SVG that is written, drawn by resvg with the embedded font.
//!
//! System fonts are consulted only for characters which the embedded one lacks, so that ordinary
//! figures come out the same, to the byte, on every machine.

use std::sync::{Arc, OnceLock};

use resvg::{tiny_skia, usvg};
use usvg::fontdb::Database;

use super::{Scene, Theme, svg, text};

/// The largest picture drawn, in pixels: 64 million (256 MB while drawing).
const MOST_PIXELS: f64 = 64e6;

pub(super) fn write(
    scene: &Scene,
    theme: Theme,
    scale: f64,
    title: &str,
) -> Result<Vec<u8>, String> {
    let size = [scene.width * scale, scene.height * scale];
    if !(size[0] >= 1.0 && size[1] >= 1.0 && size[0] * size[1] <= MOST_PIXELS) {
        return Err(format!(
            "{:.0}×{:.0} pixels: expected at least one and at most {MOST_PIXELS:.0}",
            size[0], size[1]
        ));
    }
    let options = usvg::Options {
        fontdb: fonts(scene.texts().all(text::covered)),
        font_family: "Inter".into(),
        ..usvg::Options::default()
    };
    let svg = svg::write(scene, theme, title);
    let tree = usvg::Tree::from_str(&svg, &options).map_err(|e| e.to_string())?;
    let mut pixmap = tiny_skia::Pixmap::new(size[0].ceil() as u32, size[1].ceil() as u32)
        .ok_or("no memory for the picture")?;
    let zoom = tiny_skia::Transform::from_scale(scale as f32, scale as f32);
    resvg::render(&tree, zoom, &mut pixmap.as_mut());
    pixmap.encode_png().map_err(|e| e.to_string())
}

fn fonts(embedded_is_enough: bool) -> Arc<Database> {
    static EMBEDDED: OnceLock<Arc<Database>> = OnceLock::new();
    static WITH_SYSTEM: OnceLock<Arc<Database>> = OnceLock::new();
    let build = |system: bool| {
        let mut fonts = Database::new();
        fonts.load_font_data(text::REGULAR.to_vec());
        fonts.load_font_data(text::SEMIBOLD.to_vec());
        if system {
            fonts.load_system_fonts();
        }
        fonts.set_sans_serif_family("Inter");
        Arc::new(fonts)
    };
    let slot = if embedded_is_enough {
        &EMBEDDED
    } else {
        &WITH_SYSTEM
    };
    Arc::clone(slot.get_or_init(|| build(!embedded_is_enough)))
}
