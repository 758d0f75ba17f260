//! The convolutions that are measured.

use gradus_kernels::cpu::conv::ConvShape;

/// A convolution with a name.
#[derive(Clone, Debug)]
pub struct Case {
    /// Such as `64→64 3×3 @32`: channels, filters, kernel, side of the input.
    pub name: String,
    /// Its sizes.
    pub shape: ConvShape,
}

/// Channels, filters, side, kernel, stride, padding.
type Sizes = [usize; 6];

/// Each shape once, in the order of the networks.
const SHAPES: [Sizes; 30] = [
    // VGG-like, widths 32, 64, 128 and 64, 128, 256, two convolutions a stage, pooling last.
    [3, 32, 32, 3, 1, 1],
    [32, 32, 32, 3, 1, 1],
    [32, 64, 16, 3, 1, 1],
    [64, 64, 16, 3, 1, 1],
    [64, 128, 8, 3, 1, 1],
    [128, 128, 8, 3, 1, 1],
    [3, 64, 32, 3, 1, 1],
    [64, 64, 32, 3, 1, 1],
    [64, 128, 16, 3, 1, 1],
    [128, 128, 16, 3, 1, 1],
    [128, 256, 8, 3, 1, 1],
    [256, 256, 8, 3, 1, 1],
    // resnet20.
    [3, 16, 32, 3, 1, 1],
    [16, 16, 32, 3, 1, 1],
    [16, 32, 32, 3, 2, 1],
    [32, 32, 16, 3, 1, 1],
    [32, 64, 16, 3, 2, 1],
    [64, 64, 8, 3, 1, 1],
    // airnet, widths 32, 64, 64 and 64, 256, 256.
    [3, 24, 32, 2, 1, 0],
    [24, 32, 31, 3, 1, 1],
    [32, 32, 15, 3, 1, 1],
    [32, 64, 15, 3, 1, 1],
    [64, 64, 7, 3, 1, 1],
    [64, 64, 3, 3, 1, 1],
    [24, 64, 31, 3, 1, 1],
    [64, 64, 15, 3, 1, 1],
    [64, 256, 15, 3, 1, 1],
    [256, 256, 7, 3, 1, 1],
    [256, 256, 3, 3, 1, 1],
    // A 1×1, as in residual shortcuts.
    [16, 32, 32, 1, 2, 0],
];

/// Convolutions with a filter for each channel; as many filters as channels.
const DEPTHWISE: [Sizes; 2] = [[64, 64, 32, 3, 1, 1], [128, 128, 16, 3, 2, 1]];

/// The shapes at `batch` images: those of performance.md and of the networks that are compared.
#[must_use]
pub fn cases(batch: usize) -> Vec<Case> {
    let case = |[from, to, side, kernel, stride, padding]: Sizes, groups: usize| {
        let kind = if groups > 1 { "depthwise " } else { "" };
        let step = match stride {
            1 => String::new(),
            _ => format!("/{stride}"),
        };
        Case {
            name: format!("{from}→{to} {kind}{kernel}×{kernel}{step} @{side}"),
            shape: ConvShape {
                batch,
                size: [side; 2],
                in_channels: from,
                out_channels: to,
                kernel: [kernel; 2],
                stride: [stride; 2],
                padding: [padding; 2],
                dilation: [1; 2],
                groups,
            },
        }
    };
    let mut cases: Vec<Case> = SHAPES.map(|sizes| case(sizes, 1)).into();
    cases.extend(DEPTHWISE.map(|sizes| case(sizes, sizes[0])));
    cases
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::kernels::flop;
    use gradus_nn::{ModelConfig, PoolPlace, Width};

    /// Every convolution of the networks of the comparison is in the list.
    #[test]
    fn the_networks_are_covered() {
        let cases = cases(1);
        for (name, width) in [
            ("cnn", vec![32, 64, 128]),
            ("cnn", vec![64, 128, 256]),
            ("resnet20", vec![16, 32, 64]),
            ("airnet", vec![32, 64, 64]),
            ("airnet", vec![64, 256, 256]),
        ] {
            let config = ModelConfig {
                width: Width::List(width),
                pool: PoolPlace::Last,
                ..ModelConfig::named(name).unwrap()
            };
            let summary = config.summary().unwrap();
            for layer in summary.layers.iter().filter(|l| l.kind.starts_with("conv")) {
                let known = cases.iter().any(|case| {
                    let channels =
                        format!("{} → {}", case.shape.in_channels, case.shape.out_channels);
                    layer.output[1..] == case.shape.out_size()
                        && layer.kind.contains(&channels)
                        && 2.0 * layer.multiply_adds as f64 == flop(&case.shape)
                });
                assert!(
                    known,
                    "{} {:?} of {name} is missing",
                    layer.kind, layer.output
                );
            }
        }
    }

    #[test]
    fn no_shape_is_there_twice() {
        let mut names: Vec<String> = cases(1).into_iter().map(|case| case.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), SHAPES.len() + DEPTHWISE.len());
    }
}
