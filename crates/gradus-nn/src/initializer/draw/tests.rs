use super::*;

const LINEAR: WeightShape = WeightShape::Linear {
    d_in: 200,
    d_out: 150,
};
const CONV: WeightShape = WeightShape::Conv {
    out_channels: 60,
    in_channels: 40,
    kernel: [3, 3],
};

/// Mean and variance within four standard errors of their values; σ(s²) = σ²·√((κ−1)/n), with the
/// kurtosis κ 3 for a normal distribution, 1.8 for a uniform one, and below 3 for a truncated normal.
fn assert_moments(text: &str, shape: &WeightShape, mean: f64, variance: f64, kurtosis: f64) {
    let weight = text
        .parse::<Initializer>()
        .unwrap()
        .values(shape, 7)
        .unwrap();
    let n = weight.len() as f64;
    let found_mean = weight.iter().sum::<f64>() / n;
    let found = weight.iter().map(|w| (w - mean).powi(2)).sum::<f64>() / n;
    let (mean_error, error) = (
        (variance / n).sqrt(),
        variance * ((kurtosis - 1.0) / n).sqrt(),
    );
    assert!(
        (found_mean - mean).abs() < 4.0 * mean_error,
        "{text}: mean {found_mean} ≠ {mean}"
    );
    assert!(
        (found - variance).abs() < 4.0 * error,
        "{text}: variance {found} ≠ {variance}"
    );
}

#[test]
fn each_distribution_has_its_mean_and_variance() {
    for (shape, fan_in, fan_out) in [(&LINEAR, 200.0, 150.0), (&CONV, 360.0, 540.0)] {
        assert_moments("uniform(low=-1, high=3)", shape, 1.0, 16.0 / 12.0, 1.8);
        assert_moments("normal(mean=0.5, std=0.1)", shape, 0.5, 0.01, 3.0);
        assert_moments("truncated-normal(std=0.02)", shape, 0.0, 4e-4, 3.0);
        assert_moments("lecun-normal", shape, 0.0, 1.0 / fan_in, 3.0);
        assert_moments("lecun-uniform", shape, 0.0, 1.0 / fan_in, 1.8);
        assert_moments("xavier-normal", shape, 0.0, 2.0 / (fan_in + fan_out), 3.0);
        assert_moments(
            "xavier-uniform(gain=2)",
            shape,
            0.0,
            8.0 / (fan_in + fan_out),
            1.8,
        );
        assert_moments("he-normal", shape, 0.0, 2.0 / fan_in, 3.0);
        assert_moments("he-normal(fan=out, gain=3)", shape, 0.0, 9.0 / fan_out, 3.0);
        assert_moments(
            "he-uniform(gain=tanh)",
            shape,
            0.0,
            25.0 / 9.0 / fan_in,
            1.8,
        );
        assert_moments("he-uniform(fan=out)", shape, 0.0, 2.0 / fan_out, 1.8);
        assert_moments("torch", shape, 0.0, 1.0 / (3.0 * fan_in), 1.8);
    }
}

/// Had the weights of a seed changed, saved results could not be reproduced.
#[test]
fn the_weights_of_a_seed_are_pinned() {
    // Drawn unit after unit, z₀₀, z₀₁, z₁₀, z₁₁, and stored as [d_in, d_out].
    let shape = WeightShape::Linear { d_in: 2, d_out: 2 };
    let z = [
        0.249_953_642_060_333_96,
        0.896_340_030_397_974_6,
        -0.472_492_054_898_274_17,
        0.494_668_250_645_480_7,
    ];
    // √2/√fan_in = 1; and none of the four is beyond ±2.
    for (text, scale) in [
        ("normal(std=1)", 1.0),
        ("kaiming-normal", 1.0),
        ("truncated-normal(std=1)", 1.0 / TRUNCATED_STD),
    ] {
        let weight = text
            .parse::<Initializer>()
            .unwrap()
            .values(&shape, 42)
            .unwrap();
        for (found, z) in weight.iter().zip(z) {
            assert!((found - scale * z).abs() < 1e-14, "{text}: {weight:?}");
        }
    }
}

#[test]
fn constants_are_what_they_say() {
    for (text, value) in [
        ("constant(value=-0.25)", -0.25),
        ("ones", 1.0),
        ("zeros", 0.0),
    ] {
        let weight = text
            .parse::<Initializer>()
            .unwrap()
            .values(&CONV, 7)
            .unwrap();
        assert_eq!(weight, vec![value; CONV.len()], "{text}");
    }
}

#[test]
fn bounds_are_kept() {
    let bound = |text: &str, limit: f64| {
        let weight = text
            .parse::<Initializer>()
            .unwrap()
            .values(&LINEAR, 3)
            .unwrap();
        assert!(weight.iter().all(|w| w.abs() <= limit), "{text}");
    };
    bound("truncated-normal(std=0.02)", 2.0 * 0.02 / TRUNCATED_STD);
    bound("torch", 1.0 / 200f64.sqrt());
    bound("xavier-uniform", (6.0f64 / 350.0).sqrt());
    // The correction is the standard deviation of N(0, 1) cut at ±2, here by the trapezoidal rule.
    let density = |z: f64| (-0.5 * z * z).exp();
    let grid: Vec<f64> = (-20_000..=20_000).map(|i| f64::from(i) * 1e-4).collect();
    let trapezoid = |f: &dyn Fn(f64) -> f64| {
        grid.windows(2)
            .map(|w| 0.5e-4 * (f(w[0]) + f(w[1])))
            .sum::<f64>()
    };
    let variance = trapezoid(&|z| z * z * density(z)) / trapezoid(&density);
    assert!(
        (variance.sqrt() - TRUNCATED_STD).abs() < 1e-8,
        "{}",
        variance.sqrt()
    );
}

