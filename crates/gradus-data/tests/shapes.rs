//! The built-in set: the same everywhere, balanced, and blind to colour.

#![allow(clippy::unwrap_used)] // a test panics where it fails, in its helper functions too

use gradus_data::{DataSpec, Dataset, OpenOptions, shapes};

fn small() -> Dataset {
    let options = OpenOptions {
        shapes_train: 300,
        shapes_test: 100,
        ..OpenOptions::default()
    };
    DataSpec::Shapes.open(&options).unwrap()
}

#[test]
fn the_set_is_pinned() {
    // Drawn with +, −, ×, ÷ and √ alone, so this holds on every platform. A change here is a change
    // of the data that published accuracies were measured on: say so in the changelog.
    assert_eq!(
        small().fingerprint(),
        "2c26b66d307c77308a9bd59d2b91fd2476dc0c8900ee8815725459a085495ffb"
    );
}

#[test]
fn the_number_of_threads_and_of_images_changes_nothing() {
    let reference = small();
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap();
    assert_eq!(pool.install(small), reference);
    let longer = shapes::generate(0, 512, 100).unwrap();
    assert_eq!(longer.train.labels[..300], reference.train.labels);
    assert_eq!(longer.train.pixels[..300 * 3072], reference.train.pixels);
    let other = shapes::generate(1, 300, 100).unwrap();
    assert_ne!(other.train.pixels, reference.train.pixels);
    assert_ne!(reference.train.image(0), reference.test.image(0));
}

#[test]
fn every_ten_images_hold_each_class_once_in_shuffled_order() {
    let data = small();
    for block in data.train.labels.chunks_exact(10) {
        let mut classes = block.to_vec();
        classes.sort_unstable();
        assert_eq!(classes, (0..10).collect::<Vec<_>>());
    }
    let firsts: std::collections::HashSet<_> =
        data.train.labels.chunks_exact(10).map(|b| b[0]).collect();
    assert!(firsts.len() > 5);
    assert_eq!(data.classes, shapes::NAMES);
}

#[test]
fn colour_says_nothing_about_the_class() {
    // The mean colour of an image: the spread between class averages is what chance gives.
    let data = shapes::generate(3, 4000, 10).unwrap();
    let mean = |i: usize, c: usize| {
        data.train.image(i)[c * 1024..(c + 1) * 1024]
            .iter()
            .map(|&p| f64::from(p))
            .sum::<f64>()
            / 1024.0
    };
    for channel in 0..3 {
        let values: Vec<f64> = (0..4000).map(|i| mean(i, channel)).collect();
        let all = values.iter().sum::<f64>() / 4000.0;
        let variance = values.iter().map(|v| (v - all).powi(2)).sum::<f64>() / 4000.0;
        let error = (variance / 400.0).sqrt(); // of the mean over one class's 400 images
        for class in 0..10u16 {
            let own: Vec<f64> = (0..4000)
                .filter(|&i| data.train.label(i) == class)
                .map(|i| values[i])
                .collect();
            let own = own.iter().sum::<f64>() / own.len() as f64;
            // Figures differ in area, so a class may be a little lighter than the average; 6 σ is
            // 0.3 of the spread within a class.
            assert!(
                (own - all).abs() < 6.0 * error,
                "class {class} channel {channel}: {own} {all}"
            );
        }
    }
}

#[test]
fn impossible_sizes_are_refused() {
    for (train, test, name) in [
        (9, 100, "shapes_train"),
        (100, 0, "shapes_test"),
        (usize::MAX, 10, "shapes_train"),
    ] {
        let message = shapes::generate(0, train, test).unwrap_err().to_string();
        assert!(
            message.starts_with(name) && message.ends_with("expected 10 to 1000000"),
            "{message}"
        );
    }
}
