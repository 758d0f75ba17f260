//! Several parameters, in a model.

use super::*;

/// Shapes that occur twice, so that there are batches, and alone.
#[derive(Module, Debug)]
struct Several {
    a: Param<Tensor<2>>,
    b: Param<Tensor<2>>,
    c: Param<Tensor<4>>,
    d: Param<Tensor<2>>,
    e: Param<Tensor<4>>,
    f: Param<Tensor<3>>,
}

const SHAPES: [&[usize]; 6] = [
    &[3, 4],
    &[3, 4],
    &[2, 2, 3, 1],
    &[4, 3],
    &[2, 2, 3, 1],
    &[2, 3, 2],
];

fn tensor<const D: usize>(values: Vec<f64>, shape: &[usize], device: &Device) -> Tensor<D> {
    Tensor::from_data(
        TensorData::new(values, shape.to_vec()),
        (device, DType::F64),
    )
}

impl Several {
    fn new(device: &Device) -> Self {
        fn param<const D: usize>(i: usize, device: &Device) -> Param<Tensor<D>> {
            let theta = theta0(12).iter().map(|x| x + i as f64).collect();
            // Burn's own optimizer asks for tensors on the tape.
            Param::from_tensor(Tensor::from_inner(tensor(theta, SHAPES[i], device)))
        }
        Self {
            a: param(0, device),
            b: param(1, device),
            c: param(2, device),
            d: param(3, device),
            e: param(4, device),
            f: param(5, device),
        }
    }

    /// Gradients of step t; of the second parameter, none at the second step.
    fn gradients(&self, t: usize, device: &Device) -> GradientsParams {
        let mut grads = GradientsParams::new();
        let g = |i: usize| gradient(12, t + 10 * i);
        grads.register(self.a.id, tensor::<2>(g(0), SHAPES[0], device));
        if t != 1 {
            grads.register(self.b.id, tensor::<2>(g(1), SHAPES[1], device));
        }
        grads.register(self.c.id, tensor::<4>(g(2), SHAPES[2], device));
        grads.register(self.d.id, tensor::<2>(g(3), SHAPES[3], device));
        grads.register(self.e.id, tensor::<4>(g(4), SHAPES[4], device));
        grads.register(self.f.id, tensor::<3>(g(5), SHAPES[5], device));
        grads
    }

    fn values(&self) -> Vec<f64> {
        fn of<const D: usize>(p: &Param<Tensor<D>>) -> Vec<f64> {
            p.val().into_data().iter().collect()
        }
        let Self { a, b, c, d, e, f } = self;
        [of(a), of(b), of(c), of(d), of(e), of(f)].concat()
    }
}

/// Muon's matrices have their outputs on the second axis in a Burn module; the others see none.
fn alone(config: &OptimizerConfig, i: usize, steps: usize) -> Vec<f64> {
    let transpose = config.rule.name() == "muon" && SHAPES[i].len() == 2;
    let turned = |x: Vec<f64>, [m, n]: [usize; 2]| -> Vec<f64> {
        (0..m * n).map(|k| x[(k % m) * n + k / m]).collect()
    };
    let (mut theta, mut shape) = (theta0(12), SHAPES[i].to_vec());
    theta.iter_mut().for_each(|x| *x += i as f64);
    let mut gradients: Vec<_> = (0..steps)
        .filter(|t| !(i == 1 && *t == 1))
        .map(|t| gradient(12, t + 10 * i))
        .collect();
    if transpose {
        let dims = [shape[0], shape[1]];
        theta = turned(theta, dims);
        gradients = gradients.into_iter().map(|g| turned(g, dims)).collect();
        shape.reverse();
    }
    let path = config
        .rule
        .trajectory_shaped(config.lr(), &shape, &theta, gradients);
    let last = path.last().unwrap().clone();
    if transpose {
        turned(last, [shape[0], shape[1]])
    } else {
        last
    }
}

#[expect(deprecated, reason = "the second CPU backend of 0.22")]
fn ndarray() -> Device {
    Device::ndarray()
}

const ALL: [&str; 4] = [
    "adafactor(lr=0.1, weight_decay=0.1)",
    "muon(lr=0.1)",
    "shampoo(momentum=0.9, update_every=2, weight_decay=0.1)",
    "soap(lr=0.1, precondition_frequency=2)",
];

#[test]
fn a_batch_is_its_parameters_one_by_one_on_every_backend() {
    const STEPS: usize = 7;
    for text in ALL {
        let config: OptimizerConfig = text.parse().unwrap();
        let expected: Vec<f64> = (0..6).flat_map(|i| alone(&config, i, STEPS)).collect();
        // SOAP: along the axis that the first gradient lacks, rounding errors are divided by ε = 1e-8.
        let tolerance = if text.starts_with("soap") {
            1e-7
        } else {
            1e-10
        };
        for device in [Device::flex(), ndarray()] {
            let mut model = Several::new(&device);
            let mut optimizer = ModelOptimizer::new(&config).unwrap();
            for t in 0..STEPS {
                let grads = model.gradients(t, &device);
                model = optimizer.step(config.lr(), model, grads);
            }
            assert_close(text, &model.values(), &expected, tolerance);
        }
    }
}

