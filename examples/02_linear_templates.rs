//! A linear classifier and its templates.
//!
//! ```text
//! s = W·x + b        one row of W per class: the image that the class would most like to see
//! ```
//!
//! A linear classifier compares an image with one picture per class. When a class may appear in
//! every place, size and colour, one picture cannot hold it: that is why it fails on `shapes`, and
//! why the templates it learns look like fog.
//!
//! Run:       `cargo run --release --example 02_linear_templates`
//! Expected:  a test accuracy far below that of a convolutional network, and the path of a report
//!            that shows the ten templates.
//! Time:      a few seconds.

#![allow(
    clippy::print_stdout,
    reason = "an example talks to the person who runs it"
)]

use gradus::report::write_report;
use gradus::train::{Ended, Event, Trainer, build_model, fitted, recipe};

fn main() -> anyhow::Result<()> {
    let config = recipe("linear", &"shapes".parse()?)?;
    let data = config.data.open()?;
    let config = fitted(&config, &data)?;
    let model = build_model(&config, &data, &gradus::train::device("auto")?.0.autodiff())?;

    let outcome = Trainer::new(config, data)?
        .subscribe(|event: &Event| {
            if let Event::Epoch(epoch) = event {
                println!(
                    "epoch {:2}   loss {:.3}   validation {:.1} %",
                    epoch.epoch,
                    epoch.train_loss,
                    100.0 * epoch.val_accuracy.unwrap_or(f64::NAN)
                );
            }
        })
        .fit(model)?;

    if let Ended::Finished(summary) = &outcome.ended {
        println!(
            "test accuracy {:.1} % (chance is 10 %)",
            100.0 * summary.test_accuracy
        );
    }
    let report = write_report(&outcome.run_dir)?;
    println!("the templates are in {}", report.html.display());
    Ok(())
}
