//! What the model gets right and wrong: confusion matrix, accuracy of each class, the worst
//! mistakes.

use std::sync::Arc;

use crate::draw::{Figure, Paint, Weight, ellipsis, text_width};
use crate::plot::{Bar, Bars, Matrix, Tile, Tiles};
use crate::report::format;
use crate::run::Run;

/// Up to this many classes the counts are printed into the cells.
const PRINTED: usize = 20;
/// Side of a mistake's image and the gap to the next.
const SIDE: f64 = 96.0;
const GAP: f64 = 18.0;

/// Rows are true classes, columns predictions, the strength of a cell its share of the row.
#[must_use]
pub fn confusion(run: &Run) -> Option<Figure> {
    let evaluation = run
        .evaluation
        .as_ref()
        .filter(|e| !e.confusion.is_empty())?;
    let (counts, classes) = (&evaluation.confusion, &evaluation.classes);
    let totals: Vec<u64> = counts.iter().map(|row| row.iter().sum()).collect();
    let each = |f: &dyn Fn(usize, usize) -> String| -> Vec<Vec<String>> {
        let indices = 0..counts.len();
        indices
            .clone()
            .map(|t| indices.clone().map(|p| f(t, p)).collect())
            .collect()
    };
    let share = |t: usize, p: usize| counts[t][p] as f64 / totals[t].max(1) as f64;
    let shares = (0..counts.len()).map(|t| (0..counts.len()).map(|p| share(t, p)).collect());
    let matrix = Matrix::new(
        "confusion",
        "Confusion matrix",
        classes.clone(),
        classes.clone(),
        shares.collect(),
    )
    .axes("true class", "predicted class")
    .tell_diagonal_apart();
    let matrix = if counts.len() <= Matrix::MOST_MARKED {
        matrix.tips(each(&|t, p| {
            format!(
                "{} → {}: {} of {}",
                classes[t], classes[p], counts[t][p], totals[t]
            )
        }))
    } else {
        matrix
    };
    let matrix = if counts.len() <= PRINTED {
        let text = |t: usize, p: usize| {
            if counts[t][p] > 0 {
                counts[t][p].to_string()
            } else {
                String::new()
            }
        };
        matrix.texts(each(&text))
    } else {
        matrix
    };
    let caption = "Rows are the true classes, columns the predictions; the stronger a cell, the larger its share of the \
                   row (square-root scale, so that rare mistakes can be seen). Blue is right, orange is wrong.";
    Some(matrix.caption(caption).figure())
}

/// Accuracy of each class, best first; classes without an image come last.
#[must_use]
pub fn per_class(run: &Run) -> Option<Figure> {
    let evaluation = run
        .evaluation
        .as_ref()
        .filter(|e| !e.per_class.is_empty())?;
    let mut classes: Vec<_> = evaluation.per_class.iter().collect();
    // NaN, the accuracy of a class without images, is below every number here.
    let rank = |c: &crate::run::ClassScore| {
        if c.accuracy.is_nan() {
            f64::NEG_INFINITY
        } else {
            c.accuracy
        }
    };
    classes.sort_by(|a, b| rank(b).total_cmp(&rank(a)));
    let bar = |c: &&crate::run::ClassScore| Bar {
        label: c.class.clone(),
        value: c.accuracy,
        text: if c.accuracy.is_finite() {
            format!("{:.1}\u{a0}%", 100.0 * c.accuracy)
        } else {
            "–".into()
        },
        tip: format!(
            "{}: {} of {} right, {}",
            c.class,
            c.correct,
            c.n,
            format::percent(c.accuracy)
        ),
    };
    let bars = Bars::new(
        "per-class",
        "Accuracy of each class",
        classes.iter().map(bar).collect(),
    );
    let all = format!("all classes {}", format::percent(evaluation.accuracy));
    Some(bars.reference(evaluation.accuracy, all).figure())
}

/// The images that cost most, worst first.
#[must_use]
pub fn mistakes(run: &Run) -> Option<Figure> {
    let evaluation = run.evaluation.as_ref().filter(|e| !e.mistakes.is_empty())?;
    // A long name gives way to the number behind it.
    let line = |mark: char, name: &str, number: &str| {
        let room = SIDE + 0.6 * GAP - text_width(&format!("{mark}  {number}"), 11.0, Weight::Bold);
        format!(
            "{mark} {} {number}",
            ellipsis(name, 11.0, Weight::Regular, room)
        )
    };
    let tile = |m: &crate::run::Mistake| Tile {
        pixels: Arc::new(m.image.clone()),
        lines: vec![
            (
                line('✗', &m.predicted, &format::whole_percent(m.probability)),
                Paint::Alarm,
            ),
            (line('✓', &m.truth, "").trim_end().to_owned(), Paint::Muted),
        ],
        tip: format!(
            "{} image {}: predicted {} ({}), is {}, loss {}",
            evaluation.split,
            m.index,
            m.predicted,
            format::percent(m.probability),
            m.truth,
            format::number(m.loss)
        ),
    };
    let tiles = evaluation.mistakes.iter().map(tile).collect();
    let caption =
        "Highest loss first: what was predicted, with its probability (✗), and what it is (✓).";
    Some(
        Tiles::new("mistakes", "Worst mistakes", tiles)
            .grid(8, SIDE, GAP)
            .caption(caption)
            .figure(),
    )
}
