//! Ten plane figures as signed distances.
//!
//! ```text
//! d(p) < 0 inside, > 0 outside, |d(p)| ≈ the distance to the outline
//! coverage of a pixel ≈ clamp(½ − d, 0, 1)          with d in pixels: an antialiased edge
//! ```
//!
//! Each figure is centred at the origin and fills the unit circle; y points down. Only +, −, ×, ÷ and
//! √ are used, which IEEE 754 rounds exactly, so every platform draws the same bytes.

/// A point or vector of the plane.
pub(super) type Point = [f64; 2];

/// The class names; a figure's number is its position here.
pub(super) const NAMES: [&str; 10] = [
    "arrow",
    "circle",
    "crescent",
    "cross",
    "heart",
    "hourglass",
    "ring",
    "square",
    "star",
    "triangle",
];

const ARROW: [Point; 7] = [
    [-1.0, -0.27],
    [0.02, -0.27],
    [0.02, -0.78],
    [0.98, 0.0],
    [0.02, 0.78],
    [0.02, 0.27],
    [-1.0, 0.27],
];
const CROSS: [Point; 12] = [
    [-0.3, -0.95],
    [0.3, -0.95],
    [0.3, -0.3],
    [0.95, -0.3],
    [0.95, 0.3],
    [0.3, 0.3],
    [0.3, 0.95],
    [-0.3, 0.95],
    [-0.3, 0.3],
    [-0.95, 0.3],
    [-0.95, -0.3],
    [-0.3, -0.3],
];
const HOURGLASS: [Point; 6] = [
    [-0.66, -0.84],
    [0.66, -0.84],
    [0.13, 0.0],
    [0.66, 0.84],
    [-0.66, 0.84],
    [-0.13, 0.0],
];
const SQUARE: [Point; 4] = [[-0.76, -0.76], [0.76, -0.76], [0.76, 0.76], [-0.76, 0.76]];
/// Five points at radius 1, five notches at radius 0.42, 36° apart.
const STAR: [Point; 10] = [
    [0.0, -1.0],
    [0.246_869_805_972_9, -0.339_787_137_637_5],
    [0.951_056_516_295_2, -0.309_016_994_374_9],
    [0.399_443_736_844, 0.129_787_137_637_5],
    [0.587_785_252_292_5, 0.809_016_994_374_9],
    [0.0, 0.42],
    [-0.587_785_252_292_5, 0.809_016_994_374_9],
    [-0.399_443_736_844, 0.129_787_137_637_5],
    [-0.951_056_516_295_2, -0.309_016_994_374_9],
    [-0.246_869_805_972_9, -0.339_787_137_637_5],
];
const TRIANGLE: [Point; 3] = [[0.0, -0.95], [0.866, 0.55], [-0.866, 0.55]];

/// The signed distance from `p` to the outline of figure number `figure`, in units of its radius.
pub(super) fn distance(figure: usize, p: Point) -> f64 {
    match figure {
        0 => polygon(&ARROW, p),
        1 => length(p) - 0.88,
        2 => (length(p) - 0.95).max(0.72 - length([p[0] - 0.5, p[1]])),
        3 => polygon(&CROSS, p),
        4 => heart(p),
        5 => polygon(&HOURGLASS, p),
        6 => (length(p) - 0.7).abs() - 0.22,
        7 => polygon(&SQUARE, p),
        8 => polygon(&STAR, p),
        _ => polygon(&TRIANGLE, p),
    }
}

/// √(x² + y²).
pub(super) fn length(p: Point) -> f64 {
    (p[0] * p[0] + p[1] * p[1]).sqrt()
}

/// The distance from `p` to the segment from `a` to `b`.
pub(super) fn segment(p: Point, a: Point, b: Point) -> f64 {
    let (w, e) = ([p[0] - a[0], p[1] - a[1]], [b[0] - a[0], b[1] - a[1]]);
    let along = ((w[0] * e[0] + w[1] * e[1]) / (e[0] * e[0] + e[1] * e[1])).clamp(0.0, 1.0);
    length([w[0] - along * e[0], w[1] - along * e[1]])
}

