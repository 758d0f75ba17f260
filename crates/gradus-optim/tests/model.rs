//! Whole models: resuming, clones, names, refusals, and what a step leaves as it was.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests"
)]

use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::{Linear, LinearConfig};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor, TensorData};
use gradus_optim::{Adam, ModelOptimizer, OptimError, OptimizerConfig, Sgd, gradients, trajectory};

#[derive(Module, Debug)]
struct Net {
    first: Linear,
    second: Linear,
    unused: Param<Tensor<1>>,
}

fn device() -> Device {
    Device::flex().autodiff()
}

/// Deterministic weights, whatever the order in which tests run.
fn net(hidden: usize) -> Net {
    let device = device();
    let fill = |rows: usize, cols: usize| {
        let values: Vec<f32> = (0..rows * cols)
            .map(|i| (i as f32 * 0.7).sin() * 0.5)
            .collect();
        Tensor::<2>::from_data(TensorData::new(values, [rows, cols]), &device)
    };
    let mut first = LinearConfig::new(4, hidden).init(&device);
    let mut second = LinearConfig::new(hidden, 3).init(&device);
    first.weight = Param::from_tensor(fill(4, hidden));
    first.bias = Some(Param::from_tensor(fill(1, hidden).flatten(0, 1)));
    second.weight = Param::from_tensor(fill(hidden, 3));
    second.bias = Some(Param::from_tensor(fill(1, 3).flatten(0, 1)));
    Net {
        first,
        second,
        unused: Param::from_tensor(Tensor::ones([5], &device)),
    }
}

/// The gradients of step `t`, which depend on the weights and on t.
fn grads(net: &Net, t: usize) -> GradientsParams {
    let device = device();
    let x: Vec<f32> = (0..8 * 4).map(|i| ((i + 5 * t) as f32).cos()).collect();
    let x = Tensor::<2>::from_data(TensorData::new(x, [8, 4]), &device);
    let y = net.second.forward(net.first.forward(x).tanh());
    GradientsParams::from_grads((y - 0.3).square().mean().backward(), net)
}

fn run(net: &mut Option<Net>, optimizer: &mut ModelOptimizer, steps: std::ops::Range<usize>) {
    for t in steps {
        let model = net.take().unwrap();
        let grads = grads(&model, t);
        *net = Some(optimizer.step(0.01 + 0.001 * t as f64, model, grads));
    }
}

/// All values of a model, bit by bit.
fn bits(net: &Net) -> Vec<u32> {
    #[derive(Default)]
    struct Bits(Vec<u32>);
    impl ModuleVisitor for Bits {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0
                .extend(param.val().to_data().iter::<f32>().map(f32::to_bits));
        }
    }
    let mut bits = Bits::default();
    net.visit(&mut bits);
    bits.0
}

const TEXTS: [&str; 8] = [
    "nadam(lr=0.01)",
    "rprop",
    "rmsprop(momentum=0.9, centered=true)",
    "sgd(lr=0.1)",
    "sgd(lr=0.1, momentum=0.9, nesterov=true, weight_decay=0.01)",
    "adam(amsgrad=true)",
    "adamw(weight_decay=0.1) | clip-global(0.05) | no-decay",
    "adamw | clip-norm(0.02) | clip-value(0.01)",
];

fn optimizer(text: &str) -> ModelOptimizer {
    ModelOptimizer::new(&text.parse().unwrap()).unwrap()
}

#[test]
fn resume_equals_uninterrupted_run() {
    for text in TEXTS {
        let mut whole = Some(net(6));
        let mut one = optimizer(text);
        run(&mut whole, &mut one, 0..40);

        let mut halved = Some(net(6));
        let mut first = optimizer(text);
        run(&mut halved, &mut first, 0..20);
        let bytes = first.save().unwrap();
        assert_eq!(
            bytes,
            first.clone().save().unwrap(),
            "the same state, the same bytes"
        );

        // Another process would have other parameter ids.
        let model = halved.take().unwrap();
        let fresh = net(6);
        let id = |param: &Param<Tensor<2>>| param.id;
        assert_ne!(id(&fresh.first.weight), id(&model.first.weight));
        let copied = |new: Param<Tensor<2>>, old: &Param<Tensor<2>>| {
            new.map(|_| Tensor::from_data(old.val().to_data(), &device()).require_grad())
        };
        let copied1 = |new: Option<Param<Tensor<1>>>, old: &Option<Param<Tensor<1>>>| {
            let values = old.as_ref().unwrap().val().to_data();
            new.map(|new| new.map(|_| Tensor::from_data(values, &device()).require_grad()))
        };
        let fresh = Net {
            first: Linear {
                weight: copied(fresh.first.weight, &model.first.weight),
                bias: copied1(fresh.first.bias, &model.first.bias),
            },
            second: Linear {
                weight: copied(fresh.second.weight, &model.second.weight),
                bias: copied1(fresh.second.bias, &model.second.bias),
            },
            unused: fresh.unused,
        };
        let mut second = optimizer(text);
        second.load(&bytes, &fresh).unwrap();
        assert_eq!(second.steps(), 20);
        let mut halved = Some(fresh);
        run(&mut halved, &mut second, 20..40);

        assert_eq!(bits(&whole.unwrap()), bits(&halved.unwrap()), "{text}");
        assert_eq!(one.save().unwrap(), second.save().unwrap(), "{text}");
    }
}

