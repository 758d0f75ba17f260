//! Batch normalisation with what follows it: y = f(γ·x̂ + β + residual), and its gradients.
//!
//! Arrays are `[rows, channels]`, rows = N·H·W; every statistic is of a channel, over the rows.
//!
//! ```text
//! μ = mean x,  v = mean (x − μ)²,  ρ = 1/√(v + ε),  x̂ = (x − μ)·ρ
//! scale = γ·ρ,  shift = β − μ·scale,  z = x·scale + shift + residual,  y = f(z)
//!
//! g = dy·f′(z)        dβ = Σ g        dγ = Σ g·x̂        dresidual = g
//! dx = scale·(g − dβ/rows − x̂·dγ/rows)                  (training: through μ and v)
//! dx = scale·g,  dscale = Σ g·x,  dshift = Σ g          (evaluation: scale and shift are given)
//! ```
//!
//! Ioffe and Szegedy, "Batch Normalization" (2015). Nothing but x and the statistics is kept from the
//! forward pass: z is computed again, by the very same operations, so that f′ is taken where f was.
//! The backward pass goes over memory twice, once for the sums and once for dx.
//!
//! Moments take one pass: sums of x − s and (x − s)², s the mean of a piece's first rows, give the
//! piece's own moments without cancellation even where μ ≫ √v; pieces are put together by the formula
//! of Chan, Golub and LeVeque (1979). Short sums are in f32, all others in f64, all in an order that
//! the shape alone decides: the same bits at any number of threads.

use super::activation::{Act, Function, with_function};
use super::pieces::{Rows, Step, Terms, map_each, march, read, sum_up, write};
use super::simd::Simd;

mod moments;

pub use moments::{Partials, moments, moments_of_partials};

/// ρ, scale and shift of each channel from its moments: what the forward pass applies.
///
/// Mean, biased variance, γ and β have one entry per channel; ε > 0 is added to the variance.
///
/// # Panics
/// If the slices differ in length.
pub fn fold(moments: [&[f32]; 2], epsilon: f32, affine: [&[f32]; 2], out: [&mut [f32]; 3]) {
    let ([mean, var], [gamma, beta], [rstd, scale, shift]) = (moments, affine, out);
    let channels = mean.len();
    for (name, len) in [
        ("var", var.len()),
        ("gamma", gamma.len()),
        ("beta", beta.len()),
        ("rstd", rstd.len()),
        ("scale", scale.len()),
        ("shift", shift.len()),
    ] {
        assert_eq!(len, channels, "{name} and mean");
    }
    for c in 0..channels {
        rstd[c] = (1.0 / (f64::from(var[c]) + f64::from(epsilon)).sqrt()) as f32;
        [scale[c], shift[c]] = scale_shift(mean[c], rstd[c], gamma[c], beta[c]);
    }
}

/// z = x·scale + shift, of one channel.
fn scale_shift(mean: f32, rstd: f32, gamma: f32, beta: f32) -> [f32; 2] {
    let scale = gamma * rstd;
    [
        scale,
        (f64::from(beta) - f64::from(mean) * f64::from(scale)) as f32,
    ]
}

/// y = f(x·scale + shift + residual). `x`, `residual`, `y` `[rows, channels]`; `scale`, `shift`
/// `[channels]`.
///
/// # Panics
/// If the lengths do not fit together.
pub fn scale_shift_act(
    x: &[f32],
    scale: &[f32],
    shift: &[f32],
    residual: Option<&[f32]>,
    act: Act,
    y: &mut [f32],
) {
    let rows = Rows::new(x.len(), scale.len());
    assert_eq!(shift.len(), scale.len(), "shift and scale");
    assert_eq!(y.len(), x.len(), "y and x");
    check(residual, &rows, "residual");
    let scale = &rows.repeat(|c| scale[c]);
    let shift = &rows.repeat(|c| shift[c]);
    // Backwards: the end of x has been touched last, and the beginning of y will be wanted first.
    let outputs: Vec<_> = rows.cut(y).into_iter().enumerate().rev().collect();
    with_function!(act, |f| map_each(outputs, |_, (i, y)| {
        let input = Input {
            x: &x[rows.range(i)],
            residual: residual.map(|r| &r[rows.range(i)]),
            scale,
            shift,
        };
        let len = y.len();
        // SAFETY: the pieces are of one length; the tables are of a period.
        unsafe { march(Forward { f, input, y }, len, rows.period) };
    }));
}

