//! Batch normalisation and activations of the CPU kernels against plain loops in f64.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod reference;

use gradus_kernels::cpu::activation::{Act, act, act_backward};
use gradus_kernels::cpu::norm::{
    NormBackward, Partials, ScaleShiftBackward, fold, moments, moments_of_partials,
    norm_act_backward, scale_shift_act, scale_shift_act_backward,
};
use proptest::prelude::*;
use reference::{
    ACTS, assert_close, assert_same_bits, at_thread_counts, cases, derivative, numbers, value, wide,
};

const EPSILON: f32 = 1e-5;

/// One layer: input, what is added, parameters, gradient of the output.
struct Case {
    channels: usize,
    x: Vec<f32>,
    residual: Option<Vec<f32>>,
    gamma: Vec<f32>,
    beta: Vec<f32>,
    dy: Vec<f32>,
    act: Act,
}

impl Case {
    fn new(seed: u64, rows: usize, channels: usize, residual: bool, act: Act) -> Self {
        let n = rows * channels;
        Self {
            channels,
            x: numbers(seed, n).iter().map(|x| 1.5 * x + 0.7).collect(),
            residual: residual.then(|| numbers(seed + 1, n)),
            gamma: numbers(seed + 2, channels),
            beta: numbers(seed + 3, channels),
            dy: numbers(seed + 4, n),
            act,
        }
    }

    fn rows(&self) -> usize {
        self.x.len() / self.channels
    }

    /// Mean and variance in f64.
    fn moments(&self) -> (Vec<f64>, Vec<f64>) {
        (0..self.channels)
            .map(|c| {
                let column = || {
                    self.x[c..]
                        .iter()
                        .step_by(self.channels)
                        .map(|x| f64::from(*x))
                };
                let mean = column().sum::<f64>() / self.rows() as f64;
                let square = column().map(|x| (x - mean).powi(2)).sum::<f64>();
                (mean, square / self.rows() as f64)
            })
            .unzip()
    }

    /// The forward pass in f64: y.
    fn forward(&self) -> Vec<f64> {
        let (mean, var) = self.moments();
        (0..self.x.len())
            .map(|i| value(self.act, self.z(i, &mean, &var)))
            .collect()
    }

    fn z(&self, i: usize, mean: &[f64], var: &[f64]) -> f64 {
        let c = i % self.channels;
        let x = (f64::from(self.x[i]) - mean[c]) / (var[c] + f64::from(EPSILON)).sqrt();
        x * f64::from(self.gamma[c])
            + f64::from(self.beta[c])
            + self.residual.as_ref().map_or(0.0, |r| f64::from(r[i]))
    }

    /// dx, dγ, dβ, dresidual in f64, by the chain rule through μ and v taken apart.
    fn backward(&self) -> [Vec<f64>; 4] {
        let (mean, var) = self.moments();
        let (n, rows) = (self.channels, self.rows() as f64);
        let g: Vec<f64> = (0..self.x.len())
            .map(|i| f64::from(self.dy[i]) * derivative(self.act, self.z(i, &mean, &var)))
            .collect();
        let (mut dx, mut dgamma, mut dbeta) = (vec![0.0; g.len()], vec![0.0; n], vec![0.0; n]);
        for c in 0..n {
            let rho = 1.0 / (var[c] + f64::from(EPSILON)).sqrt();
            let gamma = f64::from(self.gamma[c]);
            let (mut dvar, mut dmean) = (0.0, 0.0);
            for i in (c..g.len()).step_by(n) {
                let centred = f64::from(self.x[i]) - mean[c];
                dgamma[c] += g[i] * centred * rho;
                dbeta[c] += g[i];
                dvar += g[i] * gamma * centred * -0.5 * rho.powi(3);
                dmean -= g[i] * gamma * rho;
            }
            for i in (c..g.len()).step_by(n) {
                let centred = f64::from(self.x[i]) - mean[c];
                dx[i] = g[i] * gamma * rho + dvar * 2.0 * centred / rows + dmean / rows;
            }
        }
        [dx, dgamma, dbeta, g]
    }

