//! Cross-entropy of the CPU kernels against plain loops in f64.

mod reference;

use gradus_kernels::cpu::cross_entropy::cross_entropy;
use proptest::prelude::*;
use reference::{assert_close, assert_same_bits, at_thread_counts, cases, numbers, wide};

/// The loss of one example in f64.
fn loss(logits: &[f64], y: usize, epsilon: f64, weights: Option<&[f32]>) -> f64 {
    let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let z = logits.iter().map(|s| (s - top).exp()).sum::<f64>();
    let log_p = |j: usize| logits[j] - top - z.ln();
    let w = |j: usize| weights.map_or(1.0, |w| f64::from(w[j]));
    let all: f64 = (0..logits.len()).map(|j| w(j) * log_p(j)).sum();
    -(1.0 - epsilon) * w(y) * log_p(y) - epsilon / logits.len() as f64 * all
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn loss_and_gradient_are_the_formula(
        seed in 0u64..1000,
        examples in 0usize..20,
        classes in prop_oneof![1usize..40, Just(100), Just(257)],
        epsilon in prop_oneof![Just(0.0f32), 0.01f32..0.9],
        weighted: bool,
        scale in prop::sample::select(vec![0.1f32, 1.0, 10.0]),
    ) {
        let logits: Vec<f32> = numbers(seed, examples * classes).iter().map(|x| x * scale).collect();
        let targets: Vec<i32> = (0..examples).map(|i| ((i * 7 + seed as usize) % classes) as i32).collect();
        let weights: Vec<f32> = numbers(seed + 1, classes).iter().map(|w| w.abs()).collect();
        let weights = weighted.then_some(&weights[..]);
        let (mut losses, mut d) = (vec![f32::NAN; examples], vec![f32::NAN; logits.len()]);
        cross_entropy(&logits, &targets, epsilon, weights, &mut losses, Some(&mut d));
        let mut again = vec![f32::NAN; examples];
        cross_entropy(&logits, &targets, epsilon, weights, &mut again, None);
        assert_same_bits(&losses, &again);

        let (mut expected, mut gradient) = (vec![], vec![]);
        for (row, y) in wide(&logits).chunks(classes).zip(&targets) {
            let of = |row: &[f64]| loss(row, *y as usize, f64::from(epsilon), weights);
            expected.push(of(row));
            // Central differences of O(h⁴).
            for k in 0..classes {
                let h = 1e-3;
                let at = |m: f64| {
                    let mut row = row.to_vec();
                    row[k] += m * h;
                    of(&row)
                };
                gradient.push((8.0 * (at(1.0) - at(-1.0)) - (at(2.0) - at(-2.0))) / (12.0 * h));
            }
        }
        assert_close(&losses, &expected, 1e-6, "losses");
        assert_close(&d, &gradient, 1e-6, "dlogits");
    }
}

/// PyTorch 2.15: F.cross_entropy(s, y, weight=w, label_smoothing=0.2, reduction="none"), and s.grad of
/// its sum, for s = [[1, 2, 3], [-1, 0.5, 0]], y = [0, 1], w = [1, 2, 0.5].
#[test]
fn a_small_case_is_that_of_pytorch() {
    let (mut losses, mut d) = ([0.0; 2], [0.0; 6]);
    let logits = [1.0, 2.0, 3.0, -1.0, 0.5, 0.0];
    cross_entropy(
        &logits,
        &[0, 1],
        0.2,
        Some(&[1.0, 2.0, 0.5]),
        &mut losses,
        Some(&mut d),
    );
    assert_close(&losses, &LOSSES, 1e-6, "losses");
    assert_close(&d, &GRADIENT, 1e-6, "dlogits");
}

#[test]
fn huge_logits_are_safe_and_what_is_no_number_shows() {
    let run = |logits: [f32; 3], epsilon: f32| {
        let (mut l, mut d) = ([0.0], [0.0; 3]);
        cross_entropy(&logits, &[0], epsilon, None, &mut l, Some(&mut d));
        (l[0], d)
    };
    assert_eq!(run([f32::MAX, f32::MIN, 0.0], 0.0), (0.0, [0.0; 3]));
    let (l, d) = run([-1e30, 1e30, 0.0], 0.0);
    assert!((l / 2e30 - 1.0).abs() < 1e-6);
    assert_eq!(d, [-1.0, 1.0, 0.0]);
    let (l, d) = run([f32::NEG_INFINITY, 1.0, 1.0], 0.0);
    assert_eq!((l, d), (f32::INFINITY, [-1.0, 0.5, 0.5]));
    for bad in [f32::NAN, f32::INFINITY] {
        let (l, d) = run([0.0, bad, 1.0], 0.1);
        assert!(l.is_nan() && d.iter().all(|d| d.is_nan()), "{l} {d:?}");
    }
}

#[test]
fn a_target_that_is_no_class_is_refused() {
    for bad in [-1, 3] {
        let refused = std::panic::catch_unwind(|| {
            cross_entropy(&[0.0; 3], &[bad], 0.0, None, &mut [0.0], None);
        });
        assert!(refused.is_err());
    }
}

#[test]
#[cfg_attr(miri, ignore = "too large")]
fn the_bits_do_not_depend_on_the_number_of_threads() {
    let (examples, classes) = (5000, 13);
    let logits = numbers(4, examples * classes);
    let targets: Vec<i32> = (0..examples).map(|i| (i % classes) as i32).collect();
    let results = at_thread_counts(|| {
        let (mut l, mut d) = (vec![0.0; examples], vec![0.0; logits.len()]);
        cross_entropy(&logits, &targets, 0.1, None, &mut l, Some(&mut d));
        (l, d)
    });
    for other in &results[1..] {
        assert_same_bits(&results[0].0, &other.0);
        assert_same_bits(&results[0].1, &other.1);
    }
}

const LOSSES: [f64; 2] = [2.2878594966, 1.2242394431];
const GRADIENT: [f64; 6] = [
    -0.7736350744,
    0.1195527534,
    0.6540823210,
    0.1569113626,
    -0.7313261233,
    0.5744147608,
];
