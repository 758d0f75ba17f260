//! Stages that change or average weights.

use super::*;

/// The weights after each of `steps` steps of the chain in the bowl, and those to evaluate at.
fn run(text: &str, steps: usize) -> (Vec<Values>, Vec<Values>) {
    let (mut model, mut optimizer) = (net(), optimizer(text));
    let (mut path, mut evaluated) = (Vec::new(), Vec::new());
    for _ in 0..steps {
        let given = grads(&model, &bowl(&values(&model)));
        model = optimizer.step(0.1, model, given);
        path.push(values(&model));
        evaluated.push(values(&optimizer.evaluation_model(&model)));
    }
    (path, evaluated)
}

#[test]
fn lookahead_is_that_of_optax() {
    // optax 0.2.8, f64: lookahead(sgd(0.1), 3, 0.5) on gradients (x, 4y) from (4, 1).
    let (path, evaluated) = run("sgd(lr=0.1) | lookahead(3)", 7);
    let expected = [
        [3.6, 0.6],
        [3.24, 0.36],
        [3.458, 0.608],
        [3.1122, 0.3648],
        [2.80098, 0.21888],
        [2.989_441, 0.369_664],
        [2.690_496_9, 0.221_798_4],
    ];
    for (found, expected) in path.iter().zip(expected) {
        assert_close(&found[0][..2], &expected, "fast");
    }
    assert_close(&evaluated[4][0][..2], &[3.458, 0.608], "slow");
}

#[test]
fn rising_lookahead_is_that_of_airbench() {
    // The loop of airbench94 in plain numbers: sgd on the bowl, s ← αs + (1 − α)w and w ← s at every
    // second step, α = 0.9²(t/7)³.
    let (path, evaluated) = run("sgd(lr=0.1) | rising_lookahead(2, decay=0.9, steps=7)", 7);
    let mut w = start();
    let mut s = start();
    for t in 1..=7_usize {
        let g = bowl(&w);
        for (w, g) in w.iter_mut().flatten().zip(g.iter().flatten()) {
            *w -= 0.1 * g;
        }
        if t % 2 == 0 {
            let alpha = 0.81 * (t as f64 / 7.0).powi(3);
            for (w, s) in w.iter_mut().flatten().zip(s.iter_mut().flatten()) {
                *s = alpha * *s + (1.0 - alpha) * *w;
                *w = *s;
            }
        }
        for part in 0..3 {
            assert_close(&path[t - 1][part], &w[part], &format!("fast, step {t}"));
            assert_close(
                &evaluated[t - 1][part],
                &s[part],
                &format!("slow, step {t}"),
            );
        }
    }
}

#[test]
fn the_length_of_a_run_is_told_where_it_is_open() {
    let told = |text: &str| {
        let config: OptimizerConfig = text.parse().unwrap();
        config.for_steps(384).to_string()
    };
    assert_eq!(
        told("sgd(lr=0.1) | rising_lookahead | ema(0.9)"),
        "sgd(lr=0.1) | rising_lookahead(5, steps=384) | ema(0.9)"
    );
    let given = "sgd(lr=0.1) | rising_lookahead(5, steps=7)";
    assert_eq!(told(given), given);
}

