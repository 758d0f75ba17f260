//! Schedules against PyTorch's numbers and against their closed forms.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

use gradus_optim::schedules::Plateau;
use gradus_optim::{Clock, OptimizerConfig, PlateauState, Schedule, ScheduleConfig};
use std::path::Path;

fn schedule(text: &str) -> ScheduleConfig {
    text.parse().unwrap()
}

fn clock(step: u64, total_steps: u64) -> Clock {
    Clock {
        step,
        total_steps,
        steps_per_epoch: total_steps,
    }
}

/// The rates of the first steps of a run of `total`.
fn lrs(text: &str, base_lr: f64, steps: usize, total: u64) -> Vec<f64> {
    let schedule = schedule(text);
    let at = |step| schedule.lr(step, total, base_lr);
    (0..steps as u64).map(at).collect()
}

#[track_caller]
fn assert_close(ours: &[f64], theirs: &[f64]) {
    assert_eq!(ours.len(), theirs.len());
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        let error = (a - b).abs() / b.abs().max(1e-12);
        assert!(error <= 1e-12, "entry {i}: {a} instead of {b}");
    }
}

/// torch 2.15, with `o = SGD([p], lr=0.5)` and the rate read before each `o.step(); s.step()`:
/// ```python
/// SequentialLR(o, [LinearLR(o, start_factor=0.1, total_iters=4), CosineAnnealingLR(o, T_max=8, eta_min=0.01),
///                  ExponentialLR(o, gamma=0.9)], milestones=[4, 12])
/// SequentialLR(o, [ConstantLR(o, factor=0.1, total_iters=3), StepLR(o, step_size=2, gamma=0.5)], milestones=[3])
/// ```
#[test]
fn a_sequence_equals_torch_sequential_lr() {
    assert_close(
        &lrs(
            "sequence(linear(start_factor=0.1, end_factor=1, total_iters=4), \
             cosine(t_max=8, eta_min=0.01), exponential(gamma=0.9), milestones=(4, 12))",
            0.5,
            18,
            18,
        ),
        &[
            0.05,
            0.1625,
            0.275,
            0.38750000000000007,
            0.5,
            0.48135048546526527,
            0.4282411613907041,
            0.34875744092944705,
            0.255,
            0.16124255907055302,
            0.08175883860929586,
            0.02864951453473475,
            0.5,
            0.45,
            0.405,
            0.36450000000000005,
            0.32805000000000006,
            0.2952450000000001,
        ],
    );
    assert_close(
        &lrs(
            "sequence(constant(factor=0.1, total_iters=3), step(step_size=2, gamma=0.5), milestones=(3))",
            0.5,
            9,
            9,
        ),
        &[0.05, 0.05, 0.05, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125],
    );
}

/// torch 2.15:
/// ```python
/// ChainedScheduler([LinearLR(o, start_factor=0.25, total_iters=4), ExponentialLR(o, gamma=0.9),
///                   MultiStepLR(o, milestones=[6], gamma=0.1)], optimizer=o)
/// ```
#[test]
fn a_product_equals_torch_chained_scheduler() {
    assert_close(
        &lrs(
            "product(linear(start_factor=0.25, end_factor=1, total_iters=4), exponential(gamma=0.9), \
             multi_step(milestones=(6), gamma=0.1))",
            0.5,
            9,
            9,
        ),
        &[
            0.125,
            0.196875,
            0.253125,
            0.29615625,
            0.32805000000000006,
            0.2952450000000001,
            0.02657205000000001,
            0.02391484500000001,
            0.021523360500000012,
        ],
    );
}

#[test]
fn a_schedule_without_a_length_lasts_as_long_as_its_part_of_a_sequence() {
    let text = "sequence(linear(start_factor=0, end_factor=1), cosine, milestones=(10))";
    let ours = lrs(text, 2.0, 41, 40);
    assert_close(&ours[..10], &lrs("linear(0, 1)", 2.0, 10, 10));
    assert_close(&ours[10..], &lrs("cosine", 2.0, 31, 30));
}

#[test]
fn combinations_nest() {
    // A product inside a sequence inside a product, by hand: 0.5·0.9^(t−2)·1/(1+t) from t = 2 on.
    let text = "product(inverse_time(k=1), sequence(constant, product(constant(factor=0.5, \
                total_iters=100), exponential(gamma=0.9)), milestones=(2)))";
    let by_hand: Vec<f64> = (0..9)
        .map(|t| {
            let t = f64::from(t);
            let inner = if t < 2.0 {
                1.0
            } else {
                0.5 * 0.9_f64.powf(t - 2.0)
            };
            inner / (1.0 + t)
        })
        .collect();
    assert_close(&lrs(text, 1.0, 9, 9), &by_hand);
}

