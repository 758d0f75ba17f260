//! Weights and gradients by name: out of a model as numbers, and back into one in another type of float or
//! on another device.

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Tensor, TensorData};
use gradus_train::named::{self, NamedMapper, NamedVisitor};
use gradus_train::weights::NamedTensors;

/// `model` with every float tensor replaced, in this type.
pub(super) fn with_weights<M: Module>(model: M, weights: &NamedTensors, dtype: DType) -> M {
    struct Set<'a> {
        weights: &'a NamedTensors,
        dtype: DType,
    }
    impl NamedMapper for Set<'_> {
        fn map<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let Some(data) = self.weights.get(name) else {
                return param;
            };
            let data = data.clone().convert_dtype(self.dtype);
            param.map(|old| {
                let (device, tracked) = (old.device(), old.is_require_grad());
                Tensor::from_data(data, (&device, self.dtype)).set_require_grad(tracked)
            })
        }
    }
    named::map(model, &mut Set { weights, dtype })
}

/// The gradients of `model` by parameter name.
pub(super) fn by_name<M: Module>(model: &M, gradients: &GradientsParams) -> NamedTensors {
    let mut named = Named {
        gradients,
        found: NamedTensors::new(),
    };
    named::visit(model, &mut named);
    named.found
}

/// Gradients from numbers, for the parameters of `model`, in this type.
pub(super) fn by_parameter<M: Module>(
    model: &M,
    named: &NamedTensors,
    dtype: DType,
) -> GradientsParams {
    let mut registered = Registered {
        named,
        dtype,
        found: GradientsParams::new(),
    };
    named::visit(model, &mut registered);
    registered.found
}

struct Named<'a> {
    gradients: &'a GradientsParams,
    found: NamedTensors,
}

impl NamedVisitor for Named<'_> {
    fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            self.found.insert(name.to_owned(), gradient.into_data());
        }
    }
}

struct Registered<'a> {
    named: &'a NamedTensors,
    dtype: DType,
    found: GradientsParams,
}

impl NamedVisitor for Registered<'_> {
    fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
        if let Some(data) = self.named.get(name) {
            let device = param.val().inner().device();
            let data = data.clone().convert_dtype(self.dtype);
            let gradient = Tensor::<D>::from_data(data, (&device, self.dtype));
            self.found.register(param.id, gradient);
        }
    }
}

/// The numbers of a tensor.
pub(super) fn wide(data: &TensorData) -> Vec<f64> {
    data.iter::<f64>().collect()
}

/// The same values as f32 has them.
pub(super) fn rounded(tensors: NamedTensors) -> NamedTensors {
    let narrow = |(name, data): (String, TensorData)| (name, data.convert_dtype(DType::F32));
    tensors.into_iter().map(narrow).collect()
}

/// Tensors of the same shapes with other values, in f64.
pub(super) fn each(tensors: &NamedTensors, change: impl Fn(&[f64]) -> Vec<f64>) -> NamedTensors {
    let changed = tensors.iter().map(|(name, data)| {
        let values = change(&wide(data));
        let shape = data.shape().to_vec();
        (name.clone(), TensorData::new(values, shape))
    });
    changed.collect()
}
