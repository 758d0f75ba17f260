//! Class folders: every layout a person might have, and every mistake with its message.

#![allow(clippy::unwrap_used)] // a test panics where it fails, in its helper functions too

mod common;

use std::time::Instant;

use common::{gz, open, place, plant, png, refusal, shared, tar, tar_entry, zip};
use gradus_data::{DataSpec, Dataset, ImageShape, OpenOptions};

fn folder_of(files: &[(&str, &[u8])]) -> Dataset {
    let folder = tempfile::tempdir().unwrap();
    plant(folder.path(), files);
    open(&format!("folder:{}", folder.path().display())).unwrap()
}

fn refused(files: &[(&str, &[u8])]) -> String {
    let folder = tempfile::tempdir().unwrap();
    plant(folder.path(), files);
    refusal("folder", folder.path())
}

#[test]
fn all_sixty_thousand_jpegs_open_in_seconds() {
    let Some(archive) = shared("cifar10-jpeg.tar.xz") else {
        return;
    };
    let start = Instant::now();
    let data = open(&format!("folder:{}", archive.display())).unwrap();
    println!("opened in {:.2?}", start.elapsed());
    assert_eq!((data.train.len(), data.test.len()), (50_000, 10_000));
    assert_eq!(data.shape(), ImageShape::new(3, 32, 32));
    assert_eq!(data.classes.len(), 10);
    assert_eq!(
        (data.classes[0].as_str(), data.classes[9].as_str()),
        ("airplane", "truck")
    );
    assert_eq!(data.train.class_counts(10), [5000; 10]);
    assert_eq!(data.test.class_counts(10), [1000; 10]);
    assert_eq!(data.notes, Vec::<String>::new());
}

#[test]
fn every_wrapping_of_the_same_folders_gives_the_same_set() {
    let (red, blue) = (png(3, 2, [255, 0, 0]), png(3, 2, [0, 0, 255]));
    let files: Vec<(&str, &[u8])> = vec![
        ("train/warm/1.png", &red),
        ("train/cold/1.PNG", &blue),
        ("test/cold/1.png", &blue),
        ("test/warm/deeper/1.png", &red),
    ];
    let reference = folder_of(&files);
    assert_eq!(reference.classes, ["cold", "warm"]);
    assert_eq!(reference.train.labels, [0, 1]);
    assert_eq!(reference.shape(), ImageShape::new(3, 2, 3));
    assert_eq!(reference.train.image(1)[..6], [255; 6]); // the red plane of the red picture
    let wrapped: Vec<(String, &[u8])> = files
        .iter()
        .map(|(name, body)| (format!("outer/inner/{name}"), *body))
        .collect();
    let wrapped: Vec<(&str, &[u8])> = wrapped.iter().map(|(n, b)| (n.as_str(), *b)).collect();
    for bytes in [
        tar(&files),
        gz(&tar(&wrapped)),
        zip(&files),
        zip(&wrapped),
        common::xz(&tar(&files)),
    ] {
        let (_folder, path) = place("set", &bytes);
        let data = open(&format!("folder:{}", path.display())).unwrap();
        assert_eq!(data.fingerprint(), reference.fingerprint());
        assert_eq!(
            (data.classes, data.notes),
            (reference.classes.clone(), vec![])
        );
    }
}

#[test]
fn one_tree_sets_a_fifth_of_each_class_aside_whatever_the_seed() {
    let pictures: Vec<(String, Vec<u8>)> = (0..30)
        .map(|i| {
            (
                format!("{}/{i:02}.png", if i < 20 { "a" } else { "b" }),
                png(2, 2, [i; 3]),
            )
        })
        .collect();
    let files: Vec<(&str, &[u8])> = pictures
        .iter()
        .map(|(n, b)| (n.as_str(), b.as_slice()))
        .collect();
    let data = folder_of(&files);
    assert_eq!(data.train.class_counts(2), [16, 8]);
    assert_eq!(data.test.class_counts(2), [4, 2]);
    assert_eq!(
        data.notes,
        ["no test folder: 0.2 of each class is the test part"]
    );
    let folder = tempfile::tempdir().unwrap();
    plant(folder.path(), &files);
    let spec: DataSpec = format!("folder:{}", folder.path().display())
        .parse()
        .unwrap();
    let other = OpenOptions {
        seed: 99,
        ..OpenOptions::default()
    };
    assert_eq!(spec.open(&other).unwrap().fingerprint(), data.fingerprint());
    for test_fraction in [0.0, 1.0, -1.0, f64::NAN] {
        let options = OpenOptions {
            test_fraction,
            ..OpenOptions::default()
        };
        let message = spec.open(&options).unwrap_err().to_string();
        assert!(message.ends_with("expected 0 < fraction < 1"), "{message}");
    }
    // A class of two gives 0.4 images, that is none.
    let mut small = files.clone();
    small.extend([("c/1.png", files[0].1), ("c/2.png", files[1].1)]);
    assert_eq!(
        folder_of(&small).notes[1..],
        [
            "1 of 3 classes too small for a test image, such as 'c' (2 in all): \
             add images or raise the test fraction"
        ]
    );
    // Only train/: the same division below it.
    let below: Vec<(String, Vec<u8>)> = pictures
        .iter()
        .map(|(n, b)| (format!("train/{n}"), b.clone()))
        .collect();
    let below: Vec<(&str, &[u8])> = below
        .iter()
        .map(|(n, b)| (n.as_str(), b.as_slice()))
        .collect();
    assert_eq!(folder_of(&below).fingerprint(), data.fingerprint());
}

