//! The document: tables of what was measured, how, and the commands that repeat it.

use serde_json::Value;

use super::{BATCHES, Net, Results, nets};
use crate::BenchError;
use crate::markdown::{head, table_of};

/// The text of `docs/performance.md`.
///
/// # Errors
/// None in practice: the networks of the comparison are known to the zoo.
pub fn markdown(results: &Results) -> Result<String, BenchError> {
    let nets = nets()?;
    let machine = &results.machine;
    let versions: Vec<&str> = (results.reports.values())
        .filter_map(|report| report["versions"].as_array())
        .max_by_key(|versions| versions.len())
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let mut text = head(
        "How fast Gradus is on a CPU",
        &results.command,
        machine,
        &results.finished,
        &versions,
    );
    text.push_str(&peaks(results));
    for (task, title) in [
        (
            "train",
            "## Training step\n\nForward pass, cross-entropy, backward pass, SGD with momentum, on \
             random images in memory. A ratio says how many times as fast ours is: the median over pairs \
             of rounds that alternate between the sides. GFLOP are counted directly (2 per multiply-add; \
             forward, weight and input gradients), so that a faster algorithm can pass the matrix \
             product. Memory is the largest size of the process, of ours in one of its own.",
        ),
        (
            "infer",
            "## Inference\n\nForward pass in evaluation mode, off the tape (PyTorch: \
             `inference_mode`).",
        ),
    ] {
        text.push_str(&format!("\n{title}\n\n"));
        text.push_str(&steps(results, &nets, task));
    }
    text.push_str(&losses(results, &nets));
    if let Some(report) = results.reports.get("kernels") {
        text.push_str(&kernels(report));
    }
    text.push_str(&commands(&nets));
    Ok(text)
}

fn number(value: &Value, digits: usize) -> String {
    (value.as_f64()).map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}

fn percent(value: &Value) -> String {
    (value.as_f64()).map_or_else(|| "–".to_owned(), |value| format!("{:.0} %", 100.0 * value))
}

fn megabytes(value: &Value) -> String {
    (value.as_u64()).map_or_else(|| "–".to_owned(), |bytes| format!("{}", bytes / 1_000_000))
}

fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<&[String]> = rows.iter().map(Vec::as_slice).collect();
    table_of(header, &rows)
}

/// The best that any measurement saw.
fn peaks(results: &Results) -> String {
    let best = |key: &str| {
        (results.reports.values())
            .filter_map(|report| report["peaks"][key].as_f64())
            .fold(0.0, f64::max)
    };
    let (gemm, fma, triad) = (
        best("gemm_gflops"),
        best("fma_gflops"),
        best("triad_gb_per_second"),
    );
    format!(
        "\nThe machine gives, in these runs at best: {gemm:.0} GFLOP/s in f32 matrix products (the crate \
         `gemm`), {fma:.0} in multiply-adds in registers, {triad:.0} GB/s in a ← b + s·c. Shares refer \
         to the peak of the same run.\n"
    )
}

/// The fastest variant of a library: its rate, its name, how many times as fast ours is.
fn fastest<'a>(report: &'a Value, task: &str, library: &str) -> Option<&'a Value> {
    let lines = report["peers"].as_array()?.iter();
    lines
        .filter(|line| {
            let side = line["side"].as_str().unwrap_or_default();
            line["task"] == task && side.starts_with(library)
        })
        .max_by(|a, b| {
            let rate = |line: &Value| line["images_per_second"].as_f64().unwrap_or_default();
            rate(a).total_cmp(&rate(b))
        })
}

/// `640 compiled: **1.25×**`.
fn beside(report: &Value, task: &str, library: &str) -> String {
    let Some(line) = fastest(report, task, library) else {
        return "–".to_owned();
    };
    let side = line["side"].as_str().unwrap_or_default();
    let variant = match side.strip_prefix("torch ") {
        Some(variant) => format!(" {}", variant.trim_end_matches(" bf16")),
        None => String::new(),
    };
    format!(
        "{}{variant}: **{}×**",
        number(&line["images_per_second"], 0),
        number(&line["ratio"]["median"], 2)
    )
}

/// The part of a report that is about `task`.
fn part<'a>(report: &'a Value, task: &str) -> &'a Value {
    match task {
        "train" => report,
        _ => &report["inference"],
    }
}

fn steps(results: &Results, nets: &[Net], task: &str) -> String {
    let mut rows = Vec::new();
    let sizes = nets
        .iter()
        .flat_map(|net| BATCHES.map(|batch| (net, batch)));
    for (net, batch) in sizes {
        let name = format!("step {} {batch}", net.name);
        let Some(report) = results.reports.get(&name) else {
            continue;
        };
        let half = results.reports.get(&format!("{name} bf16"));
        let half = half.unwrap_or(&Value::Null);
        let ours = part(report, task);
        let mut row = vec![
            net.name.to_owned(),
            batch.to_string(),
            format!("**{}**", number(&ours["images_per_second"], 0)),
            number(&ours["gflops"], 0),
            percent(&ours["peak_share"]),
            beside(report, task, "torch"),
            beside(report, task, "jax"),
            beside(report, task, "burn"),
            number(&part(half, task)["images_per_second"], 0),
            beside(half, task, "torch"),
        ];
        if task == "train" {
            let torch = fastest(report, task, "torch");
            let theirs = torch.map_or(&Value::Null, |line| &line["peak_memory_bytes"]);
            let alone = results.reports.get(&format!("memory {} {batch}", net.name));
            let ours = megabytes(&alone.unwrap_or(report)["peak_memory_bytes"]);
            row.push(format!("{ours} / {}", megabytes(theirs)));
        }
        rows.push(row);
    }
    let mut header = vec![
        "network",
        "batch",
        "images/s",
        "GFLOP/s",
        "of peak",
        "best PyTorch",
        "JAX",
        "plain Burn",
        "bf16 images/s",
        "best PyTorch bf16",
    ];
    if task == "train" {
        header.push("MB, ours / PyTorch");
    }
    table(&header, &rows)
}

