//! CIFAR-10 in one file: data, network, loop, test, without the trainer.
//!
//! ```text
//! bytes → (x/255 − μ)/σ, random crop and flip → conv → loss → ∇ → SGD with Nesterov momentum
//! ```
//!
//! Run:       `cargo run --release --example 05_cifar_in_one_file -- cifar10:FOLDER`
//!            (or `folder:cifar10-jpeg.tar.xz`, or nothing at all for the built-in `shapes`)
//! Expected:  on CIFAR-10 about 70 % after 3 epochs; on `shapes` above 90 %.
//! Time:      CIFAR-10 about 10 minutes on two cores, `shapes` about one.

#![allow(
    clippy::print_stdout,
    reason = "an example talks to the person who runs it"
)]

use std::sync::Arc;

use burn::optim::GradientsParams;
use burn::tensor::TensorData;
use gradus::data::{
    Augmentation, Batch, Crop, DataSpec, Flip, Loader, LoaderConfig, Normalization, OpenOptions,
    PaddingMode, epoch_order,
};
use gradus::optim::{ModelOptimizer, OptimizerConfig, ScheduleConfig};
use gradus::prelude::*;

const EPOCHS: usize = 3;
const BATCH: usize = 128;
const SEED: u64 = 42;

fn tensors(batch: Batch, device: &Device) -> (Tensor<4>, Tensor<1, Int>) {
    let size = batch.labels.len();
    (
        Tensor::from_data(TensorData::new(batch.inputs, batch.shape), device),
        Tensor::from_data(TensorData::new(batch.labels, [size]), device),
    )
}

fn right(logits: Tensor<2>, labels: Tensor<1, Int>) -> i64 {
    logits
        .argmax(1)
        .flatten::<1>(0, 1)
        .equal(labels)
        .int()
        .sum()
        .into_scalar::<i64>()
}

fn main() -> anyhow::Result<()> {
    let spec: DataSpec = std::env::args()
        .nth(1)
        .as_deref()
        .unwrap_or("shapes")
        .parse()?;
    let data = spec.open(&OpenOptions::default())?;
    let (train, test) = (Arc::new(data.train), Arc::new(data.test));
    let all: Vec<u32> = (0..train.len() as u32).collect();
    let normalization = Normalization::measure(&train, &all)?;
    let augmentation = Augmentation {
        crop: Some(Crop {
            padding: 4,
            mode: PaddingMode::Reflect,
        }),
        flip: Flip::Random,
        cutout: 0,
    };

    let device = gradus::train::device("auto")?.0.autodiff();
    let mut config = ModelConfig::named("cnn")?;
    config.classes = data.classes.len();
    config.seed = SEED;
    let mut model = config.init(&device)?;
    let rule: OptimizerConfig =
        "sgd(lr=0.1, momentum=0.9, nesterov=true, weight_decay=5e-4)".parse()?;
    let schedule: ScheduleConfig = "onecycle".parse()?;
    let mut optimizer = ModelOptimizer::new(&rule)?;
    let loss = Loss::default();

    let batches = train.len() / BATCH;
    let total = (EPOCHS * batches) as u64;
    let mut step = 0;
    for epoch in 0..EPOCHS as u64 {
        let loader = Loader::new(
            Arc::clone(&train),
            LoaderConfig {
                drop_last: true,
                augmentation: Some((augmentation, SEED, epoch)),
                workers: 1,
                ..LoaderConfig::new(epoch_order(SEED, epoch, &all), BATCH, normalization.clone())
            },
        )?;
        for batch in loader {
            let (images, labels) = tensors(batch?, &device);
            let logits = model.forward(images, Mode::train(SEED, step));
            let value = loss.forward(logits, labels);
            if step % 50 == 0 {
                println!(
                    "step {step:4}   loss {:.3}",
                    value.clone().into_scalar::<f32>()
                );
            }
            let gradients = GradientsParams::from_grads(value.backward(), &model);
            model = optimizer.step(schedule.lr(step, total, rule.lr()), model, gradients);
            step += 1;
        }

        let (plain, frozen) = (device.clone().without_autodiff(), model.valid());
        let order: Vec<u32> = (0..test.len() as u32).collect();
        let mut correct = 0;
        for batch in Loader::new(
            Arc::clone(&test),
            LoaderConfig::new(order, 250, normalization.clone()),
        )? {
            let (images, labels) = tensors(batch?, &plain);
            correct += right(frozen.forward(images, Mode::Eval), labels);
        }
        let accuracy = 100.0 * correct as f64 / test.len() as f64;
        println!("epoch {}   test accuracy {accuracy:.2} %", epoch + 1);
    }
    Ok(())
}
