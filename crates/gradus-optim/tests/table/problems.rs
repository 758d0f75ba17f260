//! Rules against problems.

use super::*;

type Loss = Box<dyn Fn(&[f64]) -> f64>;
type Gradient = Box<dyn Fn(&[f64], usize) -> Vec<f64>>;

/// A function to be minimised.
struct Problem {
    name: String,
    shape: [usize; 2],
    start: Vec<f64>,
    loss: Loss,
    /// At step t: only noise depends on it.
    gradient: Gradient,
    /// The part of the loss at the start that may be left.
    left: f64,
}

/// f(θ) = ½ Σ λᵢθᵢ², λ from 1/κ to 1 in even ratios, every coordinate with the same loss at the start.
fn quadratic(kappa: f64, noise: f64, left: f64) -> Problem {
    let scales: Vec<f64> = (0..20).map(|i| kappa.powf(-f64::from(i) / 19.0)).collect();
    let start = scales.iter().enumerate();
    let start = start
        .map(|(i, scale)| if i % 3 == 0 { -1.0 } else { 1.0 } / scale.sqrt())
        .collect();
    let for_loss = scales.clone();
    Problem {
        name: format!("quadratic, κ = {kappa}, σ = {noise}"),
        shape: [4, 5],
        start,
        loss: Box::new(move |x| {
            let each = for_loss.iter().zip(x);
            each.map(|(scale, x)| 0.5 * scale * x * x).sum()
        }),
        gradient: Box::new(move |x, t| {
            let each = scales.iter().zip(x).enumerate();
            each.map(|(i, (scale, x))| {
                // Deterministic, of mean zero and variance σ².
                let phase = (i * 7919 + t * 104_729) as f64;
                scale * x + noise * std::f64::consts::SQRT_2 * (phase * phase).sin()
            })
            .collect()
        }),
        left,
    }
}

fn rosenbrock() -> Problem {
    Problem {
        name: "Rosenbrock".to_owned(),
        shape: [1, 2],
        start: vec![-1.2, 1.0],
        loss: Box::new(|x| (1.0 - x[0]).powi(2) + 100.0 * (x[1] - x[0] * x[0]).powi(2)),
        gradient: Box::new(|x, _| {
            let inner = x[1] - x[0] * x[0];
            vec![-2.0 * (1.0 - x[0]) - 400.0 * x[0] * inner, 200.0 * inner]
        }),
        // Into the valley, where 4.1 of 24.2 are left.
        left: 0.2,
    }
}

fn beale() -> Problem {
    const TERMS: [(f64, i32); 3] = [(1.5, 1), (2.25, 2), (2.625, 3)];
    Problem {
        name: "Beale".to_owned(),
        shape: [1, 2],
        start: vec![1.0, 1.0],
        loss: Box::new(|x| {
            let term = |(c, k): (f64, i32)| (c - x[0] + x[0] * x[1].powi(k)).powi(2);
            TERMS.into_iter().map(term).sum()
        }),
        gradient: Box::new(|x, _| {
            let mut g = vec![0.0, 0.0];
            for (c, k) in TERMS {
                let inner = c - x[0] + x[0] * x[1].powi(k);
                g[0] += 2.0 * inner * (x[1].powi(k) - 1.0);
                g[1] += 2.0 * inner * x[0] * f64::from(k) * x[1].powi(k - 1);
            }
            g
        }),
        left: 0.1,
    }
}

fn problems() -> Vec<Problem> {
    vec![
        quadratic(1.0, 0.0, 1e-4),
        quadratic(10.0, 0.0, 1e-3),
        quadratic(1e2, 0.0, 0.05),
        quadratic(1e3, 0.0, 0.3),
        quadratic(1e4, 0.0, 0.5),
        quadratic(10.0, 0.3, 0.1),
        rosenbrock(),
        beale(),
    ]
}

const BUDGET: usize = 300;

/// The part of the loss that is left after [`BUDGET`] steps with a cosine schedule.
fn minimised(config: &OptimizerConfig, problem: &Problem, lr: f64) -> f64 {
    let place = flex64();
    let schedule: ScheduleConfig = "cosine".parse().unwrap();
    let mut optimizer = optimizer(config);
    let mut model = Weights {
        w: Param::from_tensor(tensor(problem.start.clone(), problem.shape, &place)),
    };
    for t in 0..BUDGET {
        let rate = schedule.lr(t as u64, BUDGET as u64, lr);
        model = step(&mut optimizer, rate, model, |model| {
            let g = (problem.gradient)(&values(model), t);
            let mut grads = GradientsParams::new();
            grads.register(model.w.id, tensor(g, problem.shape, &place));
            grads
        });
    }
    let end = values(&optimizer.evaluation_model(&model));
    (problem.loss)(&end) / (problem.loss)(&problem.start)
}

/// Every rule solves every problem at one of a few rates, a schedule scaling it.
#[test]
fn every_rule_minimises_every_problem() {
    for_every_rule(|config| {
        let config = with_decay(config, 0.0);
        let mut failures = Vec::new();
        for problem in problems() {
            let mut best = (f64::INFINITY, 0.0);
            let rates = [
                1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 3e-4, 1e-4, 10.0, 100.0,
            ];
            for lr in std::iter::once(config.lr()).chain(rates) {
                let left = minimised(&config, &problem, lr);
                if left < best.0 {
                    best = (left, lr);
                }
                if left <= problem.left {
                    break;
                }
            }
            let (left, lr) = best;
            println!(
                "{:24} {:30} {left:9.1e} at {lr}",
                name(&config),
                problem.name
            );
            // So that a NaN fails.
            if !matches!(left.partial_cmp(&problem.left), Some(o) if o.is_le()) {
                failures.push(format!(
                    "{}: {left:.1e} is left at best ({lr})",
                    problem.name
                ));
            }
        }
        if failures.is_empty() {
            Ok(())
        } else {
            Err(failures.join("; "))
        }
    });
}
