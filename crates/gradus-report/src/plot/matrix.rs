//! A table of shares as shades: rows and columns named, the strength of a cell's colour is its
//! value.

use crate::draw::{Anchor, Figure, Mark, Paint, Pixels, Scene, Weight, ellipsis, text_width};

/// The most room a name gets, in CSS pixels.
const LONGEST_NAME: f64 = 150.0;
/// The longest side of a matrix that is one picture, in its pixels and in CSS pixels.
const PICTURE: usize = 1000;
/// Room for an axis title.
const TITLE: f64 = 22.0;

/// A matrix of values in `[0, 1]`.
#[derive(Debug, Clone)]
pub struct Matrix {
    name: String,
    title: String,
    caption: String,
    row_title: String,
    column_title: String,
    rows: Vec<String>,
    columns: Vec<String>,
    shares: Vec<Vec<f64>>,
    texts: Vec<Vec<String>>,
    tips: Vec<Vec<String>>,
    diagonal: bool,
}

impl Matrix {
    /// With more rows or columns than this the cells are one picture, without texts and tips: a mark
    /// for each of a million cells would be a page that no browser opens.
    pub const MOST_MARKED: usize = 200;

    /// `shares[i][j]` is the strength of row i, column j; what is missing or not finite stays
    /// empty.
    pub fn new(
        name: impl Into<String>,
        title: impl Into<String>,
        rows: Vec<String>,
        columns: Vec<String>,
        shares: Vec<Vec<f64>>,
    ) -> Self {
        Self {
            name: name.into(),
            title: title.into(),
            caption: String::new(),
            row_title: String::new(),
            column_title: String::new(),
            rows,
            columns,
            shares,
            texts: Vec::new(),
            tips: Vec::new(),
            diagonal: false,
        }
    }

    /// A sentence on how to read it.
    #[must_use]
    pub fn caption(mut self, text: impl Into<String>) -> Self {
        self.caption = text.into();
        self
    }

    /// What rows and columns are.
    #[must_use]
    pub fn axes(mut self, rows: impl Into<String>, columns: impl Into<String>) -> Self {
        self.row_title = rows.into();
        self.column_title = columns.into();
        self
    }

    /// A text in each cell.
    #[must_use]
    pub fn texts(mut self, texts: Vec<Vec<String>>) -> Self {
        self.texts = texts;
        self
    }

    /// A text for each cell, shown while the pointer rests on it.
    #[must_use]
    pub fn tips(mut self, tips: Vec<Vec<String>>) -> Self {
        self.tips = tips;
        self
    }

    /// Cells off the diagonal in a second colour: what is right and what is wrong.
    #[must_use]
    pub fn tell_diagonal_apart(mut self) -> Self {
        self.diagonal = true;
        self
    }

    /// Lays it out. A cell is 42 units wide for a few classes and 10.5 for a hundred; past
    /// [`MOST_MARKED`](Self::MOST_MARKED) the whole is one picture of at most 1000 pixels a side.
    #[must_use]
    pub fn figure(&self) -> Figure {
        let most = self.rows.len().max(self.columns.len()).max(1);
        let cell = match most {
            0..=12 => 42.0,
            13..=20 => 32.0,
            21..=50 => 17.0,
            51..=100 => 10.5,
            _ => PICTURE as f64 / most as f64,
        };
        let font = (cell * 0.9_f64).min(12.0);
        let gap = if cell >= 30.0 { 2.0 } else { 0.5 };
        let named = font >= 5.0;
        let room = |names: &[String]| {
            let widest = names.iter().map(|n| text_width(n, font, Weight::Regular));
            if named {
                widest.fold(0.0, f64::max).min(LONGEST_NAME) + 8.0
            } else {
                4.0
            }
        };
        let (row_room, column_room) = (room(&self.rows), room(&self.columns));
        // Names of narrow columns stand upright; of wide ones they lean, and the last leans past
        // the right edge.
        let angle: f64 = if cell < 20.0 { -90.0 } else { -45.0 };
        let lean = angle.to_radians();
        let (rise, overhang) = (
            column_room * -lean.sin() + font * lean.cos(),
            column_room * lean.cos(),
        );

        let left = row_room
            + if self.row_title.is_empty() {
                0.0
            } else {
                TITLE
            };
        let top = rise
            + 4.0
            + if self.column_title.is_empty() {
                0.0
            } else {
                TITLE
            };
        let (w, h) = (
            self.columns.len() as f64 * cell,
            self.rows.len() as f64 * cell,
        );
        let mut scene = Scene::new(left + w + (overhang - cell / 2.0).max(4.0), top + h + 4.0);

        if !self.column_title.is_empty() {
            let title = Mark::text(left + w / 2.0, 12.0, &self.column_title);
            scene.push(title.fill(Paint::Muted).anchor(Anchor::Middle));
        }
        if !self.row_title.is_empty() {
            let title = Mark::text(12.0, top + h / 2.0, &self.row_title).turned(-90.0);
            scene.push(title.fill(Paint::Muted).anchor(Anchor::Middle));
        }
        if named {
            for (i, name) in self.rows.iter().enumerate() {
                let y = top + (i as f64 + 0.5) * cell + font * 0.35;
                let text = ellipsis(name, font, Weight::Regular, LONGEST_NAME);
                let mark = Mark::text(left - 8.0, y, &text)
                    .size(font)
                    .anchor(Anchor::End);
                scene.push(with_full_name(mark, &text, name));
            }
            for (j, name) in self.columns.iter().enumerate() {
                let x = left + (j as f64 + 0.5) * cell;
                let text = ellipsis(name, font, Weight::Regular, LONGEST_NAME);
                let dx = if angle == -90.0 { font * 0.35 } else { 2.0 };
                let mark = Mark::text(x + dx, top - 7.0, &text)
                    .size(font)
                    .turned(angle);
                scene.push(with_full_name(mark, &text, name));
            }
        }
        scene.push(Mark::rect(left, top, w, h).fill(Paint::Soft).rounded(gap));
        if most > Self::MOST_MARKED {
            if let Some(pixels) = self.picture() {
                scene.push(Mark::image(left, top, w, h, pixels));
            }
            return Figure::new(&self.name, &self.title, scene).caption(&self.caption);
        }
        for (i, row) in self.shares.iter().enumerate().take(self.rows.len()) {
            for (j, &share) in row.iter().enumerate().take(self.columns.len()) {
                if share > 0.0 {
                    let corner = [left + j as f64 * cell, top + i as f64 * cell];
                    self.draw_cell(&mut scene, (i, j), share, corner, (cell, gap));
                }
            }
        }
        Figure::new(&self.name, &self.title, scene).caption(&self.caption)
    }

