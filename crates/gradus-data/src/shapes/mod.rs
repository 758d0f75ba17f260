//! `shapes`: ten kinds of figures, drawn rather than collected. Nothing to download.
//!
//! Every image is 32×32×3 and holds one figure in front of a cluttered ground. Place, size, rotation,
//! stretch, both colours, textures, outline, clutter and noise are random and independent of the
//! class, so only the form tells the classes apart; a linear classifier, which sees each pixel by
//! itself, gets little more than the blurred average of a form. A figure is lighter than its ground
//! in [`LIGHTER`] of the images: that average is what a linear classifier's templates show.
//!
//! ```text
//! image i of part s  =  f(class, stream(seed, Synthesis, s, i))          s: 0 train, 1 test
//! classes            :  every ten consecutive images hold each class once, in random order
//! ```
//!
//! Image i does not depend on how many images there are, nor on the number of threads, nor on the
//! platform (see `figure.rs`).

mod figure;
mod paint;

use gradus_core::random::{ChaCha8Rng, Purpose, stream};
use rayon::prelude::*;

use crate::draw::{below, between, shuffle, unit};
use crate::{DataError, Dataset, ImageShape, Images, decode};
use figure::{Point, distance};
use paint::{Speck, Texture, colour, contrasting, direction, luma, mix};

/// The number of classes.
pub const CLASSES: usize = figure::NAMES.len();
/// Pixels per side.
pub const SIDE: usize = 32;
/// The most images in a part: 10⁶ take 3 GB.
const MOST: usize = 1_000_000;
/// The share of images in which the figure is lighter than its ground.
pub const LIGHTER: f64 = 0.8;
/// The cosine of the largest tilt, 45°, of a figure out of its upright position.
const TILT_COSINE: f64 = std::f64::consts::FRAC_1_SQRT_2;
/// How far the centre of a figure may lie from the centre of the image, in pixels along each axis.
const SHIFT: f64 = 4.0;

/// The class names, in the order of their numbers.
pub const NAMES: [&str; CLASSES] = figure::NAMES;

/// Draws the set: `train` and `test` images from `seed`.
///
/// # Errors
/// If there are fewer than ten images in a part (one per class) or more than 10⁶ (3 GB), or
/// they do not fit in memory.
pub fn generate(seed: u64, train: usize, test: usize) -> Result<Dataset, DataError> {
    for (name, count) in [("shapes_train", train), ("shapes_test", test)] {
        if !(CLASSES..=MOST).contains(&count) {
            return Err(DataError::option(
                name,
                count,
                format!("{CLASSES} to {MOST}"),
            ));
        }
    }
    Ok(Dataset {
        name: "shapes".to_owned(),
        classes: NAMES.map(str::to_owned).to_vec(),
        train: part(seed, 0, train)?,
        test: part(seed, 1, test)?,
        notes: Vec::new(),
    })
}

fn part(seed: u64, part: u64, count: usize) -> Result<Images, DataError> {
    let shape = ImageShape::new(3, SIDE, SIDE);
    let labels: Vec<u16> = (0..count.div_ceil(CLASSES) as u64)
        .flat_map(|block| {
            let mut classes: [u16; CLASSES] = std::array::from_fn(|class| class as u16);
            // Image numbers stay below 2⁶³, so the blocks have the upper half for themselves.
            shuffle(
                &mut stream(seed, Purpose::Synthesis, part, (1 << 63) | block),
                &mut classes,
            );
            classes
        })
        .take(count)
        .collect();
    let mut pixels = decode::buffer("the shapes", count, shape)?;
    pixels
        .par_chunks_exact_mut(shape.bytes())
        .zip(&labels)
        .enumerate()
        .for_each(|(index, (out, &label))| {
            let mut rng = stream(seed, Purpose::Synthesis, part, index as u64);
            Picture::draw(&mut rng, usize::from(label)).render(&mut rng, out);
        });
    Images::new(shape, pixels, labels)
}

