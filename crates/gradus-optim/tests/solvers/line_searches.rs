//! Line searches.

use super::*;

/// Bounded below, with bumps: Σ aᵢ·xᵢ² + sin(bᵢ·xᵢ).
fn bumpy(a: [f64; 3], b: [f64; 3]) -> Function<'static> {
    Function::new(3, move |x| {
        (0..3)
            .map(|i| a[i] * x[i] * x[i] + (b[i] * x[i]).sin())
            .sum()
    })
    .with_gradient(move |x| {
        (0..3)
            .map(|i| 2.0 * a[i] * x[i] + b[i] * (b[i] * x[i]).cos())
            .collect()
    })
}

proptest! {
    #[test]
    fn line_searches_satisfy_their_conditions(
        a in [0.1..5.0, 0.1..5.0, 0.1..5.0],
        b in [0.1..4.0, 0.1..4.0, 0.1..4.0],
        x in [-3.0..3.0, -3.0..3.0, -3.0..3.0],
        initial in 1e-3..10.0,
    ) {
        let mut f = bumpy(a, b);
        let mut g = vec![0.0; 3];
        let value = f.value_and_gradient(&x, &mut g);
        prop_assume!(largest(&g) > 1e-3);
        let d: Vec<f64> = g.iter().map(|g| -g).collect();
        let settings = Settings { initial, c2: 0.3, ..Settings::default() };
        let mut ray = Ray::new(&mut f, &x, &d, value, &g);
        let slope = ray.slope;
        for search in [
            LineSearch::Armijo, LineSearch::Wolfe, LineSearch::BrentDekker, LineSearch::Brent,
            LineSearch::Golden, LineSearch::Exact,
        ] {
            let found = search.search(&mut ray, &settings);
            let here = ray.trial(found.step);
            prop_assert!(found.step != 0.0, "{search:?}");
            prop_assert_eq!(found.value, here.value);
            match search {
                LineSearch::Armijo => {
                    prop_assert!(here.value <= value + 1e-4 * found.step * slope);
                }
                LineSearch::Wolfe => {
                    prop_assert!(here.value <= value + 1e-4 * found.step * slope);
                    prop_assert!(here.slope.abs() <= 0.3 * slope.abs());
                }
                LineSearch::BrentDekker => {
                    prop_assert!(here.value < value);
                    // A zero of the slope, or a step that backtracking found.
                    let exact = here.slope.abs() <= 1e-7 * slope.abs();
                    prop_assert!(exact || found.gradient.is_empty());
                }
                LineSearch::Brent | LineSearch::Golden => {
                    let near = 1e-3 * (1.0 + found.step.abs());
                    prop_assert!(here.value < value);
                    prop_assert!(here.value <= ray.value_at(found.step + near));
                    prop_assert!(here.value <= ray.value_at(found.step - near));
                }
                _ => prop_assert!(here.value <= value),
            }
        }
    }
}

#[test]
fn one_dimensional_methods_agree_on_a_minimum() {
    let f = |x: f64| (x - 2.0).powi(2) + 0.3 * (3.0 * x).sin();
    let slope = |x: f64| 2.0 * (x - 2.0) + 0.9 * (3.0 * x).cos();
    let zero = brent_dekker(&mut { slope }, 1.0, 2.5, 1e-14).unwrap();
    assert!(slope(zero).abs() < 1e-13);
    for method in [brent, golden] {
        let around = bracket(f, f(0.0), 0.7);
        let (x, value) = method(&mut { f }, around, 1e-9);
        assert!(
            (x - zero).abs() < 1e-6 && value <= f(zero) + 1e-14,
            "{x} and {zero}"
        );
    }
}

#[test]
fn a_function_that_is_infinite_far_out_stops_no_search() {
    // −log(1 − x) − log(1 + x) + x: defined in (−1, 1) only, NaN outside.
    let make = || {
        Function::new(1, |x| -(1.0 - x[0]).ln() - (1.0 + x[0]).ln() + x[0])
            .with_gradient(|x| vec![1.0 / (1.0 - x[0]) - 1.0 / (1.0 + x[0]) + 1.0])
    };
    for search in ["armijo", "wolfe", "brent_dekker", "brent", "golden"] {
        let mut cg = solver(&format!("cg(line_search={search}, lr=100)"));
        let s = minimise(cg.as_mut(), &mut make(), &[0.9], &Stop::default()).unwrap();
        // 2x/(1 − x²) = −1: x = 1 − √2.
        assert!(
            (s.x[0] - (1.0 - 2f64.sqrt())).abs() < 1e-7,
            "{search}: {s:?}"
        );
    }
}
