//! Colours, textures and clutter: everything about an image that says nothing about its class.

use gradus_core::random::ChaCha8Rng;

use super::figure::{Point, length, segment};
use crate::draw::{below, between, coin, unit};

/// Red, green, blue, each nominally in [0, 1].
pub(super) type Colour = [f64; 3];

/// The brightness of a colour as the eye weighs it (ITU-R BT.601).
pub(super) fn luma(c: Colour) -> f64 {
    0.299 * c[0] + 0.587 * c[1] + 0.114 * c[2]
}

/// `a` where `t` = 0, `b` where `t` = 1.
pub(super) fn mix(a: Colour, b: Colour, t: f64) -> Colour {
    std::array::from_fn(|i| a[i] + t * (b[i] - a[i]))
}

/// A direction, uniform on the circle: a point of the disc by rejection, then normalised. No sine,
/// no cosine, so that the bits are the same on every platform.
pub(super) fn direction(rng: &mut ChaCha8Rng) -> Point {
    loop {
        let p = [between(rng, -1.0, 1.0), between(rng, -1.0, 1.0)];
        let l = length(p);
        if (0.01..=1.0).contains(&l) {
            return [p[0] / l, p[1] / l];
        }
    }
}

/// A colour of random hue, saturation and value.
pub(super) fn colour(rng: &mut ChaCha8Rng) -> Colour {
    let (hue, saturation, value) = (
        between(rng, 0.0, 6.0),
        between(rng, 0.1, 0.95),
        between(rng, 0.15, 1.0),
    );
    [5.0, 3.0, 1.0].map(|shift| {
        let k = (hue + shift) % 6.0;
        value * (1.0 - saturation * k.min(4.0 - k).clamp(0.0, 1.0))
    })
}

/// Two colours whose brightness differs by at least `contrast`; the first is the brighter one.
pub(super) fn contrasting(rng: &mut ChaCha8Rng, contrast: f64) -> (Colour, Colour) {
    loop {
        let (a, b) = (colour(rng), colour(rng));
        if luma(a) - luma(b) >= contrast {
            return (a, b);
        }
        if luma(b) - luma(a) >= contrast {
            return (b, a);
        }
    }
}

/// How a surface varies between two nearby colours.
#[derive(Clone, Debug)]
pub(super) enum Texture {
    /// Not at all.
    Flat,
    /// Linearly along a direction.
    Gradient { direction: Point },
    /// In soft bands of `period` pixels across a direction.
    Stripes {
        direction: Point,
        period: f64,
        phase: f64,
    },
    /// In squares of `period` pixels.
    Checks {
        direction: Point,
        period: f64,
        phase: f64,
    },
    /// Smoothly and irregularly: a 6×6 grid of random values, interpolated (Perlin's value noise).
    Clouds { grid: Box<[f64; 36]> },
}

impl Texture {
    pub(super) fn draw(rng: &mut ChaCha8Rng) -> Self {
        match below(rng, 10) {
            0..=1 => Self::Flat,
            2..=4 => Self::Gradient {
                direction: direction(rng),
            },
            5..=6 => Self::Stripes {
                direction: direction(rng),
                period: between(rng, 3.5, 9.0),
                phase: unit(rng),
            },
            7 => Self::Checks {
                direction: direction(rng),
                period: between(rng, 3.5, 7.0),
                phase: unit(rng),
            },
            _ => Self::Clouds {
                grid: Box::new(std::array::from_fn(|_| unit(rng))),
            },
        }
    }

    /// Where between its two colours the surface is at pixel `p` of a `size`-pixel image, in [0, 1].
    pub(super) fn at(&self, p: Point, size: f64) -> f64 {
        match self {
            Self::Flat => 0.0,
            Self::Gradient { direction } => {
                let half = size / 2.0;
                let along = (p[0] - half) * direction[0] + (p[1] - half) * direction[1];
                (0.5 + along / (1.4 * size)).clamp(0.0, 1.0)
            }
            Self::Stripes {
                direction,
                period,
                phase,
            } => band((p[0] * direction[0] + p[1] * direction[1]) / period + phase),
            Self::Checks {
                direction,
                period,
                phase,
            } => {
                let u = band((p[0] * direction[0] + p[1] * direction[1]) / period + phase);
                let v = band((p[1] * direction[0] - p[0] * direction[1]) / period + phase);
                u + v - 2.0 * u * v
            }
            Self::Clouds { grid } => {
                let [(i, u), (j, v)] = p.map(|x| {
                    let x = (x / size * 5.0).clamp(0.0, 4.999);
                    (x as usize, smooth(x.fract()))
                });
                let value = |row: usize, column: usize| grid[row * 6 + column];
                let top = value(j, i) + u * (value(j, i + 1) - value(j, i));
                let bottom = value(j + 1, i) + u * (value(j + 1, i + 1) - value(j + 1, i));
                top + v * (bottom - top)
            }
        }
    }
}

/// A square wave of period 1 with soft edges, in [0, 1].
fn band(x: f64) -> f64 {
    let triangle = 4.0 * (x - (x + 0.5).floor()).abs() - 1.0;
    (0.5 + 1.5 * triangle).clamp(0.0, 1.0)
}

/// 3t² − 2t³: level at both ends.
fn smooth(t: f64) -> f64 {
    t * t * (3.0 - 2.0 * t)
}

/// A small thing lying behind the figure.
#[derive(Clone, Debug)]
pub(super) struct Speck {
    a: Point,
    b: Point,
    thickness: f64,
    colour: Colour,
    opacity: f64,
}

impl Speck {
    /// A blob or a stroke somewhere in a `size`-pixel image, in any colour.
    pub(super) fn draw(rng: &mut ChaCha8Rng, size: f64) -> Self {
        let a = [between(rng, 0.0, size), between(rng, 0.0, size)];
        let along = direction(rng);
        let (reach, thickness) = if coin(rng) {
            (between(rng, 0.1, 1.5), between(rng, 0.9, 2.4))
        } else {
            (between(rng, 4.0, 14.0), between(rng, 0.3, 0.7))
        };
        Self {
            b: [a[0] + reach * along[0], a[1] + reach * along[1]],
            a,
            thickness,
            colour: colour(rng),
            opacity: between(rng, 0.35, 0.8),
        }
    }

    /// The image at `p` with this speck over the colour `under`.
    pub(super) fn over(&self, under: Colour, p: Point) -> Colour {
        let coverage = (0.5 + self.thickness - segment(p, self.a, self.b)).clamp(0.0, 1.0);
        mix(under, self.colour, self.opacity * coverage)
    }
}