/// The least distance to an edge, negative if a ray from `p` crosses the outline an odd number of
/// times (the even–odd rule).
fn polygon(corners: &[Point], p: Point) -> f64 {
    let mut least = f64::INFINITY;
    let mut inside = false;
    let mut a = corners[corners.len() - 1];
    for &b in corners {
        least = least.min(segment(p, a, b));
        if (a[1] > p[1]) != (b[1] > p[1]) {
            let crossing = a[0] + (p[1] - a[1]) / (b[1] - a[1]) * (b[0] - a[0]);
            inside ^= p[0] < crossing;
        }
        a = b;
    }
    if inside { -least } else { least }
}

/// Half of a square on its tip joined to half a disc, mirrored: tip at (0, 0), notch at (0, 1).
fn heart(p: Point) -> f64 {
    const SCALE: f64 = 0.64; // this heart is 1.21 wide and 1.10 high
    let (x, y) = (p[0].abs() * SCALE, 0.56 - p[1] * SCALE);
    let d = if x + y > 1.0 {
        length([x - 0.25, y - 0.75]) - 0.125f64.sqrt()
    } else {
        // The nearest point of the lower edge x = y, or the notch at (0, 1).
        let foot = 0.5 * (x + y).max(0.0);
        let nearest = length([x - foot, y - foot]).min(length([x, y - 1.0]));
        if x < y { -nearest } else { nearest }
    };
    d / SCALE
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The area of a figure by counting points of a fine grid.
    fn area(figure: usize) -> f64 {
        let step = 1.0 / 200.0;
        let inside = (-240..240)
            .flat_map(|y| (-240..240).map(move |x| [f64::from(x) * step, f64::from(y) * step]))
            .filter(|&p| distance(figure, p) < 0.0)
            .count();
        inside as f64 * step * step
    }

    /// ½ |Σ xᵢ·yᵢ₊₁ − xᵢ₊₁·yᵢ| (Gauss).
    fn shoelace(corners: &[Point]) -> f64 {
        let next = corners.iter().cycle().skip(1);
        corners
            .iter()
            .zip(next)
            .map(|(a, b)| a[0] * b[1] - b[0] * a[1])
            .sum::<f64>()
            .abs()
            / 2.0
    }

    #[test]
    fn areas_are_those_of_the_closed_forms() {
        let pi = std::f64::consts::PI;
        let tip = std::f64::consts::SQRT_2 / 2.0; // the side of the heart's square
        for (figure, expected) in [
            (0, shoelace(&ARROW)),
            (1, pi * 0.88 * 0.88),
            (3, shoelace(&CROSS)),
            // A square of side √½ and two half discs of that diameter, scaled by 1/0.64.
            (4, (tip * tip + pi * tip * tip / 4.0) / (0.64 * 0.64)),
            (5, shoelace(&HOURGLASS)),
            (6, pi * (0.92f64.powi(2) - 0.48f64.powi(2))),
            (7, 4.0 * 0.76 * 0.76),
            (8, shoelace(&STAR)),
            (9, shoelace(&TRIANGLE)),
        ] {
            let found = area(figure);
            assert!(
                (found - expected).abs() < 0.02,
                "{}: {found} {expected}",
                NAMES[figure]
            );
        }
    }

    #[test]
    fn every_figure_fits_the_unit_circle_and_reaches_most_of_it() {
        for (figure, name) in NAMES.iter().enumerate() {
            let mut reach = 0.0f64;
            for y in -60..60 {
                for x in -60..60 {
                    let p = [f64::from(x) / 50.0, f64::from(y) / 50.0];
                    if distance(figure, p) < 0.0 {
                        reach = reach.max(length(p));
                    }
                }
            }
            assert!((0.85..=1.09).contains(&reach), "{}: {reach}", name);
        }
    }

    #[test]
    fn distances_never_change_faster_than_the_place() {
        // |d(p) − d(q)| ≤ |p − q|: what makes clamp(½ − d) a fair coverage.
        for (figure, name) in NAMES.iter().enumerate() {
            for i in 0..2000 {
                let t = f64::from(i) / 2000.0;
                let p = [1.2 * (2.0 * t - 1.0), 1.2 * ((7.3 * t).fract() * 2.0 - 1.0)];
                for q in [[p[0] + 0.01, p[1]], [p[0], p[1] + 0.01]] {
                    let change = (distance(figure, p) - distance(figure, q)).abs();
                    assert!(change <= 0.01 + 1e-9, "{} at {p:?}: {change}", name);
                }
            }
        }
    }
}
