//! Functions of matrices, batched: each works on `[B, m, n]`, every matrix by itself.
//!
//! [`newton_schulz`] is matrix products and runs where the tensor lives. [`symmetric_eigen`],
//! [`inverse_root`] and [`orthonormal`] compute their bases on the host, in `f64` whatever the type of
//! the tensor, and so wait for the device; optimizers call them once in many steps.

mod host;

use burn::tensor::{DType, Device, Tensor, TensorData};
use rayon::prelude::*;

/// The coefficients (a, b, c) of [`newton_schulz`] chosen by K. Jordan for the steepest slope at 0.
pub const QUINTIC: (f64, f64, f64) = (3.4445, -4.7750, 2.0315);

/// An orthogonal matrix near X, in `steps` matrix polynomials:
///
/// ```text
/// X ← X/max(‖X‖, ε)                      (Frobenius; no singular value is above 1)
/// X ← a·X + (b·A + c·A²)·X,  A = X·Xᵀ    (`steps` times)
/// ```
///
/// Of X = U·S·Vᵀ it makes U·p(S)·Vᵀ, where p drives singular values to 1. With the coefficients
/// (1.875, −1.25, 0.375) p converges, from a slope of 1.875 at 0; with [`QUINTIC`] it never does, but
/// five steps bring every singular value above about 10⁻² of the norm into [0.68, 1.14], which is all
/// that an optimizer needs. A tall matrix is iterated as its transpose, so that A is the smaller of the
/// two products.
pub fn newton_schulz(x: Tensor<3>, steps: u64, (a, b, c): (f64, f64, f64), eps: f64) -> Tensor<3> {
    let [batch, m, n] = x.dims();
    let tall = m > n;
    let norm = x
        .clone()
        .square()
        .reshape([batch, m * n])
        .sum_dim(1)
        .sqrt()
        .clamp_min(eps)
        .reshape([batch, 1, 1]);
    let mut x = x / norm;
    if tall {
        x = x.transpose();
    }
    for _ in 0..steps {
        // The product first: a fusing backend makes one kernel of it and of what follows.
        let gram = x.clone().matmul(x.clone().transpose());
        let square = gram.clone().matmul(gram.clone());
        let polynomial = square * c + gram * b;
        let product = polynomial.matmul(x.clone());
        x = product + x * a;
    }
    if tall { x.transpose() } else { x }
}

/// [`newton_schulz`] of batches of different shapes, with fewer kernels: matrices whose short sides are equal go
/// together, the long side of each filled up with zeros to that of the longest, if that is at most four times as long.
///
/// Zeros change neither the norm of X nor A, and stay zeros: the results are those of each batch by itself up to rounding.
/// All are on one device and of one type.
pub fn newton_schulz_together(
    batches: Vec<Tensor<3>>,
    steps: u64,
    coefficients: (f64, f64, f64),
    eps: f64,
) -> Vec<Tensor<3>> {
    let sides: Vec<_> = batches.iter().map(|x| (x.dims()[1], x.dims()[2])).collect();
    let mut batches: Vec<_> = batches.into_iter().map(Some).collect();
    let mut results: Vec<(usize, Tensor<3>)> = Vec::with_capacity(batches.len());
    for group in same_short_side(&sides) {
        let group: Vec<_> = group
            .into_iter()
            .filter_map(|index| Some((index, batches[index].take()?)))
            .collect();
        let (m, n) = sides[group[0].0];
        let (short, long) = (m.min(n), m.max(n));
        if let [(index, x)] = &group[..] {
            results.push((*index, newton_schulz(x.clone(), steps, coefficients, eps)));
            continue;
        }
        let count = group.iter().map(|(_, x)| x.dims()[0]).sum();
        let options = (&group[0].1.device(), group[0].1.dtype());
        let mut filled = Tensor::<3>::zeros([count, short, long], options);
        let mut from = 0;
        let mut places = Vec::with_capacity(group.len());
        for (index, x) in group {
            let [batch, m, n] = x.dims();
            let x = if m > n { x.transpose() } else { x };
            let place = [from..from + batch, 0..short, 0..m.max(n)];
            filled = filled.slice_assign(place.clone(), x);
            places.push((index, place, m > n));
            from += batch;
        }
        let filled = newton_schulz(filled, steps, coefficients, eps);
        for (index, place, tall) in places {
            let x = filled.clone().slice(place);
            results.push((index, if tall { x.transpose() } else { x }));
        }
    }
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, x)| x).collect()
}

