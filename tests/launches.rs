//! The step of an optimizer on a GPU: how many kernels it starts, and that its buffers hold what they should.
//!
//! ```text
//! cargo test --release --workspace --features wgpu --test launches -- --nocapture
//! ```
//!
//! A software driver counts as a GPU here: launches are counted, not timed.

#![cfg(any(
    feature = "wgpu",
    feature = "vulkan",
    feature = "metal",
    feature = "cuda",
    feature = "rocm"
))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use burn::backend::DispatchTensor;
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Tensor};
use gradus::kernels::cube::launches::{Launches, watched};
use gradus::kernels::flat::{
    Places, clip_factor, joined, joined_afresh, joined_times, magnitude, parted,
};
use gradus::optim::{ModelOptimizer, OptimizerConfig};
use gradus::train::device::{devices, opens};

/// Parameters as a small convolutional network has them.
#[derive(Module, Debug)]
struct Weights {
    filters: Vec<Param<Tensor<4>>>,
    scales: Vec<Param<Tensor<1>>>,
    head: Option<Param<Tensor<2>>>,
}

impl Weights {
    /// 25 tensors: 8 filters of two shapes, 16 vectors, a matrix.
    fn network(device: &Device) -> Self {
        let filter = |shape| Param::from_tensor(noise(shape, device));
        let filters = (0..8).map(|i| filter(if i < 4 { [16, 8, 3, 3] } else { [32, 16, 3, 3] }));
        let scales = (0..16).map(|i| Param::from_tensor(noise([16 + 3 * i], device)));
        Self {
            filters: filters.collect(),
            scales: scales.collect(),
            head: Some(Param::from_tensor(noise([64, 10], device))),
        }
    }

    /// The filters of airbench94, a quarter as wide.
    fn airbench(device: &Device) -> Self {
        let shapes = [
            [16, 6, 3, 3],
            [16, 16, 3, 3],
            [64, 16, 3, 3],
            [64, 64, 3, 3],
            [64, 64, 3, 3],
            [64, 64, 3, 3],
        ];
        let filter = |shape| Param::from_tensor(noise(shape, device));
        Self {
            filters: shapes.map(filter).into(),
            scales: Vec::new(),
            head: None,
        }
    }

    /// One tensor.
    fn one(elements: usize, device: &Device) -> Self {
        Self {
            filters: Vec::new(),
            scales: vec![Param::from_tensor(noise([elements], device))],
            head: None,
        }
    }

    /// Gradients that are there already; those of filters lie in another order of memory.
    fn gradients(&self) -> GradientsParams {
        struct Fill(GradientsParams);
        impl ModuleVisitor for Fill {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let theta = param.val().inner();
                let device = theta.device();
                let g = match D {
                    4 => {
                        let mut dims = theta.dims();
                        dims.swap(1, 3);
                        noise::<D>(dims, &device).swap_dims(1, 3)
                    }
                    _ => noise::<D>(theta.dims(), &device),
                };
                self.0.register(param.id, g);
            }
        }
        let mut fill = Fill(GradientsParams::new());
        self.visit(&mut fill);
        fill.0
    }
}

fn noise<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    let n: usize = shape.iter().product();
    let numbers: Vec<f32> = (0..n)
        .map(|i| ((i * 37 % 101) as f32 - 50.0) / 400.0)
        .collect();
    Tensor::<1>::from_floats(numbers.as_slice(), device).reshape(shape)
}

/// The launches of the fourth step: by then everything lies where it stays.
fn of_a_step(optimizer: &str, mut model: Weights, device: &Device) -> Launches {
    let config: OptimizerConfig = optimizer.parse().unwrap();
    let mut optimizer = ModelOptimizer::new(&config).unwrap();
    let mut last = Launches::default();
    for step in 0..4 {
        let gradients = model.gradients();
        device.sync().unwrap();
        let (next, launches) = watched(|| {
            let next = optimizer.step(0.01 / f64::from(step + 1), model, gradients);
            device.sync().unwrap();
            next
        });
        (model, last) = (next, launches);
    }
    last
}