/// What [`norm_act_backward`] needs of the forward pass in training mode.
#[derive(Clone, Copy, Debug)]
pub struct NormBackward<'a> {
    /// The input, `[rows, channels]`.
    pub x: &'a [f32],
    /// ∂L/∂y, `[rows, channels]`.
    pub dy: &'a [f32],
    /// What was added before the activation, `[rows, channels]`.
    pub residual: Option<&'a [f32]>,
    /// μ, `[channels]`.
    pub mean: &'a [f32],
    /// ρ = 1/√(v + ε), `[channels]`, as from [`fold`].
    pub rstd: &'a [f32],
    /// γ, `[channels]`.
    pub gamma: &'a [f32],
    /// β, `[channels]`.
    pub beta: &'a [f32],
    /// f.
    pub act: Act,
}

/// The gradients of y = f(γ·x̂ + β + residual), through the statistics of the batch.
///
/// `dx` and `dresidual` are `[rows, channels]`, `dgamma` and `dbeta` `[channels]`; each is written, not
/// added to. Between the two passes g is kept in `dresidual` if that is given, in `dx` if f is dear.
///
/// # Panics
/// If the lengths do not fit together.
pub fn norm_act_backward(
    args: &NormBackward<'_>,
    dx: &mut [f32],
    dgamma: &mut [f32],
    dbeta: &mut [f32],
    dresidual: Option<&mut [f32]>,
) {
    let &NormBackward {
        x,
        dy,
        residual,
        mean,
        rstd,
        gamma,
        beta,
        act,
    } = args;
    let rows = Rows::new(x.len(), mean.len());
    for (name, len) in [
        ("rstd", rstd.len()),
        ("gamma", gamma.len()),
        ("beta", beta.len()),
        ("dgamma", dgamma.len()),
        ("dbeta", dbeta.len()),
    ] {
        assert_eq!(len, mean.len(), "{name} and mean");
    }
    assert!(dy.len() == x.len() && dx.len() == x.len(), "x, dy and dx");
    check(residual, &rows, "residual");
    check(dresidual.as_deref(), &rows, "dresidual");

    let affine = |c: usize| scale_shift(mean[c], rstd[c], gamma[c], beta[c]);
    let scale = &rows.repeat(|c| affine(c)[0]);
    let shift = &rows.repeat(|c| affine(c)[1]);
    let mean = &rows.repeat(|c| mean[c]);
    let input = |i: usize| Input {
        x: &x[rows.range(i)],
        residual: residual.map(|r| &r[rows.range(i)]),
        scale,
        shift,
    };
    with_function!(act, |f| {
        let mut dresidual = dresidual;
        // A function that is dear is not computed twice: g waits where dx will be.
        let here = dresidual.is_none() && f.is_dear();
        let kept = rows.cut_option(match &mut dresidual {
            Some(dresidual) => Some(&mut **dresidual),
            None => here.then_some(&mut *dx),
        });
        let [sums, products] = rows.sums(kept, |i, kept, places| {
            let terms = Gradients {
                f,
                input: input(i),
                dy: &dy[rows.range(i)],
                centre: Some(mean),
                kept,
                dx: None,
            };
            // SAFETY: the pieces are of one length; the tables are of a period.
            unsafe { sum_up(terms, rows.range(i).len(), rows.period, places) };
        });
        for c in 0..rows.channels {
            dbeta[c] = sums[c] as f32;
            dgamma[c] = (products[c] * f64::from(rstd[c])) as f32;
        }

        // dx = scale·g + (x − μ)·slope + offset
        let count = rows.count as f64;
        let slope = &rows.repeat(|c| {
            let rho = f64::from(rstd[c]);
            (-f64::from(affine(c)[0]) * rho * rho * products[c] / count) as f32
        });
        let offset = &rows.repeat(|c| (-f64::from(affine(c)[0]) * sums[c] / count) as f32);
        let kept = dresidual.as_deref();
        // Backwards, for what the first pass read last is still in the cache.
        let outputs: Vec<_> = rows.cut(dx).into_iter().enumerate().rev().collect();
        map_each(outputs, |_, (i, dx)| {
            let len = dx.len();
            let g = match kept {
                Some(kept) => Gradient::Kept(&kept[rows.range(i)]),
                None if here => Gradient::Here,
                None => Gradient::Of(&dy[rows.range(i)]),
            };
            let step = ThroughStatistics {
                f,
                input: input(i),
                g,
                mean,
                slope,
                offset,
                dx,
            };
            // SAFETY: the pieces are of one length; the tables are of a period.
            unsafe { march(step, len, rows.period) };
        });
    });
}

