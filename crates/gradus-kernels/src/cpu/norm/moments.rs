//! Mean and variance of each channel in one pass; see the [module above](super).

use super::super::pieces::{Rows, Terms, map_each, read, sum_up};
use super::super::simd::Simd;

/// Mean and biased variance of each channel of `x` `[rows, channels]`.
///
/// Without rows both are NaN.
///
/// # Panics
/// If `mean` and `var` are not of the same length, the number of channels, or that does not divide `x`.
pub fn moments(x: &[f32], mean: &mut [f32], var: &mut [f32]) {
    assert_eq!(mean.len(), var.len(), "mean and var");
    let rows = Rows::new(x.len(), mean.len());
    let pieces = (0..rows.pieces()).collect();
    let parts = map_each(pieces, |_, i: usize| piece(&x[rows.range(i)], rows));
    merge(parts, mean, var);
}

/// Sums over disjoint sets of rows that another kernel took along the way.
#[derive(Clone, Copy, Debug)]
pub struct Partials<'a> {
    /// Rows of each set; 0 is allowed.
    pub rows: &'a [usize],
    /// Σ x over the set, `[sets, channels]`.
    pub sums: &'a [f32],
    /// Σ (x − the set's own mean)², `[sets, channels]`.
    pub deviations: &'a [f32],
}

/// Mean and biased variance of each channel from sums over sets of rows, put together in their order.
///
/// # Panics
/// If the lengths do not fit together.
pub fn moments_of_partials(partials: Partials<'_>, mean: &mut [f32], var: &mut [f32]) {
    let channels = mean.len();
    assert_eq!(var.len(), channels, "var and mean");
    let len = partials.rows.len() * channels;
    assert_eq!(partials.sums.len(), len, "sums and rows");
    assert_eq!(partials.deviations.len(), len, "deviations and rows");
    let parts = partials.rows.iter().enumerate().map(|(i, &rows)| Part {
        rows: rows as f64,
        moments: (i * channels..(i + 1) * channels)
            .map(|at| {
                let sum = f64::from(partials.sums[at]);
                [sum / rows as f64, f64::from(partials.deviations[at])]
            })
            .collect(),
    });
    merge(parts, mean, var);
}

/// Moments of some of the rows.
struct Part {
    rows: f64,
    /// For each channel: mean, and sum of squared deviations from it.
    moments: Vec<[f64; 2]>,
}

/// The moments of one piece, from sums around the mean of its first rows.
fn piece(x: &[f32], rows: Rows) -> Part {
    let count = x.len() / rows.channels;
    let first = count.min(16);
    let mut near = vec![0.0f32; rows.channels];
    for row in x.chunks_exact(rows.channels).take(first) {
        for (sum, x) in near.iter_mut().zip(row) {
            *sum += x / first as f32;
        }
    }
    let table = rows.repeat(|c| near[c]);
    let mut places = vec![0.0; 2 * rows.period];
    let terms = Deviations { x, near: &table };
    // SAFETY: `x` has its own length, the table that of a period.
    unsafe { sum_up(terms, x.len(), rows.period, &mut places) };
    let [sums, squares] = rows.fold(&places);
    let count = count as f64;
    let moments = (0..rows.channels)
        .map(|c| {
            let mean = sums[c] / count;
            let square = squares[c] - sums[c] * mean;
            // Rounding may leave a little less than nothing; NaN stays.
            let square = if square < 0.0 { 0.0 } else { square };
            [f64::from(near[c]) + mean, square]
        })
        .collect();
    Part {
        rows: count,
        moments,
    }
}

/// The terms x − near and its square.
struct Deviations<'a> {
    x: &'a [f32],
    near: &'a [f32],
}

impl Terms<2> for Deviations<'_> {
    #[inline(always)]
    unsafe fn add<S: Simd>(
        &mut self,
        s: S,
        [sum, square]: [S::V; 2],
        at: usize,
        place: usize,
        n: usize,
    ) -> [S::V; 2] {
        // SAFETY: the caller's promise; the table is of a period.
        let (x, near) = unsafe { (read(s, self.x, at, n), read(s, self.near, place, S::LANES)) };
        let d = s.sub(x, near);
        [s.add(sum, d), s.fma(d, d, square)]
    }
}

/// With a, b the means, A, B the sums of squares of n and m rows:
///
/// ```text
/// mean = a + (b − a)·m/(n + m)        squares = A + B + (b − a)²·n·m/(n + m)
/// ```
fn merge(parts: impl IntoIterator<Item = Part>, mean: &mut [f32], var: &mut [f32]) {
    let mut total = 0.0;
    let mut moments = vec![[0.0f64; 2]; mean.len()];
    for part in parts.into_iter().filter(|part| part.rows > 0.0) {
        let sum = total + part.rows;
        for (a, b) in moments.iter_mut().zip(part.moments) {
            let gap = b[0] - a[0];
            a[0] += gap * (part.rows / sum);
            a[1] += b[1] + gap * gap * (total * part.rows / sum);
        }
        total = sum;
    }
    for ((mean, var), m) in mean.iter_mut().zip(var).zip(moments) {
        *mean = if total > 0.0 { m[0] as f32 } else { f32::NAN };
        *var = (m[1] / total) as f32;
    }
}