fn losses(results: &Results, nets: &[Net]) -> String {
    let mut rows = Vec::new();
    for net in nets {
        let Some(report) = results.reports.get(&format!("losses {}", net.name)) else {
            continue;
        };
        for side in report["sides"].as_array().into_iter().flatten() {
            rows.push(vec![
                net.name.to_owned(),
                side["side"].as_str().unwrap_or_default().to_owned(),
                number(&report["steps"], 0),
                (side["difference"].as_f64())
                    .map_or_else(|| "–".to_owned(), |value| format!("{value:.1e}")),
            ]);
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "\n## The same computation\n\nAll sides start from the same weights and see the same batches: \
         the largest relative difference of the losses from ours, in f32.\n\n{}",
        table(&["network", "side", "steps", "difference"], &rows)
    )
}

fn kernels(report: &Value) -> String {
    let lines: Vec<&Value> = report["lines"].as_array().into_iter().flatten().collect();
    let mut rows: Vec<Vec<String>> = Vec::new();
    for passes in lines.chunks(3) {
        let mut row = vec![passes[0]["shape"].as_str().unwrap_or_default().to_owned()];
        for line in passes {
            let ratio = match line["torch_ratio"].as_f64() {
                Some(ratio) => format!(", {ratio:.2}×"),
                None => String::new(),
            };
            row.push(format!(
                "{} ({}{ratio})",
                number(&line["gflops"], 0),
                percent(&line["peak_share"])
            ));
        }
        rows.push(row);
    }
    let header = [
        "convolution",
        "forward",
        "input gradient",
        "weight gradient",
    ];
    let convolutions = table(&header, &rows);
    let streams = report["streams"].as_array().into_iter().flatten();
    let rows: Vec<Vec<String>> = streams
        .map(|line| {
            vec![
                format!(
                    "{}, {}",
                    line["operation"].as_str().unwrap_or_default(),
                    line["shape"].as_str().unwrap_or_default()
                ),
                line["pass"].as_str().unwrap_or_default().to_owned(),
                number(&line["gb_per_second"], 1),
                percent(&line["triad_share"]),
                number(&line["torch_ratio"], 2),
            ]
        })
        .collect();
    let streams = table(
        &["operation", "pass", "GB/s", "of triad", "× PyTorch"],
        &rows,
    );
    format!(
        "\n## Kernels alone\n\nBatch {}, f32: GFLOP/s (share of the matrix product's, times as fast as \
         PyTorch's channels-last).\n\n{convolutions}\nWhat memory bounds:\n\n{streams}",
        report["batch"]
    )
}

fn commands(nets: &[Net]) -> String {
    let lines: String = nets
        .iter()
        .map(|net| {
            format!(
                "gradus bench step {} --batch 128 --inference --peers torch,jax,burn --python PYTHON\n",
                net.flags
            )
        })
        .collect();
    format!(
        "\n## One at a time\n\n```sh\n{lines}gradus bench kernels --python PYTHON\n\
         gradus bench profile --model resnet20        # where a step's time goes\n```\n"
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use gradus_train::machine::Machine;
    use serde_json::json;
    use std::collections::BTreeMap;

    #[test]
    fn the_best_variant_of_each_library_is_shown() {
        let line = |side: &str, precision: &str, rate: f64, ratio: f64| {
            json!({
                "task": "train", "side": side, "precision": precision, "images_per_second": rate,
                "ratio": {"median": ratio}, "peak_memory_bytes": 2_000_000,
            })
        };
        let report = json!({
            "images_per_second": 800.4, "gflops": 150.0, "peak_share": 0.75,
            "peak_memory_bytes": 1_000_000, "versions": ["torch 2"],
            "peaks": {"gemm_gflops": 200.0},
            "peers": [
                line("torch nchw", "f32", 400.0, 2.0),
                line("torch compiled", "f32", 640.0, 1.25),
                line("burn", "f32", 200.0, 4.0),
            ],
        });
        let half = json!({
            "images_per_second": 1200.0,
            "peers": [line("torch compiled bf16", "bf16", 1600.0, 0.75)],
        });
        let results = Results {
            machine: Machine::inspect(),
            command: "gradus bench report".to_owned(),
            finished: String::new(),
            reports: BTreeMap::from([
                ("step resnet20 128".to_owned(), report),
                ("step resnet20 128 bf16".to_owned(), half),
            ]),
        };
        let text = markdown(&results).unwrap();
        let expected = "| resnet20 | 128 | **800** | 150 | 75 % | 640 compiled: **1.25×** | – | \
                        200: **4.00×** | 1200 | 1600 compiled: **0.75×** | 1 / 2 |";
        assert!(text.contains(expected), "{text}");
        assert!(
            !text.contains("The same computation"),
            "nothing was compared"
        );
        assert!(text.contains("200 GFLOP/s in f32 matrix products"));
    }
}
