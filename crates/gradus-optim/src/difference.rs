//! Gradients by finite differences: slow, approximate, and hard to get wrong.
//!
//! ```text
//! forward   ∂f/∂xᵢ ≈ (f(x + h·eᵢ) − f(x)) / h              error O(h)
//! central   ∂f/∂xᵢ ≈ (f(x + h·eᵢ) − f(x − h·eᵢ)) / (2h)    error O(h²)
//! ```
//!
//! The forward form is the one of the lectures, with h = 1e-5. In f64 rounding adds about 1e-16·|f|/h,
//! so h near 1e-8 is best for the forward form and near 1e-5 for the central one.

/// The gradient of `f` at `x` by forward differences of step `h`; n + 1 evaluations for n dimensions.
///
/// ```
/// use gradus_optim::difference::forward;
/// let gradient = forward(|x| x[0] * x[0] + 3.0 * x[1], &[2.0, 5.0], 1e-5);
/// assert!((gradient[0] - 4.0).abs() < 1e-4 && (gradient[1] - 3.0).abs() < 1e-4);
/// ```
pub fn forward(f: impl Fn(&[f64]) -> f64, x: &[f64], h: f64) -> Vec<f64> {
    let here = f(x);
    (0..x.len())
        .map(|i| (f(&moved(x, i, h)) - here) / h)
        .collect()
}

/// The gradient of `f` at `x` by central differences of step `h`; 2n evaluations.
///
/// ```
/// use gradus_optim::difference::central;
/// let gradient = central(|x| x[0].powi(3), &[2.0], 1e-5);
/// assert!((gradient[0] - 12.0).abs() < 1e-8);
/// ```
pub fn central(f: impl Fn(&[f64]) -> f64, x: &[f64], h: f64) -> Vec<f64> {
    (0..x.len())
        .map(|i| (f(&moved(x, i, h)) - f(&moved(x, i, -h))) / (2.0 * h))
        .collect()
}

fn moved(x: &[f64], i: usize, h: f64) -> Vec<f64> {
    let mut moved = x.to_vec();
    moved[i] += h;
    moved
}
