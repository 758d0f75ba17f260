//! A sheet of small images, scaled up with crisp pixels, each with lines of text below.

use std::sync::Arc;

use crate::draw::{Anchor, Figure, Mark, Paint, Pixels, Scene, Weight, ellipsis};

/// One image of a sheet.
#[derive(Debug, Clone)]
pub struct Tile {
    /// The image.
    pub pixels: Arc<Pixels>,
    /// Lines below it.
    pub lines: Vec<(String, Paint)>,
    /// What is shown while the pointer rests on it.
    pub tip: String,
}

/// A sheet of images.
#[derive(Debug, Clone)]
pub struct Tiles {
    name: String,
    title: String,
    caption: String,
    tiles: Vec<Tile>,
    columns: usize,
    side: f64,
    gap: f64,
}

impl Tiles {
    /// Images in reading order, eight a row, 84 units high and wide.
    pub fn new(name: impl Into<String>, title: impl Into<String>, tiles: Vec<Tile>) -> Self {
        let (name, title) = (name.into(), title.into());
        Self {
            name,
            title,
            caption: String::new(),
            tiles,
            columns: 8,
            side: 84.0,
            gap: 14.0,
        }
    }

    /// A sentence on how to read it.
    #[must_use]
    pub fn caption(mut self, text: impl Into<String>) -> Self {
        self.caption = text.into();
        self
    }

    /// Images a row (at least one), their side and the gap between them.
    #[must_use]
    pub fn grid(mut self, columns: usize, side: f64, gap: f64) -> Self {
        self.columns = columns.max(1);
        self.side = side.max(4.0);
        self.gap = gap.max(0.0);
        self
    }

    /// Lays the sheet out.
    #[must_use]
    pub fn figure(&self) -> Figure {
        let lines = self.tiles.iter().map(|t| t.lines.len()).max().unwrap_or(0) as f64;
        let (font, lead) = (11.0, 14.5);
        let (across, down) = (self.side + self.gap, self.side + self.gap + lines * lead);
        let columns = self.columns.min(self.tiles.len().max(1));
        let rows = self.tiles.len().div_ceil(columns).max(1);
        let width = columns as f64 * across - self.gap;
        let mut scene = Scene::new(width, rows as f64 * down - self.gap + 4.0);
        for (i, tile) in self.tiles.iter().enumerate() {
            let (x, y) = ((i % columns) as f64 * across, (i / columns) as f64 * down);
            // The longer side fills the square; the other keeps its proportion, centred.
            let (w, h) = (tile.pixels.width() as f64, tile.pixels.height() as f64);
            let scale = self.side / w.max(h);
            let (w, h) = (w * scale, h * scale);
            let (dx, dy) = ((self.side - w) / 2.0, (self.side - h) / 2.0);
            let image = Mark::image(x + dx, y + dy, w, h, Arc::clone(&tile.pixels));
            scene.push(if tile.tip.is_empty() {
                image
            } else {
                image.tip(&tile.tip)
            });
            for (l, (line, paint)) in tile.lines.iter().enumerate() {
                let text = ellipsis(line, font, Weight::Regular, self.side + 0.6 * self.gap);
                let base = y + self.side + 14.0 + l as f64 * lead;
                let mark = Mark::text(x + self.side / 2.0, base, text).size(font);
                scene.push(mark.fill(*paint).anchor(Anchor::Middle).tip(line));
            }
        }
        Figure::new(&self.name, &self.title, scene).caption(&self.caption)
    }
}
