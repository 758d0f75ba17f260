//! A run on the screen: a bar for the epoch under way, one line for each that is done.
//!
//! A bar needs a terminal; where stderr is a file or a pipe there are the lines alone.

use std::io::IsTerminal;
use std::time::Instant;

use gradus_train::event::{EpochRecord, StepRecord};
use gradus_train::{Event, Subscriber, TrainError};
use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};

use crate::numbers::{count, counted, duration, percent, rate, short};
use crate::output;
use crate::ranks::images;

/// The width of an epoch's line stays within 80 columns.
const HEADER: &str =
    " epoch   train loss   train acc    val loss     val acc   images/s       time";

/// Shows the events of a run on stderr.
pub(crate) struct Screen {
    bars: bool,
    multiply_adds: u64,
    epochs: usize,
    batches: usize,
    headed: bool,
    bar: Option<ProgressBar>,
    epoch_began: Instant,
    average: Average,
}

impl Screen {
    /// A screen for a network of `multiply_adds` per image.
    pub(crate) fn new(multiply_adds: u64) -> Self {
        Self {
            bars: std::io::stderr().is_terminal(),
            multiply_adds,
            epochs: 0,
            batches: 0,
            headed: false,
            bar: None,
            epoch_began: Instant::now(),
            average: Average::default(),
        }
    }

    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| output::say(false, text)),
            None => output::say(false, text),
        }
    }

    /// Names the columns, once, after everything that is said before the first epoch.
    fn header(&mut self) {
        if !std::mem::replace(&mut self.headed, true) {
            self.say(&format!("\n{HEADER}"));
        }
    }

    fn step(&mut self, record: &StepRecord) {
        self.header();
        if !self.bars {
            return;
        }
        let (epoch, epochs, batches) = (record.epoch, self.epochs, self.batches);
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new(batches as u64).with_finish(ProgressFinish::AndClear);
            if let Ok(style) = ProgressStyle::with_template(
                "{prefix:>6} {bar:10} {pos}/{len} {wide_msg} {eta} left",
            ) {
                bar.set_style(style.progress_chars("━╸─"));
            }
            bar.set_prefix(format!("{epoch}/{epochs}"));
            // A resumed run begins in the middle, which must not look like speed.
            bar.set_position(record.batch.saturating_sub(1) as u64);
            bar.reset_eta();
            bar
        });
        self.average.add(record);
        bar.set_position(record.batch as u64);
        bar.set_message(format!(
            "loss {:.4} acc {:.1} % lr {} {} img/s",
            self.average.loss,
            self.average.accuracy * 100.0,
            rate(record.lr),
            count(self.average.speed as usize),
        ));
    }

    fn epoch(&mut self, record: &EpochRecord) {
        self.header();
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        let optional = |value: Option<String>| value.unwrap_or_else(|| "–".to_owned());
        self.say(&format!(
            "{:>6}   {:>10.4}   {:>9}  {:>10}   {:>9}   {:>8}   {:>8}",
            format!("{}/{}", record.epoch, self.epochs),
            record.train_loss,
            percent(record.train_accuracy),
            optional(record.val_loss.map(|loss| format!("{loss:.4}"))),
            optional(record.val_accuracy.map(percent)),
            count(record.images_per_second as usize),
            duration(self.epoch_began.elapsed().as_secs_f64()),
        ));
        self.epoch_began = Instant::now();
        self.average = Average::default();
    }
}

impl Subscriber for Screen {
    fn receive(&mut self, event: &Event) -> Result<(), TrainError> {
        match event {
            Event::RunStarted {
                run_dir,
                model,
                parameters,
                data,
                train,
                validation,
                test,
                device,
                epochs,
                batches,
                batch_size,
                ranks,
                notes,
                ..
            } => {
                (self.epochs, self.batches) = (*epochs, *batches);
                let sizes = format!(
                    "{data}: {} training, {} validation, {} test images",
                    count(*train),
                    count(*validation),
                    count(*test)
                );
                let network = format!(
                    "{model}: {} parameters, {} multiply-adds per image",
                    count(*parameters),
                    short(self.multiply_adds)
                );
                let plan = format!(
                    "{} of {} of {}",
                    counted(*epochs, "epoch", "epochs"),
                    counted(*batches, "batch", "batches"),
                    images(*batch_size, *ranks)
                );
                self.say(&output::pairs(&[
                    ("data", sizes),
                    ("model", network),
                    ("device", device.clone()),
                    ("plan", plan),
                    ("run", run_dir.display().to_string()),
                ]));
                for note in notes {
                    self.say(&format!("note: {note}"));
                }
                self.epoch_began = Instant::now();
            }
            Event::Resumed {
                checkpoint,
                step,
                epoch,
            } => self.say(&match checkpoint {
                Some(path) => format!(
                    "going on from {} ({} and {} done)",
                    path.display(),
                    counted(*epoch, "epoch", "epochs"),
                    counted(*step, "step", "steps")
                ),
                None => "no checkpoint was written yet: beginning anew".to_owned(),
            }),
            Event::Step(record) => self.step(record),
            Event::Epoch(record) => self.epoch(record),
            Event::Warning { message } => self.say(&format!("warning: {message}")),
            Event::StoppedEarly { reason, epoch } => {
                self.say(&format!("stopped early in epoch {epoch}: {reason}"));
            }
            Event::Interrupted { .. } => {
                if let Some(bar) = self.bar.take() {
                    bar.finish_and_clear();
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Means over the steps of an epoch so far; the speed forgets, so that it follows the machine.
#[derive(Default)]
struct Average {
    steps: f64,
    loss: f64,
    accuracy: f64,
    speed: f64,
}

impl Average {
    fn add(&mut self, record: &StepRecord) {
        self.steps += 1.0;
        self.loss += (record.loss - self.loss) / self.steps;
        self.accuracy += (record.accuracy - self.accuracy) / self.steps;
        let share = (1.0 / self.steps).max(0.05);
        self.speed += (record.images_per_second - self.speed) * share;
    }
}
