//! Weights that change inside their module: nobody else sees it, and everybody who should does.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use burn::backend::{BackendTensor, DispatchTensor, DispatchTensorKind};
use burn::module::{Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Tensor, TensorData};
use gradus_optim::{ModelOptimizer, OptimizerConfig, forget_graphs};

#[derive(Module, Debug)]
struct Net {
    w: Param<Tensor<2>>,
    b: Param<Tensor<1>>,
}

fn wave<const D: usize>(shape: [usize; D], phase: f64, on: &Device, dtype: DType) -> Tensor<D> {
    let values: Vec<f64> = (0..shape.iter().product())
        .map(|i| (0.7 * i as f64 + phase).sin())
        .collect();
    Tensor::from_data(TensorData::new(values, shape), (on, dtype))
}

fn net_of(dtype: DType, on: &Device) -> Net {
    Net {
        w: Param::from_tensor(wave([5, 3], 1.0, on, dtype)),
        b: Param::from_tensor(wave([3], 2.0, on, dtype)),
    }
}

fn tape() -> Device {
    Device::flex().autodiff()
}

/// A model on the tape.
fn net() -> Net {
    net_of(DType::F32, &tape())
}

fn optimizer(text: &str) -> ModelOptimizer {
    let config: OptimizerConfig = text.parse().unwrap();
    ModelOptimizer::new(&config).unwrap()
}

/// The gradients of a least-squares problem, which differs from step to step.
fn gradients(net: &Net, t: usize) -> GradientsParams {
    let (on, dtype) = (net.w.val().device(), net.w.val().dtype());
    let x = wave([4, 5], 0.3 * t as f64, &on, dtype);
    let y = wave([4, 3], 0.5 * t as f64, &on, dtype);
    let error = x.matmul(net.w.val()) + net.b.val().unsqueeze() - y;
    GradientsParams::from_grads(error.square().mean().backward(), net)
}

fn step(optimizer: &mut ModelOptimizer, net: Net, t: usize) -> Net {
    let grads = gradients(&net, t);
    optimizer.step(0.05, net, grads)
}

fn values(net: &Net) -> Vec<f64> {
    let of = |data: TensorData| data.iter::<f64>().collect::<Vec<_>>();
    [of(net.w.val().into_data()), of(net.b.val().into_data())].concat()
}

/// Where the memory of a tensor begins.
fn address(tensor: DispatchTensor) -> usize {
    let kind = match tensor.kind {
        DispatchTensorKind::Autodiff(inner) => *inner,
        kind => kind,
    };
    match kind {
        DispatchTensorKind::Flex(BackendTensor::Autodiff(t)) => {
            t.primitive().bytes().as_ptr() as usize
        }
        DispatchTensorKind::Flex(BackendTensor::Float(t)) => t.bytes().as_ptr() as usize,
        _ => panic!("not a tensor of flex"),
    }
}

fn addresses(net: &Net) -> [usize; 2] {
    [
        address(net.w.val().into_dispatch()),
        address(net.b.val().into_dispatch()),
    ]
}

#[test]
fn weights_stay_where_the_first_step_laid_them() {
    let mut optimizer = optimizer("adamw(lr=0.05) | clip_global(1) | ema(0.9)");
    let mut net = step(&mut optimizer, net(), 0);
    let first = addresses(&net);
    for t in 1..50 {
        // Evaluation shares the memory, for as long as it takes.
        drop((values(&net.valid()), net.clone()));
        net = step(&mut optimizer, net, t);
    }
    assert_eq!(addresses(&net), first);
}

#[test]
fn a_parameter_stays_a_leaf_with_its_id() {
    let mut optimizer = optimizer("sgd(lr=0.05, momentum=0.9)");
    let mut net = net();
    let ids = [net.w.id, net.b.id];
    for t in 0..5 {
        net = step(&mut optimizer, net, t);
        assert_eq!([net.w.id, net.b.id], ids);
        assert!(net.w.is_require_grad() && net.b.is_require_grad());
        assert_eq!(gradients(&net, t).len(), 2);
    }
}

/// The same bits as when the weights are copied in every step, because somebody holds them.
#[test]
fn in_place_and_copied_steps_agree() {
    for text in [
        "sgd(lr=0.05, momentum=0.9)",
        "adamw(lr=0.05) | clip_global(1) | ema(0.9)",
        "lamb(lr=0.05) | max_norm(1.5)",
        "muon(lr=0.05)",
        "sgd(lr=0.05) | lookahead(k=3)",
        "prodigy | l1(1e-3) | swa(4)",
    ] {
        let (mut one, mut other) = (optimizer(text), optimizer(text));
        let (mut alone, mut held) = (net(), net());
        for t in 0..12 {
            alone = step(&mut one, alone, t);
            let holder = held.clone();
            let before = values(&holder);
            held = step(&mut other, held, t);
            assert_eq!(values(&holder), before, "{text}: the clone changed");
            assert_eq!(values(&alone), values(&held), "{text}");
        }
        let averages = [one.evaluation_model(&alone), other.evaluation_model(&held)];
        assert_eq!(values(&averages[0]), values(&averages[1]), "{text}");
        assert_eq!(one.save().unwrap(), other.save().unwrap(), "{text}");
    }
}

