//! Modules of given shapes.

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};

/// A model that is only its parameters.
#[derive(Module, Debug)]
pub(crate) struct Tensors {
    vectors: Vec<Param<Tensor<1>>>,
    matrices: Vec<Param<Tensor<2>>>,
    kernels: Vec<Param<Tensor<4>>>,
}

impl Tensors {
    /// Ones, on the tape, as in training. Shapes have one, two or four sides.
    pub(crate) fn new(shapes: &[Vec<usize>], device: &Device) -> Self {
        let device = device.clone().autodiff();
        let mut this = Self {
            vectors: Vec::new(),
            matrices: Vec::new(),
            kernels: Vec::new(),
        };
        for shape in shapes {
            match shape[..] {
                [n] => this.vectors.push(ones([n], &device)),
                [n, m] => this.matrices.push(ones([n, m], &device)),
                [o, i, h, w] => this.kernels.push(ones([o, i, h, w], &device)),
                _ => {}
            }
        }
        this
    }

    /// Fresh gradients, which nobody else holds.
    pub(crate) fn gradients(&self) -> GradientsParams {
        let mut all = GradientsParams::new();
        register(&self.vectors, &mut all);
        register(&self.matrices, &mut all);
        register(&self.kernels, &mut all);
        all
    }
}

fn ones<const D: usize>(shape: [usize; D], device: &Device) -> Param<Tensor<D>> {
    Param::from_tensor(Tensor::<D>::ones(shape, device).require_grad())
}

fn register<const D: usize>(parameters: &[Param<Tensor<D>>], all: &mut GradientsParams) {
    for parameter in parameters {
        let gradient = parameter.val().inner().mul_scalar(0.1);
        all.register(parameter.id, gradient);
    }
}