#[test]
fn momentum_passes_through_a_product_and_a_sequence() {
    let alone = schedule("onecycle(total_steps=60)");
    let product = schedule("product(onecycle(total_steps=60), constant)");
    let sequence = schedule("sequence(constant, onecycle(total_steps=60), milestones=(5))");
    for step in 0..60 {
        let momentum = alone.at(clock(step, 60), 0.5).momentum;
        assert!(momentum.is_some());
        assert_eq!(product.at(clock(step, 60), 0.5).momentum, momentum);
        assert_eq!(sequence.at(clock(step + 5, 65), 0.5).momentum, momentum);
    }
    assert_eq!(sequence.at(clock(4, 65), 0.5).momentum, None);
}

#[test]
fn a_momentum_may_follow_any_schedule() {
    let at = |text: &str, step| schedule(text).at(clock(step, 100), 0.5).momentum.unwrap();
    let linear = "cosine | momentum(linear(start_factor=0.5, end_factor=0.99))";
    for step in [0, 30, 99] {
        let expected = 0.5 + 0.49 * step as f64 / 100.0;
        assert!((at(linear, step) - expected).abs() < 1e-15);
        assert_eq!(at("constant | momentum", step), at(linear, step));
        // The warm-up shifts the rate, not the momentum.
        assert_eq!(
            at(&format!("{linear} | warmup(steps=10)"), step),
            at(linear, step)
        );
    }
    let halved = "constant | momentum(step(step_size=30, gamma=0.5), base=0.9)";
    assert_eq!([at(halved, 29), at(halved, 30)], [0.9, 0.45]);
    // It takes the place of the momentum that the schedule has itself, and leaves the rate alone.
    let both = "onecycle | momentum(constant, base=0.7)";
    assert_eq!(at(both, 17), 0.7);
    assert_eq!(
        schedule(both).lr(17, 100, 0.5),
        schedule("onecycle").lr(17, 100, 0.5)
    );
    let by_epoch =
        schedule("constant | per_epoch | momentum(step(step_size=2, gamma=0.5), base=0.8)");
    let at = |step| {
        let clock = Clock {
            step,
            total_steps: 60,
            steps_per_epoch: 10,
        };
        by_epoch.at(clock, 1.0).momentum.unwrap()
    };
    assert_eq!([at(19), at(20)], [0.8, 0.4]);
}

// === Closed forms ===

#[test]
fn inverse_square_root() {
    let lr = |t| schedule("inverse_sqrt(warmup_steps=100, warmup_init_lr=1e-4)").lr(t, 9, 0.5);
    assert_eq!(lr(0), 1e-4);
    assert!((lr(50) - (1e-4 + (0.5 - 1e-4) / 2.0)).abs() < 1e-15);
    assert_eq!(lr(100), 0.5);
    // η·√t stays the same, so four times the time halves the rate.
    assert!((lr(400) - 0.25).abs() < 1e-15 && (lr(10_000) - 0.05).abs() < 1e-15);
}

/// `512 ** -0.5 * min(s ** -0.5, s * 4000 ** -1.5)` in Python for s = 1, 4000 and 16000.
#[test]
fn noam_is_the_papers_formula() {
    let lr = |s: u64| schedule("noam(d_model=512, warmup_steps=4000)").lr(s - 1, 9, 1.0);
    assert_close(
        &[lr(1), lr(4000), lr(16_000)],
        &[
            1.746_928_107_421_710_7e-7,
            0.000_698_771_242_968_684_3,
            0.000_349_385_621_484_342_2,
        ],
    );
    assert!(lr(3999) < lr(4000) && lr(4001) < lr(4000), "the top");
    let scaled = schedule("noam(512, 4000, factor=2)").lr(99, 9, 0.5);
    assert!((scaled - lr(100)).abs() < 1e-18);
}

