//! Our optimizer inside Burn's own Learner.
//!
//! Every rule of `gradus-optim` is a `burn::optim::Optimizer`, so `ModuleOptimizer::from(rule)` takes
//! it wherever Burn takes one: in its training loop, with its metrics, checkpoints and early
//! stopping.
//!
//! Run:       `cargo run --release --example 06_burn_learner`
//! Expected:  Burn's own progress output, and above 90 % validation accuracy after 4 epochs.
//! Time:      about half a minute on two cores.

#![allow(
    clippy::print_stdout,
    reason = "an example talks to the person who runs it"
)]

use burn::data::dataloader::{DataLoaderBuilder, batcher::Batcher};
use burn::data::dataset::{Dataset, DatasetError};
use burn::lr_scheduler::constant::ConstantLr;
use burn::optim::ModuleOptimizer;
use burn::tensor::TensorData;
use burn::train::metric::{AccuracyMetric, LossMetric};
use burn::train::{
    ClassificationOutput, InferenceStep, Learner, SupervisedTraining, TrainOutput, TrainStep,
};
use gradus::data::{DataSpec, Images, OpenOptions};
use gradus::optim::Adam;
use gradus::prelude::*;

/// One of our models, taught the two steps that Burn's Learner asks for.
#[derive(Module, Debug)]
struct Taught {
    model: AnyModel,
}

type Input = (Tensor<4>, Tensor<1, Int>);

impl Taught {
    fn classify(&self, (images, targets): Input, mode: Mode) -> ClassificationOutput {
        let output = self.model.forward(images, mode);
        let loss = Loss::default().forward(output.clone(), targets.clone());
        ClassificationOutput {
            loss,
            output,
            targets,
        }
    }
}

impl TrainStep for Taught {
    type Input = Input;
    type Output = ClassificationOutput;
    fn step(&self, item: Input) -> TrainOutput<ClassificationOutput> {
        // Burn's Learner does not say which step it is; without dropout that makes no difference.
        let item = self.classify(item, Mode::train(0, 0));
        TrainOutput::new(self, item.loss.backward(), item)
    }
}

impl InferenceStep for Taught {
    type Input = Input;
    type Output = ClassificationOutput;
    fn step(&self, item: Input) -> ClassificationOutput {
        self.classify(item, Mode::Eval)
    }
}

/// Our images as a data set of Burn's.
struct Pictures(Images);

impl Dataset<(Vec<u8>, i32)> for Pictures {
    fn get(&self, index: usize) -> Result<(Vec<u8>, i32), DatasetError> {
        Ok((self.0.image(index).to_vec(), i32::from(self.0.label(index))))
    }
    fn len(&self) -> usize {
        self.0.len()
    }
}

struct ToTensors;

impl Batcher<(Vec<u8>, i32), Input> for ToTensors {
    fn batch(&self, items: Vec<(Vec<u8>, i32)>, device: &Device) -> Input {
        let n = items.len();
        let pixels: Vec<f32> = items
            .iter()
            .flat_map(|(image, _)| image.iter().map(|&byte| f32::from(byte) / 127.5 - 1.0))
            .collect();
        let labels: Vec<i32> = items.iter().map(|(_, label)| *label).collect();
        (
            Tensor::from_data(TensorData::new(pixels, [n, 3, 32, 32]), device),
            Tensor::from_data(TensorData::new(labels, [n]), device),
        )
    }
}

fn main() -> anyhow::Result<()> {
    let options = OpenOptions {
        shapes_train: 5_000,
        shapes_test: 1_000,
        ..OpenOptions::default()
    };
    let data = DataSpec::Shapes.open(&options)?;
    let device = gradus::train::device("auto")?.0;
    let loader = |images: Images| {
        DataLoaderBuilder::new(ToTensors)
            .batch_size(100)
            .shuffle(42)
            .set_device(device.clone())
            .build(Pictures(images))
    };
    let model = Taught {
        model: ModelConfig::named("cnn")?.init(&device.clone().autodiff())?,
    };
    let optimizer = ModuleOptimizer::from(Adam::default());

    let folder = std::env::temp_dir().join("gradus-burn-learner");
    let result = SupervisedTraining::new(&folder, loader(data.train), loader(data.test))
        .metrics((AccuracyMetric::new(), LossMetric::new()))
        .num_epochs(4)
        .summary()
        .launch(Learner::new(model, optimizer, ConstantLr::new(3e-3)));
    if let Some(error) = result.error {
        anyhow::bail!("training failed: {error}");
    }
    println!("Burn's log and checkpoints are in {}", folder.display());
    Ok(())
}