#[test]
fn orthogonal_weights_are_orthonormal() {
    for shape in [
        LINEAR,
        WeightShape::Linear {
            d_in: 150,
            d_out: 200,
        },
        WeightShape::Linear {
            d_in: 64,
            d_out: 64,
        },
        CONV,
        WeightShape::Conv {
            out_channels: 64,
            in_channels: 3,
            kernel: [3, 3],
        },
    ] {
        let weight = "orthogonal(gain=2)"
            .parse::<Initializer>()
            .unwrap()
            .values(&shape, 5)
            .unwrap();
        let (units, inputs) = (shape.units(), shape.fan_in());
        let at = |row: usize, i: usize| {
            let (unit, input) = if units <= inputs { (row, i) } else { (i, row) };
            // Through f32, as the tensor will hold it.
            f64::from(weight[shape.place(unit, input)] as f32) / 2.0
        };
        for a in 0..units.min(inputs) {
            for b in 0..=a {
                let dot: f64 = (0..units.max(inputs)).map(|i| at(a, i) * at(b, i)).sum();
                let expected = f64::from(u8::from(a == b));
                assert!(
                    (dot - expected).abs() <= 1e-5,
                    "{shape:?}: ⟨{a},{b}⟩ = {dot}"
                );
            }
        }
    }
}

#[test]
fn dirac_passes_channels_through() {
    let shape = WeightShape::Conv {
        out_channels: 3,
        in_channels: 2,
        kernel: [3, 3],
    };
    let weight = "dirac"
        .parse::<Initializer>()
        .unwrap()
        .values(&shape, 0)
        .unwrap();
    let mut expected = vec![0.0; 3 * 2 * 9];
    expected[4] = 1.0; // filter 0, channel 0, centre
    expected[18 + 9 + 4] = 1.0; // filter 1, channel 1, centre
    assert_eq!(weight, expected);
    let linear = WeightShape::Linear { d_in: 2, d_out: 3 };
    let weight = "identity(gain=2)"
        .parse::<Initializer>()
        .unwrap()
        .values(&linear, 0)
        .unwrap();
    assert_eq!(weight, [2.0, 0.0, 0.0, 0.0, 2.0, 0.0]);
}

#[test]
fn sparse_units_have_exactly_their_share_of_zeros() {
    let shape = WeightShape::Linear {
        d_in: 40,
        d_out: 300,
    };
    let weight = "sparse(sparsity=0.75, std=2)"
        .parse::<Initializer>()
        .unwrap()
        .values(&shape, 1)
        .unwrap();
    let mut column_sums = vec![0usize; 40];
    for unit in 0..300 {
        let zero = |input: &usize| weight[shape.place(unit, *input)] == 0.0;
        assert_eq!((0..40).filter(zero).count(), 30);
        (0..40)
            .filter(zero)
            .for_each(|input| column_sums[input] += 1);
    }
    // Each input is 0 in a binomial(300, 3/4) number of units: 225 ± 4·√(300·3/16).
    assert!(
        column_sums.iter().all(|&n| (195..=255).contains(&n)),
        "{column_sums:?}"
    );
    let kept: Vec<f64> = weight.into_iter().filter(|w| *w != 0.0).collect();
    let variance = kept.iter().map(|w| w * w).sum::<f64>() / kept.len() as f64;
    assert!(
        (variance - 4.0).abs() < 4.0 * 4.0 * (2.0 / 3000f64).sqrt(),
        "{variance}"
    );
}

#[test]
fn the_seed_decides_and_the_layout_does_not() {
    let he: Initializer = "he-normal".parse().unwrap();
    assert_eq!(
        he.values(&LINEAR, 1).unwrap(),
        he.values(&LINEAR, 1).unwrap()
    );
    assert_ne!(
        he.values(&LINEAR, 1).unwrap(),
        he.values(&LINEAR, 2).unwrap()
    );
    // A 1×1 convolution and a linear layer with the same fans get the same connections.
    let conv = WeightShape::Conv {
        out_channels: 150,
        in_channels: 200,
        kernel: [1, 1],
    };
    let (a, b) = (
        "lecun-normal"
            .parse::<Initializer>()
            .unwrap()
            .values(&LINEAR, 1)
            .unwrap(),
        "lecun-normal"
            .parse::<Initializer>()
            .unwrap()
            .values(&conv, 1)
            .unwrap(),
    );
    assert!((0..150).all(|u| (0..200).all(|i| a[LINEAR.place(u, i)] == b[conv.place(u, i)])));
}

#[test]
fn every_name_round_trips() {
    for name in super::super::INITIALIZER_NAMES {
        let initializer: Initializer = name.parse().unwrap();
        assert_eq!(
            initializer.to_string().parse::<Initializer>().unwrap(),
            initializer
        );
        assert_eq!(initializer.values(&CONV, 0).unwrap().len(), CONV.len());
    }
    for text in [
        "sparse(sparsity=1)",
        "normal(std=-1)",
        "uniform(low=2, high=1)",
        "he-normal(fan=up)",
    ] {
        assert!(text.parse::<Initializer>().is_err(), "{text}");
    }
    let message = "kaming-normal"
        .parse::<Initializer>()
        .unwrap_err()
        .to_string();
    assert!(message.contains("kaiming-normal"), "{message}");
    assert!(
        Initializer::Zeros
            .values(&WeightShape::Linear { d_in: 0, d_out: 3 }, 0)
            .is_err()
    );
}
