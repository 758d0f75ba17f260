//! Looking into a forward pass: the output of every convolution and linear layer, as it appears.

use burn::module::ParamId;
use burn::tensor::Tensor;

/// Sees the output of each weighted layer during a forward pass, before normalisation and activation.
///
/// LSUV initialisation measures variances with it; a laboratory can watch how the scale of a signal
/// changes with depth. `()` is the observer that looks away.
pub trait Observer {
    /// `weight` is the id of the layer's weight, `output` what the layer computed: `[N, K]` or
    /// `[N, K, H, W]`.
    fn output<const D: usize>(&mut self, weight: ParamId, output: &Tensor<D>);
}

impl Observer for () {
    fn output<const D: usize>(&mut self, _weight: ParamId, _output: &Tensor<D>) {}
}