#[test]
fn a_clone_goes_the_same_way_and_leaves_the_original_alone() {
    for text in TEXTS {
        let mut net_a = Some(net(6));
        let mut a = optimizer(text);
        run(&mut net_a, &mut a, 0..5);
        let mut net_b = net_a.clone();
        let mut b = a.clone();
        let (before, saved) = (bits(net_a.as_ref().unwrap()), a.save().unwrap());
        run(&mut net_b, &mut b, 5..10);
        assert_eq!(
            bits(net_a.as_ref().unwrap()),
            before,
            "{text}: the model was shared, not moved"
        );
        assert_eq!(a.save().unwrap(), saved, "{text}: and so was the state");
        run(&mut net_a, &mut a, 5..10);
        assert_eq!(bits(&net_a.unwrap()), bits(&net_b.unwrap()), "{text}");
    }
}

#[test]
fn burn_s_module_optimizer_takes_the_same_steps() {
    let rule = Adam {
        amsgrad: true,
        weight_decay: 0.01,
        ..Adam::default()
    };
    let mut ours = Some(net(6));
    run(
        &mut ours,
        &mut ModelOptimizer::with_rule(rule.clone()).unwrap(),
        0..20,
    );

    let mut theirs = net(6);
    let mut optimizer = ModuleOptimizer::from(rule.clone());
    for t in 0..20 {
        if t == 10 {
            // Through Burn's record and back.
            let record = optimizer.to_record();
            optimizer = ModuleOptimizer::from(rule.clone()).load_record(record);
        }
        let grads = grads(&theirs, t);
        theirs = optimizer.step(0.01 + 0.001 * t as f64, theirs, grads);
    }
    assert_eq!(bits(&ours.unwrap()), bits(&theirs));
}

#[test]
fn f32_stays_close_to_f64() {
    let device = Device::flex();
    let rule = Adam {
        weight_decay: 0.01,
        ..Adam::default()
    };
    let theta0: Vec<f64> = (0..200).map(|i| f64::from(i as f32 * 0.01 - 1.0)).collect();
    let gradients: Vec<Vec<f64>> = (0..50)
        .map(|t| {
            theta0
                .iter()
                .map(|x| (x * 9.0 + f64::from(t)).sin())
                .collect()
        })
        .collect();

    #[derive(Module, Debug)]
    struct Vector {
        theta: Param<Tensor<1>>,
    }
    let tensor = |values: &[f64]| {
        let values: Vec<f32> = values.iter().map(|x| *x as f32).collect();
        Tensor::<1>::from_floats(values.as_slice(), &device)
    };
    let mut model = Vector {
        theta: Param::from_tensor(tensor(&theta0)),
    };
    let mut optimizer = ModelOptimizer::with_rule(rule.clone()).unwrap();
    for g in &gradients {
        let mut grads = GradientsParams::new();
        grads.register(model.theta.id, tensor(g));
        model = optimizer.step(0.01, model, grads);
    }
    let exact = trajectory(&rule, 0.01, &theta0, gradients).pop().unwrap();
    let ours = model.theta.val().to_data().try_to_vec::<f32>().unwrap();
    for (a, b) in ours.iter().zip(exact) {
        // Fifty roundings of 6e-8, and Adam amplifies those of small gradients.
        assert!((f64::from(*a) - b).abs() < 2e-5, "{a} and {b}");
    }
}

