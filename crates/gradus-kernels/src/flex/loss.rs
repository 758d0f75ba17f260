//! Cross-entropy on the CPU backend.

use burn::backend::Flex;
use burn::tensor::DType;
use burn_flex::{FlexTensor, Layout};

use super::images::{contiguous, is_f32, vector};
use crate::cpu::cross_entropy::cross_entropy as kernel;
use crate::fallback;
use crate::kernels::CrossEntropy;
use crate::memory::Buffer;
use crate::profile::span;

/// The classes as the kernel reads them; a number beyond i32 is no class anyway.
fn classes(targets: FlexTensor) -> Option<Vec<i32>> {
    let as_i32 = |x: i64| i32::try_from(x).unwrap_or(-1);
    let dtype = targets.dtype();
    if !matches!(dtype, DType::I32 | DType::I64) {
        return None;
    }
    let data = targets.into_data();
    match dtype {
        DType::I32 => data.try_to_vec::<i32>().ok(),
        _ => {
            let wide = data.try_to_vec::<i64>().ok()?;
            Some(wide.into_iter().map(as_i32).collect())
        }
    }
}

pub(super) fn cross_entropy(
    logits: FlexTensor,
    targets: FlexTensor,
    how: &CrossEntropy,
    with_gradient: bool,
) -> (FlexTensor, Option<FlexTensor>) {
    let known = if is_f32(&logits) {
        classes(targets.clone())
    } else {
        None
    };
    let Some(known) = known else {
        return fallback::loss::cross_entropy::<Flex>(logits, targets, how, with_gradient);
    };
    let logits = contiguous(logits);
    let layout = Layout::contiguous(logits.layout().shape().clone());
    let _span = span("cross_entropy", || logits.layout().shape().to_vec());
    let weights: Option<Vec<f32>> = how
        .class_weights
        .as_ref()
        .map(|weights| weights.iter().map(|w| *w as f32).collect());
    let mut losses = vec![0.0; known.len()];
    let mut gradient = with_gradient.then(|| Buffer::new(layout.num_elements()));
    kernel(
        logits.storage(),
        &known,
        how.smoothing as f32,
        weights.as_deref(),
        &mut losses,
        gradient.as_deref_mut(),
    );
    let gradient = gradient.map(|g| FlexTensor::new(g.into(), layout, DType::F32));
    (vector(losses), gradient)
}
