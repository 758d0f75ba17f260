//! Curves over training time. x is the epoch, in fractions, where the run recorded epochs, else the
//! step.

use crate::draw::{Figure, Paint};
use crate::plot::{Chart, Scale, Series};
use crate::report::format;
use crate::run::{EpochRow, Metrics, StepRow};

/// The most points a line is drawn with; more cannot be seen at this width.
const POINTS: usize = 1200;
const TRAINING: Paint = Paint::Accent(0);
const VALIDATION: Paint = Paint::Accent(1);

/// Training and validation loss: each step (pale), smoothed, and the means of the epochs.
#[must_use]
pub fn loss(metrics: &Metrics) -> Option<Figure> {
    let time = Time::of(metrics);
    let steps = time.steps(metrics, |s| s.loss);
    let train = time.middles(
        metrics,
        "training, mean of epoch",
        |e| e.train_loss,
        format::number,
    );
    let validation = time.ends(metrics, "validation", |e| e.val_loss, format::number);
    let mut chart = time.chart("loss", "Loss", "");
    let largest = |s: &Series| {
        s.points
            .iter()
            .map(|p| p[1])
            .filter(|y| y.is_finite())
            .fold(0.0, f64::max)
    };
    let smallest = |s: &Series| {
        s.points
            .iter()
            .map(|p| p[1])
            .filter(|y| *y > 0.0)
            .fold(f64::MAX, f64::min)
    };
    let all = [&steps, &train, &validation];
    let ratio = all.iter().map(|s| largest(s)).fold(0.0, f64::max)
        / all.iter().map(|s| smallest(s)).fold(f64::MAX, f64::min);
    if ratio > 300.0 {
        chart.y_axis().scale = Scale::Log;
    } else {
        chart.y_axis().from_zero = true;
    }
    let chart = with_divergence(
        with_steps(chart, steps, "training, smoothed"),
        metrics,
        &time,
    );
    let chart = with(chart, train.paint(TRAINING).only_dots());
    finish(
        &with(chart, validation.paint(VALIDATION).dots()),
        metrics,
        |s| s.loss,
        |e| e.train_loss,
    )
}

/// Training and validation accuracy.
#[must_use]
pub fn accuracy(metrics: &Metrics) -> Option<Figure> {
    let time = Time::of(metrics);
    let steps = time.steps(metrics, |s| s.accuracy);
    let train = time.middles(
        metrics,
        "training, mean of epoch",
        |e| e.train_accuracy,
        format::percent,
    );
    let validation = time.ends(metrics, "validation", |e| e.val_accuracy, format::percent);
    let mut chart = time.chart("accuracy", "Accuracy", "");
    chart.y_axis().percent = true;
    let chart = with_steps(chart, steps, "training, smoothed");
    let chart = with(chart, train.paint(TRAINING).only_dots());
    let chart = with(chart, validation.paint(VALIDATION).dots());
    finish(
        &chart,
        metrics,
        |s| s.accuracy,
        |e| e.train_accuracy.max(e.val_accuracy),
    )
}

/// The learning rate of each step.
#[must_use]
pub fn learning_rate(metrics: &Metrics) -> Option<Figure> {
    let time = Time::of(metrics);
    let mut chart = time.chart("learning-rate", "Learning rate", "");
    chart.y_axis().from_zero = true;
    let steps = time.steps(metrics, |s| s.lr);
    let line = if steps.points.is_empty() {
        time.ends(metrics, "", |e| e.lr, format::number)
    } else {
        steps
    };
    let chart = chart.series(line.thinned(POINTS));
    finish(&chart, metrics, |s| s.lr, |e| e.lr)
}

/// The global norm of the gradient, before clipping.
#[must_use]
pub fn gradient_norm(metrics: &Metrics) -> Option<Figure> {
    let time = Time::of(metrics);
    let steps = time.steps(metrics, |s| s.grad_norm);
    let mut chart = time.chart("gradient-norm", "Gradient norm", "");
    let positive = || {
        steps
            .points
            .iter()
            .map(|p| p[1])
            .filter(|y| y.is_finite() && *y > 0.0)
    };
    if positive().fold(0.0, f64::max) / positive().fold(f64::MAX, f64::min) > 30.0 {
        chart.y_axis().scale = Scale::Log;
    } else {
        chart.y_axis().from_zero = true;
    }
    let chart = with_divergence(with_steps(chart, steps, "smoothed"), metrics, &time);
    finish(&chart, metrics, |s| s.grad_norm, |_| f64::NAN)
}

