//! Whole forward and backward passes on the CPU backend: the same bits at any number of threads, and no
//! fresh memory from the second step on.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Mutex;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor};
use gradus_kernels::memory;
use gradus_nn::{AnyModel, Classifier, Loss, Mode, ModelConfig};

/// Steps count on the pool of memory, of which there is one in a process.
static ALONE: Mutex<()> = Mutex::new(());

fn model(name: &str) -> AnyModel {
    let config = ModelConfig::named(name).unwrap();
    config.init(&Device::flex().autodiff()).unwrap()
}

/// The gradients of all parameters, in the order of the module.
struct Collect<'a> {
    gradients: &'a Gradients,
    bits: Vec<u32>,
}

impl ModuleVisitor for Collect<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        let seen = match value.grad(self.gradients) {
            Some(gradient) => gradient,
            // Running statistics: their values are a result of the step too.
            None => value.inner(),
        };
        let numbers: Vec<f32> = seen.into_data().try_to_vec().unwrap();
        self.bits.extend(numbers.iter().map(|x| x.to_bits()));
    }
}

fn step(model: &AnyModel, images: &Tensor<4>, at: u64) -> Vec<u32> {
    let n = images.dims()[0] as i64;
    let labels = Tensor::arange(0..n, &images.device()).remainder_scalar(10);
    let logits = model.forward(images.clone(), Mode::train(3, at));
    let loss = Loss::default().forward(logits, labels);
    let bits = loss.clone().into_data().try_to_vec::<f32>().unwrap()[0].to_bits();
    let gradients = loss.backward();
    let mut all = Collect {
        gradients: &gradients,
        bits: vec![bits],
    };
    model.visit(&mut all);
    all.bits
}

fn images(n: usize) -> Tensor<4> {
    let values: Vec<f32> = (0..n * 3 * 32 * 32)
        .map(|i| ((i * 7919 + i / 3072 * 104_729) % 1013) as f32 / 400.0 - 1.2)
        .collect();
    Tensor::<1>::from_data(values.as_slice(), &Device::flex().autodiff()).reshape([n, 3, 32, 32])
}

#[test]
fn the_same_bits_at_any_number_of_threads() {
    let _alone = ALONE.lock().unwrap();
    for name in ["cnn", "resnet20", "airnet"] {
        let images = images(13);
        let runs: Vec<Vec<u32>> = [1, 2, 5]
            .into_iter()
            .map(|threads| {
                let model = model(name);
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
                pool.build().unwrap().install(|| {
                    let mut bits = step(&model, &images, 0);
                    bits.extend(step(&model, &images, 1));
                    bits
                })
            })
            .collect();
        assert!(runs[0].len() > 10_000, "{name}");
        assert!(runs[0] == runs[1], "{name}: 1 and 2 threads");
        assert!(runs[0] == runs[2], "{name}: 1 and 5 threads");
    }
}

#[test]
fn the_second_step_takes_no_fresh_memory() {
    let _alone = ALONE.lock().unwrap();
    for name in ["cnn", "resnet20", "airnet"] {
        let (model, images) = (model(name), images(16));
        let mut fresh = Vec::new();
        for at in 0..4 {
            let before = memory::usage();
            step(&model, &images, at);
            let after = memory::usage();
            assert_eq!(
                before.in_use, after.in_use,
                "{name}: a step leaves nothing behind"
            );
            assert!(
                after.requests > before.requests + 20,
                "{name}: it uses the pool"
            );
            fresh.push(after.fresh - before.fresh);
        }
        assert!(fresh[0] > 0, "{name}");
        assert_eq!(fresh[1..], [0, 0, 0], "{name}");
        memory::release();
    }
}
