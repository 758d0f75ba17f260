//! The report as a whole: what is in it, what is left out, and that nothing a run holds can break
//! it.
//!
//! To look at the pages: `GRADUS_REPORT_KEEP=/tmp/reports cargo test --release -p gradus-report`.

// The functions that tests share are tests too, which the lint's own exception does not see.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::Fixture;
use common::page::{check_page, outline};
use gradus_report::{ReportError, Run, Theme, figures, html, write_report};
use tempfile::TempDir;

/// A run folder of its own; a copy of its report stays where `GRADUS_REPORT_KEEP` says.
fn folder(name: &str, fixture: &Fixture) -> TempDir {
    let dir = TempDir::new().unwrap();
    fixture.write(dir.path());
    if let Some(keep) = std::env::var_os("GRADUS_REPORT_KEEP") {
        let kept = Path::new(&keep).join(name);
        std::fs::create_dir_all(&kept).unwrap();
        fixture.write(&kept);
        write_report(&kept).unwrap();
    }
    dir
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("class {i:03}")).collect()
}

#[test]
fn a_whole_run_gives_a_whole_report() {
    let dir = folder("whole", &Fixture::default());
    let paths = write_report(dir.path()).unwrap();
    assert_eq!(paths.notices, [""; 0]);
    let page = std::fs::read_to_string(&paths.html).unwrap();
    check_page(&page);
    insta::assert_snapshot!("whole", outline(&page));

    let names: Vec<_> = paths
        .figures
        .iter()
        .map(|p| p.file_name().unwrap().to_str().unwrap())
        .collect();
    let stems = [
        "loss",
        "accuracy",
        "learning-rate",
        "gradient-norm",
        "throughput",
        "confusion",
        "per-class",
        "filters",
        "mistakes",
    ];
    let expected: Vec<String> = stems
        .iter()
        .flat_map(|s| [format!("{s}.svg"), format!("{s}.png")])
        .collect();
    assert_eq!(names, expected);
    for path in &paths.figures {
        let bytes = std::fs::read(path).unwrap();
        match path.extension().unwrap().to_str() {
            Some("svg") => {
                let svg = String::from_utf8(bytes).unwrap();
                resvg::usvg::roxmltree::Document::parse(&svg).unwrap();
                assert!(!svg.contains("NaN") && !svg.contains("var("));
            }
            _ => assert!(image::load_from_memory(&bytes).unwrap().width() > 300),
        }
    }
    // Nothing temporary is left behind, and the page is the user's to share.
    let left = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name());
    assert!(
        !left
            .into_iter()
            .any(|n| n.to_string_lossy().ends_with(".tmp"))
    );
    // Written again, it is the same to the byte.
    write_report(dir.path()).unwrap();
    assert_eq!(page, std::fs::read_to_string(&paths.html).unwrap());
}

#[test]
fn the_png_has_text_without_any_system_font() {
    // "Loss" in semi-bold ink stands in the title band; without a font the band would be blank.
    let dir = folder(
        "plain",
        &Fixture {
            epochs: 1,
            ..Fixture::default()
        },
    );
    let run = Run::read(dir.path()).unwrap();
    let png = figures::loss(&run.metrics)
        .unwrap()
        .png(Theme::Light, 2.0)
        .unwrap();
    let image = image::load_from_memory(&png).unwrap().to_luma8();
    let dark = image
        .enumerate_pixels()
        .filter(|(_, y, p)| *y < 70 && p.0[0] < 100)
        .count();
    assert!(dark > 150, "{dark} dark pixels in the title");
}

#[test]
fn the_png_has_the_images() {
    let dir = folder(
        "plain",
        &Fixture {
            epochs: 1,
            ..Fixture::default()
        },
    );
    let run = Run::read(dir.path()).unwrap();
    let png = figures::mistakes(&run)
        .unwrap()
        .png(Theme::Light, 2.0)
        .unwrap();
    let sheet = image::load_from_memory(&png).unwrap().to_rgb8();
    // The first image: 96 units wide, two pixels a unit, below the margin and the title.
    let [left, top, side] = [2 * 16, 2 * (16 + 34), 2 * 96];
    let pixels = &run.evaluation.unwrap().mistakes[0].image;
    let image = image::load_from_memory(&pixels.png()).unwrap().to_rgb8();
    for (x, y) in [(0, 0), (16, 16), (31, 31), (5, 20)] {
        // The middle of each crisp square has exactly the colour of its pixel.
        let at = |i: u32| (f64::from(side) * (f64::from(i) + 0.5) / 32.0) as u32;
        assert_eq!(
            sheet.get_pixel(left + at(x), top + at(y)),
            image.get_pixel(x, y)
        );
    }
}

