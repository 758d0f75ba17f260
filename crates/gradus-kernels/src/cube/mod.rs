//! Kernels of our own for GPUs, in CubeCL, and what looks at launches.
//!
//! One source for all runtimes of CubeCL (CUDA, ROCm, Metal, Vulkan, WebGPU, and its CPU runtime); compiled
//! only with a feature that brings one of them.
//!
//! ```text
//! Kernels for Cube     is it for our kernels? (type, rank, device; else Burn's operations: fallback/)     here
//!   deferred           waits in the queue of Burn's fusion                                          deferred.rs
//!     rows             the order of memory that convolutions give, N, H, W, C; how work is divided      rows.rs
//!     batch_norm, …    the kernels
//! ```
//! Ours are the operations between two convolutions, for images in f32, f16 and bf16 whose channels have f32 numbers
//! (γ, β, μ, v): they read and give the order of memory of convolutions, so that nothing is transposed on the
//! way through a network. Convolutions themselves, linear layers and the loss are Burn's, as is everything in
//! f64.

#![allow(
    clippy::approx_constant,
    clippy::manual_div_ceil,
    clippy::manual_is_multiple_of,
    reason = "inside of kernels there are neither these methods nor the constants"
)]

mod batch_norm;
mod batch_norm_gradient;
mod deferred;
mod elementwise;
pub(crate) mod flat;
mod function;
mod gather;
pub mod launches;
pub(crate) mod norm;
mod pool;
mod rows;
mod sums;

use burn::backend::Cube;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;

use self::batch_norm::Vectors;
use self::deferred::{Waiting, deferred};
use self::rows::Rows;
use crate::cpu::activation::Act;
use crate::fallback;
use crate::kernels::{ChannelGradients, ChannelMap, Kernels, Moments, Windows};

/// Buffers that a kernel here binds at most, with that of its numbers.
const BINDINGS: u32 = 12;

/// Whether the kernels here are for such images, on this device.
fn is_ours(x: &Waiting) -> bool {
    x.shape.num_dims() == 4
        && x.shape.num_elements() > 0
        && matches!(x.dtype, DType::F32 | DType::F16 | DType::BF16)
        && x.client
            .device()
            .client()
            .properties()
            .hardware
            .max_bindings
            >= BINDINGS
}

/// Whether a whole map is.
fn fits(map: &ChannelMap<Cube>) -> bool {
    is_ours(&map.x)
        && map.scale.dtype == DType::F32
        && map.shift.dtype == DType::F32
        && map.residual.as_ref().is_none_or(|r| r.dtype == map.x.dtype)
}

/// x, scale, shift, and the residual if there is one.
fn inputs(map: ChannelMap<Cube>) -> Vec<Waiting> {
    let mut inputs = vec![map.x, map.scale, map.shift];
    inputs.extend(map.residual);
    inputs
}

impl Kernels for Cube {
    fn normalise(map: ChannelMap<Self>, epsilon: f64) -> (FloatTensor<Self>, Moments<Self>) {
        if !fits(&map) {
            return fallback::norm::normalise::<Self>(map, epsilon);
        }
        let act = map.act;
        let channels = Shape::from([map.x.shape[1]]);
        let outputs = [
            (map.x.shape.clone(), map.x.dtype),
            (channels.clone(), DType::F32),
            (channels, DType::F32),
        ];
        let run = move |inputs: Vec<CubeTensor>| {
            let mut inputs = inputs.into_iter();
            let mut next = || inputs.next();
            let (Some(x), Some(gamma), Some(beta)) = (next(), next(), next()) else {
                unreachable!("three tensors were given")
            };
            let residual = next().map(Rows::of);
            let x = Rows::of(x);
            let found = batch_norm::moments(&x);
            let vectors = Vectors::new(gamma, beta, epsilon);
            let y = batch_norm::apply(&x, Some(&found), &vectors, residual.as_ref(), act);
            let [mean, variance] = found;
            [y.into_tensor(), mean, variance]
        };
        let [y, mean, variance] = deferred("gradus_normalise", inputs(map), outputs, run);
        (y, Moments { mean, variance })
    }

    fn moments(x: FloatTensor<Self>) -> Moments<Self> {
        if !is_ours(&x) {
            return fallback::norm::moments::<Self>(x);
        }
        let outputs = [0, 1].map(|_| (Shape::from([x.shape[1]]), DType::F32));
        let run = |inputs: Vec<CubeTensor>| match inputs.into_iter().next() {
            Some(x) => batch_norm::moments(&Rows::of(x)),
            None => unreachable!("a tensor was given"),
        };
        let [mean, variance] = deferred("gradus_moments", vec![x], outputs, run);
        Moments { mean, variance }
    }

