//! The operations that memory bounds: normalisation, activations, pooling.
//!
//! ```text
//! bytes per number of the input                          forward    backward
//! batch norm + relu, training    x twice, y              12         20     x and dy twice, dx
//! gelu                           x, y                    8          12     x, dy, dx
//! max pool 2×2                   x, y/4, index/4         5.25       5.25   dy/4, index/4, dx
//! ```
//!
//! These are the fewest that the formula needs with the statistics of the batch between two passes; what
//! fits a cache may pass the triad's rate.

use std::hint::black_box;

use gradus_kernels::cpu::activation::{Act, act, act_backward};
use gradus_kernels::cpu::norm::{NormBackward, fold, moments, norm_act_backward, scale_shift_act};
use gradus_kernels::cpu::pool::{PoolShape, max_pool, max_pool_backward};
use serde::Serialize;
use serde_json::json;

use super::{Settings, Times, random, repeated};
use crate::BenchError;
use crate::peaks::Peaks;
use crate::peer::Peer;
use crate::statistics::{Spread, median};

/// One pass of one operation that memory bounds.
#[derive(Clone, Debug, Serialize)]
pub struct StreamLine {
    /// Such as `batch norm + relu`.
    pub operation: &'static str,
    /// Channels and side of the images, such as `32 @32`.
    pub shape: String,
    /// `forward` or `backward`.
    pub pass: &'static str,
    /// Ours, over the rounds.
    pub seconds: Spread,
    /// At the median, by the bytes of the formulas.
    pub gb_per_second: f64,
    /// `gb_per_second` of the triad's.
    pub triad_share: Option<f64>,
    /// How many times as fast ours is as PyTorch's: median over the pairs.
    pub torch_ratio: Option<f64>,
}

const SHAPES: [[usize; 2]; 4] = [[32, 32], [64, 31], [64, 16], [128, 8]];
const EPSILON: f32 = 1e-5;

/// The numbers of one operation on `[N, side, side, channels]`.
struct Buffers {
    pool: PoolShape,
    x: Vec<f32>,
    y: Vec<f32>,
    dy: Vec<f32>,
    dx: Vec<f32>,
    index: Vec<u8>,
    /// Mean, variance, γ, β, 1/σ, scale, shift, ∂γ, ∂β.
    channels: [Vec<f32>; 9],
}

/// What is done, forward and backward.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Norm,
    Gelu,
    Pool,
}

impl Operation {
    const ALL: [Self; 3] = [Self::Norm, Self::Gelu, Self::Pool];

    fn name(self) -> &'static str {
        match self {
            Self::Norm => "batch norm + relu",
            Self::Gelu => "gelu",
            Self::Pool => "max pool 2×2",
        }
    }

    /// Bytes per number of the input.
    fn bytes(self, backward: bool) -> f64 {
        match (self, backward) {
            (Self::Norm, false) => 12.0,
            (Self::Norm, true) => 20.0,
            (Self::Gelu, false) => 8.0,
            (Self::Gelu, true) => 12.0,
            (Self::Pool, _) => 5.25,
        }
    }
}

impl Buffers {
    fn new(batch: usize, [channels, side]: [usize; 2]) -> Self {
        let count = batch * side * side * channels;
        let pool = PoolShape {
            batch,
            size: [side; 2],
            channels,
            kernel: [2; 2],
            stride: [2; 2],
            padding: [0; 2],
        };
        let pooled = batch * channels * pool.out_size().iter().product::<usize>();
        Self {
            pool,
            x: random(1, count),
            y: vec![0.0; count],
            dy: random(2, count),
            dx: vec![0.0; count],
            index: vec![0; pooled],
            channels: std::array::from_fn(|_| vec![1.0; channels]),
        }
    }

    fn forward(&mut self, operation: Operation) {
        let pooled = self.index.len();
        match operation {
            Operation::Norm => {
                let [mean, var, gamma, beta, rstd, scale, shift, ..] = &mut self.channels;
                moments(&self.x, mean, var);
                fold([mean, var], EPSILON, [gamma, beta], [rstd, scale, shift]);
                scale_shift_act(&self.x, scale, shift, None, Act::Relu, &mut self.y);
            }
            Operation::Gelu => act(&self.x, Act::Gelu, &mut self.y),
            Operation::Pool => {
                let y = &mut self.y[..pooled];
                max_pool(&self.pool, &self.x, y, Some(&mut self.index));
            }
        }
        black_box(&self.y);
    }

    /// After a forward pass of the same operation.
    fn backward(&mut self, operation: Operation) {
        let pooled = self.index.len();
        match operation {
            Operation::Norm => {
                let [mean, _, gamma, beta, rstd, _, _, dgamma, dbeta] = &mut self.channels;
                let args = NormBackward {
                    x: &self.x,
                    dy: &self.dy,
                    residual: None,
                    mean,
                    rstd,
                    gamma,
                    beta,
                    act: Act::Relu,
                };
                norm_act_backward(&args, &mut self.dx, dgamma, dbeta, None);
            }
            Operation::Gelu => act_backward(&self.x, &self.dy, Act::Gelu, &mut self.dx),
            Operation::Pool => {
                let dy = &self.dy[..pooled];
                max_pool_backward(&self.pool, &self.index, dy, &mut self.dx);
            }
        }
        black_box(&self.dx);
    }
}

/// Measures all of them whose name is chosen.
pub(super) fn measure(
    settings: &Settings,
    peaks: &Peaks,
    peer: &mut Option<Peer>,
    skipped: &mut Vec<String>,
    say: &mut impl FnMut(&str),
) -> Result<Vec<StreamLine>, BenchError> {
    let mut lines = Vec::new();
    for operation in Operation::ALL {
        for [channels, side] in SHAPES {
            let shape = format!("{channels} @{side}");
            if !settings.chosen(&format!("{} {shape}", operation.name())) {
                continue;
            }
            say(&format!("{} {shape}", operation.name()));
            let mut ours = Buffers::new(settings.batch, [channels, side]);
            for backward in [false, true] {
                let (mut mine, mut torch) = (Vec::new(), Vec::new());
                for round in 0..=settings.rounds {
                    let time = repeated(settings.seconds, || match backward {
                        false => ours.forward(operation),
                        true => ours.backward(operation),
                    });
                    if round > 0 {
                        mine.push(time);
                    }
                    let Some(peer) = peer else { continue };
                    let question = json!({
                        "operation": operation.name(), "backward": backward,
                        "batch": settings.batch, "in": channels, "size": [side, side],
                        "seconds": settings.seconds,
                    });
                    match peer.ask::<Times>(&question)? {
                        Ok(times) if round > 0 => torch.push(median(times.seconds)),
                        Err(why) if round == 0 => {
                            skipped.push(format!("torch {} {shape}: {why}", operation.name()));
                        }
                        _ => {}
                    }
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
                let ratios: Vec<f64> = mine.iter().zip(&torch).map(|(a, b)| b / a).collect();
                let seconds = Spread::of(mine);
                let bytes = operation.bytes(backward) * ours.x.len() as f64;
                let rate = bytes / seconds.median / 1e9;
                lines.push(StreamLine {
                    operation: operation.name(),
                    shape: shape.clone(),
                    pass: if backward { "backward" } else { "forward" },
                    seconds,
                    gb_per_second: rate,
                    triad_share: peaks.triad_gb_per_second.map(|triad| rate / triad),
                    torch_ratio: (!ratios.is_empty()).then(|| median(ratios)),
                });
            }
        }
    }
    Ok(lines)
}