#[test]
fn a_step_keeps_ids_and_flags_and_skips_what_has_no_gradient() {
    let mut model = net(6);
    model.second.weight = model.second.weight.set_require_grad(false);
    let ids = (model.first.weight.id, model.unused.id);
    let (unused, frozen) = (
        model.unused.val().to_data(),
        model.second.weight.val().to_data(),
    );
    let mut optimizer = optimizer("adamw(weight_decay=0.5)");
    for t in 0..3 {
        let grads = grads(&model, t);
        model = optimizer.step(0.1, model, grads);
    }
    assert_eq!(ids, (model.first.weight.id, model.unused.id));
    assert!(model.first.weight.is_require_grad() && model.first.weight.val().is_autodiff());
    assert!(!model.second.weight.is_require_grad());
    assert_eq!(
        model.unused.val().to_data(),
        unused,
        "no gradient, no decay either"
    );
    assert_eq!(model.second.weight.val().to_data(), frozen);
}

#[test]
fn no_decay_spares_biases() {
    let config: OptimizerConfig = "sgd(lr=0.1, weight_decay=0.5) | no-decay".parse().unwrap();
    let plain: OptimizerConfig = "sgd(lr=0.1)".parse().unwrap();
    let step = |config: &OptimizerConfig| {
        let model = net(6);
        let grads = grads(&model, 0);
        ModelOptimizer::new(config).unwrap().step(0.1, model, grads)
    };
    let (a, b) = (step(&config), step(&plain));
    let bias = |net: &Net| net.first.bias.as_ref().unwrap().val().to_data();
    assert_eq!(bias(&a), bias(&b));
    assert_ne!(
        a.first.weight.val().to_data(),
        b.first.weight.val().to_data()
    );
}

#[test]
fn a_momentum_schedule_reaches_the_rule() {
    let gradients = vec![vec![1.0]; 3];
    let model = || Net {
        unused: Param::from_tensor(Tensor::zeros([5], &device())),
        ..net(2)
    };
    let mut optimizer = ModelOptimizer::with_rule(Sgd {
        momentum: 0.9,
        ..Sgd::default()
    })
    .unwrap();
    optimizer.set_momentum(0.5);
    let mut net = model();
    for _ in &gradients {
        let mut grads = GradientsParams::new();
        grads.register(net.unused.id, Tensor::<1>::ones([5], &Device::flex()));
        net = optimizer.step(0.1, net, grads);
    }
    let rule = Sgd {
        momentum: 0.5,
        ..Sgd::default()
    };
    let expected = trajectory(&rule, 0.1, &[0.0], gradients).pop().unwrap()[0];
    let found = net.unused.val().to_data().try_to_vec::<f32>().unwrap()[0];
    assert!(
        (f64::from(found) - expected).abs() < 1e-6,
        "{found} and {expected}"
    );
}

#[test]
fn a_momentum_schedule_may_pass_through_zero() {
    // Constant gradient 1, rate 0.1: v = 1, 1.9 at μ = 0.9; 1, 1 at 0; 1.9, 2.71 at 0.9 again, and
    // −θ is a tenth of their sum so far.
    let momenta = [0.9, 0.9, 0.0, 0.0, 0.9, 0.9];
    let expected = [0.1, 0.29, 0.39, 0.49, 0.68, 0.951];
    let fresh = || {
        ModelOptimizer::with_rule(Sgd {
            momentum: 0.9,
            ..Sgd::default()
        })
        .unwrap()
    };
    let mut optimizer = fresh();
    let mut net = Net {
        unused: Param::from_tensor(Tensor::zeros([5], &device())),
        ..net(2)
    };
    for (t, (momentum, expected)) in momenta.into_iter().zip(expected).enumerate() {
        if t == 3 || t == 4 {
            // In the middle of the zeros, and where they end.
            let bytes = optimizer.save().unwrap();
            optimizer = fresh();
            optimizer.load(&bytes, &net).unwrap();
        }
        optimizer.set_momentum(momentum);
        let mut grads = GradientsParams::new();
        grads.register(net.unused.id, Tensor::<1>::ones([5], &Device::flex()));
        net = optimizer.step(0.1, net, grads);
        let found = net.unused.val().to_data().try_to_vec::<f32>().unwrap()[0];
        assert!(
            (f64::from(found) + expected).abs() < 1e-6,
            "step {t}: {found} and −{expected}"
        );
    }
}