/// What [`scale_shift_act_backward`] needs of the forward pass.
#[derive(Clone, Copy, Debug)]
pub struct ScaleShiftBackward<'a> {
    /// The input, `[rows, channels]`.
    pub x: &'a [f32],
    /// ∂L/∂y, `[rows, channels]`.
    pub dy: &'a [f32],
    /// What was added before the activation, `[rows, channels]`.
    pub residual: Option<&'a [f32]>,
    /// The factor, `[channels]`.
    pub scale: &'a [f32],
    /// The summand, `[channels]`.
    pub shift: &'a [f32],
    /// f.
    pub act: Act,
}

/// The gradients of y = f(x·scale + shift + residual), scale and shift being given numbers: one pass.
///
/// `dx` and `dresidual` are `[rows, channels]`, `dscale` and `dshift` `[channels]`; each is written, not
/// added to.
///
/// # Panics
/// If the lengths do not fit together.
pub fn scale_shift_act_backward(
    args: &ScaleShiftBackward<'_>,
    dx: &mut [f32],
    dscale: &mut [f32],
    dshift: &mut [f32],
    dresidual: Option<&mut [f32]>,
) {
    let &ScaleShiftBackward {
        x,
        dy,
        residual,
        scale,
        shift,
        act,
    } = args;
    let rows = Rows::new(x.len(), scale.len());
    for (name, len) in [
        ("shift", shift.len()),
        ("dscale", dscale.len()),
        ("dshift", dshift.len()),
    ] {
        assert_eq!(len, scale.len(), "{name} and scale");
    }
    assert!(dy.len() == x.len() && dx.len() == x.len(), "x, dy and dx");
    check(residual, &rows, "residual");
    check(dresidual.as_deref(), &rows, "dresidual");
    let scale = &rows.repeat(|c| scale[c]);
    let shift = &rows.repeat(|c| shift[c]);
    with_function!(act, |f| {
        let outputs = rows.cut(dx).into_iter().zip(rows.cut_option(dresidual));
        let [sums, products] = rows.sums(outputs.collect(), |i, (dx, kept), places| {
            let terms = Gradients {
                f,
                input: Input {
                    x: &x[rows.range(i)],
                    residual: residual.map(|r| &r[rows.range(i)]),
                    scale,
                    shift,
                },
                dy: &dy[rows.range(i)],
                centre: None,
                kept,
                dx: Some(dx),
            };
            // SAFETY: the pieces are of one length; the tables are of a period.
            unsafe { sum_up(terms, rows.range(i).len(), rows.period, places) };
        });
        for c in 0..rows.channels {
            dshift[c] = sums[c] as f32;
            dscale[c] = products[c] as f32;
        }
    });
}

fn check(x: Option<&[f32]>, rows: &Rows, name: &str) {
    if let Some(x) = x {
        assert_eq!(x.len(), rows.len(), "{name} and x");
    }
}

/// What z is made of; `scale` and `shift` are of a period.
#[derive(Clone, Copy)]
struct Input<'a> {
    x: &'a [f32],
    residual: Option<&'a [f32]>,
    scale: &'a [f32],
    shift: &'a [f32],
}

