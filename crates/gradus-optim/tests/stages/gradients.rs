//! Stages that change gradients.

use super::*;

#[test]
fn clips_by_norm_and_value() {
    let g = some_gradient();
    let all = norm(&[norm(&g[0]), norm(&g[1]), norm(&g[2])]);
    let found = gradient_after("clip_global(2)", &g);
    for i in 0..3 {
        let expected: Vec<_> = g[i].iter().map(|x| x * 2.0 / (all + 1e-6)).collect();
        assert_close(&found[i], &expected, "global");
    }
    let found = gradient_after("clip_norm(2)", &g);
    for i in 0..3 {
        let factor = (2.0 / (norm(&g[i]) + 1e-6)).min(1.0);
        let expected: Vec<_> = g[i].iter().map(|x| x * factor).collect();
        assert_close(&found[i], &expected, "norm");
    }
    let found = gradient_after("clip_value(1.5)", &g);
    assert_close(&found[0], &[1.0, -1.5, 1.5, -1.5], "value");
    // In the order of the text: the sum of both.
    let found = gradient_after("clip_value(1.5) | clip_norm(1)", &g);
    let clipped = [1.0, -1.5, 1.5, -1.5];
    let expected: Vec<_> = clipped
        .iter()
        .map(|x| x / (norm(&clipped) + 1e-6))
        .collect();
    assert_close(&found[0], &expected, "value, then norm");
}

#[test]
fn adaptive_clipping_is_that_of_optax() {
    // optax 0.2.8, f64: t = adaptive_grad_clip(0.01, 1e-3); t.update({"w": g, "b": gb}, t.init(p), p)
    // for the weight and bias of `start` and `some_gradient`; w is [in, out] in both.
    let found = gradient_after("clip_adaptive", &some_gradient());
    let w = [
        5.612_486_08e-3,
        -1.940_262_17e-3,
        0.0,
        9.701_310_87e-6,
        1.870_828_69e-3,
        4.850_655_43e-4,
    ];
    for (found, expected) in found[1].iter().zip(w) {
        assert!((found - expected).abs() < 1e-10, "{found} {expected}");
    }
    for (found, expected) in found[2].iter().zip([4.472_135_95e-6, -8.944_271_91e-6]) {
        assert!((found - expected).abs() < 1e-13, "{found} {expected}");
    }
    let found = gradient_after("clip_adaptive(except=dense.*)", &some_gradient());
    assert_close(&found[1], &some_gradient()[1], "left alone");
    // 1e30 squared is more than f32 holds, but not in f64; a unit of zeros stays zero.
    let huge = [
        vec![0.0; 4],
        vec![1e200, 0.0, 0.0, 0.0, 0.0, 0.0],
        vec![0.0; 2],
    ];
    let found = gradient_after("clip_adaptive", &huge);
    assert_close(
        &found[1],
        &[0.01 * norm(&[0.5, 0.1, 0.3]), 0.0, 0.0, 0.0, 0.0, 0.0],
        "huge",
    );
}

#[test]
fn centralisation_takes_out_the_mean_over_inputs() {
    let found = gradient_after("centralize", &some_gradient());
    let (a, b) = ((0.3 + 0.1) / 3.0, (-0.4 + 0.002 + 0.1) / 3.0);
    let expected = [0.3 - a, -0.4 - b, -a, 0.002 - b, 0.1 - a, 0.1 - b];
    assert_close(&found[1], &expected, "each output's three inputs");
    assert_close(&found[0], &some_gradient()[0], "a vector stays");
}

#[test]
fn clipping_by_quantile_follows_the_history() {
    let mut model = net();
    let mut optimizer = optimizer("sgd(lr=1) | clip_quantile(0.5, window=3)");
    let zero = || [vec![0.0; 4], vec![0.0; 6], vec![0.0; 2]];
    // Norms, and the medians of the last three.
    for (size, limit) in [(1.0, 1.0), (3.0, 2.0), (2.0, 2.0), (8.0, 3.0), (8.0, 8.0)] {
        let mut g = zero();
        g[0][1] = size;
        let before = values(&model)[0][1];
        let given = grads(&model, &g);
        model = optimizer.step(1.0, model, given);
        assert_eq!(optimizer.last_gradient_norm(), Some(size));
        let moved = before - values(&model)[0][1];
        let expected = size * f64::min(1.0, limit / (size + 1e-6));
        assert!(
            (moved - expected).abs() < 1e-12,
            "{size}: {moved} {expected}"
        );
        // A norm that is no number changes nothing in the history.
        let mut g = zero();
        g[0][0] = f64::NAN;
        let given = grads(&model, &g);
        let _ = optimizer.step(1.0, model.clone(), given);
    }
}

