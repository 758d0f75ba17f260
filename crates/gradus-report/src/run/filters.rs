//! `filters.json`: the first layer's weights, `[K, C, H, W]`, as filters or, for a linear
//! classifier, class templates.

use std::path::Path;

use serde::Deserialize;

use crate::ReportError;

/// What the first layer's weights mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FilterKind {
    /// One picture a class: row k of a linear classifier's W, shaped as an image.
    Templates,
    /// Convolution kernels.
    Filters,
}

/// The first layer's weights.
#[derive(Debug, Clone, Deserialize)]
pub struct Filters {
    /// Templates or filters.
    pub kind: FilterKind,
    /// The layer's name.
    #[serde(default)]
    pub layer: String,
    /// `[K, C, H, W]`.
    pub shape: [usize; 4],
    /// K·C·H·W numbers, row-major; what was not finite is `None`.
    pub values: Vec<Option<f64>>,
    /// Class names, for templates.
    #[serde(default)]
    pub labels: Vec<String>,
}

pub(super) fn read(path: &Path) -> Result<Option<Filters>, ReportError> {
    let Some(filters) = super::json::<Filters>(path)? else {
        return Ok(None);
    };
    let count = filters
        .shape
        .iter()
        .try_fold(1_usize, |n, &d| n.checked_mul(d));
    if count != Some(filters.values.len()) || filters.values.is_empty() {
        let problem = format!(
            "`values`: expected as many numbers as the shape {:?} says, and at least one; found {}",
            filters.shape,
            filters.values.len()
        );
        return Err(ReportError::malformed(path, None, problem));
    }
    Ok(Some(filters))
}
