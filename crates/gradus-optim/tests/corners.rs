//! Corners of the step: gradients that come and go, transposed and empty parameters, models that are
//! moved, cast or exchanged between steps, busy threads.

#![allow(clippy::unwrap_used, reason = "tests")]

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{DType, Device, Tensor, TensorData};
use gradus_optim::{Adam, ModelOptimizer, OptimizerConfig, RuleConfig, Sgd};

#[derive(Module, Debug)]
struct Net {
    vector: Param<Tensor<1>>,
    /// Lies in memory as its transpose.
    matrix: Param<Tensor<2>>,
    kernel: Param<Tensor<4>>,
    empty: Param<Tensor<2>>,
    second: Param<Tensor<2>>,
}

#[expect(
    deprecated,
    reason = "stands for the backends without direct access to memory"
)]
fn ndarray() -> Device {
    Device::ndarray()
}

fn filled<const D: usize>(
    shape: [usize; D],
    seed: usize,
    device: &Device,
    dtype: DType,
) -> Tensor<D> {
    let values: Vec<f64> = (0..shape.iter().product())
        .map(|i| ((i * 7 + seed * 13 + 1) as f64 * 0.37).sin())
        .collect();
    Tensor::from_data(TensorData::new(values, shape), (device, dtype))
}

fn net(device: &Device, dtype: DType) -> Net {
    Net {
        vector: Param::from_tensor(filled([5], 1, device, dtype)),
        matrix: Param::from_tensor(filled([2, 3], 2, device, dtype).transpose()),
        kernel: Param::from_tensor(filled([3, 2, 2, 2], 3, device, dtype)),
        empty: Param::from_tensor(filled([0, 3], 4, device, dtype)),
        second: Param::from_tensor(filled([3, 2], 5, device, dtype)),
    }
}

/// Gradients of step `t`, of some of the parameters.
fn grads(net: &Net, t: usize) -> GradientsParams {
    let (device, dtype) = (net.vector.val().device(), net.vector.val().dtype());
    let has = |i: usize| t < 2 || t % 5 == 4 || !(t * 5 + i * 3).is_multiple_of(4);
    let mut grads = GradientsParams::new();
    if has(0) {
        grads.register(net.vector.id, filled([5], 11 + t, &device, dtype));
    }
    if has(1) {
        let g = filled([2, 3], 12 + t, &device, dtype).transpose();
        grads.register(net.matrix.id, g);
    }
    if has(2) {
        grads.register(net.kernel.id, filled([3, 2, 2, 2], 13 + t, &device, dtype));
    }
    if has(3) {
        grads.register(net.empty.id, filled([0, 3], 14 + t, &device, dtype));
    }
    if has(4) {
        grads.register(net.second.id, filled([3, 2], 15 + t, &device, dtype));
    }
    grads
}

fn values(net: &Net) -> Vec<f64> {
    struct Values(Vec<f64>);
    impl ModuleVisitor for Values {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.extend(param.val().to_data().iter::<f64>());
        }
    }
    let mut values = Values(Vec::new());
    net.visit(&mut values);
    values.0
}

/// Every rule, every stage.
fn texts() -> Vec<String> {
    let rules = RuleConfig::catalogue();
    let mut texts: Vec<String> = rules.iter().map(|rule| rule.name.to_owned()).collect();
    texts.extend(
        [
            "sgd(lr=0.1, momentum=0.9) | ema(0.9)",
            "adam | lookahead(3)",
            "adam | swa(3, every=2)",
            "sgd(momentum=0.5) | accumulate(3)",
            "adamw | clip_global(0.5)",
            "adamw | clip_norm(0.5)",
            "adamw | clip_value(0.5)",
            "adamw | clip_adaptive",
            "adamw | clip_quantile(0.5)",
            "sgd | noise",
            "sgd | centralize",
            "sgd | l1(0.01)",
            "sgd | max_norm(0.5)",
            "sgd | sam",
            "sgd | asam",
            "sgd | entropy(3)",
            "adamw(weight_decay=0.1) | group(rank=4, rule=sgd(momentum=0.9)) | \
             group(name=m*, rule=muon) | no_decay | ema",
            "soap | group(rank=2, rule=prodigy)",
        ]
        .map(str::to_owned),
    );
    texts
}

fn optimizer(text: &str) -> ModelOptimizer {
    ModelOptimizer::new(&text.parse::<OptimizerConfig>().unwrap()).unwrap()
}

fn run(optimizer: &mut ModelOptimizer, net: Net, steps: std::ops::Range<usize>) -> Net {
    steps.fold(net, |net, t| {
        let given = grads(&net, t);
        optimizer.step_with(0.01, net, given, &mut |net| grads(net, t + 1))
    })
}

fn farthest(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |a, b| if b <= a { a } else { b })
}