#[test]
fn a_validation_folder_stands_in_for_a_missing_test_folder() {
    let p = png(2, 2, [5; 3]);
    let base: Vec<(&str, &[u8])> = vec![
        ("train/a/1.png", &p),
        ("train/b/1.png", &p),
        ("valid/a/1.png", &p),
        ("valid/b/1.png", &p),
    ];
    let data = folder_of(&base);
    assert_eq!(
        (data.test.len(), data.notes.as_slice()),
        (
            2,
            &["no test folder: 'valid' is the test part".to_owned()][..]
        )
    );
    let both = [base, vec![("test/a/1.png", p.as_slice())]].concat();
    let data = folder_of(&both);
    assert_eq!(data.test.len(), 1);
    assert_eq!(
        data.notes,
        [
            "ignored 2 files outside train and test, such as 'valid/a/1.png'",
            "class 'b' has no test image"
        ]
    );
}

#[test]
fn a_train_folder_of_classes_is_no_class_whatever_lies_beside_it() {
    let p = png(2, 2, [5; 3]);
    let names: Vec<String> = (0..10)
        .map(|i| format!("train/{}/{i}.png", if i < 5 { "a" } else { "b" }))
        .collect();
    let mut files: Vec<(&str, &[u8])> = names.iter().map(|n| (n.as_str(), &p[..])).collect();
    files.push(("extra/1.png", &p));
    files.push(("extra/2.png", &p));
    let data = folder_of(&files);
    assert_eq!(data.classes, ["a", "b"]);
    assert_eq!((data.train.len(), data.test.len()), (8, 2));
    assert_eq!(
        data.notes,
        [
            "ignored 2 files outside 'train', such as 'extra/1.png'",
            "no test folder: 0.2 of each class is the test part"
        ]
    );
    assert_eq!(
        refused(&[("train/a/1.png", &p), ("extra/1.png", &p)]),
        ": one class only ('a'): expected at least two class folders"
    );
    // Images directly in it: a class that happens to be called so.
    let vehicles: Vec<String> = (0..10)
        .map(|i| format!("{}/{i}.png", if i < 5 { "bus" } else { "train" }))
        .collect();
    let vehicles: Vec<(&str, &[u8])> = vehicles.iter().map(|n| (n.as_str(), &p[..])).collect();
    assert_eq!(folder_of(&vehicles).classes, ["bus", "train"]);
}

#[test]
fn other_files_are_ignored_and_counted() {
    let p = png(2, 2, [5; 3]);
    let data = folder_of(&[
        ("a/1.png", &p),
        ("a/2.png", &p),
        ("a/3.png", &p),
        ("b/1.jpeg.png", &p),
        ("b/3.png", &p),
        ("b/2.png", &p),
        ("a/.DS_Store", b"x"),
        ("a/Thumbs.db", b"x"),
        ("README.md", b"x"),
        ("__MACOSX/a/._1.png", b"x"),
        ("a/._2.png", b"x"),
        ("logo.png", b"not even an image"),
    ]);
    assert_eq!(data.train.len() + data.test.len(), 6);
    assert_eq!(
        data.notes[..2],
        [
            "ignored 5 files not JPEG or PNG, such as 'README.md'",
            "ignored 1 file in no class folder, such as 'logo.png'"
        ]
    );
}

