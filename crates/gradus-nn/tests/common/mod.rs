//! What several test files look at models with.

#![allow(dead_code, reason = "no test file needs all of it")]

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use gradus_core::random::{Purpose, stream};
use gradus_nn::{AnyModel, ModelConfig};
use rand::RngExt;

/// Images of the size of `config`, noise in [−1, 1).
pub(crate) fn images(config: &ModelConfig, count: usize, device: &Device) -> Tensor<4> {
    let [c, h, w] = config.input;
    let mut rng = stream(9, Purpose::Synthesis, 0, 0);
    let pixels: Vec<f32> = (0..count * c * h * w)
        .map(|_| rng.random::<f32>() * 2.0 - 1.0)
        .collect();
    Tensor::<1>::from_data(pixels.as_slice(), device).reshape([count, c, h, w])
}

/// The values of a tensor in its order.
pub(crate) fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

/// Name, number of values and role of every parameter.
#[derive(Default)]
pub(crate) struct Inventory {
    pub(crate) path: Vec<String>,
    pub(crate) found: Vec<(String, usize, bool)>,
}

impl ModuleVisitor for Inventory {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_string());
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        assert!(param.is_initialized(), "{}", self.path.join("."));
        let tensor = param.val();
        let size = tensor.dims().iter().product();
        self.found
            .push((self.path.join("."), size, tensor.is_require_grad()));
    }
}

/// The parameters of `model` in its order.
pub(crate) fn inventory(model: &AnyModel) -> Vec<(String, usize, bool)> {
    let mut inventory = Inventory::default();
    model.visit(&mut inventory);
    inventory.found
}