#[test]
fn executions_clones_and_files_agree_while_gradients_come_and_go() {
    for text in texts() {
        let on = |device: &Device, dtype: DType| {
            let mut whole = optimizer(&text);
            let half = run(&mut whole, net(device, dtype), 0..9);
            let bytes = whole.save().unwrap();
            let (mut cloned, before) = (whole.clone(), whole.clone());
            let mut loaded = optimizer(&text);
            loaded.load(&bytes, &half).unwrap();

            let end = run(&mut whole, half.clone(), 9..16);
            let again = run(&mut loaded, half.clone(), 9..16);
            assert_eq!(whole.save().unwrap(), loaded.save().unwrap(), "{text}");
            assert_eq!(values(&end), values(&again), "{text}, loaded");
            let again = run(&mut cloned, half, 9..16);
            assert_eq!(values(&end), values(&again), "{text}, cloned");
            assert_eq!(before.save().unwrap(), bytes, "{text}, a clone has changed");

            let mut all = values(&whole.evaluation_model(&end));
            all.extend(values(&end));
            all
        };
        let (here, there) = (on(&Device::flex(), DType::F64), on(&ndarray(), DType::F64));
        assert!(farthest(&here, &there) < 1e-9, "{text}");
        let (here, there) = (on(&Device::flex(), DType::F32), on(&ndarray(), DType::F32));
        // In f32 SOAP's eigenvectors belong to their rounding.
        let limit = if text.starts_with("soap") { 0.1 } else { 2e-4 };
        assert!(farthest(&here, &there) < limit, "{text} in f32");
    }
}

#[test]
fn half_precision_takes_every_step() {
    for text in texts() {
        for dtype in [DType::F16, DType::BF16] {
            let mut optimizer = optimizer(&text);
            let net = run(&mut optimizer, net(&Device::flex(), dtype), 0..9);
            assert_eq!(net.vector.val().dtype(), dtype, "{text}");
            let bytes = optimizer.save().unwrap();
            optimizer.load(&bytes, &net).unwrap();
            assert_eq!(optimizer.save().unwrap(), bytes, "{text}");
        }
    }
}

#[test]
fn the_state_follows_a_model_that_is_moved_or_cast() {
    for text in texts() {
        let mut stays = optimizer(&text);
        let home = run(&mut stays, net(&Device::flex(), DType::F64), 0..12);

        let mut moves = optimizer(&text);
        let mut moved = run(&mut moves, net(&Device::flex(), DType::F64), 0..4);
        moved = run(&mut moves, moved.to_device(&ndarray()), 4..8);
        moved = moved.to_device(&Device::flex());
        // Also before a step brings the averages along.
        assert_eq!(
            values(&moves.evaluation_model(&moved)).len(),
            values(&moved).len()
        );
        moved = run(&mut moves, moved, 8..12);
        assert!(farthest(&values(&home), &values(&moved)) < 1e-9, "{text}");

        let mut widens = optimizer(&text);
        let narrow = run(&mut widens, net(&Device::flex(), DType::F32), 0..4);
        let wide = Net {
            vector: narrow.vector.map(|x| x.cast(DType::F64)),
            matrix: narrow.matrix.map(|x| x.cast(DType::F64)),
            kernel: narrow.kernel.map(|x| x.cast(DType::F64)),
            empty: narrow.empty.map(|x| x.cast(DType::F64)),
            second: narrow.second.map(|x| x.cast(DType::F64)),
        };
        let wide = run(&mut widens, wide, 4..12);
        assert_eq!(wide.vector.val().dtype(), DType::F64, "{text}");
        assert!(values(&wide).iter().all(|x| x.is_finite()), "{text}");
    }
}

#[test]
#[should_panic(expected = "`vector` has shape [2], and had [5]")]
fn another_shape_is_refused_by_name() {
    let mut optimizer = optimizer("adam");
    let mut net = run(&mut optimizer, net(&Device::flex(), DType::F32), 0..1);
    net.vector = Param::from_tensor(filled([2], 1, &Device::flex(), DType::F32));
    let mut grads = GradientsParams::new();
    grads.register(net.vector.id, filled([2], 1, &Device::flex(), DType::F32));
    let _ = optimizer.step(0.1, net, grads);
}

#[test]
#[should_panic(expected = "is not one of `adam`")]
fn a_record_of_another_rule_is_refused_by_burn_s_optimizer_too() {
    let mut vector = Param::from_tensor(Tensor::<1>::ones([5], &Device::flex().autodiff()));
    let grads = |id| {
        let mut grads = GradientsParams::new();
        grads.register(id, filled([5], 1, &Device::flex(), DType::F32));
        grads
    };
    let momentum = Sgd {
        momentum: 0.9,
        ..Sgd::default()
    };
    let mut first = ModuleOptimizer::from(momentum);
    let id = vector.id;
    vector = first.step(0.1, vector, grads(id));
    let mut second = ModuleOptimizer::from(Adam::default()).load_record(first.to_record());
    let _ = second.step(0.1, vector, grads(id));
}

#[test]
#[cfg(target_os = "linux")]
fn spent_gradients_do_not_pile_up_where_threads_are_busy() {
    let resident = || {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    };
    let n = 1 << 20;
    let threads = rayon::ThreadPoolBuilder::new().num_threads(1);
    // The one thread trains, and comes to nothing else.
    let grown = threads.build().unwrap().install(|| {
        let device = Device::flex();
        let mut model = Param::from_tensor(Tensor::<1>::zeros([n], &device));
        let mut optimizer = optimizer("sgd(lr=0.1)");
        let before = resident();
        for _ in 0..100 {
            let mut grads = GradientsParams::new();
            grads.register(model.id, Tensor::<1>::ones([n], &device));
            model = optimizer.step(0.1, model, grads);
        }
        resident().saturating_sub(before)
    });
    assert!(
        grown < 100 * n,
        "{} MB for 100 gradients of 4 MB",
        grown >> 20
    );
}