/// Runs `work` on every GPU that this build finds; says so loudly where there is none. One test at a time: launches
/// are counted for the process.
fn on_every_gpu(what: &str, work: impl Fn(&Device, &mut dyn FnMut(String))) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // Not through `eprintln!`, which the test harness would keep to itself.
    let mut loud = std::io::stderr();
    let mut none = true;
    for found in devices() {
        if ["flex", "ndarray", "cpu"].contains(&found.backend) {
            continue;
        }
        none = false;
        opens(&found.device).unwrap();
        let mut say = |line: String| {
            let _ = writeln!(std::io::stderr(), "{} | {line}", found.name);
        };
        work(&found.device, &mut say);
    }
    if none {
        let _ = writeln!(loud, "\nSKIPPED: {what}: no GPU here");
    }
}

#[test]
fn a_step_starts_few_kernels() {
    on_every_gpu("launches", |device, say| {
        let device = device.clone().autodiff();
        for (optimizer, together, alone) in [
            ("sgd(momentum=0.9, weight_decay=5e-4, nesterov=true)", 2, 1),
            ("adamw", 2, 1),
            ("lion", 2, 1),
            ("adamw | clip_global(limit=1)", 6, 5),
            // Three shapes of matrices, each with five rounds of three products.
            ("muon", 45 + 60, 1),
        ] {
            let network = of_a_step(optimizer, Weights::network(&device), &device);
            say(format!("25 small tensors | `{optimizer}` | {network}"));
            let one = of_a_step(optimizer, Weights::one(1_000_000, &device), &device);
            say(format!("one of 1,000,000 | `{optimizer}` | {one}"));
            assert!(network.count() <= together, "{:?}", network.names());
            assert!(one.count() <= alone, "{:?}", one.names());
        }
        // Two short sides, each with five rounds of three products.
        let filters = of_a_step("muon", Weights::airbench(&device), &device);
        say(format!("6 filters as airbench94's | `muon` | {filters}"));
        assert!(filters.count() <= 30 + 70, "{:?}", filters.names());
    });
}

/// The numbers of a tensor off the tape.
fn numbers<const D: usize>(tensor: DispatchTensor) -> Vec<f32> {
    Tensor::<D>::from_dispatch(tensor)
        .into_data()
        .iter()
        .collect()
}

/// Three parts: a matrix in another order of memory, a vector, a tensor of rank 4 spread over a larger one.
fn parts(device: &Device) -> Vec<DispatchTensor> {
    let matrix = noise([7, 5], device).transpose();
    let vector = noise([3], device);
    let larger = noise([4, 3, 6, 2], device);
    let cut = larger.permute([2, 0, 3, 1]).slice([1..5, 0..3]);
    vec![
        matrix.into_dispatch(),
        vector.into_dispatch(),
        cut.into_dispatch(),
    ]
}

const SHAPES: [&[usize]; 3] = [&[5, 7], &[3], &[4, 3, 2, 3]];

fn expected(device: &Device) -> [Vec<f32>; 3] {
    let [matrix, vector, cut]: [DispatchTensor; 3] = parts(device).try_into().unwrap();
    [
        numbers::<2>(matrix),
        numbers::<1>(vector),
        numbers::<4>(cut),
    ]
}