#[test]
fn a_saved_state_goes_on_as_if_nothing_had_happened() {
    let device = Device::flex();
    for text in ALL {
        let config: OptimizerConfig = text.parse().unwrap();
        let mut model = Several::new(&device);
        let mut optimizer = ModelOptimizer::new(&config).unwrap();
        for t in 0..3 {
            let grads = model.gradients(t, &device);
            model = optimizer.step(0.1, model, grads);
        }
        let bytes = optimizer.save().unwrap();
        let mut again = ModelOptimizer::new(&config).unwrap();
        again.load(&bytes, &model).unwrap();
        assert_eq!(again.save().unwrap(), bytes, "{text}");
        let mut copy = model.clone();
        for t in 3..7 {
            let grads = model.gradients(t, &device);
            model = optimizer.step(0.1, model, grads);
            let grads = copy.gradients(t, &device);
            copy = again.step(0.1, copy, grads);
        }
        assert_eq!(model.values(), copy.values(), "{text}");
    }
}

#[test]
fn a_state_of_another_shape_is_refused() {
    let device = Device::flex();
    let full: OptimizerConfig = "soap".parse().unwrap();
    let model = Several::new(&device);
    let mut optimizer = ModelOptimizer::new(&full).unwrap();
    let grads = model.gradients(0, &device);
    let model = optimizer.step(0.1, model, grads);
    // Here dimensions above 2 have no basis.
    let narrow: OptimizerConfig = "soap(max_precond_dim=2)".parse().unwrap();
    let error = ModelOptimizer::new(&narrow)
        .unwrap()
        .load(&optimizer.save().unwrap(), &model)
        .unwrap_err();
    assert!(error.to_string().contains("parameter `a` has"), "{error}");
}

/// In Burn's own optimizer, through its records and back at each step.
fn inside_burn<R: TensorRule + Optimizer>(rule: &R, config: &OptimizerConfig)
where
    RuleConfig: From<R>,
{
    let device = Device::flex();
    assert_eq!(config.rule, RuleConfig::from(rule.clone()));
    let (mut ours, mut theirs) = (Several::new(&device), Several::new(&device));
    let mut optimizer = ModelOptimizer::new(config).unwrap();
    let mut burns = ModuleOptimizer::from(rule.clone());
    for t in 0..6 {
        let grads = ours.gradients(t, &device);
        ours = optimizer.step(0.05, ours, grads);
        let grads = theirs.gradients(t, &device);
        theirs = burns.step(0.05, theirs, grads);
        let record = burns.to_record();
        burns = ModuleOptimizer::from(rule.clone()).load_record(record);
    }
    assert_close(R::NAME, &theirs.values(), &ours.values(), 1e-12);
}

#[test]
fn burn_optimizers_compute_the_same() {
    inside_burn(&Adafactor::default(), &Adafactor::default().into());
    inside_burn(&Muon::default(), &Muon::default().into());
    inside_burn(&Shampoo::default(), &Shampoo::default().into());
    inside_burn(&Soap::default(), &Soap::default().into());
}

#[test]
fn in_f32_the_path_is_nearly_that_of_f64() {
    for text in ALL {
        let config: OptimizerConfig = text.parse().unwrap();
        let device = Device::flex();
        let f32s =
            |x: Vec<f64>| Tensor::<2>::from_data(TensorData::new(x, [4, 3]), (&device, DType::F32));
        let mut model = burn::nn::LinearConfig::new(4, 3)
            .with_bias(false)
            .init(&device);
        model.weight = Param::from_tensor(f32s(theta0(12).iter().map(|x| x + 3.0).collect()));
        let mut optimizer = ModelOptimizer::new(&config).unwrap();
        for t in 0..5 {
            let mut grads = GradientsParams::new();
            grads.register(model.weight.id, f32s(gradient(12, t + 30)));
            model = optimizer.step(config.lr(), model, grads);
        }
        // The same numbers as parameter `d` of the other tests.
        let ours: Vec<f64> = model.weight.val().into_data().iter().collect();
        // SOAP divides by √v also along an axis in which the first gradients have nothing but rounding.
        let tolerance = if text.starts_with("soap") { 1e-2 } else { 1e-4 };
        assert_close(text, &ours, &alone(&config, 3, 5), tolerance);
    }
}

#[test]
fn no_gradient_but_one_that_is_no_number_makes_weights_that_are_none() {
    let device = Device::flex();
    let put = |x: f32| Tensor::<2>::full([4, 3], x, (&device, DType::F32));
    for text in ALL {
        let config: OptimizerConfig = text.parse().unwrap();
        let run = |gradients: &[f32]| -> Vec<f64> {
            let mut model = burn::nn::LinearConfig::new(4, 3)
                .with_bias(false)
                .init(&device);
            model.weight = Param::from_tensor(put(1.0));
            let mut optimizer = ModelOptimizer::new(&config).unwrap();
            for g in gradients {
                let mut grads = GradientsParams::new();
                grads.register(model.weight.id, put(*g));
                model = optimizer.step(0.01, model, grads);
            }
            model.weight.val().into_data().iter().collect()
        };
        let weights = run(&[1.0, 1e30, -1e30, 0.0, 1e-30, 1.0, -1.0, 1.0]);
        assert!(
            weights.iter().all(|x| x.abs() < 10.0),
            "{text}: {weights:?}"
        );
        let weights = run(&[0.0, 0.0, 0.0]);
        let decayed = 0.9_f64..=1.0;
        assert!(
            weights.iter().all(|x| decayed.contains(x)),
            "{text}: {weights:?}"
        );
        let weights = run(&[1.0, f32::NAN]);
        assert!(weights.iter().all(|x| x.is_nan()), "{text}: {weights:?}");
    }
}
