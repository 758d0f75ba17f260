//! The built-in set must be hard for a linear classifier: each pixel by itself says little.
//!
//! Softmax regression on normalised pixels, plain mini-batch gradient descent with weight decay.

#![allow(clippy::unwrap_used)] // a test panics where it fails, in its helper functions too

use gradus_data::{DataSpec, Images, Normalization, OpenOptions, epoch_order};

const CLASSES: usize = 10;

struct Linear {
    /// `[K, D]`
    weights: Vec<f32>,
    bias: [f32; CLASSES],
}

impl Linear {
    fn logits(&self, x: &[f32]) -> [f32; CLASSES] {
        std::array::from_fn(|k| {
            let row = &self.weights[k * x.len()..(k + 1) * x.len()];
            // Sixteen partial sums, so that the compiler may use vector registers.
            let mut sums = [0.0f32; 16];
            for (a, b) in row.chunks_exact(16).zip(x.chunks_exact(16)) {
                for lane in 0..16 {
                    sums[lane] += a[lane] * b[lane];
                }
            }
            self.bias[k] + sums.iter().sum::<f32>()
        })
    }

    fn accuracy(&self, inputs: &[Vec<f32>], images: &Images) -> f64 {
        let right = inputs.iter().zip(&images.labels).filter(|(x, label)| {
            let logits = self.logits(x);
            let best = (0..CLASSES).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
            best == Some(usize::from(**label))
        });
        right.count() as f64 / inputs.len() as f64
    }
}

fn inputs(images: &Images, normalization: &Normalization) -> Vec<Vec<f32>> {
    let table = normalization.table();
    let area = images.shape.height * images.shape.width;
    (0..images.len())
        .map(|i| {
            let planes = images.image(i).chunks_exact(area).zip(&table);
            planes
                .flat_map(|(plane, t)| plane.iter().map(|&p| t[usize::from(p)]))
                .collect()
        })
        .collect()
}

#[test]
fn a_linear_classifier_stays_between_chance_and_45_percent_on_shapes() {
    let data = "shapes"
        .parse::<DataSpec>()
        .unwrap()
        .open(&OpenOptions::default())
        .unwrap();
    let all: Vec<u32> = (0..data.train.len() as u32).collect();
    let normalization = Normalization::measure(&data.train, &all).unwrap();
    let (train, test) = (
        inputs(&data.train, &normalization),
        inputs(&data.test, &normalization),
    );
    let size = data.train.shape.bytes();
    let mut model = Linear {
        weights: vec![0.0; CLASSES * size],
        bias: [0.0; CLASSES],
    };
    let mut best = 0.0f64;
    for epoch in 0..8 {
        let rate = 0.004 * (1.0 - epoch as f32 / 8.0);
        for &index in &epoch_order(1, epoch, &all) {
            let x = &train[index as usize];
            let logits = model.logits(x);
            let top = logits.iter().copied().fold(f32::MIN, f32::max);
            let exp = logits.map(|z| (z - top).exp());
            let sum: f32 = exp.iter().sum();
            for (k, e) in exp.into_iter().enumerate() {
                let target =
                    f32::from(u8::from(k == usize::from(data.train.label(index as usize))));
                let slope = rate / 10.0 * (e / sum - target);
                for (w, x) in model.weights[k * size..(k + 1) * size].iter_mut().zip(x) {
                    *w -= slope * x;
                }
                model.bias[k] -= slope;
            }
        }
        best = best.max(model.accuracy(&test, &data.test));
        println!(
            "epoch {epoch}: test {:.3}",
            model.accuracy(&test, &data.test)
        );
    }
    println!("train {:.3}", model.accuracy(&train, &data.train));
    assert!((0.15..0.45).contains(&best), "best test accuracy {best}");
}
