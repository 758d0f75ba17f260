//! Batches made by the device from its own images are the loader's, bit for bit.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor};
use gradus_data::{
    Augmentation, Crop, Flip, ImageShape, Images, Layout, Loader, LoaderConfig, Normalization,
    PaddingMode, epoch_order,
};
use gradus_train::device::devices;
use gradus_train::evaluate::{inputs, targets};
use gradus_train::{AUTO_BYTES, DataOn, HeldImages, device};
use proptest::prelude::*;

fn images(shape: ImageShape, count: usize) -> Arc<Images> {
    let pixels = (0..count * shape.bytes())
        .map(|i| (i * i + 7 * i / 5) as u8)
        .collect();
    let labels = (0..count).map(|i| i as u16 % 5).collect();
    Arc::new(Images::new(shape, pixels, labels).unwrap())
}

/// Shape and bits of the inputs, and the classes.
type Found = ([usize; 4], Vec<u32>, Vec<i64>);

fn found(x: Tensor<4>, y: Tensor<1, Int>) -> Found {
    let shape = x.dims();
    let bits = x.into_data().iter::<f32>().map(f32::to_bits).collect();
    (shape, bits, y.into_data().iter::<i64>().collect())
}

/// All batches of `config`, from the host and from the device.
fn both(images: &Arc<Images>, config: &LoaderConfig, device: &Device) -> [Vec<Found>; 2] {
    let host = LoaderConfig {
        layout: Layout::ChannelsLast,
        ..config.clone()
    };
    let host = Loader::new(Arc::clone(images), host).unwrap().map(|batch| {
        let mut batch = batch.unwrap();
        let x = inputs(&mut batch, device);
        found(x, targets(&batch, device))
    });
    let held = HeldImages::new(images, &config.normalization, device).unwrap();
    let there = Loader::places(Arc::clone(images), config.clone())
        .unwrap()
        .map(|places| {
            let (x, y) = held.batch(&places.unwrap());
            found(x, y)
        });
    [host.collect(), there.collect()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Every augmentation, any size, with and without a last short batch, from the middle of an epoch.
    #[test]
    fn the_device_makes_the_loaders_batches(
        channels in 1usize..10, height in 2usize..9, width in 2usize..9, count in 1usize..24,
        batch_size in 1usize..9, seed: u64, epoch in 0u64..4, padding in 0usize..2,
        cutout in 0usize..3, flip in 0usize..3, reflect: bool, crop: bool, drop_last: bool,
        first_batch in 0usize..3, workers in 0usize..2, ndarray: bool
    ) {
        let (device, _) = device(if ndarray { "ndarray" } else { "flex" }).unwrap();
        let images = images(ImageShape::new(channels, height, width), count);
        let mode = if reflect { PaddingMode::Reflect } else { PaddingMode::Zero };
        let augmentation = Augmentation {
            crop: crop.then_some(Crop { padding, mode }),
            flip: [Flip::Off, Flip::Random, Flip::Alternating][flip],
            cutout,
        };
        let indices: Vec<u32> = (0..count as u32).collect();
        let normalization = Normalization::measure(&images, &indices).unwrap();
        let order = epoch_order(seed, epoch, &indices);
        let config = LoaderConfig {
            augmentation: Some((augmentation, seed, epoch)),
            drop_last,
            first_batch,
            workers,
            ..LoaderConfig::new(order, batch_size, normalization)
        };
        let [host, there] = both(&images, &config, &device);
        prop_assert_eq!(there, host);
    }
}

/// The usual photographs with the usual recipe, on every device of the build, GPUs included: on none is anything
/// computed that could round.
#[test]
fn photographs_of_32_by_32_on_every_device() {
    let images = images(ImageShape::new(3, 32, 32), 40);
    let indices: Vec<u32> = (0..40).collect();
    let normalization = Normalization::measure(&images, &indices).unwrap();
    for device in devices() {
        for mode in [PaddingMode::Zero, PaddingMode::Reflect] {
            let augmentation = Augmentation {
                crop: Some(Crop { padding: 4, mode }),
                flip: Flip::Alternating,
                cutout: 12,
            };
            let config = LoaderConfig {
                augmentation: Some((augmentation, 3, 1)),
                ..LoaderConfig::new(indices.clone(), 16, normalization.clone())
            };
            let [host, there] = both(&images, &config, &device.device);
            assert_eq!(there, host, "{}", device.name);
        }
    }
}

#[test]
fn auto_is_for_gpus_and_sets_that_fit() {
    let few = images(ImageShape::new(3, 4, 4), 2);
    // Only the number of labels counts here.
    let many = Images {
        shape: ImageShape::new(3, 32, 32),
        pixels: Vec::new(),
        labels: vec![0; AUTO_BYTES / 4096 + 1],
    };
    for (backend, images, expected) in [
        ("cuda", &*few, true),
        ("wgpu", &*few, true),
        ("flex", &*few, false),
        ("ndarray", &*few, false),
        ("cpu", &*few, false),
        ("cuda", &many, false),
    ] {
        assert_eq!(
            DataOn::Auto.is_device(backend, images),
            expected,
            "{backend}"
        );
        assert!(DataOn::Device.is_device(backend, images));
        assert!(!DataOn::Host.is_device(backend, images));
    }
}

#[test]
fn names_are_read_back_and_others_answered() {
    for (name, on) in DataOn::ALL {
        assert_eq!(name.parse(), Ok(on));
        assert_eq!(on.to_string(), name);
    }
    let error = "devise".parse::<DataOn>().unwrap_err();
    assert!(error.contains("did you mean device"), "{error}");
}
