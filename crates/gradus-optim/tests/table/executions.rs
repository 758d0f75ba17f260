//! Ranks, saving, and the executions of one rule.

use super::*;

/// Gradients that differ from step to step and entry to entry.
fn wave(t: usize) -> impl Fn(usize) -> f64 {
    // Of full rank as a matrix, as gradients of real batches are.
    move |i| (0.37 * (i * i) as f64 + ((3 + i % 5) * t) as f64).sin() + 0.1
}

fn wave_steps(
    optimizer: &mut ModelOptimizer,
    model: Ranks,
    on: &Place,
    steps: std::ops::Range<usize>,
) -> Ranks {
    steps.fold(model, |model, t| {
        let lr = 0.02 / (1.0 + 0.1 * t as f64);
        step(optimizer, lr, model, |model| {
            gradients(model, on, None, wave(t))
        })
    })
}

/// How far two executions in f64 may differ: rounding, which eigenvectors amplify.
fn rounding(config: &OptimizerConfig) -> f64 {
    match name(config) {
        "shampoo" | "soap" => 1e-7,
        _ => 1e-10,
    }
}

/// How far an execution in f32 may differ from one in f64.
fn rounding_of_f32(config: &OptimizerConfig) -> f64 {
    match name(config) {
        // Ten gradients span ten directions; the basis of the rest is made of rounding.
        "soap" => 0.1,
        "shampoo" => 1e-2,
        _ => 1e-3,
    }
}

#[test]
fn parameters_of_every_rank_move_alike_in_every_execution() {
    for_every_rule(|config| {
        let run = |place: &Place| {
            let mut optimizer = optimizer(config);
            values(&wave_steps(&mut optimizer, ranks(place), place, 0..10))
        };
        let [fused, single, tensors] = places();
        let reference = run(&fused);
        agree(&run(&tensors), &reference, rounding(config))
            .map_err(|why| format!("ndarray: {why}"))?;
        agree(&run(&single), &reference, rounding_of_f32(config))
            .map_err(|why| format!("f32: {why}"))?;
        let start = values(&ranks(&fused));
        let moved = reference.iter().zip(&start).filter(|(a, b)| a != b);
        if moved.count() < start.len() {
            return Err("a weight stood still".to_owned());
        }
        Ok(())
    });
}

#[test]
fn saving_and_loading_mid_run_changes_no_bit() {
    for_every_rule(|config| {
        for place in places() {
            let mut whole = optimizer(config);
            let model = wave_steps(&mut whole, ranks(&place), &place, 0..8);
            let mut first = optimizer(config);
            let half = wave_steps(&mut first, ranks(&place), &place, 0..4);
            let bytes = first.save().map_err(|error| error.to_string())?;
            let mut second = optimizer(config);
            second
                .load(&bytes, &half)
                .map_err(|error| error.to_string())?;
            let half = wave_steps(&mut second, half, &place, 4..8);
            if values(&half) != values(&model) {
                return Err(format!("other weights on {}", place.name));
            }
            if second.save().unwrap() != whole.save().unwrap() {
                return Err(format!("another state on {}", place.name));
            }
        }
        Ok(())
    });
}

// === Executions ===

/// A square, whose rows and columns may be taken for outputs and inputs or the other way round.
const SIDE: usize = 12;
const N: usize = SIDE * SIDE;

fn weights(on: &Place) -> Weights {
    Weights {
        w: Param::from_tensor(tensor(sine(N, 1.0), [SIDE, SIDE], on)),
    }
}

fn wave_gradients(model: &Weights, on: &Place, t: usize) -> GradientsParams {
    let mut grads = GradientsParams::new();
    let g = (0..N).map(wave(t)).collect();
    grads.register(model.w.id, tensor(g, [SIDE, SIDE], on));
    grads
}

#[test]
fn the_executions_agree() {
    const STEPS: usize = 25;
    for_every_rule(|config| {
        let ours = |place: &Place, lr: &dyn Fn(usize) -> f64| {
            let mut optimizer = optimizer(config);
            let model = (0..STEPS).fold(weights(place), |model, t| {
                step(&mut optimizer, lr(t), model, |model| {
                    wave_gradients(model, place, t)
                })
            });
            values(&model)
        };
        let [fused, single, tensors] = places();
        let (exact, inexact) = (rounding(config), rounding_of_f32(config));

        // The laboratory, which takes a vector of f64.
        let flat = |_: usize| 0.02;
        let gradients = (0..STEPS).map(|t| (0..N).map(wave(t)).collect::<Vec<_>>());
        let reference = if config.rule.to_burn().is_some() {
            let start = sine(N, 1.0);
            let path = config
                .rule
                .trajectory_shaped(0.02, &[SIDE, SIDE], &start, gradients);
            path.last().unwrap().clone()
        } else {
            ours(&fused, &flat)
        };
        for (place, tolerance) in [(&fused, exact), (&tensors, exact), (&single, inexact)] {
            agree(&ours(place, &flat), &reference, tolerance)
                .map_err(|why| format!("{}: {why}", place.name))?;
        }

        // Burn's optimizer, with a schedule.
        let schedule: ScheduleConfig = "cosine | warmup(steps=3)".parse().unwrap();
        let scheduled = |t: usize| schedule.lr(t as u64, STEPS as u64, 0.05);
        let reference = ours(&fused, &scheduled);
        agree(&ours(&tensors, &scheduled), &reference, exact)?;
        for (place, tolerance) in [(&fused, exact), (&tensors, exact), (&single, inexact)] {
            let Some(mut burn) = config.rule.to_burn() else {
                continue;
            };
            // Burn steps parameters on an autodiff device only.
            let tracked = Weights {
                w: weights(place).w.map(Tensor::from_inner),
            };
            let model = (0..STEPS).fold(tracked, |model, t| {
                let grads = wave_gradients(&model, place, t);
                burn.step(scheduled(t), model, grads)
            });
            agree(&values(&model), &reference, tolerance)
                .map_err(|why| format!("Burn on {}: {why}", place.name))?;
        }
        Ok(())
    });
}
