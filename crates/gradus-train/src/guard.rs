//! Finding the first tensor that holds a NaN or an infinity.
//!
//! When the loss is no longer a number, the cause lies upstream. The tensors are searched in the
//! order in which data flows: inputs, parameters and running statistics, logits, loss, gradients.
//! The search costs time, but it runs only once, when the run is lost anyway.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use gradus_optim::gradients::GlobalNorm;

use crate::evaluate::values;

/// A phrase about `tensor` if it holds a bad number, such as `the logits (NaN at element 3, 10 of
/// 1280 bad)`.
#[must_use]
pub(crate) fn check<const D: usize>(name: &str, tensor: Tensor<D>) -> Option<String> {
    let values = values(tensor.detach()).ok()?;
    let at = values.iter().position(|value| !value.is_finite())?;
    let count = values.iter().filter(|value| !value.is_finite()).count();
    Some(format!(
        "{name} ({} at element {at}, {count} of {} bad)",
        values[at],
        values.len()
    ))
}

/// The first bad parameter or buffer of `module`.
#[must_use]
pub(crate) fn check_parameters<M: Module>(module: &M) -> Option<String> {
    // One number, read once, says that all is well; the search reads each tensor.
    if GlobalNorm::of_weights(module).value().is_finite() {
        return None;
    }
    find(module, None)
}

/// The first bad gradient of `module`.
#[must_use]
pub(crate) fn check_gradients<M: Module>(
    module: &M,
    gradients: &GradientsParams,
) -> Option<String> {
    find(module, Some(gradients))
}

fn find<M: Module>(module: &M, gradients: Option<&GradientsParams>) -> Option<String> {
    struct Search<'a> {
        path: Vec<String>,
        found: Option<String>,
        gradients: Option<&'a GradientsParams>,
    }
    impl ModuleVisitor for Search<'_> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if self.found.is_some() {
                return;
            }
            let name = self.path.join(".");
            self.found = match self.gradients {
                None => check(&format!("the parameter {name}"), param.val()),
                Some(gradients) => gradients
                    .get::<D>(param.id)
                    .and_then(|gradient| check(&format!("the gradient of {name}"), gradient)),
            };
        }
    }
    let mut search = Search {
        path: Vec::new(),
        found: None,
        gradients,
    };
    module.visit(&mut search);
    search.found
}