impl Input<'_> {
    /// (x, z).
    ///
    /// # Safety
    /// The elements must be there.
    #[inline(always)]
    unsafe fn read<S: Simd>(&self, s: S, at: usize, place: usize, n: usize) -> (S::V, S::V) {
        // SAFETY: the caller's promise; the tables are of a period.
        unsafe {
            let x = read(s, self.x, at, n);
            let scale = read(s, self.scale, place, S::LANES);
            let shift = read(s, self.shift, place, S::LANES);
            let z = s.fma(x, scale, shift);
            match self.residual {
                Some(residual) => (x, s.add(z, read(s, residual, at, n))),
                None => (x, z),
            }
        }
    }
}

struct Forward<'a, F> {
    f: F,
    input: Input<'a>,
    y: &'a mut [f32],
}

impl<F: Function> Step for Forward<'_, F> {
    #[inline(always)]
    unsafe fn step<S: Simd>(&mut self, s: S, at: usize, place: usize, n: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let (_, z) = self.input.read(s, at, place, n);
            write(s, self.y, at, self.f.value(s, z), n);
        }
    }
}

/// The terms g and g·(x − centre); where they are wanted, g and scale·g themselves.
struct Gradients<'a, F> {
    f: F,
    input: Input<'a>,
    dy: &'a [f32],
    centre: Option<&'a [f32]>,
    kept: Option<&'a mut [f32]>,
    dx: Option<&'a mut [f32]>,
}

impl<F: Function> Terms<2> for Gradients<'_, F> {
    #[inline(always)]
    unsafe fn add<S: Simd>(
        &mut self,
        s: S,
        [sum, product]: [S::V; 2],
        at: usize,
        place: usize,
        n: usize,
    ) -> [S::V; 2] {
        // SAFETY: the caller's promise; the tables are of a period.
        unsafe {
            let (x, z) = self.input.read(s, at, place, n);
            let g = self.f.gradient(s, z, read(s, self.dy, at, n));
            if let Some(kept) = &mut self.kept {
                write(s, kept, at, g, n);
            }
            if let Some(dx) = &mut self.dx {
                let scale = read(s, self.input.scale, place, S::LANES);
                write(s, dx, at, s.mul(g, scale), n);
            }
            let x = match self.centre {
                Some(centre) => s.sub(x, read(s, centre, place, S::LANES)),
                None => x,
            };
            [s.add(sum, g), s.fma(g, x, product)]
        }
    }
}

/// Where the second pass finds g.
#[derive(Clone, Copy)]
enum Gradient<'a> {
    /// Nowhere: it is computed again from dy.
    Of(&'a [f32]),
    /// In an array of its own.
    Kept(&'a [f32]),
    /// In the place of dx.
    Here,
}

/// dx = scale·g + (x − μ)·slope + offset.
struct ThroughStatistics<'a, F> {
    f: F,
    input: Input<'a>,
    g: Gradient<'a>,
    mean: &'a [f32],
    slope: &'a [f32],
    offset: &'a [f32],
    dx: &'a mut [f32],
}

impl<F: Function> Step for ThroughStatistics<'_, F> {
    #[inline(always)]
    unsafe fn step<S: Simd>(&mut self, s: S, at: usize, place: usize, n: usize) {
        // SAFETY: the caller's promise; the tables are of a period.
        unsafe {
            let (x, g) = match self.g {
                Gradient::Of(dy) => {
                    let (x, z) = self.input.read(s, at, place, n);
                    (x, self.f.gradient(s, z, read(s, dy, at, n)))
                }
                Gradient::Kept(g) => (read(s, self.input.x, at, n), read(s, g, at, n)),
                Gradient::Here => (read(s, self.input.x, at, n), read(s, self.dx, at, n)),
            };
            let table = |t: &[f32]| read(s, t, place, S::LANES);
            let x = s.sub(x, table(self.mean));
            let dx = s.fma(x, table(self.slope), table(self.offset));
            write(s, self.dx, at, s.fma(g, table(self.input.scale), dx), n);
        }
    }
}