#[test]
fn warm_up_stable_decay() {
    // 100 steps: 10 up, 70 level, 20 down.
    for (decay_type, left) in [
        ("linear", [1.0, 0.75, 0.5]),
        ("cosine", [1.0, 0.853_553_390_593_273_8, 0.5]),
        ("sqrt", [1.0, 0.5, 0.292_893_218_813_452_4]),
    ] {
        let text = format!("wsd(warmup_fraction=0.1, decay_type={decay_type}, min_lr_ratio=0.2)");
        let ours = lrs(&text, 0.5, 101, 100);
        let rise: Vec<f64> = (1..=10).map(|t| 0.05 * f64::from(t)).collect();
        assert_close(&ours[..10], &rise);
        assert!(ours[9..=80].iter().all(|lr| *lr == 0.5));
        let fall = left.map(|left| 0.5 * (0.2 + 0.8 * left));
        assert_close(&[ours[80], ours[85], ours[90]], &fall);
        assert!((ours[100] - 0.1).abs() < 1e-15);
        assert!(ours[80..].windows(2).all(|pair| pair[0] > pair[1]));
    }
    // Numbers of steps in place of parts; together too long, the decay has the rest.
    let text = "wsd(warmup_steps=30, decay_steps=100)";
    let ours = lrs(text, 1.0, 41, 40);
    assert_eq!(
        [ours[14], ours[29], ours[30], ours[35], ours[40]],
        [0.5, 1.0, 1.0, 0.5, 0.0]
    );
}

#[test]
fn rex_is_the_papers_formula() {
    // (1 − x)/(1/2 + (1 − x)/2)
    let by_hand: Vec<f64> = (0..=10)
        .map(|t| {
            let left = 1.0 - f64::from(t) / 10.0;
            0.5 * left / (0.5 + left / 2.0)
        })
        .collect();
    assert_close(&lrs("rex", 0.5, 11, 10), &by_hand);
    assert_close(&lrs("rex(total_iters=10)", 0.5, 11, 99), &by_hand);
}

#[test]
fn the_textbook_decays() {
    let at = |text: &str, t| schedule(text).lr(t, 100, 0.5);
    assert!((at("exponential(k=0.1)", 7) - 0.5 * (-0.7_f64).exp()).abs() < 1e-15);
    assert!((at("inverse_time(k=0.1)", 10) - 0.25).abs() < 1e-15);
    assert!((at("polynomial(power=3)", 50) - 0.0625).abs() < 1e-15);
    assert_eq!(at("constant", 99), 0.5);
}

// === Plateau ===

/// The rate after each look of `plateau(…)` at base 0.5.
fn looks(text: &str, metrics: &[f64]) -> Vec<f64> {
    let schedule = schedule(text);
    assert!(schedule.needs_metric());
    let mut state = PlateauState::default();
    metrics
        .iter()
        .map(|metric| {
            let before = schedule.rate(clock(0, 60), 0.5, &state).lr;
            let reduced = schedule.observe(&mut state, *metric, 0.5);
            let after = schedule.rate(clock(0, 60), 0.5, &state).lr;
            assert_eq!(reduced, after < before, "what it says is what it does");
            after
        })
        .collect()
}

/// torch 2.15, with the rate read after each `o.step(); s.step(metric)`:
/// ```python
/// ReduceLROnPlateau(o, mode="max", factor=0.3, patience=1, threshold=0.005, threshold_mode="abs",
///                   cooldown=1, min_lr=0.02, eps=1e-3)
/// ReduceLROnPlateau(o, factor=0.5, patience=2)
/// ```
#[test]
fn a_plateau_equals_torch_reduce_lr_on_plateau() {
    let accuracy = [
        0.3, 0.5, 0.6, 0.6005, 0.6004, 0.61, 0.62, 0.611, 0.612, 0.613, 0.614, 0.615, 0.616, 0.617,
        0.618,
    ];
    assert_close(
        &looks(
            "plateau(mode=max, factor=0.3, patience=1, threshold=0.005, threshold_mode=abs, \
             cooldown=1, min_lr=0.02, eps=1e-3)",
            &accuracy,
        ),
        &[
            0.5, 0.5, 0.5, 0.5, 0.15, 0.15, 0.15, 0.15, 0.045, 0.045, 0.045, 0.02, 0.02, 0.02, 0.02,
        ],
    );
    // Numbers that are none, and a best below zero.
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    let loss = [
        1.0, nan, 0.9, 0.8999, inf, 0.95, 0.9, 0.9, 0.9, -1.0, -1.00005, -1.0002, -1.0, -1.0, -1.0,
        -1.0,
    ];
    let rates = looks("plateau(factor=0.5, patience=2)", &loss);
    assert_close(&rates, &[&[0.5; 6][..], &[0.25; 8], &[0.125; 2]].concat());
}

