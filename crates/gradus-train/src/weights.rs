//! The weights of a module as named tensors, and as a `model.safetensors` file.
//!
//! A tensor is named by its path in the module, joined by dots, as in PyTorch's `state_dict`:
//! `stage1.conv0.weight`. Parameters and buffers (the running statistics of batch normalisation)
//! are both there. The file is a pure function of the model and its metadata, so the SHA-256 of
//! `model.safetensors` identifies what was learned: two runs agree exactly if `sha256sum` says so.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::path::Path;

use burn::module::{Module, Param};
use burn::tensor::{DType, Tensor, TensorData};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use sha2::{Digest, Sha256};

use crate::TrainError;
use crate::named::{self, NamedMapper, NamedVisitor};

/// Tensors by name, in the order of the names.
pub type NamedTensors = BTreeMap<String, TensorData>;

/// The key under which Gradus writes one JSON object into the metadata of a safetensors file.
///
/// One key only: the format keeps metadata in a hash map, whose order would otherwise make two
/// equal files differ.
pub const METADATA_KEY: &str = "gradus";

/// Every float tensor of `module`: parameters, frozen parameters and buffers.
#[must_use]
pub fn collect<M: Module>(module: &M) -> NamedTensors {
    collect_where(module, false)
}

/// The tensors that training changes by gradients: neither frozen ones nor buffers.
#[must_use]
pub fn collect_trainable<M: Module>(module: &M) -> NamedTensors {
    collect_where(module, true)
}

fn collect_where<M: Module>(module: &M, trainable_only: bool) -> NamedTensors {
    struct Collector {
        tensors: NamedTensors,
        trainable_only: bool,
    }
    impl NamedVisitor for Collector {
        fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
            if !self.trainable_only || param.is_require_grad() {
                let data = param.val().into_data();
                self.tensors.insert(name.to_owned(), data);
            }
        }
    }
    let mut collector = Collector {
        tensors: NamedTensors::new(),
        trainable_only,
    };
    named::visit(module, &mut collector);
    collector.tensors
}

/// `module` with every float tensor replaced by the one of the same name.
///
/// # Errors
/// [`TrainError::Weights`] naming the first tensor that is missing, has another shape, or that the
/// module does not know.
pub fn restore<M: Module>(module: M, tensors: NamedTensors) -> Result<M, TrainError> {
    struct Restorer {
        tensors: NamedTensors,
        problem: Option<String>,
    }
    impl NamedMapper for Restorer {
        fn map<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let expected: Vec<usize> = param.shape().to_vec();
            match self.tensors.remove(name) {
                None => {
                    self.problem
                        .get_or_insert_with(|| format!("{name} {expected:?} is missing"));
                    param
                }
                Some(data) if data.shape().to_vec() != expected => {
                    let found = data.shape().to_vec();
                    self.problem.get_or_insert_with(|| {
                        format!("{name} has shape {found:?} where the model needs {expected:?}")
                    });
                    param
                }
                Some(data) => param.map(|old| {
                    let (device, tracked) = (old.device(), old.is_require_grad());
                    Tensor::from_data(data, &device).set_require_grad(tracked)
                }),
            }
        }
    }
    let mut restorer = Restorer {
        tensors,
        problem: None,
    };
    let module = named::map(module, &mut restorer);
    if let Some(problem) = restorer.problem {
        return Err(TrainError::Weights(problem));
    }
    if let Some(name) = restorer.tensors.keys().next() {
        return Err(TrainError::Weights(format!(
            "the model has no tensor called {name}"
        )));
    }
    Ok(module)
}

/// The bytes of a safetensors file that holds `tensors` and one JSON object of metadata.
///
/// # Errors
/// [`TrainError::Weights`] for an element type that the format does not have.
pub fn to_safetensors(
    tensors: &NamedTensors,
    metadata: &serde_json::Value,
) -> Result<Vec<u8>, TrainError> {
    let views = tensors
        .iter()
        .map(|(name, data)| {
            let dtype = to_dtype(data.dtype()).ok_or_else(|| {
                TrainError::Weights(format!("{name} has the element type {:?}", data.dtype()))
            })?;
            TensorView::new(dtype, data.shape().to_vec(), data.as_bytes())
                .map(|view| (name.as_str(), view))
                .map_err(|error| TrainError::Weights(format!("{name}: {error}")))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let metadata = HashMap::from([(METADATA_KEY.to_owned(), metadata.to_string())]);
    safetensors::serialize(views, Some(metadata))
        .map_err(|error| TrainError::Weights(error.to_string()))
}

/// The tensors and the metadata in the bytes of a safetensors file; `path` is for error messages.
///
/// # Errors
/// [`TrainError::Damaged`] when the bytes are not a valid safetensors file.
pub fn from_safetensors(
    bytes: &[u8],
    path: &Path,
) -> Result<(NamedTensors, serde_json::Value), TrainError> {
    let damaged = |problem: String| TrainError::damaged(path, problem);
    let (_, header) =
        SafeTensors::read_metadata(bytes).map_err(|error| damaged(error.to_string()))?;
    let metadata = match header
        .metadata()
        .as_ref()
        .and_then(|map| map.get(METADATA_KEY))
    {
        Some(text) => {
            serde_json::from_str(text).map_err(|error| damaged(format!("metadata: {error}")))?
        }
        None => serde_json::Value::Null,
    };
    let file = SafeTensors::deserialize(bytes).map_err(|error| damaged(error.to_string()))?;
    let mut tensors = NamedTensors::new();
    for (name, view) in file.iter() {
        let dtype = from_dtype(view.dtype())
            .ok_or_else(|| damaged(format!("{name} has the element type {:?}", view.dtype())))?;
        // Decoded element by element: the bytes of a file need not be aligned for their type.
        let shape = view.shape().to_vec();
        let data = match dtype {
            DType::F32 => TensorData::new(elements(view.data(), f32::from_le_bytes), shape),
            DType::F64 => TensorData::new(elements(view.data(), f64::from_le_bytes), shape),
            _ => TensorData::from_bytes_vec(view.data().to_vec(), shape, dtype),
        };
        tensors.insert(name.to_owned(), data);
    }
    Ok((tensors, metadata))
}

fn elements<E, const W: usize>(bytes: &[u8], decode: fn([u8; W]) -> E) -> Vec<E> {
    bytes
        .as_chunks::<W>()
        .0
        .iter()
        .map(|chunk| decode(*chunk))
        .collect()
}

/// SHA-256 of `bytes` as 64 lower-case hexadecimal digits.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn to_dtype(dtype: DType) -> Option<Dtype> {
    Some(match dtype {
        DType::F64 => Dtype::F64,
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        _ => return None,
    })
}

fn from_dtype(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::F64 => DType::F64,
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        _ => return None,
    })
}
