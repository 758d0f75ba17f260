//! The document: one table of steps, one of optimizers, the race, and what failed.

use gradus_train::machine::Machine;

use super::{Report, StepRow};
use crate::markdown::{head, table};

/// The text of the document; `command` repeats it, `figure` is the picture's file, if one is drawn.
#[must_use]
pub fn markdown(report: &Report, machine: &Machine, command: &str, figure: Option<&str>) -> String {
    let versions: Vec<&str> = report.versions.iter().map(String::as_str).collect();
    let mut text = head(
        "Backends, measured",
        command,
        machine,
        &gradus_train::machine::now(),
        &versions,
    );
    if let Some(figure) = figure {
        text.push_str(&format!("\n![Training, images a second]({figure})\n"));
    }
    if !report.steps.is_empty() {
        text.push_str(&steps(&report.steps));
    }
    if !report.optimizers.is_empty() {
        text.push_str(&optimizers(report));
    }
    if let Some(race) = &report.race {
        text.push_str(&format!(
            "\n## The way to {:.0} %\n\n`{} --device NAME`: seconds of training until the end of the first \
             epoch with this accuracy on the validation part, first step included.\n\n",
            100.0 * race.accuracy,
            race.command
        ));
        let rows: Vec<[String; 4]> = (race.rows.iter())
            .map(|row| {
                [
                    row.device.clone(),
                    row.seconds.map_or_else(|| "not reached".to_owned(), digits),
                    row.epoch.map_or_else(|| "–".to_owned(), |e| e.to_string()),
                    format!("{:.1} %", 100.0 * row.best),
                ]
            })
            .collect();
        text.push_str(&table(["device", "seconds", "epoch", "best"], &rows));
    }
    if !report.failed.is_empty() {
        text.push_str("\n## Not measured\n\n");
        for failure in &report.failed {
            text.push_str(&format!(
                "- {}, {}: {}\n",
                failure.device, failure.what, failure.problem
            ));
        }
    }
    text
}

/// Three significant digits.
fn digits(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v if v >= 1.0 => format!("{v:.2}"),
        v => format!("{v:.3}"),
    }
}

fn or_dash(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), digits)
}

fn steps(rows: &[StepRow]) -> String {
    let lines: Vec<[String; 8]> = rows
        .iter()
        .map(|row| {
            let side = match row.side.as_str() {
                "gradus" => "**gradus**".to_owned(),
                "burn" => "plain Burn".to_owned(),
                side => side.to_owned(),
            };
            [
                row.model.clone(),
                row.batch.to_string(),
                row.device.clone(),
                side,
                format!(
                    "{}{}",
                    digits(row.images_per_second),
                    if row.single { "*" } else { "" }
                ),
                or_dash(row.inference_images_per_second),
                or_dash(row.first_step_seconds),
                row.peak_memory_bytes
                    .map_or_else(|| "–".to_owned(), |bytes| (bytes / 1_000_000).to_string()),
            ]
        })
        .collect();
    let note = match rows.iter().any(|row| row.single) {
        true => " \\* A single step, because more would have passed the time limit.",
        false => "",
    };
    format!(
        "\n## Training and inference\n\nImages a second at the median step; inference is the forward pass in \
         evaluation mode. *First step* is in seconds, with all that is compiled, tuned and allocated then. \
         Memory is the largest size of the process on the host.{note}\n\n{}",
        table(
            [
                "model",
                "batch",
                "device",
                "side",
                "training",
                "inference",
                "first step",
                "MB"
            ],
            &lines
        )
    )
}

fn optimizers(report: &Report) -> String {
    let lines: Vec<[String; 6]> = (report.optimizers.iter())
        .map(|row| {
            [
                row.case.clone(),
                row.optimizer.clone(),
                row.device.clone(),
                row.side.clone(),
                digits(row.milliseconds),
                digits(row.gb_per_second),
            ]
        })
        .collect();
    format!(
        "\n## Optimizer step\n\nOne step over a whole module, in milliseconds.\n\n{}",
        table(
            ["module", "optimizer", "device", "side", "ms", "GB/s"],
            &lines
        )
    )
}

#[cfg(test)]
mod tests {
    use super::super::{Failure, OptimizerRow, Race, RaceRow};
    use super::*;

    #[test]
    fn every_part_is_shown_and_what_is_absent_is_not() {
        let mut report = Report {
            steps: vec![StepRow {
                device: "flex".to_owned(),
                side: "gradus".to_owned(),
                model: "cnn".to_owned(),
                batch: 32,
                first_step_seconds: Some(0.25),
                images_per_second: 1294.4,
                inference_images_per_second: None,
                peak_memory_bytes: Some(235_000_000),
                ratio: 1.0,
                single: true,
            }],
            optimizers: vec![OptimizerRow {
                device: "flex".to_owned(),
                side: "burn".to_owned(),
                case: "1 × 20,000,000".to_owned(),
                optimizer: "AdamW".to_owned(),
                milliseconds: 10.06,
                gb_per_second: 55.5,
            }],
            race: Some(Race {
                command: "gradus train".to_owned(),
                accuracy: 0.8,
                rows: vec![RaceRow {
                    device: "ndarray".to_owned(),
                    seconds: None,
                    epoch: None,
                    best: 0.7,
                }],
            }),
            versions: vec!["torch 2".to_owned()],
            failed: vec![Failure {
                device: "wgpu".to_owned(),
                what: "cnn at batch 32".to_owned(),
                problem: "no device".to_owned(),
            }],
        };
        let machine = Machine::inspect();
        let text = markdown(&report, &machine, "gradus bench backends", Some("b.svg"));
        for line in [
            "| cnn | 32 | flex | **gradus** | 1294* | – | 0.250 | 235 |",
            "| 1 × 20,000,000 | AdamW | flex | burn | 10.1 | 55.5 |",
            "| ndarray | not reached | – | 70.0 % |",
            "- wgpu, cnn at batch 32: no device",
            "Beside: torch 2.",
            "](b.svg)",
            "A single step",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        report.failed.clear();
        report.race = None;
        let text = markdown(&report, &machine, "gradus bench backends", None);
        assert!(!text.contains("Not measured") && !text.contains("The way to"));
    }
}
