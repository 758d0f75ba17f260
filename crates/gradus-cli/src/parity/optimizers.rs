//! `gradus parity --optimizers`: the steps of update rules and wrappers on several devices.

use std::time::Instant;

use gradus_bench::parity::optimizers::{Report, Settings, optimizers, run as compare};

use super::{ParityArgs, devices, divergence, named, scientific, share, tell};
use crate::failure::{Outcome, usage};
use crate::numbers::counted;
use crate::output;

pub(super) fn run(args: &ParityArgs, list: &str) -> Outcome {
    let settings = Settings {
        optimizers: optimizers(list).map_err(usage)?,
        devices: devices(args).map_err(usage)?,
        steps: args.steps,
        seed: args.seed.unwrap_or(42),
        plant: args.plant.clone(),
    };
    let quiet = args.speech.quiet;
    let begun = Instant::now();
    let report = compare(&settings, |what| output::say(quiet, what)).map_err(named)?;
    tell(args, &report, report.agree, begun, text)
}

fn text(report: &Report, seconds: f64) -> String {
    let mut header = vec!["optimizer".to_owned()];
    for device in &report.devices {
        header.extend([format!("{device}: error/rms"), "of tolerance".to_owned()]);
    }
    header.push("worst tensor".to_owned());
    let rows: Vec<Vec<String>> = (report.optimizers.iter())
        .map(|row| {
            let size = |share: Option<f64>| share.unwrap_or(f64::INFINITY);
            let mut cells = vec![row.optimizer.clone()];
            for worst in &row.against_f64 {
                cells.extend([scientific(worst.relative), share(worst.share)]);
            }
            let worst = (row.against_f64.iter())
                .max_by(|a, b| size(a.share).total_cmp(&size(b.share)))
                .map(|worst| worst.tensor.clone());
            cells.push(match row.agree {
                true => worst.unwrap_or_default(),
                false => format!("DIVERGES in step {}", row.steps),
            });
            cells
        })
        .collect();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let right: Vec<usize> = (1..header.len() - 1).collect();
    let mut parts = vec![
        format!(
            "{}, {} each, against f64 on the same gradients: {}, {seconds:.0} s",
            counted(report.optimizers.len(), "optimizer", "optimizers"),
            counted(report.steps, "step", "steps"),
            report.devices.join(", ")
        ),
        output::table(&header, &right, &rows),
    ];
    for row in &report.optimizers {
        let out = row.first_divergence.as_ref();
        parts.extend(out.map(|out| format!("{}: {}", row.optimizer, divergence(out))));
    }
    parts.push(match report.agree {
        true => "All agree: every weight and slot is within 16·u·(|old| + |new| + their mean) + 8·(s + \
                 mean s) of f64, where u = 2⁻²⁴ and s is how far the f64 step moves when gradients and \
                 slots move by 4·u (for sums over all n weights 4·√n in place of 16)."
            .to_owned(),
        false => {
            let out = report.optimizers.iter().filter(|row| !row.agree).count();
            format!("{} of {} do not agree.", out, report.optimizers.len())
        }
    });
    parts.join("\n\n")
}
