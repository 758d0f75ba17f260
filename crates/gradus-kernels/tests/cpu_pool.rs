//! Pooling of the CPU kernels against plain loops in f64.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod reference;

use gradus_kernels::cpu::pool::{
    PoolShape, avg_pool, avg_pool_backward, global_avg_pool, global_avg_pool_backward, max_pool,
    max_pool_backward,
};
use proptest::prelude::*;
use reference::{assert_close, assert_same_bits, at_thread_counts, cases, numbers, wide};

/// For each output (n, i, j, c), the inputs of its window with their places in it.
fn windows(shape: &PoolShape) -> Vec<Vec<(usize, usize)>> {
    let ([h, w], [height, width]) = (shape.out_size(), shape.size);
    let mut all = vec![];
    for n in 0..shape.batch {
        for (i, j) in (0..h).flat_map(|i| (0..w).map(move |j| (i, j))) {
            for c in 0..shape.channels {
                let mut window = vec![];
                for u in 0..shape.kernel[0] {
                    for v in 0..shape.kernel[1] {
                        let y = (i * shape.stride[0] + u).checked_sub(shape.padding[0]);
                        let x = (j * shape.stride[1] + v).checked_sub(shape.padding[1]);
                        if let (Some(y), Some(x)) = (y, x)
                            && y < height
                            && x < width
                        {
                            let at = ((n * height + y) * width + x) * shape.channels + c;
                            window.push((at, u * shape.kernel[1] + v));
                        }
                    }
                }
                all.push(window);
            }
        }
    }
    all
}

fn lengths(shape: &PoolShape) -> [usize; 2] {
    [shape.size, shape.out_size()].map(|[h, w]| shape.batch * h * w * shape.channels)
}

fn shapes() -> impl Strategy<Value = PoolShape> {
    let side = prop_oneof![Just(2usize), 1usize..6];
    (
        1usize..4,
        [1usize..14, 1usize..14],
        prop::sample::select(vec![1usize, 3, 8, 10, 16, 17, 24, 32, 40]),
        [side.clone(), side],
        [1usize..5, 1usize..5],
        [0usize..4, 0usize..4],
    )
        .prop_map(
            |(batch, size, channels, kernel, stride, padding)| PoolShape {
                batch,
                size,
                channels,
                kernel,
                stride,
                padding: [0, 1].map(|i| padding[i].min(kernel[i] / 2)),
            },
        )
        .prop_filter("a window must fit", |s| {
            (0..2).all(|i| s.size[i] + 2 * s.padding[i] >= s.kernel[i])
        })
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn max_pool_is_the_formula(shape in shapes(), seed in 0u64..1000, ties: bool) {
        let [inputs, outputs] = lengths(&shape);
        let mut x = numbers(seed, inputs);
        if ties {
            x.iter_mut().for_each(|x| *x = x.round());
        }
        let (mut y, mut index) = (vec![f32::NAN; outputs], vec![255; outputs]);
        max_pool(&shape, &x, &mut y, Some(&mut index));
        let mut again = vec![f32::NAN; outputs];
        max_pool(&shape, &x, &mut again, None);
        assert_same_bits(&y, &again);

        let dy = numbers(seed + 1, outputs);
        let mut dx = vec![f32::NAN; inputs];
        max_pool_backward(&shape, &index, &dy, &mut dx);
        let mut expected = vec![0.0; inputs];
        for (o, window) in windows(&shape).iter().enumerate() {
            let best = window.iter().map(|(at, _)| x[*at]).fold(f32::NEG_INFINITY, f32::max);
            let (at, place) = *window.iter().find(|(at, _)| x[*at] == best).unwrap();
            prop_assert_eq!(y[o], best);
            prop_assert_eq!(usize::from(index[o]), place);
            expected[at] += f64::from(dy[o]);
        }
        assert_close(&dx, &expected, 1e-6, "dx");
    }

    #[test]
    fn avg_pool_is_the_formula(shape in shapes(), seed in 0u64..1000, count_padding: bool) {
        let [inputs, outputs] = lengths(&shape);
        let (x, dy) = (numbers(seed, inputs), numbers(seed + 1, outputs));
        let (mut y, mut dx) = (vec![f32::NAN; outputs], vec![f32::NAN; inputs]);
        avg_pool(&shape, &x, count_padding, &mut y);
        avg_pool_backward(&shape, &dy, count_padding, &mut dx);
        let (mut forward, mut backward) = (vec![], vec![0.0; inputs]);
        for (window, dy) in windows(&shape).iter().zip(wide(&dy)) {
            let places = if count_padding { shape.kernel[0] * shape.kernel[1] } else { window.len() };
            forward.push(window.iter().map(|(at, _)| f64::from(x[*at])).sum::<f64>() / places as f64);
            for (at, _) in window {
                backward[*at] += dy / places as f64;
            }
        }
        assert_close(&y, &forward, 1e-6, "y");
        assert_close(&dx, &backward, 1e-6, "dx");
    }

    #[test]
    fn global_avg_pool_is_the_formula(
        images in 1usize..5, pixels in 1usize..70, channels in 1usize..50, seed in 0u64..1000,
    ) {
        let (x, dy) = (numbers(seed, images * pixels * channels), numbers(seed, images * channels));
        let (mut y, mut dx) = (vec![f32::NAN; dy.len()], vec![f32::NAN; x.len()]);
        global_avg_pool(&x, pixels, channels, &mut y);
        global_avg_pool_backward(&dy, pixels, channels, &mut dx);
        let expected: Vec<f64> = (0..dy.len()).map(|i| {
            let image = &x[i / channels * pixels * channels..][..pixels * channels];
            let column = image[i % channels..].iter().step_by(channels);
            column.map(|x| f64::from(*x)).sum::<f64>() / pixels as f64
        }).collect();
        assert_close(&y, &expected, 1e-7, "y");
        let expected: Vec<f64> = (0..x.len()).map(|i| {
            f64::from(dy[i / (pixels * channels) * channels + i % channels]) / pixels as f64
        }).collect();
        assert_close(&dx, &expected, 1e-7, "dx");
    }
}

