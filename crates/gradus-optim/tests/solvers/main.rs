//! Closure solvers: closed forms, known minima, the conditions of line searches, equality with
//! PyTorch and scipy, text, state and errors.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod closed_forms;
mod forms;
mod libraries;
mod line_searches;
mod minima;

use gradus_optim::OptimError;
use gradus_optim::solve::*;
use proptest::prelude::*;

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn times(a: &[Vec<f64>], x: &[f64]) -> Vec<f64> {
    a.iter().map(|row| dot(row, x)).collect()
}

fn largest(a: &[f64]) -> f64 {
    a.iter().fold(0.0, |m: f64, x| m.max(x.abs()))
}

/// Tridiagonal (−1, 2, −1), eigenvalues 2 − 2·cos(kπ/(n + 1)), all different.
fn laplacian(n: usize) -> Vec<Vec<f64>> {
    (0..n)
        .map(|i| {
            (0..n)
                .map(|j| match i.abs_diff(j) {
                    0 => 2.0,
                    1 => -1.0,
                    _ => 0.0,
                })
                .collect()
        })
        .collect()
}

/// ½·xᵀAx − bᵀx with everything analytic.
fn quadratic(a: Vec<Vec<f64>>, b: Vec<f64>) -> Function<'static> {
    let (a1, b1, a2) = (a.clone(), b.clone(), a.clone());
    Function::new(b.len(), move |x| 0.5 * dot(x, &times(&a, x)) - dot(&b, x))
        .with_gradient(move |x| {
            let ax = times(&a1, x);
            ax.iter().zip(&b1).map(|(ax, b)| ax - b).collect()
        })
        .with_hessian_vector(move |_, v| times(&a2, v))
}

fn rosenbrock() -> Function<'static> {
    Function::new(2, |x| {
        (1.0 - x[0]).powi(2) + 100.0 * (x[1] - x[0] * x[0]).powi(2)
    })
    .with_gradient(|x| {
        let r = x[1] - x[0] * x[0];
        vec![-2.0 * (1.0 - x[0]) - 400.0 * x[0] * r, 200.0 * r]
    })
}

fn beale() -> Function<'static> {
    let parts = |x: &[f64]| {
        [(1, 1.5), (2, 2.25), (3, 2.625)].map(|(k, c)| (k, c - x[0] + x[0] * x[1].powi(k)))
    };
    Function::new(2, move |x| parts(x).iter().map(|(_, p)| p * p).sum()).with_gradient(move |x| {
        let mut g = vec![0.0; 2];
        for (k, p) in parts(x) {
            g[0] += 2.0 * p * (x[1].powi(k) - 1.0);
            g[1] += 2.0 * p * x[0] * f64::from(k) * x[1].powi(k - 1);
        }
        g
    })
}

fn himmelblau() -> Function<'static> {
    Function::new(2, |x| {
        (x[0] * x[0] + x[1] - 11.0).powi(2) + (x[0] + x[1] * x[1] - 7.0).powi(2)
    })
    .with_gradient(|x| {
        let (u, v) = (x[0] * x[0] + x[1] - 11.0, x[0] + x[1] * x[1] - 7.0);
        vec![4.0 * x[0] * u + 2.0 * v, 2.0 * u + 4.0 * x[1] * v]
    })
}

fn solver(text: &str) -> Box<dyn Solver> {
    text.parse::<SolverConfig>().unwrap().solver().unwrap()
}