/// Images a second: a machine that was busy with something else shows here.
#[must_use]
pub fn throughput(metrics: &Metrics) -> Option<Figure> {
    let time = Time::of(metrics);
    let mut chart = time.chart("throughput", "Throughput", "images per second");
    chart.y_axis().from_zero = true;
    let steps = time.steps(metrics, |s| s.images_per_second);
    let chart = if steps.points.iter().any(|p| p[1].is_finite()) {
        with_steps(chart, steps, "smoothed")
    } else {
        with(
            chart,
            time.ends(metrics, "", |e| e.images_per_second, format::number)
                .dots(),
        )
    };
    finish(
        &chart,
        metrics,
        |s| s.images_per_second,
        |e| e.images_per_second,
    )
}

/// The pale line of all steps and its smoothed self.
fn with_steps(chart: Chart, steps: Series, name: &str) -> Chart {
    if steps.points.is_empty() {
        return chart;
    }
    let half_life = steps.points.len() as f64 / 80.0;
    let smooth = steps.clone().named(name);
    let smooth = smooth.smoothed(half_life).thinned(POINTS).paint(TRAINING);
    chart
        .series(steps.thinned(POINTS).paint(TRAINING).faint())
        .series(smooth)
}

fn with(chart: Chart, series: Series) -> Chart {
    let any = series.points.iter().any(|p| p[1].is_finite());
    if any { chart.series(series) } else { chart }
}

fn with_divergence(chart: Chart, metrics: &Metrics, time: &Time) -> Chart {
    match metrics.diverged_at() {
        Some(step) => chart.guide(time.at(step), format!("not finite from step {step}")),
        None => chart,
    }
}

/// The chart, if one row at least has a number to show.
fn finish(
    chart: &Chart,
    metrics: &Metrics,
    step: impl Fn(&StepRow) -> f64,
    epoch: impl Fn(&EpochRow) -> f64,
) -> Option<Figure> {
    let any = metrics.steps.iter().any(|s| step(s).is_finite())
        || metrics.epochs.iter().any(|e| epoch(e).is_finite());
    any.then(|| chart.figure())
}

/// The horizontal axis.
struct Time {
    steps_per_epoch: Option<f64>,
}

impl Time {
    fn of(metrics: &Metrics) -> Self {
        Self {
            steps_per_epoch: metrics.steps_per_epoch(),
        }
    }

    fn label(&self) -> &'static str {
        if self.steps_per_epoch.is_some() {
            "epoch"
        } else {
            "step"
        }
    }

    /// An empty chart over this axis.
    fn chart(&self, name: &str, title: &str, y: &str) -> Chart {
        let mut chart = Chart::new(name, title).axes(self.label(), y);
        chart.x_axis().from_zero = true;
        chart.x_axis().whole = true;
        chart
    }

    fn at(&self, step: u64) -> f64 {
        step as f64 / self.steps_per_epoch.unwrap_or(1.0)
    }

    fn steps(&self, metrics: &Metrics, value: impl Fn(&StepRow) -> f64) -> Series {
        let rows = metrics.steps.iter();
        let points: Vec<_> = rows.map(|s| [self.at(s.step), value(s)]).collect();
        let any = points.iter().any(|p| p[1].is_finite());
        Series::new("", if any { points } else { Vec::new() })
    }

    /// A value measured at the end of each epoch.
    fn ends(
        &self,
        metrics: &Metrics,
        name: &str,
        value: impl Fn(&EpochRow) -> f64,
        write: impl Fn(f64) -> String,
    ) -> Series {
        let at = |e: &EpochRow| {
            if self.steps_per_epoch.is_some() {
                e.epoch as f64
            } else {
                e.step as f64
            }
        };
        let rows = || metrics.epochs.iter();
        let tip = |e: &EpochRow| format!("epoch {}: {name} {}", e.epoch, write(value(e)));
        Series::new(name, rows().map(|e| [at(e), value(e)])).tips(rows().map(tip).collect())
    }

    /// A mean over each epoch: it belongs to the middle of it.
    fn middles(
        &self,
        metrics: &Metrics,
        name: &str,
        value: impl Fn(&EpochRow) -> f64,
        write: impl Fn(f64) -> String,
    ) -> Series {
        let mut series = self.ends(metrics, name, value, write);
        if self.steps_per_epoch.is_some() && !metrics.steps.is_empty() {
            for point in &mut series.points {
                point[0] -= 0.5;
            }
        }
        series
    }
}
