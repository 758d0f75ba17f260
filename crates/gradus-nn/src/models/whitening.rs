//! Filters that decorrelate the pixels of small patches.
//!
//! ```text
//! Σ = PᵀP/n over all patches P (not centred),   Σ = V·Λ·Vᵀ
//! filters  v_i/√(λ_i + 5e-4),  then their negatives        largest λ first
//! ```
//!
//! Behind the filters every direction has variance λ/(λ + 5e-4) ≈ 1, and no two are correlated. Source:
//! Page, "How to Train Your ResNet", 2018–19; ε as in airbench94.

use burn::tensor::Tensor;

/// Added to an eigenvalue, for directions in which images hardly vary.
const EPSILON: f64 = 5e-4;
/// More images than this do not change the covariance visibly.
const MAX_IMAGES: usize = 5000;

/// The filters `[2·C·k·k, C, k, k]` from images `[N, C, H, W]`, in memory order.
pub(super) fn filters(images: &Tensor<4>, side: usize) -> Vec<f64> {
    let (covariance, n) = patch_covariance(images, side);
    let (values, vectors) = eigen_symmetric(covariance, n);
    let positive: Vec<f64> = values
        .iter()
        .zip(&vectors)
        .flat_map(|(value, vector)| {
            let scale = (value.max(0.0) + EPSILON).sqrt().recip();
            vector.iter().map(move |v| v * scale)
        })
        .collect();
    let negative: Vec<f64> = positive.iter().map(|v| -v).collect();
    [positive, negative].concat()
}

/// Σ as rows of a d×d matrix, and d = C·k·k.
fn patch_covariance(images: &Tensor<4>, side: usize) -> (Vec<f64>, usize) {
    let [count, channels, height, width] = images.dims();
    let count = count.min(MAX_IMAGES);
    let pixels: Vec<f32> = images
        .clone()
        .narrow(0, 0, count)
        .into_data()
        .convert::<f32>()
        .try_to_vec()
        .expect("the data was converted to f32 on the line above");
    let d = channels * side * side;
    let (mut sum, mut patch) = (vec![0.0; d * d], vec![0.0; d]);
    let mut patches = 0u64;
    for image in pixels.chunks_exact(channels * height * width) {
        for (top, left) in
            positions(height, side).flat_map(|t| positions(width, side).map(move |l| (t, l)))
        {
            let mut place = 0;
            for c in 0..channels {
                for row in top..top + side {
                    let start = (c * height + row) * width + left;
                    for pixel in &image[start..start + side] {
                        patch[place] = f64::from(*pixel);
                        place += 1;
                    }
                }
            }
            for (i, a) in patch.iter().enumerate() {
                for (b, cell) in patch[..=i].iter().zip(&mut sum[i * d..]) {
                    *cell += a * b;
                }
            }
            patches += 1;
        }
    }
    for i in 0..d {
        for j in 0..=i {
            let mean = sum[i * d + j] / patches.max(1) as f64;
            sum[i * d + j] = mean;
            sum[j * d + i] = mean;
        }
    }
    (sum, d)
}

fn positions(size: usize, side: usize) -> std::ops::Range<usize> {
    0..(size + 1).saturating_sub(side)
}

/// Eigenvalues, largest first, and unit eigenvectors of a symmetric n×n matrix, by Jacobi's rotations
/// (Golub & Van Loan, section 8.5). The largest component of each vector is positive, which fixes the
/// sign.
pub(crate) fn eigen_symmetric(mut a: Vec<f64>, n: usize) -> (Vec<f64>, Vec<Vec<f64>>) {
    let mut v = vec![0.0; n * n];
    (0..n).for_each(|i| v[i * n + i] = 1.0);
    let norm: f64 = a.iter().map(|x| x * x).sum();
    // Each sweep squares the off-diagonal part once it is small: ten are ample.
    for _ in 0..50 {
        let off: f64 = (0..n)
            .flat_map(|i| (0..i).map(move |j| (i, j)))
            .map(|(i, j)| a[i * n + j].powi(2))
            .sum();
        if off <= 1e-30 * norm {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                rotate(&mut a, &mut v, n, p, q);
            }
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| a[j * n + j].total_cmp(&a[i * n + i]));
    let vectors = order
        .iter()
        .map(|&k| {
            let column: Vec<f64> = (0..n).map(|i| v[i * n + k]).collect();
            let largest = column
                .iter()
                .fold(0.0f64, |m, x| if x.abs() > m.abs() { *x } else { m });
            column.into_iter().map(|x| x * largest.signum()).collect()
        })
        .collect();
    (order.iter().map(|&k| a[k * n + k]).collect(), vectors)
}