#[test]
fn unequal_sizes_become_32_or_the_size_asked_for() {
    let (small, wide) = (png(10, 10, [9, 99, 199]), png(40, 20, [9, 99, 199]));
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<(&str, &[u8])> = vec![
        ("train/a/1.png", &small),
        ("train/b/1.png", &wide),
        ("test/a/1.png", &small),
    ];
    plant(folder.path(), &files);
    let spec: DataSpec = format!("folder:{}", folder.path().display())
        .parse()
        .unwrap();
    let data = spec.open(&OpenOptions::default()).unwrap();
    assert_eq!(data.shape(), ImageShape::new(3, 32, 32));
    let note = "images of 10×10 … 20×40 (height×width) resized to 32×32, centre kept";
    assert!(data.notes.contains(&note.to_owned()), "{:?}", data.notes);
    let options = OpenOptions {
        image_size: Some(16),
        ..OpenOptions::default()
    };
    let data = spec.open(&options).unwrap();
    assert_eq!(data.shape(), ImageShape::new(3, 16, 16));
    for i in 0..2 {
        for (plane, colour) in data.train.image(i).chunks_exact(256).zip([9, 99, 199]) {
            assert!(
                plane.iter().all(|&v| v == colour),
                "a plain colour stays plain"
            );
        }
    }
    for image_size in [Some(0), Some(5000)] {
        let options = OpenOptions {
            image_size,
            ..OpenOptions::default()
        };
        assert!(
            spec.open(&options)
                .unwrap_err()
                .to_string()
                .contains("expected 1 to 1024 pixels")
        );
    }
}

#[test]
fn an_image_size_resizes_the_built_in_set_too() {
    let options = OpenOptions {
        image_size: Some(24),
        shapes_train: 20,
        shapes_test: 10,
        ..OpenOptions::default()
    };
    let data = DataSpec::Shapes.open(&options).unwrap();
    assert_eq!(
        (data.shape(), data.test.shape),
        (ImageShape::new(3, 24, 24), data.shape())
    );
    assert_eq!(data.notes, ["resized from 3×32×32 to 3×24×24"]);
}

#[test]
fn folders_that_are_no_classification_problem_are_refused() {
    let p = png(2, 2, [5; 3]);
    let root = tempfile::tempdir().unwrap();
    assert_eq!(
        refusal("folder", root.path()),
        ": no JPEG or PNG file in it"
    );
    assert_eq!(
        refused(&[("cat/1.png", &p), ("cat/2.png", &p)]),
        ": one class only ('cat'): expected at least two class folders"
    );
    assert_eq!(
        refused(&[("1.png", &p), ("2.png", &p)]),
        ": no class folder in ''"
    );
    assert_eq!(
        refused(&[
            ("train/a/1.png", &p),
            ("train/b/1.png", &p),
            ("test/c/1.png", &p)
        ]),
        ": entry 'test/c': a test class without training images"
    );
    std::fs::create_dir_all(root.path().join("empty")).unwrap();
    plant(
        root.path(),
        &[("a/1.png", &p), ("b/1.png", &p), ("b/2.png", &p)],
    );
    assert_eq!(
        refusal("folder", root.path()),
        ": entry 'empty': empty class: no JPEG or PNG file in it"
    );
    let entries = [
        tar_entry(b'5', b"void/", b"", b""),
        tar_entry(b'0', b"a/1.png", b"", &p),
        tar_entry(b'0', b"b/1.png", b"", &p),
        vec![0; 1024],
    ];
    let (_folder, path) = place("x.tar", &entries.concat());
    assert_eq!(
        refusal("folder", &path),
        ": entry 'void': empty class: no JPEG or PNG file in it"
    );
    // One image per class leaves nothing to test on.
    assert_eq!(
        refused(&[("a/1.png", &p), ("b/1.png", &p)]),
        ": the test part has no image"
    );
}

#[test]
fn an_image_file_that_is_no_image_is_an_error_that_names_it() {
    let p = png(2, 2, [5; 3]);
    let message = refused(&[("a/1.png", &p), ("a/2.jpg", b"GIF89a..."), ("b/1.png", &p)]);
    assert_eq!(
        message,
        ": entry 'a/2.jpg': not a JPEG or PNG image (9 bytes: 47 49 46 38 39 61 2e 2e …)"
    );
    let cut = &p[..p.len() - 20];
    let message = refused(&[
        ("a/1.png", &p),
        ("b/1.png", cut),
        ("b/2.png", &p),
        ("a/2.png", &p),
    ]);
    assert!(
        message.starts_with(": entry 'b/1.png': does not decode: "),
        "{message}"
    );
}