    /// The kernels: y, dx, dγ, dβ, dresidual.
    fn kernels(&self, keep: bool) -> [Vec<f32>; 5] {
        let (n, c) = (self.x.len(), self.channels);
        let channel = || vec![f32::NAN; c];
        let (mut mean, mut var) = (channel(), channel());
        moments(&self.x, &mut mean, &mut var);
        let (mut rstd, mut scale, mut shift) = (channel(), channel(), channel());
        fold(
            [&mean, &var],
            EPSILON,
            [&self.gamma, &self.beta],
            [&mut rstd, &mut scale, &mut shift],
        );
        let mut y = vec![f32::NAN; n];
        let residual = self.residual.as_deref();
        scale_shift_act(&self.x, &scale, &shift, residual, self.act, &mut y);
        let mut out = [
            y,
            vec![f32::NAN; n],
            channel(),
            channel(),
            vec![f32::NAN; n],
        ];
        let [_, dx, dgamma, dbeta, dresidual] = &mut out;
        let args = NormBackward {
            x: &self.x,
            dy: &self.dy,
            residual,
            mean: &mean,
            rstd: &rstd,
            gamma: &self.gamma,
            beta: &self.beta,
            act: self.act,
        };
        norm_act_backward(&args, dx, dgamma, dbeta, keep.then_some(dresidual));
        out
    }

    fn check(&self) {
        let (expected, gradients) = (self.forward(), self.backward());
        let [y, dx, dgamma, dbeta, dresidual] = self.kernels(true);
        let (mean, var) = self.moments();
        // Few rows may lie close together: rounding of x then counts 1/√v times, in dx twice.
        let least = var.iter().copied().fold(1.0, f64::min) + f64::from(EPSILON);
        let (once, twice) = (2e-6 / least.sqrt(), 2e-6 / least);
        assert_close(&y, &expected, once, "y");
        // A corner of f within rounding of z may be decided either way.
        let corner = |i: usize| {
            matches!(self.act, Act::Relu | Act::LeakyRelu(_)) && self.z(i, &mean, &var).abs() < once
        };
        if (0..self.x.len()).any(corner) {
            return;
        }
        let sums = once * (self.rows() as f64).sqrt();
        assert_close(&dresidual, &gradients[3], once, "dresidual");
        assert_close(&dbeta, &gradients[2], sums, "dbeta");
        assert_close(&dgamma, &gradients[1], sums, "dgamma");
        assert_close(&dx, &gradients[0], twice, "dx");
        // Without a place for dresidual g is computed twice instead of kept.
        let again = self.kernels(false);
        assert_close(&again[1], &gradients[0], twice, "dx again");
        assert_same_bits(&again[2], &dgamma);
        assert_same_bits(&again[3], &dbeta);
        assert!(again[4].iter().all(|x| x.is_nan()));
    }
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn training_mode_is_the_formula(
        seed in 0u64..1000,
        rows in prop_oneof![2usize..70, Just(1), Just(513), 900usize..1100],
        channels in prop::sample::select(vec![1usize, 2, 3, 5, 8, 10, 16, 17, 24, 31, 32, 48, 64, 96, 130]),
        residual: bool,
        act in prop::sample::select(&ACTS[..]),
    ) {
        Case::new(seed, rows, channels, residual, act).check();
    }

    #[test]
    fn evaluation_mode_is_the_formula(
        seed in 0u64..1000,
        rows in 1usize..300,
        channels in prop::sample::select(vec![1usize, 3, 10, 16, 17, 24, 64, 100]),
        residual: bool,
        act in prop::sample::select(&ACTS[..]),
    ) {
        let case = Case::new(seed, rows, channels, residual, act);
        let (scale, shift) = (&case.gamma, &case.beta);
        let n = case.x.len();
        let z = |i: usize| {
            f64::from(case.x[i]) * f64::from(scale[i % channels]) + f64::from(shift[i % channels])
                + case.residual.as_ref().map_or(0.0, |r| f64::from(r[i]))
        };
        let mut y = vec![f32::NAN; n];
        scale_shift_act(&case.x, scale, shift, case.residual.as_deref(), act, &mut y);
        assert_close(&y, &(0..n).map(|i| value(act, z(i))).collect::<Vec<_>>(), 2e-6, "y");

        let corner = |i: usize| matches!(act, Act::Relu | Act::LeakyRelu(_)) && z(i).abs() < 1e-5;
        prop_assume!(!(0..n).any(corner));
        let [mut dx, mut dresidual] = [vec![f32::NAN; n], vec![f32::NAN; n]];
        let [mut dscale, mut dshift] = [vec![f32::NAN; channels], vec![f32::NAN; channels]];
        let args = ScaleShiftBackward {
            x: &case.x, dy: &case.dy, residual: case.residual.as_deref(), scale, shift, act,
        };
        scale_shift_act_backward(&args, &mut dx, &mut dscale, &mut dshift, Some(&mut dresidual));
        let g: Vec<f64> = (0..n).map(|i| f64::from(case.dy[i]) * derivative(act, z(i))).collect();
        assert_close(&dresidual, &g, 2e-6, "dresidual");
        let expected: Vec<f64> = (0..n).map(|i| g[i] * f64::from(scale[i % channels])).collect();
        assert_close(&dx, &expected, 2e-6, "dx");
        let column = |c: usize, f: &dyn Fn(usize) -> f64| (c..n).step_by(channels).map(f).sum::<f64>();
        let expected: Vec<f64> = (0..channels).map(|c| column(c, &|i| g[i])).collect();
        assert_close(&dshift, &expected, 1e-5, "dshift");
        let expected: Vec<f64> = (0..channels).map(|c| column(c, &|i| g[i] * f64::from(case.x[i]))).collect();
        assert_close(&dscale, &expected, 1e-5, "dscale");
    }

