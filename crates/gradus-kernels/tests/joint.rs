//! Batch normalisation by several ranks, each with some of the rows: what one rank with all rows does.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(deprecated, reason = "ndarray is kept for comparison")]

use burn::tensor::{Device, Tensor, TensorData};
use gradus_core::ranks::{self, Ranks};
use gradus_kernels::{Act, batch_norm_act};

const SHAPE: [usize; 4] = [7, 5, 3, 4];

/// Numbers around 3, so that sums of squares could cancel.
fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (0..count)
        .map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 504.5 + 2.0)
        .collect()
}

struct Found {
    y: Vec<f64>,
    dx: Vec<f64>,
    dresidual: Option<Vec<f64>>,
    dgamma: Vec<f64>,
    dbeta: Vec<f64>,
    moments: Vec<f64>,
    count: usize,
}

/// Everything that comes out for the rows of one rank.
fn run(ranks: &Ranks, device: &Device, act: Act, residual: bool) -> Found {
    let [n, c, h, w] = SHAPE;
    let rows = ranks.share(n);
    let part = |seed: usize| {
        let all = numbers(SHAPE.iter().product(), seed);
        let size = c * h * w;
        let mine = all[rows.start * size..rows.end * size].to_vec();
        Tensor::<4>::from_data(TensorData::new(mine, [rows.len(), c, h, w]), device)
    };
    let vector = |seed: usize| {
        Tensor::<1>::from_data(TensorData::new(numbers(c, seed), [c]), device).require_grad()
    };
    let (x, gamma, beta) = (part(1).require_grad(), vector(2), vector(3));
    // Around −1, so that relu has something to cut.
    let r = residual.then(|| part(4).mul_scalar(-1.5).require_grad());
    let values = |x: Tensor<4>| x.into_data().iter::<f64>().collect::<Vec<_>>();
    let vector = |x: Tensor<1>| x.into_data().iter::<f64>().collect::<Vec<_>>();
    ranks.during(|| {
        let found = batch_norm_act(
            x.clone(),
            Some(gamma.clone()),
            Some(beta.clone()),
            r.clone(),
            1e-5,
            act,
        );
        let grads = found.output.clone().mul(part(5)).sum().backward();
        let moments = [vector(found.mean), vector(found.variance)].concat();
        Found {
            y: values(found.output),
            dx: values(x.grad(&grads).unwrap()),
            dresidual: r.map(|r| values(r.grad(&grads).unwrap())),
            dgamma: vector(gamma.grad(&grads).unwrap()),
            dbeta: vector(beta.grad(&grads).unwrap()),
            moments,
            count: found.count,
        }
    })
}

fn close(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(0.0, |most: f64, v| most.max(v.abs()));
    for (at, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!(
            (a - b).abs() <= tolerance * scale,
            "{what} at {at}: {a} for {b}"
        );
    }
}

#[test]
fn ranks_together_do_what_one_does() {
    // Σ g·x̂ is small beside Σ |g·x̂|, so that it shows how well a mean of numbers around 3 is known: on
    // ndarray, which adds in f32, to a few of 1e-5.
    for (device, tolerance) in [(Device::flex(), 3e-6), (Device::ndarray(), 1e-4)] {
        let device = device.autodiff();
        let near = |found: &[f64], expected: &[f64], what: &str| {
            close(found, expected, tolerance, what);
        };
        for size in [2, 3, 7] {
            for (act, residual) in [
                (Act::Identity, false),
                (Act::Relu, true),
                (Act::Silu, false),
                (Act::Silu, true),
            ] {
                let what = format!("{device:?}, {size} ranks, {act:?}, residual {residual}");
                let whole = run(&Ranks::alone(), &device, act, residual);
                let parts: Vec<Found> = std::thread::scope(|scope| {
                    let threads: Vec<_> = ranks::threads(size)
                        .into_iter()
                        .map(|rank| {
                            let device = device.clone();
                            scope.spawn(move || run(&rank, &device, act, residual))
                        })
                        .collect();
                    threads.into_iter().map(|t| t.join().unwrap()).collect()
                });
                let joined = |f: &dyn Fn(&Found) -> Vec<f64>| -> Vec<f64> {
                    parts.iter().flat_map(f).collect()
                };
                let summed = |f: &dyn Fn(&Found) -> Vec<f64>| -> Vec<f64> {
                    (0..SHAPE[1])
                        .map(|c| parts.iter().map(|part| f(part)[c]).sum())
                        .collect()
                };
                near(&joined(&|p| p.y.clone()), &whole.y, &what);
                near(
                    &joined(&|p| p.dx.clone()),
                    &whole.dx,
                    &format!("dx, {what}"),
                );
                if let Some(expected) = &whole.dresidual {
                    let found = joined(&|p| p.dresidual.clone().unwrap());
                    near(&found, expected, &format!("dresidual, {what}"));
                }
                near(
                    &summed(&|p| p.dgamma.clone()),
                    &whole.dgamma,
                    &format!("dγ, {what}"),
                );
                near(
                    &summed(&|p| p.dbeta.clone()),
                    &whole.dbeta,
                    &format!("dβ, {what}"),
                );
                for part in &parts {
                    near(&part.moments, &whole.moments, &format!("moments, {what}"));
                    assert_eq!(part.moments, parts[0].moments, "the same bits everywhere");
                    assert_eq!(part.count, whole.count);
                }
            }
        }
    }
}
