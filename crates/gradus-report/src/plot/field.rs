//! A scalar field over the plane, as colour with contour lines: a loss landscape under its
//! trajectories.
//!
//! Contours by marching squares (Lorensen & Cline's cubes, 1987, in the plane): on each grid cell
//! the level crosses the edges whose ends lie on both sides of it, at the linearly interpolated
//! place.

use crate::draw::{Mark, Paint, Pixels, Scene};

/// Viridis at ten even places (Smith & van der Walt, 2015; CC0): even steps in lightness, readable
/// without colour.
const VIRIDIS: [[u8; 3]; 10] = [
    [68, 1, 84],
    [72, 40, 120],
    [62, 73, 137],
    [49, 104, 142],
    [38, 130, 142],
    [31, 158, 137],
    [53, 183, 121],
    [110, 206, 88],
    [181, 222, 43],
    [253, 231, 37],
];

/// Values on a regular grid.
#[derive(Debug, Clone)]
pub struct Field {
    pub(super) x: [f64; 2],
    pub(super) y: [f64; 2],
    values: Vec<Vec<f64>>,
    levels: usize,
}

impl Field {
    /// Samples `f(x, y)` on `resolution`² points (2 to 400), ends included.
    pub fn sample(
        x: [f64; 2],
        y: [f64; 2],
        resolution: usize,
        f: impl Fn(f64, f64) -> f64,
    ) -> Self {
        let n = resolution.clamp(2, 400);
        let at = |[a, b]: [f64; 2], i: usize| a + (b - a) * i as f64 / (n - 1) as f64;
        let row = |j| (0..n).map(|i| f(at(x, i), at(y, j))).collect();
        Self {
            x,
            y,
            values: (0..n).map(row).collect(),
            levels: 14,
        }
    }

    /// From values already computed: `values[j][i]` at the i-th x and j-th y, both ends included.
    /// Rows are cut to the shortest; fewer than two rows or columns draw nothing.
    #[must_use]
    pub fn from_values(x: [f64; 2], y: [f64; 2], mut values: Vec<Vec<f64>>) -> Self {
        let columns = values.iter().map(Vec::len).min().unwrap_or(0);
        for row in &mut values {
            row.truncate(columns);
        }
        Self {
            x,
            y,
            values,
            levels: 14,
        }
    }

    /// How many contour lines; 14 unless said.
    #[must_use]
    pub fn levels(mut self, levels: usize) -> Self {
        self.levels = levels.min(100);
        self
    }

    /// Each value's rank among the finite ones, in `[0, 1]`: a landscape spans decades, and ranks
    /// show all of them.
    fn ranks(&self) -> (Vec<f64>, impl Fn(f64) -> f64 + use<>) {
        let mut sorted: Vec<f64> = self
            .values
            .iter()
            .flatten()
            .copied()
            .filter(|v| v.is_finite())
            .collect();
        sorted.sort_by(f64::total_cmp);
        let copy = sorted.clone();
        let rank = move |v: f64| {
            let below = sorted.partition_point(|&s| s < v);
            below as f64 / sorted.len().saturating_sub(1).max(1) as f64
        };
        (copy, rank)
    }

