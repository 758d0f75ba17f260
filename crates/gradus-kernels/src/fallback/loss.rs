//! Cross-entropy; formulas in [`crate::cpu::cross_entropy`].

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Scalar, TensorMetadata, get_or_init_device_settings};
use burn::tensor::{Shape, TensorData};

use crate::kernels::CrossEntropy;

pub(crate) fn cross_entropy<B: Backend>(
    logits: FloatTensor<B>,
    targets: IntTensor<B>,
    how: &CrossEntropy,
    with_gradient: bool,
) -> (FloatTensor<B>, Option<FloatTensor<B>>) {
    let (n, k) = (logits.shape()[0], logits.shape()[1]);
    let (device, dtype) = (logits.device(), logits.dtype());
    let times = |x, factor: f64| B::float_mul_scalar(x, Scalar::Float(factor));
    let row = |values: Vec<f64>| {
        let data = TensorData::new(values, [1, k]).convert_dtype(dtype);
        B::float_from_data(data, &device)
    };
    let epsilon = how.smoothing;
    let weights = how.class_weights.clone();
    let share = epsilon / k as f64;
    let spread: Vec<f64> = match &weights {
        Some(weights) => weights.iter().map(|w| w * share).collect(),
        None => vec![share; k],
    };
    let all: f64 = spread.iter().sum();

    let shifted = B::float_sub(logits.clone(), B::float_max_dim(logits, 1));
    let total = B::float_sum_dim(B::float_exp(shifted.clone()), 1);
    let log_p = B::float_sub(shifted, B::float_log(total));
    let place = B::int_reshape(targets, Shape::from([n, 1]));
    // (1 − ε)·w_y, [N, 1].
    let own = weights.map(|weights| {
        let rows = B::float_expand(row(weights), Shape::from([n, k]));
        times(B::float_gather(1, rows, place.clone()), 1.0 - epsilon)
    });

    let picked = B::float_gather(1, log_p.clone(), place.clone());
    let mut loss = B::float_neg(match &own {
        Some(own) => B::float_mul(picked, own.clone()),
        None => times(picked, 1.0 - epsilon),
    });
    if epsilon > 0.0 {
        let uniform = B::float_mul(log_p.clone(), row(spread.clone()));
        loss = B::float_sub(loss, B::float_sum_dim(uniform, 1));
    }
    let gradient = with_gradient.then(|| {
        let settings = get_or_init_device_settings::<B>(&device);
        let classes = B::int_arange(0..k as i64, &device, settings.int_dtype);
        let classes = B::int_expand(
            B::int_reshape(classes, Shape::from([1, k])),
            Shape::from([n, k]),
        );
        let place = B::int_cast(place, settings.int_dtype);
        let same = B::int_equal(
            classes,
            B::int_expand(place, Shape::from([n, k])),
            settings.bool_dtype,
        );
        let hit = B::bool_into_float(same, dtype.into());
        let p = B::float_exp(log_p);
        let (hit, p) = match own {
            Some(own) => {
                let mass = B::float_add_scalar(own.clone(), Scalar::Float(all));
                (B::float_mul(hit, own), B::float_mul(p, mass))
            }
            None => (times(hit, 1.0 - epsilon), times(p, 1.0 - epsilon + all)),
        };
        let gradient = B::float_sub(p, hit);
        if epsilon > 0.0 {
            B::float_sub(gradient, row(spread))
        } else {
            gradient
        }
    });
    (B::float_reshape(loss, Shape::from([n])), gradient)
}
