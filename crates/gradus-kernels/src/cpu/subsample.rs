//! Every s-th position of an image, with channels of zeros behind: the shortcut of a residual block
//! without parameters (option A of He et al. 2015).
//!
//! ```text
//! y[n, i, j, c] = x[n, i·s, j·s, c]  for c < C, else 0         H′ = ⌈H/s⌉, W′ = ⌈W/s⌉
//! dx[n, h, w, c] = dy[n, h/s, w/s, c]  where s divides h and w, else 0
//! ```

use rayon::prelude::*;

use super::volume;

/// The sizes of a subsampling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubsampleShape {
    /// Images N.
    pub batch: usize,
    /// Input height H and width W.
    pub size: [usize; 2],
    /// Input channels C.
    pub channels: usize,
    /// Output channels, at least C.
    pub out_channels: usize,
    /// Step s along both axes, at least 1.
    pub stride: usize,
}

impl SubsampleShape {
    /// Output height H′ and width W′.
    #[must_use]
    pub fn out_size(&self) -> [usize; 2] {
        self.size.map(|size| size.div_ceil(self.stride))
    }

    /// Elements of the input and of the output.
    fn lengths(&self) -> [usize; 2] {
        let ([h, w], [oh, ow]) = (self.size, self.out_size());
        assert!(
            self.out_channels >= self.channels,
            "fewer channels than came in"
        );
        [
            volume(&[self.batch, h, w, self.channels]),
            volume(&[self.batch, oh, ow, self.out_channels]),
        ]
    }
}

/// `x` `[N, H, W, C]`, `y` `[N, H′, W′, out_channels]`.
///
/// # Panics
/// If a length does not fit `shape`, or it drops channels.
pub fn subsample(shape: &SubsampleShape, x: &[f32], y: &mut [f32]) {
    assert_eq!([x.len(), y.len()], shape.lengths(), "x and y");
    let (from, to, s) = (shape.channels, shape.out_channels, shape.stride);
    let ([h, w], [oh, ow]) = (shape.size, shape.out_size());
    if y.is_empty() {
        return;
    }
    y.par_chunks_mut(ow * to).enumerate().for_each(|(row, y)| {
        let x = &x[(row / oh * h + row % oh * s) * w * from..][..w * from];
        for (j, y) in y.chunks_exact_mut(to).enumerate() {
            let (kept, zeros) = y.split_at_mut(from);
            kept.copy_from_slice(&x[j * s * from..][..from]);
            zeros.fill(0.0);
        }
    });
}

/// `dy` `[N, H′, W′, out_channels]`, `dx` `[N, H, W, C]`.
///
/// # Panics
/// As [`subsample`].
pub fn subsample_backward(shape: &SubsampleShape, dy: &[f32], dx: &mut [f32]) {
    assert_eq!([dx.len(), dy.len()], shape.lengths(), "dx and dy");
    let (from, to, s) = (shape.channels, shape.out_channels, shape.stride);
    let ([h, w], [oh, ow]) = (shape.size, shape.out_size());
    if dx.is_empty() {
        return;
    }
    dx.par_chunks_mut(w * from)
        .enumerate()
        .for_each(|(row, dx)| {
            let (n, i) = (row / h, row % h);
            if i % s != 0 {
                return dx.fill(0.0);
            }
            let dy = &dy[(n * oh + i / s) * ow * to..][..ow * to];
            for (j, dx) in dx.chunks_exact_mut(from).enumerate() {
                if j % s == 0 {
                    dx.copy_from_slice(&dy[j / s * to..][..from]);
                } else {
                    dx.fill(0.0);
                }
            }
        });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_formula_and_its_transpose() {
        for (size, channels, out_channels, stride) in [
            ([5, 4], 3, 5, 2),
            ([1, 7], 1, 1, 3),
            ([4, 4], 2, 2, 1),
            ([6, 3], 4, 9, 2),
        ] {
            let shape = SubsampleShape {
                batch: 2,
                size,
                channels,
                out_channels,
                stride,
            };
            let [inputs, outputs] = shape.lengths();
            let x: Vec<f32> = (0..inputs).map(|i| i as f32 + 1.0).collect();
            let mut y = vec![f32::NAN; outputs];
            subsample(&shape, &x, &mut y);
            let [oh, ow] = shape.out_size();
            for (at, y) in y.iter().enumerate() {
                let (c, j, i, n) = (
                    at % out_channels,
                    at / out_channels % ow,
                    at / out_channels / ow % oh,
                    at / out_channels / ow / oh,
                );
                let from = ((n * size[0] + i * stride) * size[1] + j * stride) * channels + c;
                assert_eq!(*y, if c < channels { x[from] } else { 0.0 });
            }
            // ⟨S x, dy⟩ = ⟨x, Sᵀ dy⟩, in whole numbers.
            let dy: Vec<f32> = (0..outputs).map(|i| ((i * 5) % 7) as f32).collect();
            let mut dx = vec![f32::NAN; inputs];
            subsample_backward(&shape, &dy, &mut dx);
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
            assert_eq!(dot(&y, &dy), dot(&x, &dx));
        }
    }
}
