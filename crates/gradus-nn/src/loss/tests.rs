use super::*;
use burn::tensor::Device;

const LOGITS: [[f64; 4]; 3] = [
    [1.5, -0.3, 0.2, 2.0],
    [-1.0, 0.4, 0.9, -2.2],
    [0.1, 3.0, -0.7, 0.6],
];
const TARGETS: [usize; 3] = [0, 2, 1];

fn all() -> Vec<Loss> {
    [
        "cross-entropy",
        "cross-entropy(label_smoothing=0.2)",
        "cross-entropy(class_weights=[1, 2, 0.5, 3])",
        "cross-entropy(label_smoothing=0.1, class_weights=[1, 2, 0.5, 3])",
        "hinge",
        "hinge(margin=0.3)",
        "squared-hinge",
        "mse",
        "focal",
        "focal(gamma=0.5)",
        "focal(gamma=0)",
    ]
    .map(|text| text.parse().unwrap())
    .to_vec()
}

fn log_softmax(row: &[f64; 4]) -> [f64; 4] {
    let total: f64 = row.iter().map(|s| s.exp()).sum();
    row.map(|s| s - total.ln())
}

/// The formulas of the module's head, read off in f64.
fn reference(loss: &Loss, logits: &[[f64; 4]; 3]) -> (Vec<f64>, f64) {
    let each: Vec<f64> = logits
        .iter()
        .zip(TARGETS)
        .map(|(s, y)| {
            let log_p = log_softmax(s);
            let hinge = |power: i32, margin: f64| -> f64 {
                (0..4)
                    .filter(|j| *j != y)
                    .map(|j| (s[j] - s[y] + margin).max(0.0).powi(power))
                    .sum()
            };
            match loss {
                Loss::CrossEntropy {
                    label_smoothing: e,
                    class_weights,
                } => {
                    let w = class_weights.clone().unwrap_or(vec![1.0; 4]);
                    -(1.0 - e) * w[y] * log_p[y]
                        - e / 4.0 * (0..4).map(|j| w[j] * log_p[j]).sum::<f64>()
                }
                Loss::Hinge { margin } => hinge(1, *margin),
                Loss::SquaredHinge { margin } => hinge(2, *margin),
                Loss::MeanSquaredError => {
                    (0..4)
                        .map(|j| (s[j] - f64::from(u8::from(j == y))).powi(2))
                        .sum::<f64>()
                        / 4.0
                }
                Loss::Focal { gamma } => -(1.0 - log_p[y].exp()).powf(*gamma) * log_p[y],
            }
        })
        .collect();
    let weight: f64 = match loss {
        Loss::CrossEntropy {
            class_weights: Some(w),
            ..
        } => TARGETS.iter().map(|y| w[*y]).sum(),
        _ => 3.0,
    };
    let mean = each.iter().sum::<f64>() / weight;
    (each, mean)
}

fn tensors(logits: &[[f64; 4]; 3], device: &Device) -> (Tensor<2>, Tensor<1, Int>) {
    (
        Tensor::from_data(*logits, device),
        Tensor::from_data([0, 2, 1], device),
    )
}

#[test]
fn values_and_gradients_are_those_of_the_formula() {
    let device = Device::flex().autodiff();
    for loss in all() {
        let (logits, targets) = tensors(&LOGITS, &device);
        let logits = logits.require_grad();
        let (each, mean) = reference(&loss, &LOGITS);
        let found: Vec<f32> = loss
            .per_example(logits.clone(), targets.clone())
            .into_data()
            .try_to_vec()
            .unwrap();
        for (a, b) in found.iter().zip(&each) {
            assert!(
                (f64::from(*a) - b).abs() < 1e-5,
                "{loss}: {found:?} {each:?}"
            );
        }
        let value = loss.forward(logits.clone(), targets);
        let gradient: Vec<f32> = logits
            .grad(&value.backward())
            .unwrap()
            .into_data()
            .try_to_vec()
            .unwrap();
        assert!(
            (f64::from(value.into_scalar::<f32>()) - mean).abs() < 1e-5,
            "{loss}"
        );
        // Central differences of the f64 reference: exact to 1e-9, far below the f32 of the tensor.
        for i in 0..12 {
            let moved = |h: f64| {
                let mut logits = LOGITS;
                logits[i / 4][i % 4] += h;
                reference(&loss, &logits).1
            };
            let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!(
                (f64::from(gradient[i]) - slope).abs() < 2e-6,
                "{loss} at {i}: {gradient:?}"
            );
        }
    }
}

#[test]
fn zero_weights_give_ln_10_and_9() {
    let device = Device::flex();
    let logits = Tensor::<2>::zeros([5, 10], &device);
    let targets = Tensor::<1, Int>::from_data([0, 3, 9, 4, 4], &device);
    let value = |text: &str| {
        let loss: Loss = text.parse().unwrap();
        loss.forward(logits.clone(), targets.clone())
            .into_scalar::<f32>()
    };
    assert!((value("cross-entropy") - 10f32.ln()).abs() < 1e-6);
    assert!((value("cross-entropy(label_smoothing=0.3)") - 10f32.ln()).abs() < 1e-6);
    assert_eq!(value("hinge"), 9.0);
    assert_eq!(value("squared-hinge"), 9.0);
    assert!((value("mse") - 0.1).abs() < 1e-7);
}

