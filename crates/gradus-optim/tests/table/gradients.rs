//! Gradients of every size, and none.

use super::*;

/// Steps with the same gradient in every entry.
fn steps_with(
    optimizer: &mut ModelOptimizer,
    model: Ranks,
    on: &Place,
    lr: f64,
    gradients_of: &[f64],
) -> Ranks {
    gradients_of.iter().fold(model, |model, g| {
        let alternating = |i: usize| if i.is_multiple_of(2) { *g } else { -*g };
        step(optimizer, lr, model, |model| {
            gradients(model, on, None, alternating)
        })
    })
}

#[test]
fn without_a_slope_only_decay_moves_a_weight() {
    for_every_rule(|config| {
        for place in places() {
            let before = values(&ranks(&place));
            let run = |decay: f64| {
                let config = with_decay(config, decay);
                let mut optimizer = optimizer(&config);
                values(&steps_with(
                    &mut optimizer,
                    ranks(&place),
                    &place,
                    0.01,
                    &[0.0; 4],
                ))
            };
            let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
            // Yogi's mean begins at 1e-6 and decays to nothing.
            let still = if name(config) == "yogi" { 1e-4 } else { 1e-6 };
            for (decay, allowed) in [(0.0, still), (0.1, 0.5)] {
                let after = run(decay);
                agree(&after, &before, allowed)
                    .map_err(|why| format!("{why} ({}, decay {decay})", place.name))?;
                if norm(&after) > norm(&before) * (1.0 + still) {
                    return Err(format!("the weights grew ({}, decay {decay})", place.name));
                }
            }
        }
        Ok(())
    });
}

#[test]
fn huge_and_tiny_gradients_make_no_nan() {
    for_every_rule(|config| {
        for place in places() {
            for sizes in [
                &[1e30, 1e30, 1e30][..],
                &[1e30, 1.0, 1e-30, -1.0],
                &[1e-30, 1e-30, 1e-30],
                &[1e-30, 1.0, 1e30, 1.0],
                &[1.0, 0.0, 1e30, 0.0],
            ] {
                let mut optimizer = optimizer(config);
                let model = steps_with(&mut optimizer, ranks(&place), &place, 1e-3, sizes);
                let bad = values(&model).into_iter().find(|x| !x.is_finite());
                if let Some(bad) = bad {
                    return Err(format!("{bad} after gradients {sizes:?} on {}", place.name));
                }
            }
        }
        Ok(())
    });
}

/// The entries of a saved state that belong to one parameter.
fn saved_of(optimizer: &ModelOptimizer, parameter: &str) -> Vec<(String, Vec<u8>)> {
    let bytes = optimizer.save().unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let own = file.iter().filter(|(name, _)| {
        name.strip_prefix(parameter)
            .is_some_and(|rest| rest.starts_with('/'))
    });
    let mut own: Vec<_> = own
        .map(|(name, view)| (name.to_owned(), view.data().to_vec()))
        .collect();
    own.sort();
    own
}

#[test]
fn a_parameter_without_a_gradient_is_left_alone() {
    for_every_rule(|config| {
        for place in places() {
            let some = |i: usize| (i as f64).cos();
            let mut optimizer = optimizer(config);
            let mut model = ranks(&place);
            for _ in 0..2 {
                model = step(&mut optimizer, 0.01, model, |model| {
                    gradients(model, &place, None, some)
                });
            }
            for parameter in ["vector", "matrix", "kernel"] {
                let numbers = |model: &Ranks| match parameter {
                    "vector" => values(&model.vector.val().into_data()),
                    "matrix" => values(&model.matrix.val().into_data()),
                    _ => values(&model.kernel.val().into_data()),
                };
                fn values(data: &TensorData) -> Vec<f64> {
                    data.iter::<f64>().collect()
                }
                let before = (numbers(&model), saved_of(&optimizer, parameter));
                model = step(&mut optimizer, 0.01, model, |model| {
                    gradients(model, &place, Some(parameter), some)
                });
                if numbers(&model) != before.0 {
                    return Err(format!("`{parameter}` moved on {}", place.name));
                }
                if saved_of(&optimizer, parameter) != before.1 {
                    return Err(format!(
                        "the state of `{parameter}` changed on {}",
                        place.name
                    ));
                }
            }
        }
        Ok(())
    });
}
