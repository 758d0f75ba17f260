//! ‖g‖ of all gradients where it is left on the device, and clips that never bring it to the host.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use gradus_optim::gradients::{self, GlobalNorm};
use gradus_optim::{ModelOptimizer, OptimizerConfig};

#[derive(Module, Debug)]
struct Two {
    a: Param<Tensor<1>>,
    b: Param<Tensor<2>>,
}

impl Two {
    fn of(a: [f32; 2], b: [[f32; 2]; 2], device: &Device) -> Self {
        Self {
            a: Param::from_tensor(Tensor::from_floats(a, device)),
            b: Param::from_tensor(Tensor::from_floats(b, device)),
        }
    }

    fn values(&self) -> Vec<f64> {
        let (a, b) = (self.a.val().into_data(), self.b.val().into_data());
        a.iter::<f64>().chain(b.iter::<f64>()).collect()
    }
}

/// A model of zeros with these gradients, the second stored as its transpose.
fn model(a: [f32; 2], b: [[f32; 2]; 2], device: &Device) -> (Two, GradientsParams) {
    let model = Two::of([0.0; 2], [[0.0; 2]; 2], device);
    let mut grads = GradientsParams::new();
    grads.register(model.a.id, Tensor::<1>::from_floats(a, device));
    grads.register(model.b.id, Tensor::<2>::from_floats(b, device).transpose());
    (model, grads)
}

/// Stands for the backends without direct access to memory.
#[expect(deprecated, reason = "it is there as long as Burn has it")]
fn elsewhere() -> Device {
    Device::ndarray()
}

#[test]
fn a_norm_left_on_the_device_is_the_norm() {
    for size in [1e30_f32, 1.0, 1e-3, 1e-25, 0.0] {
        let expected = 5.0 * f64::from(size);
        for (device, left) in [(Device::flex(), 0), (elsewhere(), 2)] {
            let (a, b) = ([3.0 * size, 0.0], [[0.0, 4.0 * size], [0.0, 0.0]]);
            let (model, grads) = model(a, b, &device);
            let norm = GlobalNorm::of(&model, &grads);
            let pending: Vec<f64> = norm.pending().map_or_else(Vec::new, |pending| {
                pending.clone().into_data().iter::<f64>().collect()
            });
            assert_eq!(pending.len(), left);
            assert!((norm.value() - expected).abs() <= 1e-6 * expected);
            assert_eq!(norm.given(&pending), norm.value());
            assert_eq!(gradients::global_norm(&model, &grads), norm.value());
            // The same numbers as weights.
            assert_eq!(
                GlobalNorm::of_weights(&Two::of(a, b, &device)).value(),
                norm.value()
            );
        }
    }
}

#[test]
fn clips_by_norm_agree_wherever_the_norm_is() {
    let (a, b) = ([0.3, -1.2], [[0.02, 2.0], [0.0, -0.7]]);
    let steps = |text: &str, a: [f32; 2], b: [[f32; 2]; 2]| {
        [Device::flex(), elsewhere()].map(|device| {
            let config: OptimizerConfig = text.parse().unwrap();
            let mut optimizer = ModelOptimizer::new(&config).unwrap();
            let (model, grads) = model(a, b, &device);
            let moved = optimizer.step(1.0, model, grads).values();
            (moved, optimizer.last_gradient_norm())
        })
    };
    for (text, reports) in [
        ("sgd(lr=1) | clip_global(0.5)", true),
        ("sgd(lr=1) | clip_global(50)", true),
        ("sgd(lr=1) | clip_norm(0.5)", false),
        ("sgd(lr=1) | clip_norm(inf)", false),
    ] {
        let [(here, norm), (there, other)] = steps(text, a, b);
        for (x, y) in here.iter().zip(&there) {
            assert!((x - y).abs() < 1e-6, "{text}: {here:?}, {there:?}");
        }
        assert_eq!((norm.is_some(), other.is_some()), (reports, reports));
        if let (Some(x), Some(y)) = (norm, other) {
            assert!((x - y).abs() < 1e-6 * x, "{text}: {x}, {y}");
        }
        // It does clip, or does not.
        let length = here.iter().map(|x| x * x).sum::<f64>().sqrt();
        match text {
            "sgd(lr=1) | clip_global(0.5)" => assert!((length - 0.5).abs() < 1e-5),
            _ if text.contains("0.5") => assert!(length < 0.71 && length > 0.5),
            _ => assert!((length - 2.453_65).abs() < 1e-4, "{length}"),
        }
    }
    // A norm that is no number changes nothing.
    for [(here, norm), (there, other)] in
        [f32::NAN, f32::INFINITY].map(|bad| steps("sgd(lr=1) | clip_global(0.5)", [bad, 3.0], b))
    {
        assert!(!norm.unwrap().is_finite() && !other.unwrap().is_finite());
        assert_eq!(here[1..], there[1..]);
        assert_eq!(here[1], -3.0);
    }
}