#[test]
fn what_is_no_number_wins() {
    let shape = PoolShape {
        batch: 1,
        size: [2, 4],
        channels: 1,
        kernel: [2, 2],
        stride: [2, 2],
        padding: [0, 0],
    };
    let (nan, low) = (f32::NAN, f32::NEG_INFINITY);
    let (mut y, mut index) = ([0.0; 2], [9; 2]);
    max_pool(
        &shape,
        &[1.0, 2.0, low, low, nan, 3.0, low, low],
        &mut y,
        Some(&mut index),
    );
    assert!(y[0].is_nan());
    assert_eq!((y[1], index), (low, [2, 0]));
    let mut dx = [9.0; 8];
    max_pool_backward(&shape, &index, &[5.0, 7.0], &mut dx);
    assert_eq!(dx, [0.0, 0.0, 7.0, 0.0, 5.0, 0.0, 0.0, 0.0]);
}

#[test]
fn the_largest_window_with_an_index_has_256_places() {
    let mut shape = PoolShape {
        batch: 1,
        size: [16, 16],
        channels: 1,
        kernel: [16, 16],
        stride: [1, 1],
        padding: [0, 0],
    };
    let mut x = vec![0.0; 256];
    x[255] = 1.0;
    let (mut y, mut index) = ([0.0], [0]);
    max_pool(&shape, &x, &mut y, Some(&mut index));
    assert_eq!((y, index), ([1.0], [255]));
    shape.kernel = [1, 257];
    shape.size = [1, 257];
    let x = vec![2.0; 257];
    max_pool(&shape, &x, &mut y, None);
    assert_eq!(y, [2.0]);
    let refused = std::panic::catch_unwind(|| max_pool(&shape, &x, &mut [0.0], Some(&mut [0])));
    assert!(refused.is_err());
}

#[test]
#[cfg_attr(miri, ignore = "too large")]
fn the_bits_do_not_depend_on_the_number_of_threads() {
    let shape = PoolShape {
        batch: 8,
        size: [63, 65],
        channels: 24,
        kernel: [3, 3],
        stride: [2, 2],
        padding: [1, 1],
    };
    let [inputs, outputs] = lengths(&shape);
    let (x, dy) = (numbers(1, inputs), numbers(2, outputs));
    let results = at_thread_counts(|| {
        let (mut y, mut index) = (vec![0.0; outputs], vec![0; outputs]);
        let (mut a, mut b) = (vec![0.0; inputs], vec![0.0; inputs]);
        max_pool(&shape, &x, &mut y, Some(&mut index));
        max_pool_backward(&shape, &index, &dy, &mut a);
        let mut z = vec![0.0; outputs];
        avg_pool(&shape, &x, false, &mut z);
        avg_pool_backward(&shape, &dy, false, &mut b);
        let mut g = vec![0.0; 8 * 24];
        global_avg_pool(&x, 63 * 65, 24, &mut g);
        [y, a, z, b, g]
    });
    for other in &results[1..] {
        for (a, b) in results[0].iter().zip(other) {
            assert_same_bits(a, b);
        }
    }
}