    fn normalise_gradient(
        map: ChannelMap<Self>,
        moments: Moments<Self>,
        epsilon: f64,
        dy: FloatTensor<Self>,
        of_residual: bool,
    ) -> ChannelGradients<Self> {
        let same = dy.dtype == map.x.dtype
            && [&moments.mean, &moments.variance].map(|m| m.dtype) == [DType::F32; 2];
        if !fits(&map) || !same {
            return fallback::norm::normalise_gradient::<Self>(
                map,
                moments,
                epsilon,
                dy,
                of_residual,
            );
        }
        let act = map.act;
        let channels = Shape::from([map.x.shape[1]]);
        let images = (map.x.shape.clone(), map.x.dtype);
        let vector = (channels, DType::F32);
        // Behind the identity the residual's gradient is dy.
        let through = (of_residual && act == Act::Identity).then(|| dy.clone());
        let of_residual = of_residual && act != Act::Identity;

        let mut tensors = vec![dy, moments.mean, moments.variance];
        tensors.extend(inputs(map));
        let run = move |inputs: Vec<CubeTensor>| {
            let mut inputs = inputs.into_iter();
            let mut next = || inputs.next();
            let (Some(dy), Some(mean), Some(variance)) = (next(), next(), next()) else {
                unreachable!("three tensors were given")
            };
            let (Some(x), Some(gamma), Some(beta)) = (next(), next(), next()) else {
                unreachable!("six tensors were given")
            };
            // Behind the identity nobody asks what the residual was.
            let residual = next().filter(|_| act != Act::Identity).map(Rows::of);
            let vectors = Vectors::new(gamma, beta, epsilon);
            let (x, dy, moments) = (Rows::of(x), Rows::of(dy), [mean, variance]);
            batch_norm_gradient::gradient(
                &x,
                moments,
                &vectors,
                residual.as_ref(),
                &dy,
                act,
                of_residual,
            )
        };
        if of_residual {
            let outputs = [images.clone(), vector.clone(), vector, images];
            let run = move |inputs: Vec<CubeTensor>| {
                let found = run(inputs);
                let Some(residual) = found.residual else {
                    unreachable!("the residual's gradient was asked for")
                };
                let x = found.x.into_tensor();
                [x, found.gamma, found.beta, residual.into_tensor()]
            };
            let [x, scale, shift, residual] =
                deferred("gradus_normalise_gradients", tensors, outputs, run);
            return ChannelGradients {
                x,
                scale,
                shift,
                residual: Some(residual),
            };
        }
        let outputs = [images, vector.clone(), vector];
        let run = move |inputs: Vec<CubeTensor>| {
            let found = run(inputs);
            [found.x.into_tensor(), found.gamma, found.beta]
        };
        let [x, scale, shift] = deferred("gradus_normalise_gradient", tensors, outputs, run);
        ChannelGradients {
            x,
            scale,
            shift,
            residual: through,
        }
    }

    fn scale_shift(map: ChannelMap<Self>) -> FloatTensor<Self> {
        if !fits(&map) {
            return fallback::norm::scale_shift::<Self>(map);
        }
        let act = map.act;
        let outputs = [(map.x.shape.clone(), map.x.dtype)];
        let run = move |inputs: Vec<CubeTensor>| {
            let mut inputs = inputs.into_iter();
            let mut next = || inputs.next();
            let (Some(x), Some(scale), Some(shift)) = (next(), next(), next()) else {
                unreachable!("three tensors were given")
            };
            let residual = next().map(Rows::of);
            let vectors = Vectors::new(scale, shift, 0.0);
            [
                batch_norm::apply(&Rows::of(x), None, &vectors, residual.as_ref(), act)
                    .into_tensor(),
            ]
        };
        let [y] = deferred("gradus_scale_shift", inputs(map), outputs, run);
        y
    }

    fn activate(x: FloatTensor<Self>, act: Act) -> FloatTensor<Self> {
        if act == Act::Identity || !is_ours(&x) {
            return fallback::activation::activate::<Self>(x, act);
        }
        let outputs = [(x.shape.clone(), x.dtype)];
        one("gradus_activate", [x], outputs, move |[x]| {
            elementwise::activate(x, act)
        })
    }