/// The stages see the weights where they are.
#[test]
#[expect(deprecated, reason = "the second CPU backend of 0.22: never in place")]
fn stages_agree_with_a_backend_that_copies() {
    for text in [
        "sgd(lr=0.05) | max_norm(1.2) | ema(0.8)",
        "sgd(lr=0.05, momentum=0.9) | lookahead(k=2) | l1(1e-3)",
        "adam(lr=0.05) | accumulate(2) | centralize",
        "adam(lr=0.05) | clip_adaptive(0.01) | clip_norm(0.5) | swa(3)",
        "soap(lr=0.02) | max_norm(1.2)",
    ] {
        let run = |device: Device| {
            let mut optimizer = optimizer(text);
            let net = (0..9).fold(net_of(DType::F64, &device.autodiff()), |net, t| {
                step(&mut optimizer, net, t)
            });
            [values(&net), values(&optimizer.evaluation_model(&net))].concat()
        };
        for (a, b) in run(Device::flex()).iter().zip(run(Device::ndarray())) {
            assert!((a - b).abs() <= 1e-9 * (1.0 + b.abs()), "{text}: {a} {b}");
        }
    }
}

#[test]
fn whoever_holds_a_weight_keeps_its_values() {
    let mut optimizer = optimizer("sgd(lr=0.05, momentum=0.9)");
    let mut net = (0..3).fold(net(), |net, t| step(&mut optimizer, net, t));
    let before = values(&net);
    let weights = before[..15].to_vec();
    let read = |tensor: Tensor<2>| tensor.into_data().iter::<f64>().collect::<Vec<_>>();

    let on_tape = net.w.val();
    let off_tape = net.w.val().inner();
    let model = net.clone();
    let valid = net.valid();
    let used = optimizer.evaluation_model(&net);
    // A graph keeps the weights it will need.
    let x = wave([5, 3], 4.0, &tape(), DType::F32).require_grad();
    let product = (x.clone() * net.w.val()).sum();

    for t in 3..6 {
        net = step(&mut optimizer, net, t);
    }
    assert_ne!(values(&net), before);
    assert_eq!(read(on_tape), weights);
    assert_eq!(read(off_tape), weights);
    for model in [model, valid, used] {
        assert_eq!(values(&model), before);
    }
    let gradient = x.grad(&product.backward()).unwrap();
    assert_eq!(read(gradient), weights);
}

#[test]
fn a_parameter_held_as_one_is_not_changed() {
    let mut optimizer = optimizer("sgd(lr=0.05)");
    let net = (0..2).fold(net(), |net, t| step(&mut optimizer, net, t));
    let (before, parameter) = (values(&net), net.b.clone());
    let net = step(&mut optimizer, net, 2);
    let kept: Vec<f64> = parameter.val().into_data().iter::<f64>().collect();
    assert_eq!(kept, before[15..]);
    assert_ne!(values(&net)[15..], before[15..]);
}

struct Fill(f64);

impl ModuleMapper for Fill {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| {
            let filled = tensor.inner().zeros_like().add_scalar(self.0);
            Tensor::from_inner(filled).require_grad()
        })
    }
}

#[test]
fn weights_that_others_replaced_are_taken_up() {
    let mut optimizer = optimizer("sgd(lr=0.5)");
    let net = (0..2).fold(net(), |net, t| step(&mut optimizer, net, t));
    let net = net.map(&mut Fill(2.0));
    let grads = || {
        let mut grads = GradientsParams::new();
        let g = |x: f64| Tensor::<1>::full([3], x, &Device::flex());
        grads.register(net.b.id, g(0.5));
        grads
    };
    let grads = [grads(), grads()];
    let net = grads
        .into_iter()
        .fold(net.clone(), |net, grads| optimizer.step(1.0, net, grads));
    assert_eq!(values(&net)[15..], [1.0; 3]);
    assert_eq!(values(&net)[..15], [2.0; 15]);
}

#[test]
fn parameters_that_change_places_change_nothing_else() {
    let mut optimizer = optimizer("sgd(lr=0.05)");
    let net = (0..2).fold(net(), |net, t| step(&mut optimizer, net, t));
    let other = (0..2).fold(net_of(DType::F32, &tape()), |net, t| {
        step(&mut optimizer, net, t + 7)
    });
    let kept = values(&other);
    let _ = step(&mut optimizer, net, 3);
    assert_eq!(values(&other), kept);
}

