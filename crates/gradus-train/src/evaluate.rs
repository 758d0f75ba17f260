//! Measuring a model on images: loss, top-1 and top-5, confusion matrix, the worst mistakes.
//!
//! ```text
//! accuracy = (1/N) Σ 1[argmax_k s_k(x_i) = y_i]        top-5: y_i among the five largest scores
//! confusion[t][p] = number of images of class t that were taken for class p
//! precision_k = confusion[k][k] / Σ_t confusion[t][k]
//! ```

use std::sync::Arc;

use base64::Engine;
use burn::tensor::{Device, Int, Tensor, TensorData};
use gradus_core::ranks::Ranks;
use gradus_data::{Batch, Images, Layout, LoaderConfig, Normalization};
use gradus_kernels::widen;
use gradus_nn::{Classifier, Loss, Mode};
use serde::{Deserialize, Serialize};

use crate::supply::Batches;
use crate::{HeldImages, StopSignal, TrainError, Tta};

/// How many mistakes are kept with their images.
pub const MISTAKES: usize = 40;

/// The result of a model on a set of images; the content of `evaluation.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// `test` or `validation`.
    pub split: String,
    /// The views of each image whose scores were averaged.
    #[serde(default)]
    pub tta: Tta,
    /// Number of images.
    pub n: usize,
    /// Mean loss, penalties left out.
    pub loss: f64,
    /// Share of images whose class has the largest score.
    pub accuracy: f64,
    /// Share of images whose class is among the five largest scores.
    pub top5: f64,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// `confusion[t][p]`: images of class t taken for class p.
    pub confusion: Vec<Vec<u64>>,
    /// One row per class.
    pub per_class: Vec<ClassResult>,
    /// The images that were wrong with the largest loss, worst first.
    pub mistakes: Vec<Mistake>,
}

/// How one class fared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassResult {
    /// Name of the class.
    pub class: String,
    /// Images of it.
    pub n: u64,
    /// Images of it that were recognised.
    pub correct: u64,
    /// correct / n (the recall of the class); absent for a class without images.
    pub accuracy: Option<f64>,
    /// Share of the images taken for this class that belong to it; absent if none was.
    pub precision: Option<f64>,
}

/// An image that was classified wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mistake {
    /// Index of the image in its split.
    pub index: u32,
    /// Its class.
    pub r#true: String,
    /// What it was taken for.
    pub predicted: String,
    /// The probability that the model gave to its guess.
    pub probability: f64,
    /// Its loss.
    pub loss: f64,
    /// The image, as it was before normalisation.
    pub image: Thumbnail,
}

/// An image inside JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Thumbnail {
    /// `[C, H, W]`.
    pub shape: [usize; 3],
    /// Base64 of the bytes in that order.
    pub pixels: String,
}

impl Thumbnail {
    /// The image `index` of `images`.
    #[must_use]
    pub fn of(images: &Images, index: usize) -> Self {
        let shape = images.shape;
        Self {
            shape: [shape.channels, shape.height, shape.width],
            pixels: base64::engine::general_purpose::STANDARD.encode(images.image(index)),
        }
    }
}

/// What is needed to feed images to a model.
#[derive(Clone, Debug)]
pub struct Feed {
    /// Where the model is.
    pub device: Device,
    /// What is done to pixels first.
    pub normalization: Normalization,
    /// Images per forward pass.
    pub batch_size: usize,
    /// Threads that prepare batches.
    pub workers: usize,
    /// The very images that are measured, normalised as above, where the device holds them.
    pub held: Option<HeldImages>,
    /// Batches whose scores the host reads at once, at least 1: more spare a GPU the waiting. One where several
    /// ranks measure together.
    pub read_every: usize,
    /// The views of each image whose scores are averaged.
    pub tta: Tta,
    /// Ends the measurement after the batch at hand, with [`TrainError::Interrupted`].
    pub stop: StopSignal,
    /// Who takes part: of every R batches in a row each of R ranks measures one, and all get the result.
    pub ranks: Ranks,
}

/// The inputs of `batch` on `device`, `[N, C, H, W]`; in memory as the batch has them.
#[must_use]
pub fn inputs(batch: &mut Batch, device: &Device) -> Tensor<4> {
    let values = std::mem::take(&mut batch.inputs);
    let [n, c, h, w] = batch.shape;
    match batch.layout {
        Layout::ChannelsFirst => Tensor::from_data(TensorData::new(values, [n, c, h, w]), device),
        Layout::ChannelsLast => {
            Tensor::<4>::from_data(TensorData::new(values, [n, h, w, c]), device)
                .permute([0, 3, 1, 2])
        }
    }
}

