//! The precision of products, as text in the configuration, and where it can be had.

use burn::tensor::Device;
use gradus_kernels::Precision;
use gradus_optim::MethodConfig;
use serde::{Deserialize, Deserializer, Serializer};

use crate::solve::Method;
use crate::{RunConfig, TrainError};

pub(crate) fn serialize<S: Serializer>(value: &Precision, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Precision, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(serde::de::Error::custom)
}

/// Whether `device`, of this backend, computes in this precision. What it can is asked of the device itself.
///
/// # Errors
/// [`TrainError::Config`] if not, with what it has.
pub fn check_precision(
    precision: Precision,
    device: &Device,
    backend: &str,
) -> Result<(), TrainError> {
    let problem = match (backend, precision) {
        (_, Precision::F32) => return Ok(()),
        ("flex", Precision::Bf16) if !precision.is_native() => {
            "bf16 on the CPU needs a processor with AVX-512 BF16 (`avx512_bf16`), which this one has not; \
             f32 is faster here"
                .to_owned()
        }
        _ => {
            let found = Precision::of(device);
            if found.contains(&precision) {
                return Ok(());
            }
            let names: Vec<String> = found.iter().map(Precision::to_string).collect();
            let names = names.join(" or ");
            let reason = match (backend, precision) {
                ("wgpu", Precision::Bf16) => " (WGSL has no bf16)",
                ("wgpu", Precision::F16) => " (its driver has no shader-f16)",
                _ => "",
            };
            format!(
                "expected {names}, which is what {backend} computes in here, found {precision}{reason}"
            )
        }
    };
    Err(TrainError::config("precision", problem))
}

/// Whether the method of `config` can do without a batch, as f16 may ask of it.
///
/// # Errors
/// [`TrainError::Config`] if not.
pub(crate) fn check_method(config: &RunConfig) -> Result<(), TrainError> {
    if config.precision != Precision::F16 {
        return Ok(());
    }
    let problem = match &config.optimizer {
        MethodConfig::Solver(solver) => {
            format!(
                "{} decides by losses that it computes itself",
                solver.name()
            )
        }
        MethodConfig::Rule(_) if config.accumulation() > 1 => {
            "accumulate needs every one of its batches".to_owned()
        }
        MethodConfig::Rule(_) => match Method::new(&config.optimizer, 1)? {
            Method::Rule(method) if method.needs_closure() => {
                "the optimizer wants gradients at other weights".to_owned()
            }
            _ => return Ok(()),
        },
    };
    Err(TrainError::config(
        "precision",
        format!(
            "expected bf16 or f32, found f16: it leaves batches out whose gradients overflow, and {problem}"
        ),
    ))
}
