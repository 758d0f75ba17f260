//! The sampling itself, on the host, in f64.

use gradus_core::random::{ChaCha8Rng, Purpose, stream};

use self::random::{below, normal, unit};
use super::{Fan, Gain, Initializer, WeightShape};
use crate::NnError;

/// The standard deviation of a standard normal variable cut at ±2:
/// √(1 − 4·φ(2)/(2·Φ(2) − 1)).
pub(super) const TRUNCATED_STD: f64 = 0.879_625_661_034_239_8;

/// All values of a weight of this shape. Drawn unit after unit, so that the transposed memory order
/// of a linear weight does not change which number belongs to which connection.
pub(super) fn values(
    initializer: &Initializer,
    shape: &WeightShape,
    seed: u64,
) -> Result<Vec<f64>, NnError> {
    let (fan_in, fan_out) = (shape.fan_in() as f64, shape.fan_out() as f64);
    let rng = &mut stream(seed, Purpose::Init, 0, 0);
    let scale = |gain: &Gain, alone: f64| gain.resolve(alone);
    let relu = std::f64::consts::SQRT_2;
    let fan = |fan: &Fan| if *fan == Fan::In { fan_in } else { fan_out };
    Ok(match initializer {
        Initializer::Constant { value } => vec![*value; shape.len()],
        Initializer::Zeros => vec![0.0; shape.len()],
        Initializer::Ones => vec![1.0; shape.len()],
        Initializer::Uniform { low, high } => fill(shape, || low + (high - low) * unit(rng)),
        Initializer::Normal { mean, std } => fill(shape, || mean + std * normal(rng)),
        Initializer::TruncatedNormal { mean, std } => {
            fill(shape, || mean + std * truncated_normal(rng))
        }
        Initializer::LecunNormal => fill(shape, || truncated_normal(rng) / fan_in.sqrt()),
        Initializer::LecunUniform => symmetric(shape, rng, (3.0 / fan_in).sqrt()),
        Initializer::XavierNormal { gain } => {
            let std = scale(gain, 1.0) * (2.0 / (fan_in + fan_out)).sqrt();
            fill(shape, || std * normal(rng))
        }
        Initializer::XavierUniform { gain } => symmetric(
            shape,
            rng,
            scale(gain, 1.0) * (6.0 / (fan_in + fan_out)).sqrt(),
        ),
        Initializer::KaimingNormal { fan: which, gain } => {
            let std = scale(gain, relu) / fan(which).sqrt();
            fill(shape, || std * normal(rng))
        }
        Initializer::KaimingUniform { fan: which, gain } => {
            symmetric(shape, rng, scale(gain, relu) * (3.0 / fan(which)).sqrt())
        }
        Initializer::Torch => symmetric(shape, rng, fan_in.sqrt().recip()),
        Initializer::Orthogonal { gain } => orthogonal(shape, rng, scale(gain, 1.0)),
        Initializer::Lsuv => orthogonal(shape, rng, 1.0),
        Initializer::Dirac { gain } => {
            let mut weight = vec![0.0; shape.len()];
            write_dirac(&mut weight, shape, scale(gain, 1.0));
            weight
        }
        Initializer::Sparse { sparsity, std } => sparse(shape, rng, *sparsity, *std),
    })
}

fn fill(shape: &WeightShape, mut draw: impl FnMut() -> f64) -> Vec<f64> {
    let mut weight = vec![0.0; shape.len()];
    for unit in 0..shape.units() {
        for input in 0..shape.fan_in() {
            weight[shape.place(unit, input)] = draw();
        }
    }
    weight
}

fn symmetric(shape: &WeightShape, rng: &mut ChaCha8Rng, bound: f64) -> Vec<f64> {
    fill(shape, || bound * (2.0 * unit(rng) - 1.0))
}

/// Mean 0, standard deviation 1, never beyond ±2/0.8796 ≈ ±2.274.
fn truncated_normal(rng: &mut ChaCha8Rng) -> f64 {
    loop {
        let z = normal(rng);
        if z.abs() <= 2.0 {
            return z / TRUNCATED_STD;
        }
    }
}

/// A random orthogonal matrix: modified Gram–Schmidt, twice ("twice is enough", Giraud et al. 2005),
/// on rows of normal numbers. Their rotational symmetry makes the result uniform (Haar).
///
/// With at most as many units as inputs the units are orthonormal; otherwise the inputs are.
fn orthogonal(shape: &WeightShape, rng: &mut ChaCha8Rng, gain: f64) -> Vec<f64> {
    let (units, inputs) = (shape.units(), shape.fan_in());
    let (rows, length) = (units.min(inputs), units.max(inputs));
    let mut basis: Vec<Vec<f64>> = Vec::with_capacity(rows);
    while basis.len() < rows {
        let mut row: Vec<f64> = (0..length).map(|_| normal(rng)).collect();
        for _ in 0..2 {
            for earlier in &basis {
                let along: f64 = row.iter().zip(earlier).map(|(a, b)| a * b).sum();
                row.iter_mut()
                    .zip(earlier)
                    .for_each(|(a, b)| *a -= along * b);
            }
        }
        let length = row.iter().map(|a| a * a).sum::<f64>().sqrt();
        // A draw in the span of the earlier rows has probability 0; it would be drawn again.
        if length > 1e-8 {
            row.iter_mut().for_each(|a| *a /= length);
            basis.push(row);
        }
    }
    let mut weight = vec![0.0; shape.len()];
    for unit in 0..units {
        for input in 0..inputs {
            let q = if units <= inputs {
                basis[unit][input]
            } else {
                basis[input][unit]
            };
            weight[shape.place(unit, input)] = gain * q;
        }
    }
    weight
}

/// Make the first min(units, channels) units the identity: unit i passes input channel i through.
/// A unit's other values become 0; units beyond that are left as they are.
///
/// The centre of an even kernel is at ⌊k/2⌋, as in `torch.nn.init.dirac_`.
pub(crate) fn write_dirac(weight: &mut [f64], shape: &WeightShape, gain: f64) {
    let (channels, area, centre) = match *shape {
        WeightShape::Linear { d_in, .. } => (d_in, 1, 0),
        WeightShape::Conv {
            in_channels,
            kernel: [h, w],
            ..
        } => (in_channels, h * w, (h / 2) * w + w / 2),
    };
    for unit in 0..shape.units().min(channels) {
        for input in 0..shape.fan_in() {
            weight[shape.place(unit, input)] = if input == unit * area + centre {
                gain
            } else {
                0.0
            };
        }
    }
}

/// ⌈sparsity·fan_in⌉ inputs of every unit are 0, chosen without replacement (Fisher–Yates).
fn sparse(shape: &WeightShape, rng: &mut ChaCha8Rng, sparsity: f64, std: f64) -> Vec<f64> {
    let inputs = shape.fan_in();
    let zeros = (sparsity * inputs as f64).ceil() as usize;
    let mut weight = vec![0.0; shape.len()];
    let mut order: Vec<usize> = (0..inputs).collect();
    for unit in 0..shape.units() {
        for i in 0..zeros.min(inputs) {
            let other = i + below(rng, inputs - i);
            order.swap(i, other);
        }
        for &input in order.iter().skip(zeros) {
            weight[shape.place(unit, input)] = std * normal(rng);
        }
    }
    weight
}

mod random;
#[cfg(test)]
mod tests;