#[test]
fn rmsprop_keeps_its_buffers_through_a_momentum_of_zero() {
    let mut model = Some(net(6));
    let mut optimizer = optimizer("rmsprop(momentum=0.9, centered=true)");
    run(&mut model, &mut optimizer, 0..2);
    optimizer.set_momentum(0.0);
    run(&mut model, &mut optimizer, 2..4);
    let bytes = optimizer.save().unwrap();
    optimizer.load(&bytes, model.as_ref().unwrap()).unwrap();
    assert_eq!(optimizer.save().unwrap(), bytes);

    // A rule configured without momentum has no buffer, and no schedule gives it one.
    let mut plain = self::optimizer("sgd(lr=0.1)");
    plain.set_momentum(0.9);
    let (mut a, mut b) = (Some(net(6)), Some(net(6)));
    run(&mut a, &mut plain, 0..3);
    run(&mut b, &mut self::optimizer("sgd(lr=0.1)"), 0..3);
    assert_eq!(bits(&a.unwrap()), bits(&b.unwrap()));
}

// === Refusals ===

fn saved(text: &str) -> Vec<u8> {
    let mut net = Some(net(6));
    let mut optimizer = optimizer(text);
    run(&mut net, &mut optimizer, 0..2);
    optimizer.save().unwrap()
}

#[test]
fn another_model_is_refused_by_the_name_of_its_parameter() {
    let bytes = saved("adam");
    let error = optimizer("adam").load(&bytes, &net(7)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`exp_avg` of parameter `first.weight` was saved with shape [4, 6], the parameter has [4, 7]"
    );

    #[derive(Module, Debug)]
    struct Less {
        first: Linear,
        second: Linear,
    }
    let Net { first, second, .. } = net(6);
    let error = optimizer("adam")
        .load(&bytes, &Less { first, second })
        .unwrap_err();
    assert!(matches!(error, OptimError::UnknownParameter { parameter } if parameter == "unused"));

    #[derive(Module, Debug)]
    struct More {
        first: Linear,
        second: Linear,
        unused: Param<Tensor<1>>,
        head: Linear,
    }
    let Net {
        first,
        second,
        unused,
    } = net(6);
    let head = LinearConfig::new(2, 2).init(&device());
    let error = optimizer("adam")
        .load(
            &bytes,
            &More {
                first,
                second,
                unused,
                head,
            },
        )
        .unwrap_err();
    assert!(
        matches!(error, OptimError::MissingParameter { parameter } if parameter == "head.weight")
    );
}

#[test]
fn another_optimizer_is_refused() {
    let error = optimizer("sgd").load(&saved("adam"), &net(6)).unwrap_err();
    assert!(
        matches!(error, OptimError::OtherRule { expected, found } if expected == "sgd" && found == "adam")
    );
    let error = optimizer("adam(amsgrad=true)")
        .load(&saved("adam"), &net(6))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the saved state of parameter `first.weight` has exp_avg, exp_avg_sq, expected exp_avg, \
         exp_avg_sq, max_exp_avg_sq"
    );
    // Another rate is not another optimizer.
    optimizer("adam(lr=0.5)")
        .load(&saved("adam"), &net(6))
        .unwrap();
}

#[test]
fn damaged_files_are_errors() {
    let bytes = saved("adam");
    for cut in [0, 1, 7, 8, 100, bytes.len() / 2, bytes.len() - 1] {
        let error = optimizer("adam").load(&bytes[..cut], &net(6)).unwrap_err();
        assert!(
            matches!(error, OptimError::BadFile(_)),
            "cut at {cut}: {error}"
        );
    }
    for at in 0..bytes.len().min(400) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x15;
        // Whatever it is now, it is no panic.
        let _ = optimizer("adam").load(&damaged, &net(6));
    }
    let plain = safetensors::serialize(
        Vec::<(String, safetensors::tensor::TensorView<'_>)>::new(),
        None,
    );
    let error = optimizer("adam")
        .load(&plain.unwrap(), &net(6))
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("its metadata lack `gradus_optim`"),
        "{error}"
    );
}

#[test]
fn a_failed_load_changes_nothing() {
    let mut optimizer = optimizer("adam");
    let mut model = Some(net(6));
    run(&mut model, &mut optimizer, 0..3);
    let before = optimizer.save().unwrap();
    assert!(optimizer.load(&before, &net(7)).is_err());
    assert_eq!(optimizer.save().unwrap(), before);
}

