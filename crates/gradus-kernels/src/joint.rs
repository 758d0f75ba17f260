//! Batch normalisation over the batches of several ranks: what has to be added up, and where.
//!
//! ```text
//! forward    n = Σ_r n_r,  μ = Σ_r n_r·μ_r/n,  v = Σ_r n_r·(v_r + μ_r²)/n − μ²            one sum
//! backward   S = Σ_r S_r,  P = Σ_r P_r      with S_r = Σ g,  P_r = Σ g·x̂ over the rows of rank r
//!            dx = γρ·(g − S/n − x̂·P/n),  x̂ = (x − μ)·ρ,  ρ = 1/√(v + ε)                  one sum
//! ```
//!
//! It is what one rank with all rows would compute. dγ = P_r and dβ = S_r stay those of the rank: like
//! every gradient of a parameter they are added up later. The kernels for one rank do the work. They
//! compute dx with S_r/n_r and P_r/n_r for S/n and P/n, so the difference, a map of each channel, is put
//! right in a second pass:
//!
//! ```text
//! dx = dx_r + x·a + b,   a = γρ²·(P_r/n_r − P/n),   b = γρ·(S_r/n_r − S/n) − μ·a
//! ```

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, TensorMetadata};
use burn::tensor::{Shape, Tensor, TensorData, read_sync};
use gradus_core::ranks::Ranks;

use crate::cpu::activation::Act;
use crate::kernels::{ChannelGradients, ChannelMap, Kernels, Moments};
use crate::mixed::of_channels;
use crate::ops::KernelOps;

/// How a batch is normalised together with those of other ranks.
#[derive(Clone, Debug)]
pub struct Joint {
    /// ε, added to the variance.
    pub epsilon: f64,
    /// f.
    pub act: Act,
    /// n_r, the numbers of a channel that are here.
    pub local: usize,
    /// n, those of all ranks.
    pub count: f64,
    /// Who else there is.
    pub ranks: Ranks,
}

/// The moments of all ranks' batches, and what follows from them.
pub(crate) struct Measured {
    pub(crate) mean: Tensor<1>,
    pub(crate) variance: Tensor<1>,
    pub(crate) count: usize,
    pub(crate) how: Joint,
}

impl Joint {
    /// Measures the batches of all ranks; `local` numbers of each channel of `x` are here.
    pub(crate) fn measure(
        x: Tensor<4>,
        local: usize,
        ranks: Ranks,
        epsilon: f64,
        act: Act,
    ) -> Measured {
        let (device, dtype, channels) = (x.device(), of_channels(x.dtype()), x.dims()[1]);
        let (mean, variance) = Dispatch::channel_moments(x.into_dispatch());
        let [mean, variance] = [mean, variance].map(|moment| {
            let data = Tensor::<1>::from_dispatch(moment).try_into_data();
            numbers(data.ok(), channels)
        });
        let n = local as f64;
        let mut sums = vec![n];
        sums.extend(mean.iter().map(|mean| n * mean));
        let squares = mean.iter().zip(&variance).map(|(mu, v)| n * (v + mu * mu));
        sums.extend(squares);
        // A rank that is gone stays gone: the next sum of gradients says so, where errors can be said.
        let _ = ranks.sum(&mut sums);
        let count = sums[0];
        let (means, squares) = sums[1..].split_at(channels);
        let mean: Vec<f64> = means.iter().map(|sum| sum / count).collect();
        // NaN stays NaN: `max` would hide it.
        let variance = squares.iter().zip(&mean).map(|(sum, mu)| {
            let variance = sum / count - mu * mu;
            if variance < 0.0 { 0.0 } else { variance }
        });
        let tensor = |values: Vec<f64>| {
            Tensor::from_data(TensorData::new(values, [channels]), (&device, dtype))
        };
        Measured {
            variance: tensor(variance.collect()),
            mean: tensor(mean),
            count: count as usize,
            how: Self {
                epsilon,
                act,
                local,
                count,
                ranks,
            },
        }
    }

    /// The gradients, through the moments to the x of every rank.
    pub(crate) fn gradient<B: Kernels>(
        self,
        map: ChannelMap<B>,
        moments: Moments<B>,
        dy: FloatTensor<B>,
        of_residual: bool,
    ) -> ChannelGradients<B> {
        let (x, gamma) = (map.x.clone(), read::<B>(&map.scale));
        let (mean, variance) = (read::<B>(&moments.mean), read::<B>(&moments.variance));
        let found = B::normalise_gradient(map, moments, self.epsilon, dy, of_residual);
        // S_r, then P_r.
        let own = [read::<B>(&found.shift), read::<B>(&found.scale)].concat();
        let mut all = own.clone();
        // As in `measure`.
        let _ = self.ranks.sum(&mut all);
        let channels = mean.len();
        let excess = |at: usize| own[at] / self.local as f64 - all[at] / self.count;
        let (mut factors, mut summands) = (Vec::new(), Vec::new());
        for c in 0..channels {
            let rho = 1.0 / (variance[c] + self.epsilon).sqrt();
            let factor = gamma[c] * rho * rho * excess(channels + c);
            summands.push((gamma[c] * rho * excess(c) - mean[c] * factor) as f32);
            factors.push(factor as f32);
        }
        let like = &found.scale;
        let correction = ChannelMap {
            x,
            scale: write::<B>(factors, like),
            shift: write::<B>(summands, like),
            residual: Some(found.x),
            act: Act::Identity,
        };
        ChannelGradients {
            x: B::scale_shift(correction),
            ..found
        }
    }
}

/// The numbers of a vector; NaN where the device does not deliver them, which the trainer finds.
fn numbers(data: Option<TensorData>, len: usize) -> Vec<f64> {
    data.map_or_else(|| vec![f64::NAN; len], |data| data.iter::<f64>().collect())
}

fn read<B: Backend>(x: &FloatTensor<B>) -> Vec<f64> {
    let data = read_sync(B::float_into_data(x.clone()));
    numbers(data.ok(), x.shape()[0])
}

fn write<B: Backend>(values: Vec<f32>, like: &FloatTensor<B>) -> FloatTensor<B> {
    let shape = Shape::from([values.len()]);
    let data = TensorData::new(values, shape).convert_dtype(like.dtype());
    B::float_from_data(data, &like.device())
}
