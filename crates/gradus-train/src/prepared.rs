//! The data set of a run, split and measured.

use std::sync::Arc;

use gradus_data::{Dataset, Images, Normalization, Split};

use crate::{RunConfig, TrainError};

/// The data set, split.
pub(crate) struct Prepared {
    pub(crate) name: String,
    pub(crate) classes: Vec<String>,
    pub(crate) notes: Vec<String>,
    pub(crate) fingerprint: String,
    pub(crate) images: Arc<Images>,
    pub(crate) test_images: Arc<Images>,
    pub(crate) split: Split,
    pub(crate) test: Vec<u32>,
    pub(crate) normalization: Normalization,
}

impl Prepared {
    pub(crate) fn new(config: &RunConfig, dataset: Dataset) -> Result<Self, TrainError> {
        let fingerprint = dataset.fingerprint();
        let mut split = config.split(&dataset)?;
        let normalization = if config.data.normalize {
            Normalization::measure(&dataset.train, &split.train)?
        } else {
            Normalization::identity(dataset.train.shape.channels)
        };
        let mut test: Vec<u32> = (0..dataset.test.len() as u32).collect();
        let limit = config.limit.batches.saturating_mul(config.batch_size);
        if limit > 0 {
            spread(&mut split.validation, limit);
            spread(&mut test, limit);
        }
        Ok(Self {
            name: dataset.name,
            classes: dataset.classes,
            notes: dataset.notes,
            fingerprint,
            images: Arc::new(dataset.train),
            test_images: Arc::new(dataset.test),
            split,
            test,
            normalization,
        })
    }
}

/// Keeps `limit` of `indices`, evenly spaced: the first ones of a set in class folders would all be of
/// one class.
pub(crate) fn spread(indices: &mut Vec<u32>, limit: usize) {
    let length = indices.len();
    if length > limit {
        *indices = (0..limit)
            .map(|place| indices[place * length / limit])
            .collect();
    }
}