/// The labels of `batch` on `device`, `[N]`.
#[must_use]
pub fn targets(batch: &Batch, device: &Device) -> Tensor<1, Int> {
    Tensor::from_data(
        TensorData::new(batch.labels.clone(), [batch.labels.len()]),
        device,
    )
}

/// The values of a tensor as f64, whatever its element type.
///
/// # Errors
/// [`TrainError::Device`] when the device cannot deliver them.
pub fn values<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f64>, TrainError> {
    let data = tensor
        .try_into_data()
        .map_err(|error| TrainError::Device(format!("the device failed: {error:?}")))?;
    Ok(data.iter::<f64>().collect())
}

/// Measures `model` on the images `indices` of `images`, in evaluation mode, off the tape.
///
/// `loss` is averaged over images; `split` and `classes` are copied into the result.
///
/// # Errors
/// [`TrainError::Empty`] without images, [`TrainError::OutputsNotFinite`] when the loss is no number,
/// [`TrainError::Interrupted`] by the feed's stop signal; the loader's, the device's and the ranks'
/// errors.
pub fn evaluate<M: Classifier>(
    model: &M,
    images: &Arc<Images>,
    indices: &[u32],
    loss: &Loss,
    feed: &Feed,
    split: &str,
    classes: &[String],
) -> Result<Evaluation, TrainError> {
    if indices.is_empty() {
        return Err(TrainError::Empty(format!("the {split} set is empty")));
    }
    let device = feed.device.clone().without_autodiff();
    let model = model.valid();
    let mut tally = Tally::new(classes.len());
    let ranks = &feed.ranks;
    let mine = indices
        .chunks(feed.batch_size.max(1))
        .skip(ranks.rank())
        .step_by(ranks.size());
    let mut loader = Batches::new(
        images,
        feed.held.as_ref(),
        LoaderConfig {
            order: mine.flatten().copied().collect(),
            batch_size: feed.batch_size,
            drop_last: false,
            augmentation: None,
            normalization: feed.normalization.clone(),
            workers: feed.workers,
            first_batch: 0,
            layout: Layout::ChannelsLast,
        },
    )?;
    let every = match ranks.is_alone() {
        true => feed.read_every.max(1),
        false => 1,
    };
    let size = feed.batch_size.max(1) * ranks.size();
    for rounds in indices.chunks(size.saturating_mul(every)) {
        // Scores and losses of the batches of this rank, still on the device.
        let mut left = Vec::new();
        for _ in rounds.chunks(size) {
            if let Some(signal) = ranks.agree(feed.stop.requested())? {
                return Err(TrainError::Interrupted(signal));
            }
            if let Some(batch) = loader.next(&device) {
                let batch = batch?;
                let logits =
                    (feed.tta).mean(batch.x, |view| widen(model.forward(view, Mode::Eval)));
                let each = loss.per_example(logits.clone(), batch.y);
                let numbers = classes.len() * batch.labels.len();
                left.push(logits.reshape([numbers]));
                left.push(each);
            }
        }
        // What is another rank's is 0 here, and the sum puts it in.
        let mut scores = vec![0.0; rounds.len() * classes.len()];
        let mut losses = vec![0.0; rounds.len()];
        let counts: Vec<usize> = left.iter().map(|numbers| numbers.dims()[0]).collect();
        let numbers = match left.is_empty() {
            true => Vec::new(),
            false => values(Tensor::cat(left, 0))?,
        };
        let mut rest = numbers.as_slice();
        let mut image = ranks.rank() * feed.batch_size;
        for count in counts.chunks_exact(2) {
            let (own, others) = rest.split_at(count[0] + count[1]);
            rest = others;
            put(&mut scores, image * classes.len(), &own[..count[0]]);
            put(&mut losses, image, &own[count[0]..]);
            image += count[1];
        }
        ranks.sum(&mut scores)?;
        ranks.sum(&mut losses)?;
        tally.add(images, rounds, &scores, &losses);
    }
    if !tally.loss.is_finite() {
        return Err(TrainError::OutputsNotFinite {
            split: split.to_owned(),
            value: tally.loss.to_string(),
        });
    }
    Ok(Evaluation {
        tta: feed.tta,
        ..tally.finish(images, split, classes)
    })
}

/// Writes `values` into `to` from `at` on.
fn put(to: &mut [f64], at: usize, values: &[f64]) {
    for (to, value) in to[at..].iter_mut().zip(values) {
        *to = *value;
    }
}

/// Class probabilities of already prepared inputs `[N, C, H, W]`, from the scores averaged over the views
/// of `tta`: one row per image.
///
/// # Errors
/// The device's.
pub fn probabilities<M: Classifier>(
    model: &M,
    inputs: Tensor<4>,
    tta: Tta,
) -> Result<Vec<Vec<f64>>, TrainError> {
    let model = model.valid();
    let logits = tta.mean(inputs, |view| widen(model.forward(view, Mode::Eval)));
    let [_, classes] = logits.dims();
    Ok(values(logits)?.chunks(classes).map(softmax).collect())
}