/// Which matrices of these sizes [`newton_schulz_together`] takes together, the longest of each group first.
pub(crate) fn same_short_side(sizes: &[(usize, usize)]) -> Vec<Vec<usize>> {
    let sides = |index: usize| {
        let (m, n) = sizes[index];
        (m.min(n), m.max(n))
    };
    let mut rest: Vec<usize> = (0..sizes.len()).collect();
    rest.sort_by_key(|&index| std::cmp::Reverse(sides(index)));
    let mut groups = Vec::new();
    while let Some(&first) = rest.first() {
        let (short, long) = sides(first);
        let (group, others) = rest.into_iter().partition(|&index| {
            let (m, n) = sides(index);
            m == short && long <= 4 * n
        });
        rest = others;
        groups.push(group);
    }
    groups
}

/// The eigenvalues `[B, n]`, largest first, and eigenvectors `[B, n, n]` (the columns) of symmetric
/// matrices `[B, n, n]`. A matrix with an entry that is not finite gives entries that are not numbers.
pub fn symmetric_eigen(a: Tensor<3>) -> (Tensor<2>, Tensor<3>) {
    let [batch, n, _] = a.dims();
    let (device, dtype, results) = on_host(a, |matrix| host::symmetric_eigen(matrix, n));
    let (values, vectors): (Vec<_>, Vec<_>) = results.into_iter().unzip();
    (
        Tensor::from_data(
            TensorData::new(values.concat(), [batch, n]),
            (&device, dtype),
        ),
        Tensor::from_data(
            TensorData::new(vectors.concat(), [batch, n, n]),
            (&device, dtype),
        ),
    )
}

/// (A + ridge·I)^(−1/p) of symmetric matrices `[B, n, n]` without negative eigenvalues; those that
/// rounding made negative count as zero.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use gradus_optim::matrix::inverse_root;
///
/// let a = Tensor::<3>::from_floats([[[16.0, 0.0], [0.0, 81.0]]], &Device::flex());
/// let root: Vec<f32> = inverse_root(a, 4.0, 0.0).into_data().iter().collect();
/// assert!((root[0] - 1.0 / 2.0).abs() < 1e-6 && (root[3] - 1.0 / 3.0).abs() < 1e-6);
/// ```
pub fn inverse_root(a: Tensor<3>, p: f64, ridge: f64) -> Tensor<3> {
    let [batch, n, _] = a.dims();
    let (device, dtype, results) = on_host(a, |matrix| {
        let (mut values, vectors) = host::symmetric_eigen(matrix, n);
        for value in &mut values {
            // Not `max`, which would pass over a NaN.
            let positive = if *value < 0.0 { 0.0 } else { *value };
            *value = (positive + ridge).powf(-1.0 / p);
        }
        (values, vectors)
    });
    let (values, vectors): (Vec<_>, Vec<_>) = results.into_iter().unzip();
    let put = |numbers, shape: [usize; 3]| {
        Tensor::<3>::from_data(TensorData::new(numbers, shape), (&device, dtype))
    };
    let vectors = put(vectors.concat(), [batch, n, n]);
    let values = put(values.concat(), [batch, 1, n]);
    (vectors.clone() * values).matmul(vectors.transpose())
}

/// Q of A = Q·R for square matrices `[B, n, n]`: orthonormal columns that span, one after another, what
/// the columns of A span. Its signs are LAPACK's, hence NumPy's and PyTorch's.
pub fn orthonormal(a: Tensor<3>) -> Tensor<3> {
    let [batch, n, _] = a.dims();
    let (device, dtype, results) = on_host(a, |matrix| host::orthonormal(matrix, n));
    Tensor::from_data(
        TensorData::new(results.concat(), [batch, n, n]),
        (&device, dtype),
    )
}

/// `f` of each square matrix as `f64` numbers, and where and in which type the tensor was.
fn on_host<T: Send>(
    a: Tensor<3>,
    f: impl Fn(&[f64]) -> T + Sync + Send,
) -> (Device, DType, Vec<T>) {
    let [_, n, _] = a.dims();
    let (device, dtype) = (a.device(), a.dtype());
    let numbers: Vec<f64> = a.into_data().iter().collect();
    let results = numbers.par_chunks((n * n).max(1)).map(f).collect();
    (device, dtype, results)
}
