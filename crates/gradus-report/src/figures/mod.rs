//! Which pictures a run gives, each drawn only if the run recorded what it shows.
//!
//! | file stem | drawn from |
//! |---|---|
//! | `loss`, `accuracy`, `learning-rate`, `gradient-norm`, `throughput` | `metrics.jsonl` |
//! | `confusion`, `per-class`, `mistakes` | `evaluation.json` |
//! | `templates` or `filters` | `filters.json` |

mod curves;
mod evaluation;
mod filters;

pub use curves::{accuracy, gradient_norm, learning_rate, loss, throughput};
pub use evaluation::{confusion, mistakes, per_class};
pub use filters::filters;

use crate::draw::Figure;
use crate::run::Run;

/// Every picture of the run, in the order of the report.
#[must_use]
pub fn all(run: &Run) -> Vec<Figure> {
    let mut figures = curves(run);
    figures.extend(
        [confusion(run), per_class(run), filters(run), mistakes(run)]
            .into_iter()
            .flatten(),
    );
    figures
}

/// The pictures with time along x.
#[must_use]
pub fn curves(run: &Run) -> Vec<Figure> {
    let metrics = &run.metrics;
    [
        loss(metrics),
        accuracy(metrics),
        learning_rate(metrics),
        gradient_norm(metrics),
        throughput(metrics),
    ]
    .into_iter()
    .flatten()
    .collect()
}