#[test]
fn a_plateau_equals_the_fixture() {
    let file = Path::new("shared/fixtures/torch_schedulers.json");
    let found = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .find_map(|folder| std::fs::read_to_string(folder.join(file)).ok());
    let Some(text) = found else {
        eprintln!("SKIPPED: {} is not beside this checkout", file.display());
        return;
    };
    let fixture: serde_json::Value = serde_json::from_str(&text).unwrap();
    let cases = fixture["cases"].as_array().unwrap();
    let case = cases
        .iter()
        .find(|case| case["scheduler"] == "ReduceLROnPlateau")
        .unwrap();
    let floats = |key: &str| -> Vec<f64> {
        let list = case[key].as_array().unwrap();
        list.iter().map(|x| x.as_f64().unwrap()).collect()
    };
    let given = &case["given"];
    let text = format!(
        "plateau(factor={}, patience={}, cooldown={})",
        given["factor"], given["patience"], given["cooldown"]
    );
    // There the rate is read before the look.
    let mut ours = looks(&text, &floats("metric"));
    ours.insert(0, 0.5);
    ours.pop();
    assert_close(&ours, &floats("lr"));
}

#[test]
fn a_plateau_scales_the_schedule_it_stands_behind_and_its_warm_up() {
    let schedule = schedule("cosine | warmup(steps=10) | plateau(factor=0.5, patience=0)");
    let plain = ScheduleConfig {
        plateau: None,
        ..schedule.clone()
    };
    assert!(!plain.needs_metric());
    let mut state = PlateauState::default();
    assert!(!schedule.observe(&mut state, 1.0, 0.5));
    assert!(schedule.observe(&mut state, 1.0, 0.5));
    assert_eq!((state.scale(), state.best()), (0.5, Some(1.0)));
    for step in [0, 9, 10, 60] {
        let at = plain.at(clock(step, 100), 0.5);
        let rate = schedule.rate(clock(step, 100), 0.5, &state);
        assert_eq!(rate.lr, at.lr * 0.5);
        // Without a plateau the state means nothing, and stays as it is.
        assert_eq!(plain.rate(clock(step, 100), 0.5, &state), at);
    }
    let before = state.clone();
    assert!(!plain.observe(&mut state, 9.0, 0.5));
    assert_eq!(state, before);
}

#[test]
fn a_saved_plateau_goes_on_as_if_never_stopped() {
    let plateau = Plateau {
        patience: 2,
        cooldown: 1,
        factor: 0.3,
        ..Plateau::default()
    };
    let metric = |t: i32| 1.0 / f64::from(1 + t.min(4)) + 0.001 * f64::from(t % 3);
    let mut whole = PlateauState::default();
    let mut parts = PlateauState::default();
    for t in 0..40 {
        whole.observe(&plateau, metric(t), 0.1);
        parts.observe(&plateau, metric(t), 0.1);
        let saved = serde_json::to_string(&parts).unwrap();
        parts = serde_json::from_str(&saved).unwrap();
        assert_eq!(parts, whole, "after look {t}");
    }
    assert!(whole.scale() < 0.1, "it was reduced several times");
}

#[test]
fn every_schedule_and_stage_is_documented_and_reads_back() {
    let mut entries = Schedule::catalogue();
    entries.extend(ScheduleConfig::stages());
    for entry in entries {
        assert!(entry.documentation.contains("```text"), "{}", entry.name);
        for row in entry.hyperparameters {
            // The printed default is a value that the text form takes back.
            if row.default != "none" {
                let call = format!("{}({}={})", entry.name, row.name, row.default);
                let alone = call.parse::<ScheduleConfig>();
                let behind = format!("constant | {call}").parse::<ScheduleConfig>();
                assert!(alone.is_ok() || behind.is_ok(), "{call}");
            }
        }
    }
}

#[test]
fn a_momentum_needs_a_rule_that_has_one() {
    let annealed = schedule("cosine | momentum(linear, base=0.9)");
    for (optimizer, fits) in [
        ("sgd(momentum=0.9)", true),
        ("sgd", false),
        ("adamw", true),
        ("rmsprop", false),
        ("rmsprop(momentum=0.5)", true),
        ("adagrad", false),
        ("lion", true),
        ("muon", true),
        ("sgd | group(kind=bias, rule=adam)", true),
    ] {
        let optimizer: OptimizerConfig = optimizer.parse().unwrap();
        assert_eq!(annealed.check_rule(&optimizer).is_ok(), fits, "{optimizer}");
        // Without the stage there is nothing to be refused, not even by one-cycle.
        for text in ["cosine", "onecycle(max_lr=0.1, total_steps=10)"] {
            assert!(schedule(text).check_rule(&optimizer).is_ok());
        }
    }
    let plain: OptimizerConfig = "sgd(lr=0.1)".parse().unwrap();
    let error = annealed.check_rule(&plain).unwrap_err().to_string();
    assert!(error.contains("sgd(lr=0.1) has no momentum"), "{error}");
}
