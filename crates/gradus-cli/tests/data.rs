//! Data as a person meets it: sets that are not there, and the way of a folder of photographs from its
//! check to a trained model.
#![allow(clippy::unwrap_used)] // a test panics where it fails, in its helper functions too

mod common;

use std::fs;

use common::{fails, folder, json};

#[test]
fn data_that_is_not_there_is_explained() {
    let folder = folder();
    let stderr = fails(folder.path(), 1, &["train", "--data", "cifar10"]);
    for part in [
        "gradus data fetch cifar10",
        "170052171",
        "c32a1d4ab5d03f1284b67883e8d87530",
        "cache",
    ] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    let stderr = fails(folder.path(), 1, &["train", "--data", "folder:nowhere"]);
    assert!(stderr.contains("nowhere"), "{stderr}");
    let stderr = fails(folder.path(), 1, &["eval", "nowhere"]);
    assert!(stderr.contains("nowhere"), "{stderr}");
    fails(folder.path(), 1, &["report", "nowhere"]);
    fails(folder.path(), 1, &["eval"]);
    fs::write(folder.path().join("x.safetensors"), [255; 64]).unwrap();
    fails(
        folder.path(),
        1,
        &["eval", "x.safetensors", "--data", "shapes"],
    );
    fails(folder.path(), 2, &["eval", "x.safetensors"]);
    fails(folder.path(), 1, &["predict", "x.safetensors", "y.png"]);
}

#[test]
fn a_set_can_be_verified_shown_packed_and_trained_on() {
    let folder = folder();
    let folder = folder.path();
    for class in ["red", "blue"] {
        let dir = folder.join("photos").join(class);
        fs::create_dir_all(&dir).unwrap();
        for number in 0..12u8 {
            let colour = if class == "red" {
                [250 - number, 0, 0]
            } else {
                [0, 0, 250 - number]
            };
            let image = image::RgbImage::from_pixel(20, 24, image::Rgb(colour));
            image.save(dir.join(format!("{number}.png"))).unwrap();
        }
    }
    let found = json(
        folder,
        &[
            "data",
            "verify",
            "folder:photos",
            "--image-size",
            "16",
            "--json",
        ],
    );
    assert_eq!(
        found["train"].as_u64().unwrap() + found["test"].as_u64().unwrap(),
        24
    );
    let pack = [
        "data",
        "pack",
        "folder:photos",
        "photos.gradus",
        "--image-size",
        "16",
        "--json",
    ];
    let packed = json(folder, &pack);
    assert_eq!(packed["fingerprint"], found["fingerprint"]);
    let stderr = fails(folder, 1, &pack);
    assert!(stderr.contains("--force"), "{stderr}");
    json(folder, &[&pack[..], &["--force"]].concat());
    let sheet = json(
        folder,
        &[
            "data",
            "show",
            "pack:photos.gradus",
            "--count",
            "3",
            "--augment",
            "--out",
            "a.png",
            "--json",
        ],
    );
    let picture = image::open(folder.join("a.png")).unwrap();
    assert_eq!(sheet["width"], picture.width());
    fails(folder, 2, &["data", "show", "shapes", "--out", "a.txt"]);
    let run = [
        "--data",
        "pack:photos.gradus",
        "--out",
        "run",
        "--epochs",
        "30",
        "--lr",
        "0.1",
    ];
    let arguments = [
        &["train", "--json", "--model", "linear", "--batch-size", "8"],
        &run[..],
    ]
    .concat();
    let summary = json(folder, &arguments);
    assert_eq!(
        summary["test_accuracy"], 1.0,
        "red and blue can be told apart"
    );
    let answer = json(folder, &["predict", "run", "photos/red/0.png", "--json"]);
    assert_eq!(answer["predictions"][0]["classes"][0]["class"], "red");
    // Other images of any size are brought to the model's.
    let other = json(
        folder,
        &["eval", "run", "--data", "folder:photos", "--json"],
    );
    assert_eq!(other["accuracy"], 1.0);
    let stderr = fails(folder, 1, &["eval", "run", "--data", "shapes"]);
    assert!(
        stderr.contains("2 classes") && stderr.contains("10 classes"),
        "{stderr}"
    );
}