/// Everything random about one image, but for the noise.
struct Picture {
    class: usize,
    centre: Point,
    radius: f64,
    /// The figure's own x-axis.
    axis: Point,
    /// Height over width.
    stretch: f64,
    ground: (paint::Colour, paint::Colour, Texture),
    fill: (paint::Colour, paint::Colour, Texture),
    outline: Option<(paint::Colour, f64)>,
    specks: Vec<Speck>,
    noise: f64,
}

impl Picture {
    fn draw(rng: &mut ChaCha8Rng, class: usize) -> Self {
        let size = SIDE as f64;
        let radius = between(rng, 7.5, 12.5);
        let (light, dark) = contrasting(rng, 0.28);
        let (fill, ground) = if unit(rng) < LIGHTER {
            (light, dark)
        } else {
            (dark, light)
        };
        let fill_second = shade(rng, fill);
        let ground_second = shade(rng, ground);
        let outline = (below(rng, 10) < 3).then(|| {
            let ink = if luma(fill) > 0.5 {
                [0.05; 3]
            } else {
                [0.95; 3]
            };
            (mix(ink, colour(rng), 0.2), between(rng, 0.8, 1.4))
        });
        // A large figure has less room: it stays inside the image but for a pixel of its rim.
        let shift = SHIFT.min(size / 2.0 - 0.95 * radius);
        Self {
            class,
            centre: [0, 1].map(|_| size / 2.0 + between(rng, -shift, shift)),
            radius,
            axis: tilt(rng),
            stretch: between(rng, 0.85, 1.0),
            ground: (ground, ground_second, Texture::draw(rng)),
            fill: (fill, fill_second, Texture::draw(rng)),
            outline,
            specks: (0..below(rng, 6)).map(|_| Speck::draw(rng, size)).collect(),
            noise: between(rng, 0.0, 0.05),
        }
    }

    fn colour_at(&self, p: Point) -> paint::Colour {
        let surface = |(first, second, texture): &(paint::Colour, paint::Colour, Texture)| {
            mix(*first, *second, texture.at(p, SIDE as f64))
        };
        let ground = self
            .specks
            .iter()
            .fold(surface(&self.ground), |c, speck| speck.over(c, p));
        let (x, y) = (p[0] - self.centre[0], p[1] - self.centre[1]);
        let own = [
            (x * self.axis[0] + y * self.axis[1]) / self.radius,
            (y * self.axis[0] - x * self.axis[1]) / (self.radius * self.stretch),
        ];
        let pixels = distance(self.class, own) * self.radius;
        let coverage = |d: f64| (0.5 - d).clamp(0.0, 1.0);
        match self.outline {
            None => mix(ground, surface(&self.fill), coverage(pixels)),
            Some((ink, width)) => {
                let inside = mix(ink, surface(&self.fill), coverage(pixels + width));
                mix(ground, inside, coverage(pixels))
            }
        }
    }

    /// Writes `[3, 32, 32]` bytes.
    fn render(&self, rng: &mut ChaCha8Rng, out: &mut [u8]) {
        let (red, rest) = out.split_at_mut(SIDE * SIDE);
        let (green, blue) = rest.split_at_mut(SIDE * SIDE);
        for place in 0..SIDE * SIDE {
            let p = [(place % SIDE) as f64 + 0.5, (place / SIDE) as f64 + 0.5];
            let colour = self.colour_at(p);
            for (plane, value) in [&mut *red, &mut *green, &mut *blue].into_iter().zip(colour) {
                // Twice the sum of three centred uniforms has variance 1: nearly Gaussian.
                let grain = 2.0 * (unit(rng) + unit(rng) + unit(rng) - 1.5);
                let value = value + self.noise * grain;
                plane[place] = (value * 255.0 + 0.5).clamp(0.0, 255.0) as u8;
            }
        }
    }
}

/// The x-axis of a figure that is tilted by at most 45° either way, uniformly.
fn tilt(rng: &mut ChaCha8Rng) -> Point {
    loop {
        let axis = direction(rng);
        if axis[0] >= TILT_COSINE {
            return axis;
        }
    }
}

/// A second tone for a texture: the colour moved towards another by at most a third.
fn shade(rng: &mut ChaCha8Rng, of: paint::Colour) -> paint::Colour {
    let other = colour(rng);
    mix(of, other, between(rng, 0.1, 0.3))
}
