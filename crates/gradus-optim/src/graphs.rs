//! Graphs of forward passes that nobody differentiates.

use burn::tensor::{Device, Tensor};

/// Lets Burn drop the graphs of forward passes that nobody differentiated, with all the activations and
/// weights that they hold: it looks for such graphs at the end of a backward pass only, and here one of a
/// single number is made. Nothing is done on a device without autodiff.
///
/// Burn spares a graph while a tensor is alive that it starts from and that no backward pass has reached
/// yet, such as the weights of a model before the first step.
///
/// ```
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::flex().autodiff();
/// let weights = Tensor::<1>::ones([1000], &device).require_grad();
/// let loss = (weights.clone() * weights).sum(); // evaluated, and that is all
/// drop(loss);
/// gradus_optim::forget_graphs(&device);
/// ```
pub fn forget_graphs(device: &Device) {
    if device.is_autodiff() {
        let one = Tensor::<1>::ones([1], device).require_grad();
        drop(one.sum().backward());
    }
}
