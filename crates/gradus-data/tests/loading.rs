//! The loader's promise: the same bytes in the same order, whatever the number of threads.

#![allow(clippy::unwrap_used)] // a test panics where it fails, in its helper functions too

use std::sync::Arc;

use gradus_data::{
    Augmentation, Batch, Crop, Flip, ImageShape, Images, Layout, Loader, LoaderConfig,
    Normalization, PaddingMode, epoch_order,
};
use proptest::prelude::*;

fn images(count: usize) -> Arc<Images> {
    let shape = ImageShape::new(3, 6, 5);
    let pixels = (0..count * shape.bytes())
        .map(|i| (i * i % 253) as u8)
        .collect();
    Arc::new(Images::new(shape, pixels, (0..count).map(|i| i as u16 % 4).collect()).unwrap())
}

fn load(images: &Arc<Images>, config: &LoaderConfig) -> Vec<Batch> {
    Loader::new(Arc::clone(images), config.clone())
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

fn bits(batches: &[Batch]) -> Vec<Vec<u32>> {
    batches
        .iter()
        .map(|b| b.inputs.iter().map(|v| v.to_bits()).collect())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn zero_one_and_four_workers_give_the_same_bytes(
        count in 1usize..60, batch_size in 1usize..20, drop_last: bool, seed: u64, epoch in 0u64..9,
        padding in 0usize..5, cutout in 0usize..6, flip in 0usize..3, reflect: bool, first in 0usize..5
    ) {
        let set = images(count);
        let all: Vec<u32> = (0..count as u32).collect();
        let mode = if reflect { PaddingMode::Reflect } else { PaddingMode::Zero };
        let augmentation = Augmentation {
            crop: Some(Crop { padding, mode }),
            flip: [Flip::Off, Flip::Random, Flip::Alternating][flip],
            cutout,
        };
        let base = LoaderConfig {
            drop_last,
            augmentation: Some((augmentation, seed, epoch)),
            first_batch: first,
            ..LoaderConfig::new(epoch_order(seed, epoch, &all), batch_size, Normalization::identity(3))
        };
        let reference = load(&set, &base);
        let expected = base.batches().saturating_sub(first);
        prop_assert_eq!(reference.len(), expected);
        prop_assert!(reference.iter().enumerate().all(|(i, b)| b.number == first + i));
        for workers in [1, 4] {
            let other = load(&set, &LoaderConfig { workers, ..base.clone() });
            prop_assert_eq!(bits(&other), bits(&reference));
            prop_assert_eq!(&other, &reference);
        }
        // The other order in memory holds the same images.
        let last = load(&set, &LoaderConfig { layout: Layout::ChannelsLast, ..base.clone() });
        for (a, b) in last.iter().zip(&reference) {
            prop_assert_eq!((a.shape, &a.indices), (b.shape, &b.indices));
            let [_, c, h, w] = a.shape;
            for (i, value) in a.inputs.iter().enumerate() {
                let (pixel, channel) = (i / c, i % c);
                let at = (pixel / (h * w) * c + channel) * h * w + pixel % (h * w);
                prop_assert_eq!(*value, b.inputs[at]);
            }
        }
        // Resuming in the middle gives the tail of the whole epoch.
        let whole = load(&set, &LoaderConfig { first_batch: 0, ..base });
        prop_assert_eq!(&whole[first.min(whole.len())..], &reference[..]);
        let seen: Vec<u32> = whole.iter().flat_map(|b| b.indices.clone()).collect();
        prop_assert!(drop_last || seen.len() == count);
    }
}

#[test]
fn a_batch_holds_what_its_indices_say() {
    let set = images(7);
    let normalization = Normalization {
        mean: vec![0.5, 0.25, 0.0],
        std: vec![0.5, 0.25, 1.0],
    };
    let config = LoaderConfig::new(vec![6, 2, 4], 2, normalization.clone());
    let batches = load(&set, &config);
    assert_eq!(
        (batches[0].shape, batches[1].shape),
        ([2, 3, 6, 5], [1, 3, 6, 5])
    );
    assert_eq!(
        (batches[0].labels.as_slice(), batches[1].labels.as_slice()),
        (&[2, 2][..], &[0][..])
    );
    for (c, plane) in batches[1].inputs.chunks_exact(30).enumerate() {
        for (value, &pixel) in plane.iter().zip(&set.image(4)[c * 30..]) {
            let expected = (f64::from(pixel) / 255.0 - f64::from(normalization.mean[c]))
                / f64::from(normalization.std[c]);
            assert!((f64::from(*value) - expected).abs() < 1e-6);
        }
    }
}

#[test]
fn a_configuration_out_of_range_is_refused_before_any_thread_starts() {
    let set = images(3);
    let base = LoaderConfig::new(vec![0, 1, 2], 2, Normalization::identity(3));
    let refuse = |config: LoaderConfig| {
        Loader::new(Arc::clone(&set), config)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refuse(LoaderConfig {
            batch_size: 0,
            ..base.clone()
        }),
        "batch size = 0: expected at least 1"
    );
    assert_eq!(
        refuse(LoaderConfig {
            order: vec![3],
            ..base.clone()
        }),
        "image index = 3: expected below 3"
    );
    assert_eq!(
        refuse(LoaderConfig {
            workers: 1000,
            ..base.clone()
        }),
        "workers = 1000: expected 0 to 64"
    );
    let one = LoaderConfig {
        normalization: Normalization::identity(1),
        ..base.clone()
    };
    assert!(refuse(one).contains("one of each for 3 channels"));
    let crop = Some(Crop {
        padding: 5,
        mode: PaddingMode::Zero,
    });
    let augmentation = Some((
        Augmentation {
            crop,
            ..Augmentation::none()
        },
        0,
        0,
    ));
    assert!(
        refuse(LoaderConfig {
            augmentation,
            ..base.clone()
        })
        .contains("crop padding = 5")
    );
    let none = Loader::new(
        Arc::clone(&set),
        LoaderConfig {
            order: vec![],
            ..base
        },
    )
    .unwrap();
    assert_eq!(none.count(), 0);
}

#[test]
fn types_cross_threads() {
    fn sent<T: Send + 'static>() {}
    sent::<Loader>();
    sent::<Batch>();
    sent::<gradus_data::DataError>();
}