/// `exp(s_k − max s) / Σ_j exp(s_j − max s)`, in f64.
#[must_use]
pub fn softmax(scores: &[f64]) -> Vec<f64> {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exponentials: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    exponentials.into_iter().map(|value| value / sum).collect()
}

/// The place of the largest score; the first of equals. Scores must be numbers: [`evaluate`] refuses a
/// model whose loss is none.
#[must_use]
pub fn argmax(scores: &[f64]) -> usize {
    let mut best = 0;
    for (place, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = place;
        }
    }
    best
}

/// How many scores are larger than that of `class`: 0 means that it was predicted.
fn rank(scores: &[f64], class: usize) -> usize {
    let own = scores[class];
    if own.is_nan() {
        return scores.len();
    }
    // Of equal scores the earlier class counts as larger, as in `argmax`.
    scores
        .iter()
        .enumerate()
        .filter(|&(place, &score)| score > own || (score == own && place < class))
        .count()
}

struct Wrong {
    index: u32,
    label: usize,
    predicted: usize,
    probability: f64,
    loss: f64,
}

struct Tally {
    n: usize,
    loss: f64,
    top5: usize,
    confusion: Vec<Vec<u64>>,
    wrong: Vec<Wrong>,
}

impl Tally {
    fn new(classes: usize) -> Self {
        Self {
            n: 0,
            loss: 0.0,
            top5: 0,
            confusion: vec![vec![0; classes]; classes],
            wrong: Vec::new(),
        }
    }

    fn add(&mut self, images: &Images, indices: &[u32], logits: &[f64], losses: &[f64]) {
        let classes = self.confusion.len();
        for (place, scores) in logits.chunks(classes).enumerate() {
            let label = usize::from(images.label(indices[place] as usize));
            let predicted = argmax(scores);
            self.n += 1;
            self.loss += losses[place];
            self.top5 += usize::from(rank(scores, label) < 5);
            self.confusion[label][predicted] += 1;
            if predicted != label {
                self.wrong.push(Wrong {
                    index: indices[place],
                    label,
                    predicted,
                    probability: softmax(scores)[predicted],
                    loss: losses[place],
                });
            }
        }
        // Keep the worst only; the index breaks ties so that the order never depends on batches.
        self.wrong
            .sort_by(|a, b| b.loss.total_cmp(&a.loss).then(a.index.cmp(&b.index)));
        self.wrong.truncate(MISTAKES);
    }

    fn finish(self, images: &Images, split: &str, classes: &[String]) -> Evaluation {
        let share = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        let per_class: Vec<ClassResult> = classes
            .iter()
            .enumerate()
            .map(|(k, class)| {
                let n = self.confusion[k].iter().sum();
                let correct = self.confusion[k][k];
                let taken = self.confusion.iter().map(|row| row[k]).sum();
                ClassResult {
                    class: class.clone(),
                    n,
                    correct,
                    accuracy: share(correct, n),
                    precision: share(correct, taken),
                }
            })
            .collect();
        let correct: u64 = per_class.iter().map(|class| class.correct).sum();
        Evaluation {
            split: split.to_owned(),
            tta: Tta::None,
            n: self.n,
            loss: self.loss / self.n as f64,
            accuracy: correct as f64 / self.n as f64,
            top5: self.top5 as f64 / self.n as f64,
            classes: classes.to_vec(),
            per_class,
            mistakes: self
                .wrong
                .iter()
                .map(|wrong| Mistake {
                    index: wrong.index,
                    r#true: classes[wrong.label].clone(),
                    predicted: classes[wrong.predicted].clone(),
                    probability: wrong.probability,
                    loss: wrong.loss,
                    image: Thumbnail::of(images, wrong.index as usize),
                })
                .collect(),
            confusion: self.confusion,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_is_stable_and_sums_to_one() {
        let p = softmax(&[1000.0, 1000.0, 900.0]);
        assert!((p[0] - 0.5).abs() < 1e-12 && p[2] < 1e-40);
        assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn rank_agrees_with_argmax_and_a_nan_is_never_right() {
        let scores = [0.5, 2.0, 2.0, -1.0];
        assert_eq!(argmax(&scores), 1);
        assert_eq!(rank(&scores, 1), 0);
        assert_eq!(rank(&scores, 2), 1);
        assert_eq!(rank(&scores, 3), 3);
        assert_eq!(rank(&[f64::NAN; 3], 0), 3);
    }
}
