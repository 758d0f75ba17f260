//! What a step of an optimizer leaves behind, and how far off it may be.

use std::collections::BTreeSet;

use super::report::Place;
use super::side::State;
use super::tensors::wide;
use super::yardstick::{Yardstick, sensitivity};

/// What becomes of a tensor of the model in a step.
pub(super) fn fate(name: &str, trained: &BTreeSet<String>) -> &'static str {
    if trained.contains(name) {
        "update"
    } else if name.ends_with("running_mean") || name.ends_with("running_var") {
        "running_statistics"
    } else {
        "frozen"
    }
}

/// Weights and slots after a step of the f64 run from `before`. `nudged` are the same step from gradients
/// and slots that were moved a little, one way and the other.
pub(super) fn moves(
    before: &State,
    after: &State,
    nudged: &[State],
    trained: &BTreeSet<String>,
) -> Vec<(Place, Yardstick)> {
    let mut found = Vec::new();
    let all = after.weights.values().map(|data| data.num_elements()).sum();
    for (name, data) in &after.weights {
        let values = wide(data);
        let old = before.weights.get(name).map(wide).unwrap_or_default();
        let operation = fate(name, trained);
        let yardstick = if operation == "update" {
            let others = [0, 1].map(|way: usize| {
                let other: Option<&State> = nudged.get(way);
                other.and_then(|other| other.weights.get(name)).map(wide)
            });
            let sensitivity = sensitivity(&values, others);
            Yardstick::of_step(values, &old, &sensitivity, 1)
        } else {
            let both = values.iter().zip(&old);
            let sizes = both.map(|(a, b)| a.abs() + b.abs()).collect();
            Yardstick::of_sizes(values, sizes, 1)
        };
        found.push((Place::new(operation, name), yardstick));
    }
    for (name, values) in after.slots.values() {
        let others = [0, 1].map(|way: usize| {
            let other: Option<&State> = nudged.get(way);
            let slot = other.and_then(|other| other.slots.get(name));
            slot.map(<[f64]>::to_vec)
        });
        let sensitivity = sensitivity(values, others);
        let old = before.slots.get(name).unwrap_or_default();
        // What a rule keeps as numbers are sums over a tensor or over all of them.
        let terms = if name.ends_with("/memory") { all } else { 1 };
        let yardstick = Yardstick::of_step(values.to_vec(), old, &sensitivity, terms);
        found.push((Place::new("state", name), yardstick));
    }
    found
}
