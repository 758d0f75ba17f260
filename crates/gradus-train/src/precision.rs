//! The precision of products, as text in the configuration.

use gradus_kernels::Precision;
use serde::{Deserialize, Deserializer, Serializer};

use crate::TrainError;

pub(crate) fn serialize<S: Serializer>(value: &Precision, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Precision, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(serde::de::Error::custom)
}

/// Whether products of this precision can be had there.
///
/// # Errors
/// [`TrainError::Config`] if not.
pub(crate) fn check(precision: Precision, device: &str) -> Result<(), TrainError> {
    if precision == Precision::F32 {
        return Ok(());
    }
    // A backend may be followed by the number of a device.
    let backend = device.split(':').next().unwrap_or(device);
    let problem = if !matches!(backend, "auto" | "flex") {
        format!(
            "{precision} is for the device flex, found {device}; leave the precision at f32 there"
        )
    } else if !precision.is_native() {
        format!(
            "{precision} needs a processor with AVX-512 BF16 (`avx512_bf16`), which this one has \
             not; f32 is faster here"
        )
    } else {
        return Ok(());
    };
    Err(TrainError::config("precision", problem))
}