#[test]
fn joined_parts_lie_where_they_should_and_stay_there() {
    on_every_gpu("buffers", |device, _| {
        let shapes = || SHAPES.map(<[usize]>::to_vec);
        let wanted = expected(&Device::flex());
        for places in [Places::apart(shapes(), DType::F32), Places::close(shapes())] {
            let gaps = places.elements() > 110;
            let places = Arc::new(places);
            let buffer = joined_afresh(parts(device), &places).unwrap();
            let mut whole = vec![0.0; places.elements()];
            for (&start, part) in places.starts().iter().zip(&wanted) {
                whole[start..start + part.len()].copy_from_slice(part);
            }
            assert_eq!(numbers::<1>(buffer.clone()), whole);

            let half = Tensor::<1>::from_floats([0.5], device).into_dispatch();
            let halved = joined_times(parts(device), half, &places).unwrap();
            let halves: Vec<f32> = whole.iter().map(|x| 0.5 * x).collect();
            assert_eq!(numbers::<1>(halved), halves);

            let views = parted(buffer, &places).unwrap();
            let [a, b, c]: [DispatchTensor; 3] = views.clone().try_into().unwrap();
            assert_eq!([numbers::<2>(a), numbers::<1>(b), numbers::<4>(c)], wanted);
            device.sync().unwrap();
            let (again, launches) = watched(|| {
                let again = joined(views, &places).unwrap();
                device.sync().unwrap();
                again
            });
            // Without gaps the parts begin where no view may: they were copied, and are again.
            assert_eq!(launches.count(), usize::from(!gaps), "{launches}");
            assert_eq!(numbers::<1>(again), whole);
        }
    });
}

#[test]
fn a_view_keeps_its_values_when_the_buffer_is_written() {
    on_every_gpu("views", |device, _| {
        let places = Arc::new(Places::apart([vec![2], vec![3]], DType::F32));
        let made = |from: f32| {
            let a = Tensor::<1>::from_floats([from, from + 1.0], device);
            let b = Tensor::<1>::from_floats([from + 2.0, from + 3.0, from + 4.0], device);
            vec![a.into_dispatch(), b.into_dispatch()]
        };
        let views = parted(joined(made(0.0), &places).unwrap(), &places).unwrap();
        let kept = views[1].clone();
        let buffer = Tensor::<1>::from_dispatch(joined(views, &places).unwrap());
        let after = parted((buffer * 2.0 + 1.0).into_dispatch(), &places).unwrap();
        assert_eq!(numbers::<1>(after[0].clone()), [1.0, 3.0]);
        assert_eq!(numbers::<1>(after[1].clone()), [5.0, 7.0, 9.0]);
        assert_eq!(numbers::<1>(kept), [2.0, 3.0, 4.0]);

        // Parts of two buffers, and in another order, are not mistaken for one buffer.
        let other = parted(joined(made(10.0), &places).unwrap(), &places).unwrap();
        let mixed = joined(vec![after[0].clone(), other[1].clone()], &places).unwrap();
        let mixed = numbers::<1>(mixed);
        assert_eq!([mixed[0], mixed[1]], [1.0, 3.0]);
        assert_eq!(mixed[128..131], [12.0, 13.0, 14.0]);
        let swapped = Arc::new(Places::apart([vec![3], vec![2]], DType::F32));
        let swapped = joined(vec![other[1].clone(), other[0].clone()], &swapped).unwrap();
        assert_eq!(numbers::<1>(swapped)[..3], [12.0, 13.0, 14.0]);
    });
}

