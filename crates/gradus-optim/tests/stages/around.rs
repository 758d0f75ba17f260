//! Stages around the gradient.

use super::*;

/// One step at rate 1 with the bowl as loss: θ − θ′, which is the gradient used, and how often the
/// loss was asked.
fn around(text: &str) -> (Values, usize) {
    let model = net();
    let given = grads(&model, &bowl(&start()));
    let mut calls = 0;
    let after =
        optimizer(&format!("sgd(lr=1) | {text}")).step_with(1.0, model, given, &mut |model| {
            calls += 1;
            grads(model, &bowl(&values(model)))
        });
    let after = values(&after);
    let before = start();
    let used = std::array::from_fn(|i| {
        before[i]
            .iter()
            .zip(&after[i])
            .map(|(a, b)| a - b)
            .collect()
    });
    (used, calls)
}

#[test]
fn sam_and_asam_take_the_gradient_at_the_worst_place() {
    let (theta, g) = (start(), bowl(&start()));
    let all = norm(&[norm(&g[0]), norm(&g[1]), norm(&g[2])]);
    let there: Values = std::array::from_fn(|i| {
        theta[i]
            .iter()
            .zip(&g[i])
            .map(|(x, g)| x + 0.5 * g / all)
            .collect()
    });
    let (found, calls) = around("sam(0.5)");
    assert_eq!(calls, 1);
    for (found, expected) in found.iter().zip(bowl(&there)) {
        assert_close(found, &expected, "sam");
    }

    // T = |θ| + η, but 1 for the bias.
    let size = |i: usize, x: f64| if i == 2 { 1.0 } else { x.abs() + 0.1 };
    let scaled: Values = std::array::from_fn(|i| {
        theta[i]
            .iter()
            .zip(&g[i])
            .map(|(x, g)| size(i, *x) * g)
            .collect()
    });
    let all = norm(&[norm(&scaled[0]), norm(&scaled[1]), norm(&scaled[2])]);
    let there: Values = std::array::from_fn(|i| {
        let step = theta[i].iter().zip(&scaled[i]);
        step.map(|(x, s)| x + 0.5 * size(i, *x) * s / all).collect()
    });
    let (found, calls) = around("asam(0.5, eta=0.1)");
    assert_eq!(calls, 1);
    for (found, expected) in found.iter().zip(bowl(&there)) {
        assert_close(found, &expected, "asam");
    }
}

#[test]
fn entropy_goes_to_the_mean_of_its_walk() {
    let theta = start();
    let (mut x, mut mean) = (theta.clone(), theta.clone());
    for _ in 0..4 {
        let g = bowl(&x);
        for i in 0..3 {
            for j in 0..x[i].len() {
                x[i][j] -= 0.05 * (g[i][j] - 0.2 * (theta[i][j] - x[i][j]));
                mean[i][j] = 0.25 * mean[i][j] + 0.75 * x[i][j];
            }
        }
    }
    let (found, calls) = around("entropy(4, inner_lr=0.05, gamma=0.2, noise=0)");
    assert_eq!(calls, 3);
    for i in 0..3 {
        let expected: Vec<_> = theta[i].iter().zip(&mean[i]).map(|(x, m)| x - m).collect();
        assert_close(&found[i], &expected, "θ − m");
    }
    // With noise of size ε: √η′·ε·z is added to x in one step, and α of it is in m.
    let quiet = around("entropy(1, noise=0)").0;
    let loud = around("entropy(1, noise=2, inner_lr=0.1)").0;
    let again = around("entropy(1, noise=2, inner_lr=0.1)").0;
    assert_eq!(loud, again);
    let z = (quiet[0][0] - loud[0][0]) / (0.75 * 2.0 * 0.1_f64.sqrt());
    assert!(z != 0.0 && z.abs() < 5.0, "a standard normal number: {z}");
}

#[test]
fn frozen_parameters_stay_in_the_walk_too() {
    let model = net();
    let given = grads(&model, &bowl(&start()));
    let mut optimizer = optimizer("sgd(lr=1) | entropy(3) | group(name=dense.*, lr=0)");
    assert!(optimizer.needs_closure());
    let after = optimizer.step_with(1.0, model, given, &mut |model| {
        assert_eq!(values(model)[1], start()[1]);
        assert_ne!(values(model)[0], start()[0]);
        grads(model, &bowl(&values(model)))
    });
    assert_eq!(values(&after)[1..], start()[1..]);
}

#[test]
#[should_panic(expected = "`sam` needs gradients at other weights: call `step_with`")]
fn a_step_without_the_loss_is_refused() {
    let model = net();
    let given = grads(&model, &bowl(&start()));
    let _ = optimizer("sgd | sam").step(0.1, model, given);
}
