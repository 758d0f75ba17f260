//! Lockstep: devices that agree are said to agree, and one wrong element anywhere is found where it is.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};

use gradus_bench::parity::{Kind, Place, Plant, Report, Settings, Verdict, optimizers, run};
use gradus_train::{Layers, RunConfig, device};

/// A small model on a few images of 32×32.
fn config(settings: &[(&str, &str)]) -> RunConfig {
    let layers = Layers::on_recipe(|layers| {
        layers.set("data.shapes_train", "40")?;
        layers.set("data.shapes_test", "10")?;
        layers.set("batch_size", "4")?;
        for (key, value) in settings {
            layers.set(key, value)?;
        }
        Ok(())
    });
    layers.unwrap().finish().unwrap()
}

fn compare(config: &RunConfig, devices: &[&str], steps: usize, plant: Option<Plant>) -> Report {
    let free = plant.is_none();
    let settings = Settings {
        devices: (devices.iter())
            .map(|name| ((*name).to_owned(), device(name).unwrap().0))
            .collect(),
        steps,
        free,
        plant,
    };
    run(config, config.data.open().unwrap(), &settings, |_| {}).unwrap()
}

/// Models whose operations are all that there are.
fn zoo() -> Vec<(&'static str, RunConfig)> {
    let adam = "adamw(lr=0.003)";
    [
        ("linear", vec![("model.name", "linear")]),
        (
            "mlp",
            vec![
                ("model.name", "mlp"),
                ("model.width", "8"),
                ("optimizer", adam),
            ],
        ),
        (
            "cnn",
            vec![
                ("model.name", "cnn"),
                ("model.width", "4"),
                ("model.pool", "last"),
            ],
        ),
        (
            "resnet8",
            vec![
                ("model.name", "resnet8"),
                ("model.width", "4"),
                ("model.activation", "silu"),
            ],
        ),
        (
            "airnet",
            vec![
                ("model.name", "airnet"),
                ("model.width", "4,8,8"),
                ("optimizer", "muon(lr=0.02)"),
            ],
        ),
    ]
    .map(|(name, settings)| (name, config(&settings)))
    .into()
}

fn assert_agrees(name: &str, report: &Report) {
    assert!(report.agree, "{name}: {:#?}", report.first_divergence);
    let worst = report.worst.as_ref().unwrap();
    assert!(worst.share.unwrap() <= 1.0, "{name}: {worst:?}");
    // Rounding leaves traces: a comparison of a thing with itself would not.
    assert!(worst.share.unwrap() > 0.0, "{name}");
    for kind in &report.against_f64 {
        assert!(kind.tensors > 0, "{name}: no {} were compared", kind.kind);
    }
}

#[test]
fn flex_and_ndarray_compute_the_same() {
    for (name, config) in zoo() {
        let report = compare(&config, &["flex", "ndarray"], 3, None);
        assert_agrees(name, &report);
        assert_eq!((report.against_f64.len(), report.pairs.len()), (6, 3));
        let free = report.free.as_ref().unwrap();
        assert!(free.explained, "{name}: {free:?}");
        assert_eq!((free.exact.len(), free.devices.len()), (3, 2));
        // Two devices that ran on their own do not differ in nothing.
        assert_ne!(free.devices[0].losses, free.exact);
    }
}

#[test]
fn stages_norms_losses_and_steps_at_other_weights_agree_too() {
    for settings in [
        vec![("optimizer", "sgd(lr=0.05, momentum=0.9) | sam(0.05)")],
        vec![("optimizer", "lion(lr=1e-3) | clip_global(0.5) | ema(0.9)")],
        vec![
            ("model.norm", "group"),
            ("loss", "hinge"),
            ("model.dropout", "0.2"),
        ],
        vec![("optimizer", "prodigy"), ("penalty", "l2(lambda=1e-3)")],
        vec![("optimizer", "sophia(update_interval=2)")],
        vec![("optimizer", "adahessian")],
    ] {
        let small = [("model.name", "cnn"), ("model.width", "4")];
        let config = config(&[&small[..], &settings].concat());
        let report = compare(&config, &["flex", "ndarray"], 3, None);
        assert_agrees(&format!("{settings:?}"), &report);
    }
}

