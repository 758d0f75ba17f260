//! What the template is given: texts already worded, figures already drawn. The template only
//! places them.

use askama::Template;
use base64::prelude::{BASE64_STANDARD, Engine};

use super::{Inline, format};
use crate::draw::{self, escape};
use crate::figures;
use crate::run::{Evaluation, Run};

/// More classes than this fold the table of classes.
const UNFOLDED: usize = 20;

#[derive(Template)]
#[template(path = "report.html")]
pub(super) struct Page {
    title: String,
    model: String,
    data: String,
    subtitle: String,
    style: String,
    tiles: Vec<Tile>,
    weights: Option<String>,
    notices: Vec<String>,
    summary: Vec<Fact>,
    curves: Vec<Inline>,
    confusion: Option<Inline>,
    per_class: Option<Inline>,
    confused: Vec<Confused>,
    classes: Vec<ClassRow>,
    unfold_classes: bool,
    filters: Option<Inline>,
    mistakes: Vec<MistakeCard>,
    epochs: Vec<Vec<String>>,
    machine: Vec<Fact>,
    command: Option<String>,
    config: Option<String>,
    version: &'static str,
}

/// A large number with its name and, in small print, its circumstances.
struct Tile {
    label: &'static str,
    value: String,
    note: String,
}

struct Fact {
    name: &'static str,
    value: String,
    mono: bool,
}

struct Confused {
    truth: String,
    predicted: String,
    count: String,
    share: String,
    /// Length of its bar, percent of the longest.
    bar: String,
}

struct ClassRow {
    class: String,
    n: String,
    correct: String,
    accuracy: String,
    precision: String,
    bar: String,
    taken_for: String,
}

struct MistakeCard {
    image: String,
    alt: String,
    tip: String,
    predicted: String,
    probability: String,
    truth: String,
}

impl Page {
    pub(super) fn of(run: &Run) -> Self {
        let evaluation = run.evaluation.as_ref();
        let model = run.model().unwrap_or_else(|| "model".into());
        let data = run.data().unwrap_or_else(|| "data".into());
        let classes = evaluation.map(class_rows).unwrap_or_default();
        Self {
            title: format!("{model} on {data}"),
            subtitle: subtitle(run),
            style: style(),
            tiles: tiles(run),
            weights: run.summary.as_ref().and_then(|s| s.text("weights_sha256")),
            notices: run.notices.clone(),
            summary: summary(run),
            curves: figures::curves(run).iter().map(Inline::of).collect(),
            confusion: figures::confusion(run).as_ref().map(Inline::of),
            per_class: figures::per_class(run).as_ref().map(Inline::of),
            confused: evaluation.map(confused).unwrap_or_default(),
            unfold_classes: classes.len() <= UNFOLDED,
            classes,
            filters: figures::filters(run).as_ref().map(Inline::of),
            mistakes: evaluation.map(mistakes).unwrap_or_default(),
            epochs: epochs(run),
            machine: machine(run),
            command: run
                .info
                .as_ref()
                .filter(|i| !i.command.is_empty())
                .map(|i| format::command(&i.command)),
            config: run.config.as_deref().map(highlight),
            version: env!("CARGO_PKG_VERSION"),
            model,
            data,
        }
    }

    /// A figure is shown no wider than it was drawn, and never wider than the page.
    fn wide(figure: Option<&Inline>) -> bool {
        figure.is_some_and(|f| f.width > 700)
    }
}

fn style() -> String {
    let font = |weight: u32, bytes: &[u8]| {
        format!(
            "@font-face{{font-family:Inter;font-weight:{weight};font-display:block;\
             src:url(data:font/woff2;base64,{}) format(\"woff2\")}}\n",
            BASE64_STANDARD.encode(bytes)
        )
    };
    [
        font(400, draw::REGULAR_WOFF2),
        font(600, draw::SEMIBOLD_WOFF2),
        draw::style_sheet(),
        include_str!("../../templates/report.css").to_owned(),
    ]
    .concat()
}

fn subtitle(run: &Run) -> String {
    let mut parts = Vec::new();
    if let Some(info) = &run.info {
        parts.extend(
            info.started
                .as_deref()
                .map(|s| s.get(..16).unwrap_or(s).replace('T', " ")),
        );
        // What ran, rather than what was asked for ("auto").
        let device = info.backend.as_deref().or(info.device.as_deref());
        parts.extend(device.map(|d| format!("device {d}")));
        parts.extend(info.seed.map(|s| format!("seed {s}")));
    }
    parts.extend(
        run.dir
            .file_name()
            .map(|n| n.to_string_lossy().into_owned()),
    );
    parts.join("  ·  ")
}