#[test]
fn magnitudes_are_those_of_f64() {
    on_every_gpu("magnitudes", |device, _| {
        let norm = |tensors: Vec<DispatchTensor>| {
            let pair = numbers::<1>(magnitude(tensors).unwrap());
            f64::from(pair[0]) * f64::from(pair[1]).sqrt()
        };
        let exact = |numbers: &[f32]| {
            let squares = numbers.iter().map(|&x| f64::from(x).powi(2));
            squares.sum::<f64>().sqrt()
        };
        let all = expected(&Device::flex()).concat();
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-6 * b;
        assert!(close(norm(parts(device)), exact(&all)));
        let long: Vec<f32> = (0..300_000)
            .map(|i| ((i * 37 % 101) as f32 - 50.0) / 400.0)
            .collect();
        let many = |scale: f32| {
            let tensor = noise([300_000], device) * scale;
            vec![
                tensor.into_dispatch(),
                Tensor::<1>::zeros([5], device).into_dispatch(),
            ]
        };
        for scale in [1e30_f32, 1.0, 1e-25] {
            let (found, wanted) = (norm(many(scale)), f64::from(scale) * exact(&long));
            assert!((found - wanted).abs() <= 1e-5 * wanted, "{found} {wanted}");
        }
        assert_eq!(
            norm(vec![Tensor::<2>::zeros([3, 4], device).into_dispatch()]),
            0.0
        );
        let infinite = Tensor::<1>::from_floats([1.0, f32::INFINITY, 2.0], device);
        assert!(!norm(vec![infinite.into_dispatch()]).is_finite());

        let factor = |pair: [f32; 2], limit| {
            let pair = Tensor::<1>::from_floats(pair, device).into_dispatch();
            numbers::<1>(clip_factor(pair, limit).unwrap())[0]
        };
        assert!((factor([2.0, 4.0], 1.0) - 0.25).abs() < 1e-6);
        assert_eq!(factor([2.0, 4.0], 5.0), 1.0);
        assert_eq!(factor([0.0, 0.0], 1.0), 1.0);
        assert_eq!(factor([f32::INFINITY, 1.0], 1.0), 1.0);
    });
}

/// The weights after steps between which a user does what users do.
fn after_a_life(text: &str, device: &Device) -> Vec<Vec<f32>> {
    let device = device.clone().autodiff();
    let config: OptimizerConfig = text.parse().unwrap();
    let mut optimizer = ModelOptimizer::new(&config).unwrap();
    let mut model = Weights::network(&device);
    let mut kept = None;
    for step in 0..7 {
        match step {
            // Weights are replaced, by themselves or by those of another model.
            2 => model.scales[3] = Param::initialized(model.scales[3].id, noise([25], &device)),
            3 => kept = Some(model.clone()),
            // Training goes on from what is saved.
            4 => {
                let bytes = optimizer.save().unwrap();
                optimizer = ModelOptimizer::new(&config).unwrap();
                optimizer.load(&bytes, &model).unwrap();
            }
            5 => model.filters[2] = kept.clone().unwrap().filters[2].clone(),
            _ => {}
        }
        let mut gradients = model.gradients();
        if step == 6 {
            // One parameter has none.
            gradients.remove::<1>(model.scales[0].id);
        }
        model = optimizer.step(config.lr(), model, gradients);
    }
    struct Read(Vec<Vec<f32>>);
    impl ModuleVisitor for Read {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(param.val().into_data().iter().collect());
        }
    }
    let mut read = Read(Vec::new());
    model.visit(&mut read);
    kept.unwrap().visit(&mut read);
    optimizer.evaluation_model(&model).visit(&mut read);
    read.0
}

#[test]
fn steps_are_those_of_the_cpu_whatever_happens_between_them() {
    on_every_gpu("steps", |device, _| {
        for (text, tolerance) in [
            (
                "sgd(lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=true)",
                2e-6,
            ),
            ("adamw(lr=0.01) | no_decay | clip_global(limit=0.5)", 2e-6),
            ("adamw(lr=0.01) | ema(0.9)", 2e-6),
            (
                "lion(lr=0.01) | group(name=filters.1, lr=0) | group(name=scales.*, lr=0.02)",
                2e-6,
            ),
            ("prodigy | clip_global(limit=0.5)", 2e-5),
            // Its products magnify rounding.
            ("muon(lr=0.02)", 2e-4),
        ] {
            let expected = after_a_life(text, &Device::flex());
            let found = after_a_life(text, device);
            assert_eq!(found.len(), expected.len());
            for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
                for (a, b) in found.iter().zip(expected) {
                    let far = (a - b).abs() >= tolerance;
                    assert!(!far && a.is_finite(), "{text}, tensor {index}: {a} and {b}");
                }
            }
        }
    });
}