/// Up to `each` places of every operation, spread over the network.
fn chosen(places: &[Place], each: usize) -> Vec<Place> {
    let mut by_operation: BTreeMap<&str, Vec<&Place>> = BTreeMap::new();
    for place in places {
        by_operation
            .entry(&place.operation)
            .or_default()
            .push(place);
    }
    let spread = |places: Vec<&Place>| {
        let take = each.min(places.len());
        (0..take)
            .map(|i| places[i * places.len() / take].clone())
            .collect::<Vec<_>>()
    };
    by_operation.into_values().flat_map(spread).collect()
}

#[test]
fn one_wrong_element_is_found_in_more_than_fifty_operations() {
    let mut found = BTreeSet::new();
    let mut kinds = BTreeSet::new();
    for (number, (name, config)) in zoo().into_iter().enumerate() {
        let places = compare(&config, &["flex"], 1, None).places;
        for (i, place) in chosen(&places, 2).into_iter().enumerate() {
            let plant = Plant {
                device: "flex".to_owned(),
                step: 1 + i % 2,
                place: place.clone(),
                element: 7919 * (i + 1) + 31 * number,
                relative: if i % 3 == 0 { -0.1 } else { 0.1 },
            };
            let report = compare(&config, &["flex"], 2, Some(plant.clone()));
            assert!(!report.agree, "{name}: {plant:?} was not seen");
            let out = report.first_divergence.unwrap();
            assert_eq!(
                (out.step, &out.operation, &out.tensor, out.device.as_str()),
                (plant.step, &place.operation, &place.tensor, "flex"),
                "{name}: {plant:?}"
            );
            assert_eq!(report.steps, plant.step, "it ends there");
            kinds.insert(place.kind());
            found.insert((name, place));
        }
    }
    assert!(found.len() >= 50, "{}", found.len());
    assert_eq!(kinds.len(), Kind::ALL.len());
    let operations: BTreeSet<_> = found.iter().map(|(_, place)| &place.operation).collect();
    assert!(operations.len() >= 20, "{operations:?}");
}

#[test]
fn frozen_parameters_stay_and_plateaus_are_followed_through_an_epoch() {
    let cnn = [("model.name", "cnn"), ("model.width", "4")];
    let freeze = "[{ name = \"stages.0.0.conv.weight\" }, { name = \"head.*\", after_epochs = 1 }]";
    // Ten batches of four make an epoch.
    let schedule = ("schedule", "plateau(patience=1)");
    let frozen = config(&[&cnn[..], &[("freeze", freeze)]].concat());
    let report = compare(&frozen, &["flex", "ndarray"], 12, None);
    assert_agrees("frozen", &report);
    let place = |operation: &str, tensor: &str| {
        let mut places = report.places.iter();
        places.any(|place| place.operation == operation && place.tensor == tensor)
    };
    assert!(place("frozen", "stages.0.0.conv.weight"));
    assert!(place("update", "head.weight"), "it learns for an epoch");

    let plateau = config(&[&cnn[..], &[schedule]].concat());
    assert_agrees("plateau", &compare(&plateau, &["flex"], 10, None));
    let settings = Settings {
        devices: vec![("flex".to_owned(), device("flex").unwrap().0)],
        steps: 11,
        free: false,
        plant: None,
    };
    let error = run(&plateau, plateau.data.open().unwrap(), &settings, |_| {}).unwrap_err();
    assert!(error.to_string().contains("--steps 10"), "{error}");
}