    pub(super) fn draw(&self, scene: &mut Scene, [left, top, right, bottom]: [f64; 4]) {
        let (rows, columns) = (self.values.len(), self.values.first().map_or(0, Vec::len));
        if rows < 2 || columns < 2 {
            return;
        }
        let (sorted, rank) = self.ranks();
        if sorted.is_empty() {
            return;
        }
        // Low is light: descent goes towards the light.
        let colour = |v: f64| {
            if v.is_finite() {
                viridis(1.0 - rank(v))
            } else {
                [128; 3]
            }
        };
        let colours: Vec<[u8; 3]> = self
            .values
            .iter()
            .rev()
            .flatten()
            .map(|&v| colour(v))
            .collect();
        if let Ok(pixels) = Pixels::from_rgb(columns, rows, &colours) {
            let image = Mark::image(left, top, right - left, bottom - top, pixels);
            scene.push(image.smooth().opacity(0.85));
        }
        let place = |i: f64, j: f64| {
            let x = left + i / (columns - 1) as f64 * (right - left);
            let y = bottom - j / (rows - 1) as f64 * (bottom - top);
            [x, y]
        };
        for level in 1..=self.levels {
            let share = level as f64 / (self.levels + 1) as f64;
            let value = sorted[(share * (sorted.len() - 1) as f64) as usize];
            let strokes: Vec<_> = self
                .contour(value)
                .into_iter()
                .map(|ends| ends.map(|[i, j]| place(i, j)).to_vec())
                .collect();
            if !strokes.is_empty() {
                let line = Mark::path(strokes)
                    .stroke(Paint::Rgb(20, 20, 30), 0.7)
                    .opacity(0.4);
                scene.push(line.tip(format!("{value:.4}")));
            }
        }
    }

    /// Segments where the field equals `level`, in grid coordinates.
    fn contour(&self, level: f64) -> Vec<[[f64; 2]; 2]> {
        let mut segments = Vec::new();
        for j in 0..self.values.len().saturating_sub(1) {
            for i in 0..self.values[j].len().saturating_sub(1) {
                // Corners in turn, so that edge k joins corner k to the next one.
                let corners = [(i, j), (i + 1, j), (i + 1, j + 1), (i, j + 1)];
                let value = corners.map(|(i, j)| self.values[j][i]);
                if value.iter().any(|v| !v.is_finite()) {
                    continue;
                }
                let mut crossings = Vec::with_capacity(4);
                for k in 0..4 {
                    let (a, b) = (value[k], value[(k + 1) % 4]);
                    if (a < level) != (b < level) {
                        let t = (level - a) / (b - a);
                        let ((i0, j0), (i1, j1)) = (corners[k], corners[(k + 1) % 4]);
                        let mix = |p: usize, q: usize| p as f64 + t * (q as f64 - p as f64);
                        crossings.push([mix(i0, i1), mix(j0, j1)]);
                    }
                }
                // Two crossings make a segment; a saddle has four, joined in the order of the
                // edges.
                segments.extend(crossings.chunks_exact(2).map(|c| [c[0], c[1]]));
            }
        }
        segments
    }
}

fn viridis(t: f64) -> [u8; 3] {
    let at = t.clamp(0.0, 1.0) * (VIRIDIS.len() - 1) as f64;
    let low = (at as usize).min(VIRIDIS.len() - 2);
    let part = at - low as f64;
    [0, 1, 2].map(|c| {
        let (a, b) = (f64::from(VIRIDIS[low][c]), f64::from(VIRIDIS[low + 1][c]));
        (a + part * (b - a)).round() as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contour_of_a_bowl_is_a_circle() {
        let n = 101;
        let field = Field::sample([-2.0, 2.0], [-2.0, 2.0], n, |x, y| x * x + y * y);
        let segments = field.contour(1.0);
        assert!(segments.len() > 100);
        for [i, j] in segments.into_iter().flatten() {
            let at = |g: f64| -2.0 + 4.0 * g / (n - 1) as f64;
            // Linear interpolation of x² on a grid of h = 0.04 errs by at most h²/8 in the value.
            assert!((at(i).hypot(at(j)) - 1.0).abs() < 4e-4);
        }
    }

    #[test]
    fn holes_and_ragged_rows_are_survived() {
        let rows = vec![
            vec![0.0, f64::NAN, 2.0],
            vec![1.0, 2.0],
            vec![f64::INFINITY, 1.0],
        ];
        let mut scene = Scene::new(10.0, 10.0);
        Field::from_values([0.0, 1.0], [0.0, 1.0], rows).draw(&mut scene, [0.0, 0.0, 9.0, 9.0]);
        Field::from_values([0.0, 1.0], [0.0, 1.0], vec![]).draw(&mut scene, [0.0, 0.0, 9.0, 9.0]);
    }
}