#[test]
fn one_epoch_is_enough() {
    let dir = folder(
        "one-epoch",
        &Fixture {
            epochs: 1,
            steps_per_epoch: 40,
            ..Fixture::default()
        },
    );
    let page = html(&Run::read(dir.path()).unwrap()).unwrap();
    check_page(&page);
    assert!(page.contains("id=\"loss\"") && page.contains("id=\"accuracy\""));
}

#[test]
fn what_is_missing_is_left_out_with_a_line() {
    let dir = folder(
        "two-epochs",
        &Fixture {
            epochs: 2,
            ..Fixture::default()
        },
    );
    for name in [
        "evaluation.json",
        "filters.json",
        "summary.json",
        "config.toml",
    ] {
        std::fs::remove_file(dir.path().join(name)).unwrap();
    }
    let page = html(&Run::read(dir.path()).unwrap()).unwrap();
    check_page(&page);
    insta::assert_snapshot!("metrics_only", outline(&page));

    std::fs::remove_file(dir.path().join("run.json")).unwrap();
    std::fs::remove_file(dir.path().join("metrics.jsonl")).unwrap();
    let nothing = write_report(dir.path()).unwrap_err();
    assert!(matches!(nothing, ReportError::NotARun { .. }), "{nothing}");

    // One file by itself, whichever it is, gives a page.
    let whole = folder(
        "two-epochs",
        &Fixture {
            epochs: 2,
            ..Fixture::default()
        },
    );
    for name in [
        "run.json",
        "metrics.jsonl",
        "evaluation.json",
        "filters.json",
        "summary.json",
        "config.toml",
    ] {
        let dir = TempDir::new().unwrap();
        std::fs::copy(whole.path().join(name), dir.path().join(name)).unwrap();
        check_page(&html(&Run::read(dir.path()).unwrap()).unwrap());
    }
}

#[test]
fn history_csv_stands_in_for_the_metrics() {
    let dir = TempDir::new().unwrap();
    let rows = "epoch,step,train_loss,train_accuracy,val_loss,val_accuracy,val_top5,lr,seconds,images_per_second\n\
                1,90,1.5,0.4,1.4,0.45,,0.1,3.5,900\n2,180,1.1,0.6,,NaN,,0.05,3.4,910\n";
    std::fs::write(dir.path().join("history.csv"), rows).unwrap();
    let run = Run::read(dir.path()).unwrap();
    assert_eq!(run.metrics.epochs.len(), 2);
    assert!(run.metrics.epochs[1].val_loss.is_nan());
    check_page(&html(&run).unwrap());

    std::fs::write(dir.path().join("history.csv"), "epoch,train_loss\n1,much\n").unwrap();
    let error = Run::read(dir.path()).unwrap_err().to_string();
    assert!(
        error.ends_with(
            "history.csv, line 2: column `train_loss`: expected a number, found \"much\""
        ),
        "{error}"
    );
}

#[test]
fn a_diverged_run_says_where() {
    let fixture = Fixture {
        epochs: 4,
        diverges_at: Some(200),
        ..Fixture::default()
    };
    let dir = folder("diverged", &fixture);
    let run = Run::read(dir.path()).unwrap();
    let page = html(&run).unwrap();
    check_page(&page);
    assert!(page.contains("not finite from step 200"));
    assert!(
        run.notices.iter().any(|n| n.contains("step 200")),
        "{:?}",
        run.notices
    );

    let dir = folder(
        "diverged-at-once",
        &Fixture {
            epochs: 1,
            diverges_at: Some(1),
            ..Fixture::default()
        },
    );
    check_page(&html(&Run::read(dir.path()).unwrap()).unwrap());
}

#[test]
fn a_hundred_classes_are_legible() {
    let fixture = Fixture {
        classes: numbered(100),
        per_class: 100,
        ..Fixture::default()
    };
    let dir = folder("hundred", &fixture);
    let paths = write_report(dir.path()).unwrap();
    let page = std::fs::read_to_string(&paths.html).unwrap();
    check_page(&page);
    assert!(page.contains(">class 099<"));
    let run = Run::read(dir.path()).unwrap();
    let svg = figures::confusion(&run).unwrap().svg(Theme::Light);
    // Names at 9 units or more, of a figure about 1150 wide.
    let sized = svg
        .lines()
        .filter(|l| l.contains("font-size=\"9.45\""))
        .count();
    assert_eq!(sized, 200, "a name a row and a name a column");
}

#[test]
fn a_class_without_test_images_is_a_dash_at_the_end() {
    let dir = folder("empty-class", &Fixture::default());
    let path = dir.path().join("evaluation.json");
    let mut written: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    written["confusion"][3] = serde_json::json!(vec![0; 10]);
    written["per_class"][3] = serde_json::json!({
        "class": "cat", "n": 0, "correct": 0, "accuracy": null, "precision": null,
    });
    std::fs::write(&path, written.to_string()).unwrap();
    let paths = write_report(dir.path()).unwrap();
    let page = std::fs::read_to_string(&paths.html).unwrap();
    check_page(&page);
    let figure = figures::per_class(&Run::read(dir.path()).unwrap()).unwrap();
    let svg = figure.svg(Theme::Light);
    assert!(svg.contains('–'), "{svg}");
    assert!(!svg.contains("NaN"));
    let last = |name: &str| svg.rfind(&format!("{name}: ")).unwrap();
    for other in ["airplane", "dog", "truck"] {
        assert!(last("cat") > last(other), "{other} stands below cat");
    }
}

