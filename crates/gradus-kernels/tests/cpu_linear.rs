//! The linear layer of the CPU kernels against plain loops in f64.

mod reference;

use gradus_kernels::cpu::activation::Act;
use gradus_kernels::cpu::linear::{
    LinearBackward, LinearGradients, LinearShape, column_sums, linear, linear_backward,
};
use proptest::prelude::*;
use reference::{
    ACTS, assert_close, assert_same_bits, at_thread_counts, derivative, numbers, value, wide,
};

/// a·b in f64.
fn product(
    [m, k, n]: [usize; 3],
    a: impl Fn(usize, usize) -> f64,
    b: impl Fn(usize, usize) -> f64,
) -> Vec<f64> {
    (0..m * n)
        .map(|i| (0..k).map(|l| a(i / n, l) * b(l, i % n)).sum())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn forward_and_gradients_are_the_formulas(
        seed in 0u64..1000,
        batch in 0usize..70,
        inputs in prop_oneof![0usize..40, Just(129)],
        outputs in prop_oneof![1usize..20, Just(100)],
        bias: bool,
        act in prop::sample::select(&ACTS[..]),
    ) {
        let shape = LinearShape { batch, inputs, outputs };
        let x = numbers(seed, batch * inputs);
        let w: Vec<f32> = numbers(seed + 1, inputs * outputs).iter().map(|w| w / (inputs as f32).sqrt()).collect();
        let b = bias.then(|| numbers(seed + 2, outputs));
        let dy = numbers(seed + 3, batch * outputs);
        let (mut z, mut y) = (vec![f32::NAN; dy.len()], vec![f32::NAN; dy.len()]);
        linear(&shape, &x, &w, b.as_deref(), act, Some(&mut z), &mut y);
        let mut again = vec![f32::NAN; dy.len()];
        linear(&shape, &x, &w, b.as_deref(), act, None, &mut again);
        assert_same_bits(&y, &again);

        let (x64, w64) = (wide(&x), wide(&w));
        let mut expected = product([batch, inputs, outputs], |i, l| x64[i * inputs + l], |l, j| w64[l * outputs + j]);
        for (i, z) in expected.iter_mut().enumerate() {
            *z += b.as_ref().map_or(0.0, |b| f64::from(b[i % outputs]));
        }
        assert_close(&z, &expected, 3e-6, "z");
        let out: Vec<f64> = expected.iter().map(|z| value(act, *z)).collect();
        assert_close(&y, &out, 3e-6, "y");

        let (mut dx, mut dw, mut db) = (vec![f32::NAN; x.len()], vec![f32::NAN; w.len()], vec![f32::NAN; outputs]);
        let args = LinearBackward { shape, x: &x, w: &w, z: (act != Act::Identity).then_some(&z), dy: &dy, act };
        linear_backward(&args, LinearGradients { dx: Some(&mut dx), dw: Some(&mut dw), db: Some(&mut db) });
        // With the z that the kernel kept, so that a corner of f is not decided twice.
        let dz: Vec<f64> = (0..dy.len()).map(|i| f64::from(dy[i]) * derivative(act, f64::from(z[i]))).collect();
        assert_close(&dx, &product([batch, outputs, inputs], |i, l| dz[i * outputs + l], |l, j| w64[j * outputs + l]), 1e-5, "dx");
        assert_close(&dw, &product([inputs, batch, outputs], |i, l| x64[l * inputs + i], |l, j| dz[l * outputs + j]), 1e-5, "dw");
        let expected: Vec<f64> = (0..outputs).map(|k| (0..batch).map(|i| dz[i * outputs + k]).sum()).collect();
        assert_close(&db, &expected, 1e-5, "db");
    }
}

#[test]
fn column_sums_keep_what_a_running_sum_in_f32_would_lose() {
    let mut x = vec![1.0f32; 3 * 100_000];
    x[0] = 1e8; // 8 apart from the next number: adding 1 changes nothing
    let mut sums = [0.0; 3];
    column_sums(&x, &mut sums);
    assert_eq!(sums[1..], [1e5, 1e5]);
    // Only the short sum that the large number is in loses its ones, no more than 31.
    assert!((sums[0] - (1e8 + 99_999.0)).abs() <= 32.0, "{}", sums[0]);
}

#[test]
fn a_gradient_without_z_is_refused_unless_f_is_the_identity() {
    let shape = LinearShape {
        batch: 1,
        inputs: 1,
        outputs: 1,
    };
    let run = |act| {
        let args = LinearBackward {
            shape,
            x: &[2.0],
            w: &[3.0],
            z: None,
            dy: &[5.0],
            act,
        };
        let mut dw = [0.0];
        linear_backward(
            &args,
            LinearGradients {
                dw: Some(&mut dw),
                ..LinearGradients::default()
            },
        );
        dw
    };
    assert_eq!(run(Act::Identity), [10.0]);
    assert!(std::panic::catch_unwind(|| run(Act::Relu)).is_err());
}

#[test]
fn the_bits_do_not_depend_on_the_number_of_threads() {
    for [batch, inputs, outputs] in [[700, 300, 40], [33, 2000, 100], [3, 500, 3000]] {
        let shape = LinearShape {
            batch,
            inputs,
            outputs,
        };
        let (x, w) = (numbers(1, batch * inputs), numbers(2, inputs * outputs));
        let (b, dy) = (numbers(3, outputs), numbers(4, batch * outputs));
        let results = at_thread_counts(|| {
            let (mut z, mut y) = (vec![0.0; dy.len()], vec![0.0; dy.len()]);
            linear(&shape, &x, &w, Some(&b), Act::Silu, Some(&mut z), &mut y);
            let (mut dx, mut dw, mut db) =
                (vec![0.0; x.len()], vec![0.0; w.len()], vec![0.0; outputs]);
            let args = LinearBackward {
                shape,
                x: &x,
                w: &w,
                z: Some(&z),
                dy: &dy,
                act: Act::Silu,
            };
            linear_backward(
                &args,
                LinearGradients {
                    dx: Some(&mut dx),
                    dw: Some(&mut dw),
                    db: Some(&mut db),
                },
            );
            [y, dx, dw, db]
        });
        for other in &results[1..] {
            for (a, b) in results[0].iter().zip(other) {
                assert_same_bits(a, b);
            }
        }
    }
}