    #[test]
    fn activations_alone_are_the_formulas(seed in 0u64..1000, n in 0usize..300, a in prop::sample::select(&ACTS[..])) {
        let x: Vec<f32> = numbers(seed, n).iter().map(|x| 3.0 * x).collect();
        let dy = numbers(seed + 1, n);
        let (mut y, mut dx) = (vec![f32::NAN; n], vec![f32::NAN; n]);
        act(&x, a, &mut y);
        assert_close(&y, &wide(&x).iter().map(|x| value(a, *x)).collect::<Vec<_>>(), 3e-7, "y");
        act_backward(&x, &dy, a, &mut dx);
        let expected: Vec<f64> = wide(&x).iter().zip(&dy).map(|(x, d)| f64::from(*d) * derivative(a, *x)).collect();
        assert_close(&dx, &expected, 1e-6, "dx");
    }
}

/// The gradient that the other tests compare with is itself that of the loss Σ dy·y.
#[test]
#[cfg_attr(miri, ignore = "no kernel in it")]
fn the_reference_gradient_is_a_gradient() {
    for act in [Act::Identity, Act::Gelu, Act::GeluTanh, Act::Silu] {
        let mut case = Case::new(3, 7, 3, true, act);
        let [dx, dgamma, dbeta, dresidual] = case.backward();
        let loss = |case: &Case| -> f64 {
            let y = case.forward();
            y.iter().zip(&case.dy).map(|(y, d)| y * f64::from(*d)).sum()
        };
        // The inputs are f32, so the step must be a number that they can move by exactly.
        let slope = |case: &mut Case, at: fn(&mut Case) -> &mut Vec<f32>, i: usize| {
            let before = at(case)[i];
            let h = 1.0 / 512.0;
            let mut go = |k: f32| {
                at(case)[i] = before + k * h;
                (loss(case), f64::from(at(case)[i]))
            };
            let (fine, coarse) = ((go(1.0), go(-1.0)), (go(2.0), go(-2.0)));
            at(case)[i] = before;
            let quotient = |((a, x), (b, y)): ((f64, f64), (f64, f64))| (a - b) / (x - y);
            (4.0 * quotient(fine) - quotient(coarse)) / 3.0
        };
        let near =
            |a: f64, b: f64| assert!((a - b).abs() < 2e-6 * (1.0 + b.abs()), "{act:?}: {a} {b}");
        for (i, expected) in dx.iter().enumerate() {
            near(slope(&mut case, |c| &mut c.x, i), *expected);
        }
        for (i, expected) in dresidual.iter().enumerate() {
            near(
                slope(&mut case, |c| c.residual.as_mut().unwrap(), i),
                *expected,
            );
        }
        for i in 0..3 {
            near(slope(&mut case, |c| &mut c.gamma, i), dgamma[i]);
            near(slope(&mut case, |c| &mut c.beta, i), dbeta[i]);
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "too large")]
fn moments_survive_a_mean_far_from_zero() {
    for channels in [1, 3, 16, 64] {
        let rows = 100_000 / channels;
        let mut case = Case::new(5, rows, channels, false, Act::Identity);
        for (i, x) in case.x.iter_mut().enumerate() {
            *x = (*x - 0.7) / 1.5 + 1e4 + (i % channels) as f32;
        }
        let (mean, var) = case.moments();
        let [mut m, mut v] = [vec![0.0; channels], vec![0.0; channels]];
        moments(&case.x, &mut m, &mut v);
        for c in 0..channels {
            assert!(
                (f64::from(m[c]) - mean[c]).abs() < 1e-3,
                "{} {}",
                m[c],
                mean[c]
            ); // one unit
            assert!(
                (f64::from(v[c]) / var[c] - 1.0).abs() < 1e-5,
                "{} {}",
                v[c],
                var[c]
            );
        }
    }
    // A constant has no variance at all, and a first row far off does no harm.
    let [mut m, mut v] = [vec![0.0; 3], vec![1.0; 3]];
    moments(&[1e4; 3 * 5000], &mut m, &mut v);
    assert_eq!((m, v), (vec![1e4; 3], vec![0.0; 3]));
    let mut case = Case::new(6, 4000, 1, false, Act::Identity);
    case.x[0] = 1e4;
    let [mut m, mut v] = [vec![0.0], vec![0.0]];
    moments(&case.x, &mut m, &mut v);
    assert_close(&v, &case.moments().1, 1e-5, "var");
}

#[test]
fn moments_of_partials_are_those_of_the_whole() {
    let (channels, sizes) = (5, [40, 0, 1, 333, 7]);
    let case = Case::new(8, sizes.iter().sum(), channels, false, Act::Identity);
    let (mut sums, mut deviations, mut start) = (vec![], vec![], 0);
    for rows in sizes {
        let part = &case.x[start * channels..(start + rows) * channels];
        start += rows;
        for c in 0..channels {
            let column = || part[c..].iter().step_by(channels);
            let sum: f32 = if rows == 0 { 0.0 } else { column().sum() };
            sums.push(sum);
            let mean = sum / rows as f32;
            deviations.push(if rows == 0 {
                0.0
            } else {
                column().map(|x| (x - mean).powi(2)).sum()
            });
        }
    }
    let [mut mean, mut var] = [vec![0.0; channels], vec![0.0; channels]];
    let partials = Partials {
        rows: &sizes,
        sums: &sums,
        deviations: &deviations,
    };
    moments_of_partials(partials, &mut mean, &mut var);
    let (m, v) = case.moments();
    assert_close(&mean, &m, 1e-6, "mean");
    assert_close(&var, &v, 1e-6, "var");
}

#[test]
#[cfg_attr(miri, ignore = "too large")]
fn the_bits_do_not_depend_on_the_number_of_threads() {
    for channels in [3, 32, 100] {
        let case = Case::new(9, 700_000 / channels, channels, true, Act::Gelu);
        let [one, two, five] = at_thread_counts(|| case.kernels(true));
        for other in [two, five] {
            for (a, b) in one.iter().zip(&other) {
                assert_same_bits(a, b);
            }
        }
    }
}

#[test]
fn what_is_no_number_stays_none_and_only_in_its_channel() {
    for act in ACTS {
        for (channels, bad) in [(17, f32::NAN), (32, f32::INFINITY)] {
            let mut case = Case::new(1, 40, channels, false, act);
            case.x[5 * channels + 2] = bad;
            let [y, dx, dgamma, dbeta, _] = case.kernels(true);
            for i in 0..y.len() {
                let poisoned = i % channels == 2;
                assert_eq!(y[i].is_nan(), poisoned, "{act:?} y[{i}] = {}", y[i]);
                assert_eq!(dx[i].is_nan(), poisoned, "{act:?} dx[{i}] = {}", dx[i]);
            }
            for c in 0..channels {
                assert_eq!(dgamma[c].is_nan(), c == 2);
                assert!(c == 2 || !dbeta[c].is_nan());
            }
        }
    }
}

/// PyTorch 2.15: f(x) and x.grad of f(x).sum() for each of these.
#[test]
fn the_edges_of_the_activations_are_those_of_pytorch() {
    let x = [
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        -0.0,
        f32::MAX,
        f32::MIN,
    ];
    let run = |a: Act| {
        let (mut y, mut dx) = ([0.0; 6], [0.0; 6]);
        act(&x, a, &mut y);
        act_backward(&x, &[1.0; 6], a, &mut dx);
        assert!(y[0].is_nan() && dx[0].is_nan(), "{a:?}");
        (y, dx)
    };
    let (y, dx) = run(Act::Relu);
    assert_eq!(y[1..], [f32::INFINITY, 0.0, 0.0, f32::MAX, 0.0]);
    assert_eq!(dx[1..], [1.0, 0.0, 0.0, 1.0, 0.0]);
    let (y, dx) = run(Act::LeakyRelu(0.01));
    assert_eq!(y[1..5], [f32::INFINITY, f32::NEG_INFINITY, 0.0, f32::MAX]);
    assert_eq!(dx[1..], [1.0, 0.01, 0.01, 1.0, 0.01]);
    for a in [Act::Gelu, Act::GeluTanh, Act::Silu] {
        let (y, dx) = run(a);
        assert!(y[1] == f32::INFINITY && y[2].is_nan(), "{a:?} {y:?}");
        assert_eq!(y[3..], [0.0, f32::MAX, 0.0], "{a:?}");
        assert_eq!(dx[3..], [0.5, 1.0, 0.0], "{a:?}");
    }
}