#[test]
fn many_classes_make_one_picture_and_a_small_page() {
    let fixture = Fixture {
        classes: numbered(300),
        per_class: 20,
        epochs: 1,
        ..Fixture::default()
    };
    let dir = folder("many", &fixture);
    let run = Run::read(dir.path()).unwrap();
    let svg = figures::confusion(&run).unwrap().svg(Theme::Light);
    assert_eq!(svg.matches("<image").count(), 1);
    assert!(svg.matches("<rect").count() < 5);
    let page = html(&run).unwrap();
    check_page(&page);
    assert!(page.len() < 2_000_000, "{} bytes", page.len());
}

#[test]
fn a_figure_too_large_for_a_png_costs_only_that_png() {
    let dir = folder("huge", &Fixture::default());
    let path = dir.path().join("evaluation.json");
    let mut written: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let score =
        |class: &String| serde_json::json!({"class": class, "n": 2, "correct": 1, "accuracy": 0.5});
    let scores: Vec<serde_json::Value> = numbered(4000).iter().map(score).collect();
    written["per_class"] = scores.into();
    std::fs::write(&path, written.to_string()).unwrap();
    let paths = write_report(dir.path()).unwrap();
    assert!(
        paths.notices[0].starts_with("figures/per-class.png is left out"),
        "{:?}",
        paths.notices
    );
    let there = |name: &str| dir.path().join("figures").join(name).is_file();
    assert!(there("per-class.svg") && !there("per-class.png") && there("mistakes.png"));
    assert!(
        std::fs::read_to_string(paths.html)
            .unwrap()
            .contains("per-class.png is left out")
    );
}

#[test]
fn hostile_and_long_names_are_only_text() {
    let mut classes = Fixture::default().classes;
    classes[0] = "<script>alert(1)</script>".into();
    classes[1] = "\"><img src=x onerror=alert(1)>&amp;".into();
    classes[2] = "a class whose name is sixty characters long, no less than it".into();
    classes[3] = "猫".into();
    let dir = folder(
        "hostile",
        &Fixture {
            classes,
            templates: true,
            epochs: 3,
            ..Fixture::default()
        },
    );
    std::fs::write(
        dir.path().join("config.toml"),
        "x = \"</pre><script>\"\n# <b>",
    )
    .unwrap();
    let page = html(&Run::read(dir.path()).unwrap()).unwrap();
    check_page(&page);
    assert!(!page.contains("<script") && !page.contains("<img src=x"));
    assert!(page.contains("&#60;script&#62;") || page.contains("&lt;script&gt;"));
    for figure in figures::all(&Run::read(dir.path()).unwrap()) {
        for theme in [Theme::Light, Theme::Dark, Theme::Page] {
            let svg = figure.svg(theme);
            resvg::usvg::roxmltree::Document::parse(&svg).unwrap();
        }
    }
    write_report(dir.path()).unwrap();
}

#[test]
fn malformed_files_are_named_with_their_line() {
    let broken = |name: &str, text: &str| {
        let dir = folder(
            "plain",
            &Fixture {
                epochs: 1,
                ..Fixture::default()
            },
        );
        std::fs::write(dir.path().join(name), text).unwrap();
        Run::read(dir.path()).unwrap_err().to_string()
    };
    let error = broken("run.json", "{\n  \"seed\": oops\n}");
    assert!(
        error.contains("run.json, line 2: not the expected JSON"),
        "{error}"
    );
    let error = broken(
        "metrics.jsonl",
        "{\"event\":\"step\",\"step\":1}\n{\"event\":\"step\"}\n",
    );
    assert!(
        error.contains("metrics.jsonl, line 2: event \"step\": missing field `step`"),
        "{error}"
    );
    let error = broken(
        "evaluation.json",
        "{\"classes\":[\"a\",\"b\"],\"confusion\":[[1,2]]}",
    );
    assert!(
        error.contains("evaluation.json: `confusion`: expected 2 rows"),
        "{error}"
    );
    let error = broken(
        "filters.json",
        "{\"kind\":\"filters\",\"layer\":\"a\",\"shape\":[1,1,2,2],\"values\":[1,2,3]}",
    );
    assert!(
        error.contains("filters.json: `values`: expected"),
        "{error}"
    );

    let dir = TempDir::new().unwrap();
    let error = Run::read(dir.path().join("nowhere"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("nowhere: not a run folder"), "{error}");
}