#[test]
fn class_weights_follow_pytorch() {
    // >>> logits = torch.tensor([[1.5, -.3, .2, 2.], [-1., .4, .9, -2.2], [.1, 3., -.7, .6]])
    // >>> w = torch.tensor([1., 2., .5, 3.])
    // >>> F.cross_entropy(logits, torch.tensor([0, 2, 1]), weight=w)
    // By its documentation Σ wᵢ·ℓᵢ / Σ wᵢ with w = (1, 0.5, 2): dividing by N instead would give 7/6 of it.
    let loss: Loss = "cross-entropy(class_weights=[1, 2, 0.5, 3])"
        .parse()
        .unwrap();
    let (logits, targets) = tensors(&LOGITS, &Device::flex());
    let nll = |i: usize| -log_softmax(&LOGITS[i])[TARGETS[i]];
    let expected = (nll(0) + 0.5 * nll(1) + 2.0 * nll(2)) / 3.5;
    let found = f64::from(loss.forward(logits, targets).into_scalar::<f32>());
    assert!((found - expected).abs() < 1e-6, "{found} {expected}");
}

#[test]
fn smoothing_and_class_weights_together_follow_pytorch() {
    // >>> x = torch.tensor([[1.5, -.3, .2, 2.], [-1., .4, .9, -2.2], [.1, 3., -.7, .6]],
    // ...                  dtype=torch.float64)
    // >>> t, w = torch.tensor([0, 2, 1]), torch.tensor([1, 2, .5, 3], dtype=torch.float64)
    // >>> F.cross_entropy(x, t, weight=w, label_smoothing=0.1).item()
    // 0.7255156239719907
    // >>> F.cross_entropy(x, t, weight=w, label_smoothing=0.1, reduction='none').tolist()
    // [1.2662455068753173, 0.6654100103050651, 0.607649166721585]
    // >>> F.cross_entropy(x, t, weight=w).item(), F.cross_entropy(x, t, label_smoothing=0.2).item()
    // (0.49601958473891605, 0.9092933168705264)
    let (logits, targets) = tensors(&LOGITS, &Device::flex());
    for (text, expected) in [
        (
            "cross-entropy(label_smoothing=0.1, class_weights=[1, 2, 0.5, 3])",
            0.725_515_623_971_990_7,
        ),
        (
            "cross-entropy(class_weights=[1, 2, 0.5, 3])",
            0.496_019_584_738_916_05,
        ),
        (
            "cross-entropy(label_smoothing=0.2)",
            0.909_293_316_870_526_4,
        ),
    ] {
        let loss: Loss = text.parse().unwrap();
        let found = loss.forward(logits.clone(), targets.clone());
        let found = f64::from(found.into_scalar::<f32>());
        assert!((found - expected).abs() < 1e-6, "{text}: {found}");
    }
    let loss: Loss = "cross-entropy(label_smoothing=0.1, class_weights=[1, 2, 0.5, 3])"
        .parse()
        .unwrap();
    let each: Vec<f32> = loss
        .per_example(logits, targets)
        .into_data()
        .try_to_vec()
        .unwrap();
    let expected = [
        1.266_245_506_875_317_3,
        0.665_410_010_305_065_1,
        0.607_649_166_721_585,
    ];
    for (found, expected) in each.iter().zip(expected) {
        assert!((f64::from(*found) - expected).abs() < 1e-6, "{each:?}");
    }
}

#[test]
fn large_logits_stay_finite() {
    let device = Device::flex().autodiff();
    for loss in all() {
        for scale in [1e4, -1e4] {
            let (logits, targets) = tensors(&LOGITS.map(|row| row.map(|s| s * scale)), &device);
            let logits = logits.require_grad();
            let value = loss.forward(logits.clone(), targets);
            let gradient: Vec<f32> = logits
                .grad(&value.backward())
                .unwrap()
                .into_data()
                .try_to_vec()
                .unwrap();
            assert!(value.into_scalar::<f32>().is_finite(), "{loss}");
            assert!(
                gradient.iter().all(|g| g.is_finite()),
                "{loss}: {gradient:?}"
            );
        }
    }
}

#[test]
fn text_round_trips_and_nonsense_is_refused() {
    for loss in all() {
        assert_eq!(loss.to_string().parse::<Loss>().unwrap(), loss);
        let json = serde_json::to_string(&loss).unwrap();
        assert_eq!(serde_json::from_str::<Loss>(&json).unwrap(), loss);
    }
    for text in [
        "cross-entropy(label_smoothing=1)",
        "cross-entropy(class_weights=[1, x])",
        "cross-entropy(class_weights=[-1, 2])",
        "hinge(margin=0)",
        "focal(gamma=-1)",
        "hinge(gamma=1)",
    ] {
        assert!(text.parse::<Loss>().is_err(), "{text}");
    }
    assert!(
        "hinje"
            .parse::<Loss>()
            .unwrap_err()
            .to_string()
            .contains("did you mean hinge")
    );
    let weighted: Loss = "cross-entropy(class_weights=[1, 2])".parse().unwrap();
    assert!(weighted.validate(2).is_ok());
    assert!(
        weighted
            .validate(10)
            .unwrap_err()
            .to_string()
            .contains("is 2, but must be 10")
    );
}

#[test]
fn the_parts_of_a_batch_add_up_to_its_mean() {
    let device = Device::flex();
    for loss in all() {
        let (logits, targets) = tensors(&LOGITS, &device);
        let divisor = loss.divisor(&[0, 2]) + loss.divisor(&[1]);
        let part = |rows: std::ops::Range<usize>| {
            let (logits, targets) = (logits.clone(), targets.clone());
            let part = loss.part(logits.slice([rows.clone()]), targets.slice([rows]), divisor);
            part.into_scalar::<f32>()
        };
        let (sum, mean) = (part(0..2) + part(2..3), reference(&loss, &LOGITS).1);
        assert!((f64::from(sum) - mean).abs() < 1e-5, "{loss}: {sum} {mean}");
    }
}