#[test]
fn averages_are_the_sums_of_their_definition() {
    let (path, _) = run("sgd(lr=0.1)", 12);
    let average = |weights: &dyn Fn(usize, usize) -> f64, t: usize| -> Vec<f64> {
        let total: f64 = (0..=t).map(|i| weights(i, t)).sum();
        (0..4)
            .map(|j| (0..=t).map(|i| weights(i, t) * path[i][0][j]).sum::<f64>() / total)
            .collect()
    };
    let (same, debiased) = run("sgd(lr=0.1) | ema(0.8)", 12);
    assert_eq!(path, same, "training goes on as without");
    let (_, biased) = run("sgd(lr=0.1) | ema(0.8, debias=false)", 12);
    let (_, warm) = run("sgd(lr=0.1) | ema(0.8, warmup=true)", 12);
    let (_, mean) = run("sgd(lr=0.1) | swa(3, every=2)", 12);
    let mut slow = path[0][0].clone();
    for t in 0..12 {
        let power = |i: usize, t: usize| 0.8_f64.powi((t - i) as i32);
        assert_close(&debiased[t][0], &average(&power, t), "debiased");
        let first_heavy = |i: usize, t: usize| power(i, t) * if i == 0 { 1.0 } else { 0.2 };
        assert_close(&biased[t][0], &average(&first_heavy, t), "not debiased");
        if t > 0 {
            let now = (t + 1) as f64;
            let d = f64::min(0.8, (1.0 + now) / (10.0 + now));
            for (a, x) in slow.iter_mut().zip(&path[t][0]) {
                *a = d * *a + (1.0 - d) * x;
            }
        }
        assert_close(&warm[t][0], &slow, "warm-up");
        // Steps 3, 5, 7, … from 1 are 2, 4, 6, … from 0.
        let counted = |i: usize, _: usize| f64::from(u8::from(i >= 2 && i.is_multiple_of(2)));
        let expected = if t < 2 {
            path[t][0].clone()
        } else {
            average(&counted, t)
        };
        assert_close(&mean[t][0], &expected, "mean");
    }
}

#[test]
fn the_penalty_thresholds_softly_at_the_rate_of_the_group() {
    let text = "sgd(lr=0.1) | l1(2) | group(name=dense.*, lr=0.05)";
    let model = net();
    let zero = [vec![0.0; 4], vec![0.0; 6], vec![0.0; 2]];
    let given = grads(&model, &zero);
    let after = values(&optimizer(text).step(0.1, model, given));
    assert_close(&after[0], &[3.8, 0.8, -0.3, 0.0], "by 0.2");
    assert_close(&after[1], &[0.4, -0.1, 0.0, 0.0, -0.2, 0.0], "by 0.1");
    assert!(after[1][2] == 0.0, "exactly zero");
    let model = net();
    let given = grads(&model, &zero);
    let after = values(&optimizer("sgd(lr=0.1) | no_decay | l1(2)").step(0.1, model, given));
    assert_eq!(after[0], start()[0], "vectors are spared");
}

#[test]
fn units_stay_inside_their_ball() {
    let model = net();
    let zero = [vec![0.0; 4], vec![0.0; 6], vec![0.0; 2]];
    let given = grads(&model, &zero);
    let after = values(&optimizer("sgd(lr=0.1) | max_norm(0.4)").step(0.1, model, given));
    let factor = 0.4 / norm(&[0.5, 0.1, 0.3]);
    let expected = [0.5 * factor, -0.2, 0.1 * factor, 0.0, -0.3 * factor, 0.0];
    assert_close(&after[1], &expected, "the first unit only");
    assert_eq!(after[0], start()[0], "a vector is no unit");
}

#[test]
fn formulas_on_numbers_are_those_on_modules() {
    fn follow<R: Rule>(rule: R, text: &str) {
        let (path, evaluated) = run(&format!("sgd(lr=0.1) | {text}"), 9);
        let averages = rule.averages();
        let mut numbers = VectorOptimizer::new(rule, 4);
        let mut theta = start()[0].clone();
        if text.starts_with("lookahead") {
            // φ = θ at the start: the first meeting is not the first step.
            return;
        }
        for (t, (weights, used)) in path.iter().zip(&evaluated).enumerate() {
            let g = bowl(&[theta.clone(), Vec::new(), Vec::new()]);
            theta.iter_mut().zip(&g[0]).for_each(|(x, g)| *x -= 0.1 * g);
            numbers.step(0.1, &mut theta, &g[0]);
            assert_close(&weights[0], &theta, &format!("{text} {t}"));
            if averages {
                assert_close(&used[0], &numbers.slot(0), &format!("{text} {t}"));
            }
        }
    }
    follow(L1 { lambda: 0.3 }, "l1(0.3)");
    follow(
        Ema {
            decay: 0.7,
            ..Ema::default()
        },
        "ema(0.7)",
    );
    follow(Swa { start: 2, every: 3 }, "swa(2, every=3)");
    follow(Lookahead::default(), "lookahead");
}