fn tiles(run: &Run) -> Vec<Tile> {
    let summary = |name: &str| run.summary.as_ref().and_then(|s| s.number(name));
    let mut tiles = Vec::new();
    let mut tile = |label, value: Option<String>, note: String| {
        tiles.extend(value.map(|value| Tile { label, value, note }));
    };
    let n = run.evaluation.as_ref().map(|e| e.n).filter(|&n| n > 0);
    let accuracy = run.test_accuracy();
    let interval = accuracy.zip(n).map(|(p, n)| {
        let [low, high] = format::wilson(p, n as f64);
        format!(
            "95\u{a0}% interval {:.1}–{:.1}\u{a0}%, n\u{a0}=\u{a0}{}",
            low * 100.0,
            high * 100.0,
            format::count(n)
        )
    });
    tile(
        "test accuracy",
        accuracy.map(format::percent),
        interval.unwrap_or_default(),
    );

    let last = run.metrics.epochs.last();
    let validation = summary("val_accuracy").or(last.map(|e| e.val_accuracy));
    let validated = validation.filter(|v| v.is_finite()).map(format::percent);
    tile("validation accuracy", validated, String::new());

    let loss = run
        .evaluation
        .as_ref()
        .map(|e| e.loss)
        .filter(|l| l.is_finite());
    let train = summary("train_loss")
        .or(last.map(|e| e.train_loss))
        .filter(|l| l.is_finite());
    let note = train
        .map(|l| format!("training {}", format::number(l)))
        .unwrap_or_default();
    tile("test loss", loss.map(format::number), note);

    let seconds = summary("seconds").or_else(|| {
        let total: f64 = run.metrics.epochs.iter().map(|e| e.seconds).sum();
        (total.is_finite() && total > 0.0).then_some(total)
    });
    let rate = summary("images_per_second")
        .map(|r| format!("{} images/s", format::count(r.max(0.0) as u64)));
    tile(
        "time",
        seconds.map(format::duration),
        rate.unwrap_or_default(),
    );

    let parameters = run.info.as_ref().and_then(|i| i.parameters);
    let parameters = parameters.or(summary("parameters").map(|p| p.max(0.0) as u64));
    let adds = run.info.as_ref().and_then(|i| i.multiply_adds);
    let note = adds.map(|m| format!("{} multiply-adds an image", format::magnitude(m)));
    tile(
        "parameters",
        parameters.map(format::magnitude),
        note.unwrap_or_default(),
    );
    tiles
}

fn summary(run: &Run) -> Vec<Fact> {
    let mut facts = Vec::new();
    let mut fact = |name, value: Option<String>, mono| {
        facts.extend(value.map(|value| Fact { name, value, mono }));
    };
    let number = |name: &str| run.summary.as_ref().and_then(|s| s.number(name));
    fact("Model", run.model(), false);
    fact("Data", run.data(), false);
    if let Some(info) = &run.info {
        let d = &info.data;
        let images: Vec<String> = [
            (d.train, "training"),
            (d.validation, "validation"),
            (d.test, "test"),
        ]
        .into_iter()
        .filter_map(|(n, name)| n.map(|n| format!("{} {name}", format::count(n))))
        .collect();
        fact(
            "Images",
            (!images.is_empty()).then(|| images.join(", ")),
            false,
        );
        let shape: Vec<String> = d.image.iter().map(u64::to_string).collect();
        fact(
            "Image (C × H × W)",
            (!shape.is_empty()).then(|| shape.join(" × ")),
            false,
        );
        fact(
            "Classes",
            (!d.classes.is_empty()).then(|| d.classes.len().to_string()),
            false,
        );
        fact("Parameters", info.parameters.map(format::count), false);
        fact(
            "Multiply-adds an image",
            info.multiply_adds.map(format::count),
            false,
        );
        fact("Seed", info.seed.map(|s| s.to_string()), false);
    }
    let epochs = number("epochs").or(run.metrics.epochs.last().map(|e| e.epoch as f64));
    let steps = number("steps").or(run.metrics.steps.last().map(|s| s.step as f64));
    let whole = |x: f64| format::count(x.max(0.0) as u64);
    fact("Epochs", epochs.map(whole), false);
    fact("Steps", steps.map(whole), false);
    let best = run
        .metrics
        .epochs
        .iter()
        .filter(|e| e.val_accuracy.is_finite());
    let best = best.max_by(|a, b| a.val_accuracy.total_cmp(&b.val_accuracy));
    fact(
        "Best validation",
        best.map(|e| format!("{} in epoch {}", format::percent(e.val_accuracy), e.epoch)),
        false,
    );
    if let Some(e) = &run.evaluation {
        let right = e.accuracy.is_finite().then(|| {
            let wrong = ((1.0 - e.accuracy) * e.n as f64).round().max(0.0) as u64;
            format!("{} of {} wrong", format::count(wrong), format::count(e.n))
        });
        fact("Test images", right, false);
        let top5 = (e.top5.is_finite() && e.classes.len() > 5).then(|| format::percent(e.top5));
        fact("Top-5 accuracy", top5, false);
    }
    if let Some(info) = &run.info {
        fact("Data fingerprint", info.data.fingerprint.clone(), true);
    }
    facts
}