#[test]
fn an_optimizer_without_steps_saves_and_loads() {
    let fresh = optimizer("adam");
    let mut other = optimizer("adam");
    other.load(&fresh.save().unwrap(), &net(6)).unwrap();
    assert_eq!(other.steps(), 0);
}

// === Gradients ===

#[test]
fn the_global_norm_is_reported_and_respected() {
    let model = net(6);
    let mut clipped = grads(&model, 0);
    let parts = gradients::norms(&model, &clipped);
    let names: Vec<_> = parts.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["first.weight", "first.bias", "second.weight", "second.bias"]
    );
    let total = parts
        .iter()
        .map(|(_, norm)| norm * norm)
        .sum::<f64>()
        .sqrt();
    let norm = gradients::clip_global_norm(&model, &mut clipped, total / 2.0);
    assert!((norm - total).abs() < 1e-12);
    let after = gradients::global_norm(&model, &clipped);
    assert!((after - total / 2.0).abs() < 1e-5 * total, "{after}");

    let untouched = gradients::clip_global_norm(&model, &mut clipped, 10.0 * total);
    assert!((untouched - after).abs() < 1e-12);
    assert_eq!(gradients::global_norm(&model, &clipped), after);

    let mut optimizer = optimizer("sgd | clip-global(0.001)");
    let grads = grads(&model, 0);
    let _ = optimizer.step(0.1, model, grads);
    assert!((optimizer.last_gradient_norm().unwrap() - total).abs() < 1e-12);
}

#[test]
fn clips_by_value_and_by_parameter() {
    let model = net(6);
    let mut clipped = grads(&model, 0);
    gradients::clip_value(&model, &mut clipped, 1e-3);
    let g = clipped.get::<2>(model.first.weight.id).unwrap();
    assert_eq!(g.abs().max().into_scalar::<f32>(), 1e-3);

    let mut clipped = grads(&model, 0);
    let before = gradients::norms(&model, &clipped);
    let limit = before[1].1.midpoint(before[2].1);
    gradients::clip_norm(&model, &mut clipped, limit);
    for ((name, before), (_, after)) in before.iter().zip(gradients::norms(&model, &clipped)) {
        let expected = before.min(limit);
        assert!(
            (after - expected).abs() < 1e-4 * expected,
            "{name}: {before} to {after}"
        );
    }
}

#[test]
fn norms_agree_between_backends_for_huge_and_tiny_gradients() {
    #[derive(Module, Debug)]
    struct Two {
        a: Param<Tensor<1>>,
        b: Param<Tensor<2>>,
        c: Param<Tensor<1>>,
    }
    #[expect(
        deprecated,
        reason = "stands for the backends without direct access to memory"
    )]
    let devices = [Device::flex(), Device::ndarray()];
    for device in devices {
        let model = Two {
            a: Param::from_tensor(Tensor::zeros([2], &device)),
            b: Param::from_tensor(Tensor::zeros([2, 2], &device)),
            c: Param::from_tensor(Tensor::zeros([3], &device)),
        };
        for size in [1e30_f32, 1.0, 1e-25] {
            let mut grads = GradientsParams::new();
            grads.register(
                model.a.id,
                Tensor::<1>::from_floats([3.0 * size, 0.0], &device),
            );
            let b = [[0.0, 4.0 * size], [0.0, 0.0]];
            grads.register(model.b.id, Tensor::<2>::from_floats(b, &device).transpose());
            grads.register(model.c.id, Tensor::<1>::zeros([3], &device));
            let norm = gradients::global_norm(&model, &grads);
            assert!(
                (norm / (5.0 * f64::from(size)) - 1.0).abs() < 1e-6,
                "{norm} for {size}"
            );
            assert_eq!(gradients::first_non_finite(&model, &grads), None);
        }
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut grads = GradientsParams::new();
            grads.register(model.a.id, Tensor::<1>::ones([2], &device));
            let b = [[0.0, 4.0], [bad, 0.0]];
            grads.register(model.b.id, Tensor::<2>::from_floats(b, &device));
            grads.register(model.c.id, Tensor::<1>::full([3], bad, &device));
            let found = gradients::first_non_finite(&model, &grads);
            assert_eq!(found.as_deref(), Some("b"), "{bad}");
            let norm = gradients::clip_global_norm(&model, &mut grads, 1.0);
            assert!(!norm.is_finite());
            let a = grads.get::<1>(model.a.id).unwrap().to_data();
            assert_eq!(a, TensorData::from([1.0_f32, 1.0]), "left as it was");
        }
    }
}