#[test]
fn noise_has_its_variance_and_dies_out() {
    #[derive(Module, Debug)]
    struct Big {
        a: Param<Tensor<2>>,
    }
    let device = Device::flex();
    let run = |text: &str, steps: usize| -> Vec<Vec<f64>> {
        let mut model = Big {
            a: Param::from_tensor(tensor(&vec![0.0; 40_000], [200, 200], &device)),
        };
        let mut optimizer = optimizer(text);
        let mut draws = Vec::new();
        for _ in 0..steps {
            let before: Vec<f64> = model.a.val().to_data().iter().collect();
            let mut grads = GradientsParams::new();
            grads.register(model.a.id, tensor(&vec![0.0; 40_000], [200, 200], &device));
            model = optimizer.step(1.0, model, grads);
            let after = model.a.val().to_data();
            draws.push(
                before
                    .iter()
                    .zip(after.iter::<f64>())
                    .map(|(a, b)| a - b)
                    .collect(),
            );
        }
        draws
    };
    let draws = run("sgd(lr=1) | noise(0.25, gamma=2)", 3);
    for (t, draw) in draws.iter().enumerate() {
        let variance = draw.iter().map(|z| z * z).sum::<f64>() / 40_000.0;
        let expected = 0.25 / (1.0 + t as f64).powi(2);
        // Five standard errors of a variance over 40,000 numbers.
        assert!(
            (variance / expected - 1.0).abs() < 5.0 * (2.0_f64 / 40_000.0).sqrt(),
            "{t}"
        );
    }
    assert!(
        (draws[0][0] - 2.0 * draws[1][0]).abs() > 1e-6,
        "each step draws its own"
    );
    assert_eq!(
        draws,
        run("sgd(lr=1) | noise(0.25, gamma=2)", 3),
        "the same again"
    );
    assert_ne!(
        draws[0],
        run("sgd(lr=1) | noise(0.25, gamma=2, seed=1)", 1)[0]
    );
}

#[test]
fn accumulated_gradients_are_the_exact_weighted_mean_and_nothing_moves_before() {
    let sizes = [3.0, 1.0, 4.0];
    let parts: Vec<Values> = (0..3)
        .map(|i| some_gradient().map(|v| v.iter().map(|x| x * (f64::from(i) - 0.5)).collect()))
        .collect();
    let text = "adam(lr=0.1, weight_decay=0.1) | accumulate(3) | clip_global(0.5) | ema(0.5)";
    let (mut model, mut ours) = (net(), optimizer(text));
    for (i, (part, size)) in parts.iter().zip(sizes).enumerate() {
        assert_eq!(values(&model), start(), "before step {i}");
        assert_eq!(ours.steps(), 0);
        if i == 2 {
            // Through a file in the middle.
            let bytes = ours.save().unwrap();
            ours = optimizer(text);
            ours.load(&bytes, &model).unwrap();
        }
        let given = grads(&model, part);
        model = ours.step_weighted(0.1, model, given, size);
    }
    assert_eq!(ours.steps(), 1);
    let mean: Values = std::array::from_fn(|p| {
        (0..parts[0][p].len())
            .map(|j| (0..3).map(|i| parts[i][p][j] * sizes[i]).sum::<f64>() / 8.0)
            .collect()
    });
    let whole = net();
    let given = grads(&whole, &mean);
    let whole =
        optimizer("adam(lr=0.1, weight_decay=0.1) | clip_global(0.5)").step(0.1, whole, given);
    for (found, expected) in values(&model).iter().zip(values(&whole)) {
        assert_close(found, &expected, "the mean over all examples");
    }
}

#[test]
fn a_gradient_missing_in_one_micro_batch_counts_as_zero() {
    let mut model = net();
    let mut optimizer = optimizer("sgd(lr=1) | accumulate(2)");
    let g = some_gradient();
    let given = grads(&model, &g);
    model = optimizer.step(1.0, model, given);
    let mut given = GradientsParams::new();
    given.register(model.theta.id, tensor(&g[0], [4], &Device::flex()));
    model = optimizer.step(1.0, model, given);
    let after = values(&model);
    let expected: Vec<_> = start()[1]
        .iter()
        .zip(&g[1])
        .map(|(x, g)| x - g / 2.0)
        .collect();
    assert_close(&after[1], &expected, "half of one gradient");
    let expected: Vec<_> = start()[0].iter().zip(&g[0]).map(|(x, g)| x - g).collect();
    assert_close(&after[0], &expected, "the mean of two equal ones");
}