fn machine(run: &Run) -> Vec<Fact> {
    let Some(info) = &run.info else {
        return Vec::new();
    };
    let facts = [
        ("Processor", info.cpu.clone()),
        ("Cores", info.cores.map(|c| c.to_string())),
        ("Memory", info.memory_bytes.map(format::memory)),
        ("Operating system", info.os.clone()),
        ("Device", info.device.clone()),
        ("Backend", info.backend.clone()),
        ("Gradus", info.gradus.clone()),
        ("Burn", info.burn.clone()),
        ("Compiler", info.rustc.clone()),
        ("Started", info.started.clone()),
    ];
    let known = facts
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| (name, value)));
    known
        .map(|(name, value)| Fact {
            name,
            value,
            mono: false,
        })
        .collect()
}

fn confused(evaluation: &Evaluation) -> Vec<Confused> {
    let pairs = evaluation.most_confused(8);
    let most = pairs.first().map_or(1, |p| p.2.max(1)) as f64;
    let row = |&(t, p, count): &(usize, usize, u64)| {
        let total: u64 = evaluation.confusion[t].iter().sum();
        Confused {
            truth: evaluation.classes[t].clone(),
            predicted: evaluation.classes[p].clone(),
            count: format::count(count),
            share: format::percent(count as f64 / total.max(1) as f64),
            bar: format!("{:.1}", 100.0 * count as f64 / most),
        }
    };
    pairs.iter().map(row).collect()
}

fn class_rows(evaluation: &Evaluation) -> Vec<ClassRow> {
    let taken_for = |class: &str| {
        let t = evaluation.classes.iter().position(|c| c == class)?;
        let row = evaluation
            .confusion
            .get(t)?
            .iter()
            .enumerate()
            .filter(|&(p, _)| p != t);
        // On a tie the first class, whatever the order of iteration.
        let (p, &count) = row.max_by_key(|&(p, &count)| (count, std::cmp::Reverse(p)))?;
        (count > 0).then(|| format!("{} ({})", evaluation.classes[p], format::count(count)))
    };
    let row = |c: &crate::run::ClassScore| ClassRow {
        class: c.class.clone(),
        n: format::count(c.n),
        correct: format::count(c.correct),
        accuracy: format::percent(c.accuracy),
        precision: format::percent(c.precision),
        bar: format!(
            "{:.1}",
            if c.accuracy.is_finite() {
                c.accuracy.clamp(0.0, 1.0) * 100.0
            } else {
                0.0
            }
        ),
        taken_for: taken_for(&c.class).unwrap_or_else(|| "–".into()),
    };
    evaluation.per_class.iter().map(row).collect()
}

fn mistakes(evaluation: &Evaluation) -> Vec<MistakeCard> {
    let card = |m: &crate::run::Mistake| MistakeCard {
        image: BASE64_STANDARD.encode(m.image.png()),
        alt: format!("image {}: {} taken for {}", m.index, m.truth, m.predicted),
        tip: format!(
            "{} image {}, loss {}",
            evaluation.split,
            m.index,
            format::number(m.loss)
        ),
        predicted: m.predicted.clone(),
        probability: format::whole_percent(m.probability),
        truth: m.truth.clone(),
    };
    evaluation.mistakes.iter().map(card).collect()
}

fn epochs(run: &Run) -> Vec<Vec<String>> {
    let row = |e: &crate::run::EpochRow| {
        vec![
            e.epoch.to_string(),
            format::number(e.train_loss),
            format::percent(e.train_accuracy),
            format::number(e.val_loss),
            format::percent(e.val_accuracy),
            format::number(e.lr),
            format::duration(e.seconds),
        ]
    };
    run.metrics.epochs.iter().map(row).collect()
}

/// TOML with its comments, headings and keys marked for the style sheet. The text itself is not
/// touched, only escaped.
fn highlight(toml: &str) -> String {
    let mark = |line: &str| {
        let body = line.trim_start();
        let span =
            |class: &str, text: &str| format!("<span class=\"{class}\">{}</span>", escape(text));
        if body.starts_with('#') {
            return span("comment", line);
        }
        if body.starts_with('[') {
            return span("heading", line);
        }
        match line.split_once('=') {
            Some((key, value)) if !key.contains(['"', '\'']) => {
                format!("{}={}", span("key", key), escape(value))
            }
            _ => escape(line),
        }
    };
    toml.lines().map(mark).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn highlighting_escapes_everything() {
        let html = highlight("# <b>\n[a<]\nkey = \"<script>\"\n<x>");
        assert_eq!(
            html,
            "<span class=\"comment\"># &lt;b&gt;</span>\n<span class=\"heading\">[a&lt;]</span>\n\
             <span class=\"key\">key </span>= &quot;&lt;script&gt;&quot;\n&lt;x&gt;"
        );
    }
}
