//! The first layer's weights as pictures: a weight of zero is middle grey, the largest of each
//! picture is full.
//!
//! ```text
//! byte = 127.5 + 127.5·w/s,   s = the 99.5th percentile of |w| within the filter
//! ```

use std::sync::Arc;

use crate::draw::{Figure, Paint, Pixels};
use crate::plot::{Tile, Tiles};
use crate::run::{FilterKind, Filters, Run};

/// More filters than this are not drawn, nor more than a quarter of it if they are as large as
/// images; the caption says how many there are.
const MOST: usize = 256;

/// Class templates of a linear classifier, or the kernels of the first convolution.
#[must_use]
pub fn filters(run: &Run) -> Option<Figure> {
    let filters = run.filters.as_ref()?;
    let [k, c, h, w] = filters.shape;
    let shown = k.min(if h.max(w) >= 16 { MOST / 4 } else { MOST });
    let tiles: Vec<Tile> = (0..shown).filter_map(|i| tile(filters, i)).collect();
    let many = if k > shown {
        format!(" The first {shown} of {k}.")
    } else {
        String::new()
    };
    let colour = match c {
        3 => "red, green and blue weights as colour",
        1 => "weights as grey",
        _ => "mean over the input channels as grey",
    };
    let scale =
        format!("Zero is middle grey; each is scaled by its own largest weight; {colour}.{many}");
    let (name, title, lead, columns, side, gap) = match filters.kind {
        FilterKind::Templates => {
            let columns = if k <= 10 { 5 } else { 10 };
            let side = if k <= 20 { 100.0 } else { 72.0 };
            (
                "templates",
                "Class templates",
                "Each class's row of W, shaped as an image.",
                columns,
                side,
                14.0,
            )
        }
        FilterKind::Filters => {
            // Kernels are a few pixels wide; what a dense layer sees is a whole image.
            let (side, columns) = match (h.max(w), shown) {
                (16.., _) => (72.0, 10),
                (_, 0..=64) => (44.0, 16.min(shown.max(1))),
                _ => (30.0, 24),
            };
            (
                "filters",
                "First-layer filters",
                "The kernels that see the image.",
                columns,
                side,
                6.0,
            )
        }
    };
    let layer = if filters.layer.is_empty() {
        format!("{k} of {c}×{h}×{w}.")
    } else {
        format!("Layer {}: {k} of {c}×{h}×{w}.", filters.layer)
    };
    let tiles = Tiles::new(name, title, tiles).grid(columns, side, gap);
    Some(tiles.caption(format!("{lead} {layer} {scale}")).figure())
}

fn tile(filters: &Filters, index: usize) -> Option<Tile> {
    let [_, c, h, w] = filters.shape;
    let area = h * w;
    let weights = filters
        .values
        .get(index * c * area..(index + 1) * c * area)?;
    let weight = |i: usize| weights[i].filter(|v| v.is_finite()).unwrap_or(0.0);

    let mut sizes: Vec<f64> = (0..weights.len()).map(|i| weight(i).abs()).collect();
    sizes.sort_by(f64::total_cmp);
    let largest = sizes[((sizes.len() - 1) as f64 * 0.995).round() as usize];
    let scale = if largest > 0.0 { largest } else { 1.0 };
    let byte = |v: f64| (127.5 + 127.5 * v / scale).round().clamp(0.0, 255.0) as u8;
    let colour = |p: usize| match c {
        3 => [0, 1, 2].map(|i| byte(weight(i * area + p))),
        _ => [byte((0..c).map(|i| weight(i * area + p)).sum::<f64>() / c as f64); 3],
    };
    let colours: Vec<[u8; 3]> = (0..area).map(colour).collect();
    let label = filters.labels.get(index);
    Some(Tile {
        pixels: Arc::new(Pixels::from_rgb(w, h, &colours).ok()?),
        lines: label.map(|l| (l.clone(), Paint::Ink)).into_iter().collect(),
        tip: label
            .cloned()
            .unwrap_or_else(|| format!("filter {index}, largest weight {largest:.3}")),
    })
}