#[test]
fn optimizers_agree_on_given_gradients_and_a_fault_is_named() {
    let settings = |plant: Option<&str>| optimizers::Settings {
        devices: (["flex", "ndarray"].iter())
            .map(|name| ((*name).to_owned(), device(name).unwrap().0))
            .collect(),
        steps: 4,
        optimizers: optimizers::optimizers(
            "adamw,prodigy,muon,sophia,soap,sgd(momentum=0.9) | sam | ema(0.9)",
        )
        .unwrap(),
        seed: 1,
        plant: plant.map(|plant| plant.parse().unwrap()),
    };
    let report = optimizers::run(&settings(None), |_| {}).unwrap();
    assert!(report.agree, "{:#?}", report.first_divergence);
    for row in &report.optimizers {
        assert_eq!((row.steps, row.against_f64.len()), (4, 2));
        for worst in &row.against_f64 {
            assert!(worst.tensors > 0 && worst.share.unwrap() > 0.0, "{worst:?}");
        }
    }
    for (place, step) in [
        ("update:dense.weight", 2),
        ("state:table/exp_avg_sq", 3),
        ("state:conv.bias/0.ema.average", 4),
    ] {
        let report = optimizers::run(
            &settings(Some(&format!("ndarray:{step}:{place}:7:0.1"))),
            |_| {},
        );
        let report = report.unwrap();
        let out = report.first_divergence.unwrap().what;
        assert_eq!(
            (out.device.as_str(), out.step),
            ("ndarray", step),
            "{place}"
        );
        assert_eq!(format!("{}:{}", out.operation, out.tensor), place);
    }
    let wild = optimizers::Settings {
        optimizers: optimizers::optimizers("sgd(lr=1e30)").unwrap(),
        ..settings(None)
    };
    let error = optimizers::run(&wild, |_| {}).unwrap_err().to_string();
    assert!(error.contains("beyond f32 in "), "{error}");
    let nowhere = settings(Some("flex:1:update:dense.wight:7:0.1"));
    let error = optimizers::run(&nowhere, |_| {}).unwrap_err().to_string();
    assert!(error.contains("dense.weight"), "{error}");
}

#[test]
fn a_divergence_says_who_is_wrong_and_by_how_much() {
    let config = config(&[("model.name", "cnn"), ("model.width", "4")]);
    let plant: Plant = "ndarray:2:conv2d:stages.1.0.conv:1000:0.5".parse().unwrap();
    let report = compare(&config, &["flex", "ndarray"], 3, Some(plant));
    let out = report.first_divergence.unwrap();
    assert_eq!((out.device.as_str(), out.element), ("ndarray", 1000));
    assert_eq!(out.verdict, Verdict::Fault);
    let error = |i: usize| out.errors[i].error.unwrap();
    assert!(error(0) < out.tolerance && error(1) > 100.0 * out.tolerance);
    assert_eq!(out.error, Some(error(1)));
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let config = config(&[("model.name", "cnn"), ("model.width", "4")]);
    let try_with = |config: &RunConfig, devices: &[&str], plant: Option<&str>| {
        let settings = Settings {
            devices: (devices.iter())
                .map(|name| ((*name).to_owned(), device(name).unwrap().0))
                .collect(),
            steps: 1,
            free: false,
            plant: plant.map(|plant| plant.parse().unwrap()),
        };
        let found = run(config, config.data.open().unwrap(), &settings, |_| {});
        found.map(|_| ()).unwrap_err().to_string()
    };
    let words = try_with(&config, &["flex"], Some("flex:1:conv2d:stages.0.0.cnv:0:1"));
    assert!(words.contains("stages.0.0.conv"), "{words}");
    let words = try_with(&config, &["flex"], Some("flex:1:conv3d:head:0:1"));
    assert!(words.contains("conv2d"), "{words}");
    let words = try_with(&config, &["flex"], Some("ndarray:1:conv2d:head:0:1"));
    assert!(words.contains("ndarray"), "{words}");
    assert!(try_with(&config, &["flex", "flex"], None).contains("twice"));
    assert!(try_with(&config, &[], None).contains("at least one device"));
    let soap = self::config(&[("model.name", "linear"), ("optimizer", "soap")]);
    let words = try_with(&soap, &["flex"], None);
    assert!(words.contains("--optimizers soap"), "{words}");
    let wrong = self::config(&[
        ("model.name", "linear"),
        ("freeze", "[{ name = \"no.such\" }]"),
    ]);
    assert!(try_with(&wrong, &["flex"], None).contains("no.such"));
    let solver = self::config(&[("model.name", "linear"), ("optimizer", "lbfgs")]);
    assert!(try_with(&solver, &["flex"], None).contains("closure solver"));
}
