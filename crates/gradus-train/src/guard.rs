//! Finding the first tensor that holds a NaN or an infinity.
//!
//! When the loss is no longer a number, the cause lies upstream. The tensors are searched in the
//! order in which data flows: inputs, parameters and running statistics, logits, loss, gradients.
//! The search costs time, but it runs only once, when the run is lost anyway.

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use gradus_optim::gradients::GlobalNorm;

use crate::evaluate::values;
use crate::named::{self, NamedVisitor};

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
        found: Option<String>,
        gradients: Option<&'a GradientsParams>,
    }
    impl NamedVisitor for Search<'_> {
        fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
            if self.found.is_some() {
                return;
            }
            self.found = match self.gradients {
                None => check(&format!("the parameter {name}"), param.val()),
                Some(gradients) => gradients
                    .get::<D>(param.id)
                    .and_then(|gradient| check(&format!("the gradient of {name}"), gradient)),
            };
        }
    }
    let mut search = Search {
        found: None,
        gradients,
    };
    named::visit(module, &mut search);
    search.found
}