    fn activate_gradient(
        x: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        act: Act,
    ) -> FloatTensor<Self> {
        if act == Act::Identity || !is_ours(&x) || x.dtype != dy.dtype {
            return fallback::activation::activate_gradient::<Self>(x, dy, act);
        }
        let outputs = [(x.shape.clone(), x.dtype)];
        one(
            "gradus_activate_gradient",
            [x, dy],
            outputs,
            move |[x, dy]| elementwise::activate_gradient(x, dy, act),
        )
    }

    fn sum_of(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        if !is_ours(&a) || a.dtype != b.dtype || a.shape != b.shape {
            return Self::float_add(a, b);
        }
        let outputs = [(a.shape.clone(), a.dtype)];
        one("gradus_sum_of", [a, b], outputs, |[a, b]| {
            elementwise::sum_of(a, b)
        })
    }

    fn sum_positions(dy: FloatTensor<Self>) -> FloatTensor<Self> {
        if !is_ours(&dy) {
            return fallback::sum_positions::<Self>(dy);
        }
        let outputs = [(Shape::from([dy.shape[1]]), dy.dtype)];
        one("gradus_sum_positions", [dy], outputs, |[dy]| {
            pool::sum_positions(dy)
        })
    }

    fn max_pooled_gradient(
        x: Shape,
        index: IntTensor<Self>,
        dy: FloatTensor<Self>,
        windows: Windows,
    ) -> FloatTensor<Self> {
        if !is_ours(&dy) {
            return fallback::pool::max_pooled_gradient::<Self>(x, index, dy, windows);
        }
        let outputs = [(x.clone(), dy.dtype)];
        one(
            "gradus_max_pooled_gradient",
            [index, dy],
            outputs,
            move |[index, dy]| {
                // Burn's own kernel, without the copy of a tensor of which only the shape is read.
                let x = pool::shaped(&x, &dy);
                fallback::pool::max_pooled_gradient_like::<CubeBackend>(x, index, dy, windows)
            },
        )
    }

    fn image_mean(x: FloatTensor<Self>) -> FloatTensor<Self> {
        if !is_ours(&x) {
            return fallback::pool::image_mean::<Self>(x);
        }
        let outputs = [(Shape::from([x.shape[0], x.shape[1]]), x.dtype)];
        one("gradus_image_mean", [x], outputs, |[x]| pool::image_mean(x))
    }

    fn image_mean_gradient(x: Shape, dy: FloatTensor<Self>) -> FloatTensor<Self> {
        let images = Shape::from([x[0], x[1], 1, 1]);
        let dy = Self::float_reshape(dy, images);
        if !is_ours(&dy) {
            let dy = Self::float_reshape(dy, Shape::from([x[0], x[1]]));
            return fallback::pool::image_mean_gradient::<Self>(x, dy);
        }
        let outputs = [(x.clone(), dy.dtype)];
        one("gradus_image_mean_gradient", [dy], outputs, move |[dy]| {
            pool::image_mean_gradient(&x, dy)
        })
    }

    fn subsampled(x: FloatTensor<Self>, stride: usize, channels: usize) -> FloatTensor<Self> {
        if !is_ours(&x) {
            return fallback::pool::subsampled::<Self>(x, stride, channels);
        }
        let side = |d: usize| x.shape[d].div_ceil(stride);
        let outputs = [(
            Shape::from([x.shape[0], channels, side(2), side(3)]),
            x.dtype,
        )];
        one("gradus_subsampled", [x], outputs, move |[x]| {
            pool::subsampled(x, stride, channels)
        })
    }

    fn subsampled_gradient(x: Shape, dy: FloatTensor<Self>, stride: usize) -> FloatTensor<Self> {
        if !is_ours(&dy) || x.num_elements() == 0 {
            return fallback::pool::subsampled_gradient::<Self>(x, dy, stride);
        }
        let outputs = [(x.clone(), dy.dtype)];
        one("gradus_subsampled_gradient", [dy], outputs, move |[dy]| {
            pool::subsampled_gradient(&x, dy, stride)
        })
    }
}

/// [`deferred`] with one output.
fn one<const I: usize>(
    name: &'static str,
    inputs: [Waiting; I],
    outputs: [(Shape, DType); 1],
    run: impl Fn([CubeTensor; I]) -> CubeTensor + Send + Sync + 'static,
) -> Waiting {
    let run = move |inputs: Vec<CubeTensor>| {
        let Ok(inputs) = <[CubeTensor; I]>::try_from(inputs) else {
            unreachable!("as many tensors come as were given")
        };
        [run(inputs)]
    };
    let [output] = deferred(name, inputs.into(), outputs, run);
    output
}