#[test]
fn clones_of_an_optimizer_go_their_own_ways() {
    let mut one = optimizer("adam(lr=0.05)");
    let net = (0..3).fold(net(), |net, t| step(&mut one, net, t));
    let mut two = one.clone();
    let (a, b) = (net.clone(), net);
    let a = (3..6).fold(a, |net, t| step(&mut one, net, t));
    let b = (3..6).fold(b, |net, t| step(&mut two, net, t));
    assert_eq!(values(&a), values(&b));
    let a = step(&mut one, a, 6);
    assert_ne!(values(&a), values(&b));
    assert_eq!(one.steps(), two.steps() + 1);
}

/// Weights tied by cloning a parameter come apart: as documented, and as with Burn's own optimizer.
#[test]
fn only_the_first_of_two_tied_places_moves() {
    #[derive(Module, Debug)]
    struct Twice {
        first: Param<Tensor<1>>,
        second: Param<Tensor<1>>,
    }
    let first = Param::from_tensor(Tensor::<1>::ones([2], &tape()));
    let twice = Twice {
        second: first.clone(),
        first,
    };
    let loss = (twice.first.val() * 2.0 + twice.second.val() * 3.0).sum();
    let grads = GradientsParams::from_grads(loss.backward(), &twice);
    let twice = optimizer("sgd(lr=0.1)").step(0.1, twice, grads);
    let of = |param: Param<Tensor<1>>| param.val().into_data().iter::<f32>().collect::<Vec<_>>();
    assert_eq!(
        of(twice.first),
        [0.5; 2],
        "the gradient is the sum of both, 5"
    );
    assert_eq!(of(twice.second), [1.0; 2]);
}

/// Large weights begin at large pages, and are the same otherwise.
#[test]
fn large_weights_are_stepped_like_small_ones() {
    let n = 1_500_007;
    let device = Device::flex();
    let of = |values: Tensor<1>| values.into_data().iter::<f32>().collect::<Vec<_>>();
    #[derive(Module, Debug)]
    struct Large {
        w: Param<Tensor<1>>,
    }
    let w = wave([n], 1.0, &device, DType::F32);
    let mut large = Large {
        w: Param::from_tensor(w.clone()),
    };
    let (mut large_steps, mut small_steps) = (optimizer("adam(lr=0.1)"), optimizer("adam(lr=0.1)"));
    let mut small = Large {
        w: Param::from_tensor(w.narrow(0, n - 1000, 1000)),
    };
    for t in 0..3 {
        let g = wave([n], f64::from(t), &device, DType::F32);
        let mut grads = GradientsParams::new();
        grads.register(large.w.id, g.clone());
        large = large_steps.step(0.1, large, grads);
        let mut grads = GradientsParams::new();
        grads.register(small.w.id, g.narrow(0, n - 1000, 1000));
        small = small_steps.step(0.1, small, grads);
    }
    assert_eq!(of(large.w.val())[n - 1000..], of(small.w.val()));
    assert_eq!(address(large.w.val().into_dispatch()) % (2 << 20), 0);
}

/// A gradient that is the weight itself.
#[test]
fn a_gradient_may_share_the_memory_of_its_weight() {
    let mut optimizer = optimizer("sgd(lr=0.25)");
    let mut net = net();
    for _ in 0..3 {
        let before = values(&net);
        let mut grads = GradientsParams::new();
        grads.register(net.w.id, net.w.val().inner());
        net = optimizer.step(0.25, net, grads);
        for (new, old) in values(&net).iter().zip(&before[..15]) {
            assert_eq!(*new as f32, (*old as f32) - 0.25 * (*old as f32));
        }
    }
}

/// Forward passes that nobody differentiates hold the weights, until they are forgotten: else the step
/// would have to copy them, and their memory would never come back.
#[test]
fn forgotten_graphs_hold_no_weights() {
    let mut optimizer = optimizer("sgd(lr=0.05, momentum=0.9)");
    // After the second step each leaf has been differentiated once.
    let mut net = (0..2).fold(net(), |net, t| step(&mut optimizer, net, t));
    let first = addresses(&net);
    for t in 2..5 {
        for _ in 0..3 {
            drop((net.w.val() * net.w.val()).sum());
            drop((net.b.val() * net.b.val()).sum());
        }
        forget_graphs(&tape());
        let mut grads = GradientsParams::new();
        grads.register(
            net.w.id,
            wave([5, 3], t as f64, &Device::flex(), DType::F32),
        );
        grads.register(net.b.id, wave([3], t as f64, &Device::flex(), DType::F32));
        net = optimizer.step(0.05, net, grads);
    }
    assert_eq!(addresses(&net), first);
}
