//! Two-dimensional convolution and its two gradients.

/// The sizes of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvShape {
    /// Images N.
    pub batch: usize,
    /// Input height H and width W.
    pub size: [usize; 2],
    /// Input channels C.
    pub in_channels: usize,
    /// Filters K.
    pub out_channels: usize,
    /// Height and width of a filter.
    pub kernel: [usize; 2],
    /// Step between positions.
    pub stride: [usize; 2],
    /// Zeros on every side.
    pub padding: [usize; 2],
    /// Distance between the taps of a filter.
    pub dilation: [usize; 2],
    /// Groups G: filter block g sees channel block g only.
    pub groups: usize,
}

impl ConvShape {
    /// Output height H′ and width W′.
    #[must_use]
    pub fn out_size(&self) -> [usize; 2] {
        std::array::from_fn(|i| {
            (self.size[i] + 2 * self.padding[i] - self.dilation[i] * (self.kernel[i] - 1) - 1)
                / self.stride[i]
                + 1
        })
    }
}

/// An image batch in memory: element (n, h, w, c) is `data[n·s₀ + h·s₁ + w·s₂ + c·s₃]`.
#[derive(Clone, Copy, Debug)]
pub struct Images<'a> {
    /// The memory.
    pub data: &'a [f32],
    /// Distances between neighbours along n, h, w and c.
    pub strides: [usize; 4],
}

/// y = x ∗ w + b. `x` `[N, H, W, C]` in any layout; `w` `[K, C/G, kh, kw]`; `y` `[N, H′, W′, K]`.
pub fn forward(shape: &ConvShape, x: Images<'_>, w: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    each(shape, |n, [i, j], k, [h, v], c, tap| {
        let [oh, ow] = shape.out_size();
        let at = ((n * oh + i) * ow + j) * shape.out_channels + k;
        if tap == 0 {
            y[at] = bias.map_or(0.0, |b| b[k]);
        }
        if let (Some(h), Some(v)) = (h, v) {
            let s = x.strides;
            y[at] +=
                w[k * per_filter(shape) + tap] * x.data[n * s[0] + h * s[1] + v * s[2] + c * s[3]];
        }
    });
}

/// ∂L/∂x from ∂L/∂y. `dy` `[N, H′, W′, K]` in any layout; `dx` `[N, H, W, C]`.
pub fn input_gradient(shape: &ConvShape, dy: Images<'_>, w: &[f32], dx: &mut [f32]) {
    dx.fill(0.0);
    each(shape, |n, [i, j], k, [h, v], c, tap| {
        if let (Some(h), Some(v)) = (h, v) {
            let s = dy.strides;
            dx[((n * shape.size[0] + h) * shape.size[1] + v) * shape.in_channels + c] +=
                w[k * per_filter(shape) + tap] * dy.data[n * s[0] + i * s[1] + j * s[2] + k * s[3]];
        }
    });
}

/// ∂L/∂w from ∂L/∂y and x. `dw` `[K, C/G, kh, kw]`.
pub fn weight_gradient(shape: &ConvShape, x: Images<'_>, dy: Images<'_>, dw: &mut [f32]) {
    dw.fill(0.0);
    each(shape, |n, [i, j], k, [h, v], c, tap| {
        if let (Some(h), Some(v)) = (h, v) {
            let (s, t) = (x.strides, dy.strides);
            dw[k * per_filter(shape) + tap] += x.data[n * s[0] + h * s[1] + v * s[2] + c * s[3]]
                * dy.data[n * t[0] + i * t[1] + j * t[2] + k * t[3]];
        }
    });
}

fn per_filter(shape: &ConvShape) -> usize {
    shape.in_channels / shape.groups * shape.kernel[0] * shape.kernel[1]
}

/// Every product of the sum: image, output position, filter, input position (if inside), channel, place in the filter.
fn each(
    shape: &ConvShape,
    mut f: impl FnMut(usize, [usize; 2], usize, [Option<usize>; 2], usize, usize),
) {
    let out = shape.out_size();
    let (per_group, filters) = (
        shape.in_channels / shape.groups,
        shape.out_channels / shape.groups,
    );
    for n in 0..shape.batch {
        for i in 0..out[0] {
            for j in 0..out[1] {
                for k in 0..shape.out_channels {
                    for tap in 0..per_filter(shape) {
                        let v = tap % shape.kernel[1];
                        let u = tap / shape.kernel[1] % shape.kernel[0];
                        let c = tap / shape.kernel[1] / shape.kernel[0] + k / filters * per_group;
                        let inside = |d: usize, at: usize, tap: usize| {
                            (at * shape.stride[d] + tap * shape.dilation[d])
                                .checked_sub(shape.padding[d])
                                .filter(|p| *p < shape.size[d])
                        };
                        f(n, [i, j], k, [inside(0, i, u), inside(1, j, v)], c, tap);
                    }
                }
            }
        }
    }
}
