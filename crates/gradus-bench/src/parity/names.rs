//! What the calls of a forward pass are called: the layers of the model's summary.
//!
//! The n-th convolution that runs is the n-th of the summary, and so are linear layers, normalisations and
//! poolings. What the summary does not list (an activation by itself, a fork) is named by what comes
//! before it: `whiten.activation`.

use std::collections::BTreeMap;

use gradus_nn::Summary;

/// The calls of one forward pass: number and operation.
pub(super) type Calls = BTreeMap<u64, &'static str>;

/// The beginning of what the summary says of a layer that is such an operation.
fn kinds(operation: &str) -> &'static [&'static str] {
    match operation {
        "conv2d" => &["conv "],
        "linear" => &["linear,"],
        "batch_norm" | "scale_shift" => &["batch norm"],
        "max_pool" => &["max pool", "global max pool"],
        "global_avg_pool" => &["global average pool"],
        "subsample" => &["subsample"],
        _ => &[],
    }
}

/// The layers in the order in which they run. The summary lists the normalisation of a projected shortcut
/// behind that of the branch, which takes its sum and runs last.
fn running_order(summary: &Summary) -> Vec<(&str, &str)> {
    let mut layers: Vec<(&str, &str)> = (summary.layers.iter())
        .map(|layer| (layer.name.as_str(), layer.kind.as_str()))
        .collect();
    for place in 0..layers.len() {
        if let Some(block) = layers[place].0.strip_suffix(".shortcut_norm") {
            let branch = format!("{block}.norm2");
            if let Some(before) = layers.iter().position(|(name, _)| *name == branch)
                && before < place
            {
                let layer = layers.remove(before);
                layers.insert(place, layer);
            }
        }
    }
    layers
}

/// The name of every call of a forward pass, `0..=last`.
pub(super) fn names(calls: &Calls, last: u64, summary: &Summary) -> BTreeMap<u64, String> {
    let layers = running_order(summary);
    let fits =
        |operation: &str, kind: &str| kinds(operation).iter().any(|start| kind.starts_with(start));
    let mut next: BTreeMap<&str, usize> = BTreeMap::new();
    let mut found = BTreeMap::new();
    let mut before = "input".to_owned();
    for call in 0..=last {
        let Some(&operation) = calls.get(&call) else {
            found.insert(call, format!("{before}.fork"));
            continue;
        };
        if operation == "cross_entropy" {
            found.insert(call, "loss".to_owned());
            continue;
        }
        let count = next.entry(operation).or_default();
        let layer = (layers.iter().filter(|(_, kind)| fits(operation, kind))).nth(*count);
        *count += 1;
        let name = match layer {
            Some((name, _)) => {
                before = (*name).to_owned();
                before.clone()
            }
            None => format!("{before}.{operation}"),
        };
        found.insert(call, name);
    }
    found
}

/// What a result is called: the layer's own output by the layer, all else behind a dot.
pub(super) fn tensor(layer: &str, output: &str) -> String {
    match (layer, output) {
        (_, "output") | ("loss", "loss") => layer.to_owned(),
        _ => format!("{layer}.{output}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gradus_nn::{ModelConfig, Shortcut};

    #[test]
    fn calls_are_layers_in_the_order_in_which_they_run() {
        let config = ModelConfig {
            depth: 8,
            shortcut: Shortcut::B,
            ..ModelConfig::named("resnet8").unwrap()
        };
        let block = ["fork", "conv2d", "batch_norm", "conv2d", "batch_norm"];
        let projected = [
            "fork",
            "conv2d",
            "batch_norm",
            "conv2d",
            "conv2d",
            "batch_norm",
            "batch_norm",
        ];
        let order = ["conv2d", "batch_norm"]
            .into_iter()
            .chain(block)
            .chain(projected)
            .chain(projected)
            .chain(["global_avg_pool", "linear", "activation", "cross_entropy"]);
        let calls: Calls = (0..)
            .zip(order)
            .filter(|(_, name)| *name != "fork")
            .collect();
        let last = calls.keys().max().copied().unwrap();
        let found = names(&calls, last, &config.summary().unwrap());
        let at = |call: u64| found[&call].as_str();
        assert_eq!((at(0), at(1), at(2)), ("conv", "norm", "norm.fork"));
        assert_eq!(at(6), "stages.0.0.norm2");
        assert_eq!(at(11), "stages.1.0.shortcut");
        assert_eq!(at(12), "stages.1.0.shortcut_norm");
        assert_eq!(at(13), "stages.1.0.norm2");
        assert_eq!(at(last - 3), "pool");
        assert_eq!(at(last - 2), "head");
        assert_eq!(at(last - 1), "head.activation");
        assert_eq!(tensor("head", "weight"), "head.weight");
        assert_eq!(tensor(at(last), "loss"), "loss");
    }
}
