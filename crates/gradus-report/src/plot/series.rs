//! One line of a chart, and the two things that are done to long ones: smoothing and thinning.

use crate::draw::{Mark, Paint};

/// Points joined by a line, in order of x; a value that is not finite breaks the line.
#[derive(Debug, Clone)]
pub struct Series {
    /// Its name in the legend; empty keeps it out.
    pub name: String,
    /// `[x, y]`.
    pub points: Vec<[f64; 2]>,
    pub(super) paint: Option<Paint>,
    pub(super) width: f64,
    pub(super) opacity: f64,
    pub(super) dash: Option<[f64; 2]>,
    pub(super) line: bool,
    pub(super) dots: bool,
    pub(super) tips: Vec<String>,
    pub(super) counts: bool,
}

impl Series {
    /// A solid line; its colour is the next accent unless chosen by [`paint`](Self::paint).
    pub fn new(name: impl Into<String>, points: impl IntoIterator<Item = [f64; 2]>) -> Self {
        Self {
            name: name.into(),
            points: points.into_iter().collect(),
            paint: None,
            width: 1.8,
            opacity: 1.0,
            dash: None,
            line: true,
            dots: false,
            tips: Vec::new(),
            counts: true,
        }
    }

    /// Under this name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// In this colour.
    #[must_use]
    pub fn paint(mut self, paint: Paint) -> Self {
        self.paint = Some(paint);
        self
    }

    /// As a thin, pale background to another line: outside the legend, and its spikes do not
    /// stretch the axis.
    #[must_use]
    pub fn faint(mut self) -> Self {
        self.name.clear();
        self.width = 0.9;
        self.opacity = 0.3;
        self.counts = false;
        self
    }

    /// Dashed.
    #[must_use]
    pub fn dashed(mut self) -> Self {
        self.dash = Some([5.0, 4.0]);
        self
    }

    pub(super) fn dashed_as_said(&self, line: Mark) -> Mark {
        match self.dash {
            Some([on, off]) => line.dash(on, off),
            None => line,
        }
    }

    /// With a dot on each point.
    #[must_use]
    pub fn dots(mut self) -> Self {
        self.dots = true;
        self
    }

    /// Dots alone, no line.
    #[must_use]
    pub fn only_dots(mut self) -> Self {
        self.dots = true;
        self.line = false;
        self
    }

    /// Texts shown while the pointer rests on a dot, one a point.
    #[must_use]
    pub fn tips(mut self, tips: Vec<String>) -> Self {
        self.tips = tips;
        self
    }

    /// Smoothed by a two-sided exponential kernel, which does not lag behind the data:
    ///
    /// ```text
    /// ŷᵢ = Σⱼ β^|i−j|·yⱼ / Σⱼ β^|i−j|,   β = 2^(−1/half_life)
    /// ```
    ///
    /// `half_life` in points; at 0 nothing changes. A value that is not finite stays so, and is left
    /// out of the sums. Two passes of m ← β·m + y, forwards and backwards, give both sums in O(n).
    #[must_use]
    pub fn smoothed(mut self, half_life: f64) -> Self {
        if half_life <= 0.0 {
            return self;
        }
        let beta = 0.5_f64.powf(1.0 / half_life);
        let finite = |p: &&mut [f64; 2]| p[1].is_finite();
        let ys: Vec<f64> = self
            .points
            .iter_mut()
            .filter(finite)
            .map(|p| p[1])
            .collect();
        let pass = |ys: &mut dyn Iterator<Item = &f64>| -> Vec<[f64; 2]> {
            let step = |sums: &mut [f64; 2], y: &f64| {
                *sums = [beta * sums[0] + y, beta * sums[1] + 1.0];
                Some(*sums)
            };
            ys.scan([0.0; 2], step).collect()
        };
        let (forwards, backwards) = (pass(&mut ys.iter()), pass(&mut ys.iter().rev()));
        let both = forwards.iter().zip(backwards.iter().rev()).zip(&ys);
        for (point, ((f, b), y)) in self.points.iter_mut().filter(finite).zip(both) {
            // The point itself is in both passes: once too often.
            point[1] = (f[0] + b[0] - y) / (f[1] + b[1] - 1.0);
        }
        self
    }

    /// Thinned to about `most` points: of each run of neighbours the lowest, the highest and the
    /// last stay, so that no spike is lost.
    #[must_use]
    pub fn thinned(mut self, most: usize) -> Self {
        if self.points.len() <= most.max(3) {
            return self;
        }
        let run = (3 * self.points.len()).div_ceil(most.max(3));
        let mut kept = Vec::with_capacity(most);
        for piece in self.points.chunks(run) {
            if let Some(gap) = piece.iter().find(|p| !p[1].is_finite()) {
                kept.push(*gap);
                continue;
            }
            let by_y = |i: &usize, j: &usize| piece[*i][1].total_cmp(&piece[*j][1]);
            let low = (0..piece.len()).min_by(by_y).unwrap_or(0);
            let high = (0..piece.len()).max_by(by_y).unwrap_or(0);
            let mut chosen = [low, high, piece.len() - 1];
            chosen.sort_unstable();
            kept.extend(
                chosen
                    .iter()
                    .enumerate()
                    .filter(|&(k, i)| k == 0 || chosen[k - 1] != *i)
                    .map(|(_, &i)| piece[i]),
            );
        }
        self.points = kept;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothing_keeps_a_constant_and_skips_gaps() {
        let ys = [2.0, 2.0, f64::NAN, 2.0];
        let series =
            Series::new("", ys.iter().enumerate().map(|(i, &y)| [i as f64, y])).smoothed(3.0);
        let ys: Vec<f64> = series.points.iter().map(|p| p[1]).collect();
        assert!(ys[2].is_nan());
        assert!(
            [ys[0], ys[1], ys[3]]
                .iter()
                .all(|y| (y - 2.0).abs() < 1e-12)
        );
    }

    #[test]
    fn the_kernel_is_the_one_of_the_formula() {
        let ys = [1.0, -2.0, 0.5, 4.0, 3.0];
        let series = Series::new("", ys.map(|y| [0.0, y])).smoothed(3.0);
        for i in 0..ys.len() {
            let weight = |j: usize| 0.5_f64.powf(i.abs_diff(j) as f64 / 3.0);
            let sum: f64 = (0..ys.len()).map(|j| weight(j) * ys[j]).sum();
            let expected = sum / (0..ys.len()).map(weight).sum::<f64>();
            assert!((series.points[i][1] - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn thinning_keeps_spikes_and_ends() {
        let spike = |i: usize| if i == 777 { 100.0 } else { (i % 7) as f64 };
        let series = Series::new("", (0..10_000).map(|i| [i as f64, spike(i)])).thinned(600);
        assert!(series.points.len() <= 600);
        assert!(series.points.iter().any(|p| p[1] == 100.0));
        assert_eq!(series.points.last().unwrap()[0], 9999.0);
        assert!(series.points.windows(2).all(|w| w[0][0] < w[1][0]));
    }
}