    /// The cells as pixels. Of several cells that share a pixel the strongest is seen.
    fn picture(&self) -> Option<Pixels> {
        let (rows, columns) = (self.rows.len(), self.columns.len());
        let (height, width) = (rows.min(PICTURE), columns.min(PICTURE));
        let mut strongest = vec![(0.0_f64, false); height * width];
        for (i, row) in self.shares.iter().enumerate().take(rows) {
            for (j, &share) in row.iter().enumerate().take(columns) {
                let pixel = &mut strongest[i * height / rows * width + j * width / columns];
                if share > pixel.0 {
                    *pixel = (share, i != j);
                }
            }
        }
        let ground = Paint::Soft.light_rgb();
        let colour = |&(share, off): &(f64, bool)| {
            let ink = Paint::Accent(usize::from(self.diagonal && off)).light_rgb();
            let cover = if share > 0.0 { opacity(share) } else { 0.0 };
            std::array::from_fn(|c| {
                let (from, to) = (f64::from(ground[c]), f64::from(ink[c]));
                (from + cover * (to - from)).round() as u8
            })
        };
        let colours: Vec<[u8; 3]> = strongest.iter().map(colour).collect();
        Pixels::from_rgb(width, height, &colours).ok()
    }

    fn draw_cell(
        &self,
        scene: &mut Scene,
        (i, j): (usize, usize),
        share: f64,
        [x, y]: [f64; 2],
        (cell, gap): (f64, f64),
    ) {
        let strength = strength(share);
        let paint = Paint::Accent(usize::from(self.diagonal && i != j));
        let side = cell - gap;
        let mark = Mark::rect(x + gap / 2.0, y + gap / 2.0, side, side).fill(paint);
        let mark = mark.opacity(opacity(share)).rounded(gap);
        scene.push(match self.tips.get(i).and_then(|row| row.get(j)) {
            Some(tip) => mark.tip(tip),
            None => mark,
        });
        if let Some(text) = self.texts.get(i).and_then(|row| row.get(j)) {
            let ink = if strength > 0.6 {
                Paint::Surface
            } else {
                Paint::Ink
            };
            let wide = text_width(text, 12.0, Weight::Regular);
            let size = 12.0 * (0.86 * side / wide.max(1.0)).min(1.0);
            let mark = Mark::text(x + cell / 2.0, y + cell / 2.0 + size * 0.35, text);
            scene.push(mark.size(size).fill(ink).anchor(Anchor::Middle));
        }
    }
}

/// The square root lets a share of one percent be seen beside one of ninety-nine.
fn strength(share: f64) -> f64 {
    share.min(1.0).sqrt()
}

fn opacity(share: f64) -> f64 {
    (0.1 + 0.9 * strength(share)).min(1.0)
}

/// A cut name tells its whole when pointed at.
fn with_full_name(mark: Mark, shown: &str, name: &str) -> Mark {
    if shown == name { mark } else { mark.tip(name) }
}
