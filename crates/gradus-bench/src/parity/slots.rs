//! The state of an optimizer as numbers, from one type of float to another.
//!
//! A state is the safetensors file of [`ModelOptimizer::save`](gradus_optim::ModelOptimizer::save): slots
//! in the type of their parameter, numbers of rules and stages in f64, counters. Slots change their type
//! with the side that takes them; all else stays.

use std::collections::{BTreeMap, HashMap};

use gradus_train::TrainError;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::BenchError;

/// The state, slots and numbers as f64.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots {
    metadata: Option<HashMap<String, String>>,
    entries: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    shape: Vec<usize>,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    /// Follows the parameter's type.
    Slot(Vec<f64>),
    /// Always f64.
    Numbers(Vec<f64>),
    /// Counters.
    Other(Dtype, Vec<u8>),
}

fn broken(problem: &safetensors::SafeTensorError) -> BenchError {
    BenchError::Train(TrainError::Weights(format!(
        "the optimizer's state cannot be handed over: {problem}"
    )))
}

fn decode<const W: usize>(bytes: &[u8], number: fn([u8; W]) -> f64) -> Vec<f64> {
    let (chunks, _) = bytes.as_chunks::<W>();
    chunks.iter().map(|chunk| number(*chunk)).collect()
}

impl Slots {
    /// Reads a state.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, BenchError> {
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| broken(&error))?;
        let file = SafeTensors::deserialize(bytes).map_err(|error| broken(&error))?;
        let entries = file.iter().map(|(name, view)| {
            let last = name.rsplit(['/', '.']).next().unwrap_or_default();
            let fixed = ["memory", "numbers"].contains(&last);
            let what = match view.dtype() {
                Dtype::F32 => What::Slot(decode(view.data(), |b| f64::from(f32::from_le_bytes(b)))),
                Dtype::F64 if fixed => What::Numbers(decode(view.data(), f64::from_le_bytes)),
                Dtype::F64 => What::Slot(decode(view.data(), f64::from_le_bytes)),
                other => What::Other(other, view.data().to_vec()),
            };
            let shape = view.shape().to_vec();
            (name.to_owned(), Entry { shape, what })
        });
        Ok(Self {
            metadata: header.metadata().clone(),
            entries: entries.collect(),
        })
    }

    /// The state with slots of f64 or of f32.
    pub(super) fn write(&self, wide: bool) -> Result<Vec<u8>, BenchError> {
        let stored: Vec<(&str, Dtype, &[usize], Vec<u8>)> = (self.entries.iter())
            .map(|(name, entry)| {
                let wide_bytes =
                    |x: &[f64]| x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
                let (dtype, bytes) = match &entry.what {
                    What::Slot(x) if !wide => {
                        let narrow = x.iter().flat_map(|x| (*x as f32).to_le_bytes());
                        (Dtype::F32, narrow.collect())
                    }
                    What::Slot(x) | What::Numbers(x) => (Dtype::F64, wide_bytes(x)),
                    What::Other(dtype, bytes) => (*dtype, bytes.clone()),
                };
                (name.as_str(), dtype, entry.shape.as_slice(), bytes)
            })
            .collect();
        let views = (stored.iter())
            .map(|(name, dtype, shape, bytes)| {
                let view = TensorView::new(*dtype, shape.to_vec(), bytes)
                    .map_err(|error| broken(&error))?;
                Ok((*name, view))
            })
            .collect::<Result<Vec<_>, BenchError>>()?;
        safetensors::serialize(views, self.metadata.clone()).map_err(|error| broken(&error))
    }

    /// Every slot and number by name, such as `head.weight/momentum`.
    pub(super) fn values(&self) -> impl Iterator<Item = (&str, &[f64])> {
        self.entries
            .iter()
            .filter_map(|(name, entry)| match &entry.what {
                What::Slot(x) | What::Numbers(x) => Some((name.as_str(), x.as_slice())),
                What::Other(..) => None,
            })
    }

    /// The values of one.
    pub(super) fn get(&self, name: &str) -> Option<&[f64]> {
        match &self.entries.get(name)?.what {
            What::Slot(x) | What::Numbers(x) => Some(x),
            What::Other(..) => None,
        }
    }

    /// The slots, each number changed.
    pub(super) fn map(&self, change: impl Fn(usize, f64) -> f64) -> Self {
        let mut changed = self.clone();
        for entry in changed.entries.values_mut() {
            if let What::Slot(x) = &mut entry.what {
                for (place, x) in x.iter_mut().enumerate() {
                    *x = change(place, *x);
                }
            }
        }
        changed
    }
}