/// Rotate in the plane (p, q) so that a[p][q] becomes 0.
fn rotate(a: &mut [f64], v: &mut [f64], n: usize, p: usize, q: usize) {
    let apq = a[p * n + q];
    if apq == 0.0 {
        return;
    }
    let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * apq);
    let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
    let c = (t * t + 1.0).sqrt().recip();
    let s = t * c;
    for k in 0..n {
        let (x, y) = (a[k * n + p], a[k * n + q]);
        (a[k * n + p], a[k * n + q]) = (c * x - s * y, s * x + c * y);
    }
    for k in 0..n {
        let (x, y) = (a[p * n + k], a[q * n + k]);
        (a[p * n + k], a[q * n + k]) = (c * x - s * y, s * x + c * y);
        let (x, y) = (v[k * n + p], v[k * n + q]);
        (v[k * n + p], v[k * n + q]) = (c * x - s * y, s * x + c * y);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use gradus_core::random::{Purpose, stream};
    use rand::RngExt;

    #[test]
    fn eigenpairs_reproduce_the_matrix() {
        // By hand: [[2, 1], [1, 2]] has 3 along (1, 1)/√2 and 1 along (1, −1)/√2.
        let (values, vectors) = eigen_symmetric(vec![2.0, 1.0, 1.0, 2.0], 2);
        assert!((values[0] - 3.0).abs() < 1e-14 && (values[1] - 1.0).abs() < 1e-14);
        assert!((vectors[0][0] - 0.5f64.sqrt()).abs() < 1e-14);
        let n = 12;
        let mut rng = stream(1, Purpose::Init, 0, 0);
        let b: Vec<f64> = (0..n * n).map(|_| rng.random::<f64>() - 0.5).collect();
        let a: Vec<f64> = (0..n * n)
            .map(|ij| (0..n).map(|k| b[ij / n * n + k] * b[ij % n * n + k]).sum())
            .collect();
        let (values, vectors) = eigen_symmetric(a.clone(), n);
        assert!(values.windows(2).all(|w| w[0] >= w[1]));
        for i in 0..n {
            for j in 0..n {
                let sum: f64 = (0..n)
                    .map(|k| values[k] * vectors[k][i] * vectors[k][j])
                    .sum();
                assert!((sum - a[i * n + j]).abs() < 1e-13);
            }
        }
    }

    #[test]
    fn filters_whiten_the_patches() {
        // Correlated images: a smooth random walk along each row, and channels that share a part.
        let (count, c, h, w) = (40, 3, 9, 8);
        let mut rng = stream(2, Purpose::Init, 0, 0);
        let mut level = 0.0f32;
        let pixels: Vec<f32> = (0..count * c * h * w)
            .map(|_| {
                level = 0.8 * level + rng.random::<f32>() - 0.5;
                level
            })
            .collect();
        let images =
            Tensor::<1>::from_data(pixels.as_slice(), &Device::flex()).reshape([count, c, h, w]);
        let (covariance, d) = patch_covariance(&images, 2);
        let filters = filters(&images, 2);
        assert_eq!(filters.len(), 2 * d * d);
        let (values, _) = eigen_symmetric(covariance.clone(), d);
        // F·Σ·Fᵀ is diagonal with λ/(λ + ε).
        for i in 0..d {
            for j in 0..d {
                let response: f64 = (0..d * d)
                    .map(|ab| filters[i * d + ab / d] * covariance[ab] * filters[j * d + ab % d])
                    .sum();
                let expected = if i == j {
                    values[i] / (values[i] + EPSILON)
                } else {
                    0.0
                };
                assert!((response - expected).abs() < 1e-9, "{i} {j} {response}");
            }
        }
        assert!((0..d * d).all(|i| filters[i] == -filters[d * d + i]));
    }
}
