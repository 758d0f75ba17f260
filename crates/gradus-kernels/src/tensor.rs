//! The operations over Burn's `Tensor`.

use burn::backend::Dispatch;
use burn::tensor::Tensor;
use burn::tensor::ops::ConvOptions;

use crate::ops::KernelOps;

/// Two-dimensional convolution. x `[N, C, H, W]`, w `[K, C/G, h, w]`, b `[K]` → `[N, K, H′, W′]`.
///
/// ```text
/// y[n,k,i,j] = b[k] + Σ_{c,u,v} w[k,c,u,v]·x[n, c, i·s + u·d − p, j·s + v·d − p]
/// H′ = ⌊(H + 2p − d·(h − 1) − 1)/s⌋ + 1
/// ```
/// with stride s, padding p, dilation d and groups G from `options`.
///
/// # Panics
/// If the channels do not fit, or the image is smaller than the kernel.
#[must_use]
pub fn conv2d(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    options: ConvOptions<2>,
) -> Tensor<4> {
    let ([_, channels, ..], [filters, per_group, ..]) = (x.dims(), weight.dims());
    assert!(
        channels == per_group * options.groups && filters.is_multiple_of(options.groups),
        "conv2d: {channels} channels and {filters} filters in {} groups of {per_group} channels",
        options.groups
    );
    for d in 0..2 {
        let (size, kernel) = (x.dims()[d + 2], weight.dims()[d + 2]);
        let reach = options.dilation[d] * (kernel - 1) + 1;
        let (before, behind) = options.padding[d];
        assert!(
            before + size + behind >= reach,
            "conv2d: a kernel that reaches over {reach} positions is larger than the image of {size}"
        );
    }
    Tensor::from_dispatch(Dispatch::convolution(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into(),
        options,
    ))
}

/// The same tensor twice, for two readers: as `x.clone()`, but the two gradients are added without
/// leaving the order of memory that the other operations keep.
#[must_use]
pub fn fork<const D: usize>(x: Tensor<D>) -> [Tensor<D>; 2] {
    let (a, b) = Dispatch::forked(x.into_dispatch());
    [a, b].map(Tensor::from_dispatch)
}
