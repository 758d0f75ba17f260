//! Minima that are known.

use super::*;

#[test]
fn minima_are_found() {
    let himmelblau_minima = [
        [3.0, 2.0],
        [-2.805_118, 3.131_312],
        [-3.779_310, -3.283_186],
        [3.584_428, -1.848_126],
    ];
    let stop = Stop {
        max_iterations: 5000,
        ..Stop::default()
    };
    for text in [
        "cg(beta=fr)",
        "cg(beta=pr_plus)",
        "cg(beta=hs)",
        "cg(beta=dy)",
        "cg(line_search=brent_dekker)",
        "cg(line_search=brent)",
        "cg(line_search=golden)",
        "cg(line_search=armijo)",
        // PyTorch's tolerances stop at 1e-4 from the minimum.
        "lbfgs(tolerance_change=1e-15, tolerance_grad=1e-10)",
        "lbfgs(max_iter=1, history_size=5, tolerance_change=1e-15)",
        "newton",
        "newton_cg",
        "powell",
        "nelder_mead",
    ] {
        let found =
            |mut f: Function<'_>, x0: [f64; 2]| minimise(solver(text).as_mut(), &mut f, &x0, &stop);
        let close = |x: &[f64], at: &[f64; 2], tolerance: f64| {
            (x[0] - at[0]).abs() < tolerance && (x[1] - at[1]).abs() < tolerance
        };
        let s = found(rosenbrock(), [-1.2, 1.0]).unwrap();
        assert!(close(&s.x, &[1.0, 1.0], 1e-5), "{text}: {s:?}");
        let s = found(beale(), [1.0, 1.0]).unwrap();
        assert!(close(&s.x, &[3.0, 0.5], 1e-5), "{text}: {s:?}");
        let s = found(himmelblau(), [-1.0, 2.5]).unwrap();
        assert!(
            himmelblau_minima.iter().any(|at| close(&s.x, at, 1e-5)),
            "{text}: {s:?}"
        );
    }
    // Steepest descent is slow in the valley, and so are the axes.
    for text in ["steepest(line_search=wolfe)", "coordinate"] {
        let stop = Stop {
            max_iterations: 30_000,
            ..Stop::default()
        };
        let s = minimise(
            solver(text).as_mut(),
            &mut rosenbrock(),
            &[-1.2, 1.0],
            &stop,
        )
        .unwrap();
        assert!((s.x[0] - 1.0).abs() < 1e-3, "{text}: {s:?}");
    }
}

#[test]
fn searches_at_random_come_near_the_minimum_and_repeat_exactly() {
    let stop = Stop {
        max_iterations: 4000,
        ..Stop::default()
    };
    for (text, tolerance) in [
        ("random_search", 0.5),
        ("local_search", 0.1),
        ("annealing(temperature=5, step=0.3, cooling=0.998)", 0.1),
        ("genetic", 0.1),
    ] {
        let run = || {
            let mut f = himmelblau();
            minimise(solver(text).as_mut(), &mut f, &[2.0, 1.0], &stop).unwrap()
        };
        let s = run();
        assert!(
            (s.x[0] - 3.0).abs() < tolerance && (s.x[1] - 2.0).abs() < tolerance,
            "{text}: {s:?}"
        );
        assert_eq!(s, run(), "{text}");
        assert_eq!(
            s.value,
            himmelblau().value(&s.x),
            "{text} reports the value at its x"
        );
    }
    // Rastrigin has a minimum at every whole point: many starts find the one at 0.
    let mut rastrigin = Function::new(2, |x| {
        let tau = std::f64::consts::TAU;
        20.0 + x
            .iter()
            .map(|x| x * x - 10.0 * (tau * x).cos())
            .sum::<f64>()
    });
    let mut many = solver("multi_start(starts=500, solver=lbfgs, iterations=10, spread=2)");
    let found = minimise(many.as_mut(), &mut rastrigin, &[2.2, -1.7], &stop).unwrap();
    assert!(found.value < 1e-8, "{found:?}");
    assert_eq!(found.reason, Reason::Step, "all starts were used");
}

#[test]
fn least_squares_reach_the_certified_values() {
    // NIST StRD, Misra1a: y = b₁·(1 − exp(−b₂·x)); here x₀ = b₁/100 and x₁ = b₂·10⁴.
    // Certified: b₁ = 2.3894212918E+02, b₂ = 5.5015643181E-04, residual sum 1.2455138894E-01.
    let data = [
        (77.6, 10.07),
        (114.9, 14.73),
        (141.1, 17.94),
        (190.8, 23.93),
        (239.9, 29.61),
        (289.0, 35.18),
        (332.8, 40.02),
        (378.4, 44.82),
        (434.8, 50.76),
        (477.3, 55.05),
        (536.8, 61.01),
        (593.1, 66.40),
        (689.1, 75.47),
        (760.0, 81.78),
    ];
    for text in ["levenberg_marquardt", "gauss_newton"] {
        let residuals = ResidualFunction::new(2, 14, move |x| {
            data.iter()
                .map(|(t, y)| 100.0 * x[0] * (1.0 - (-1e-4 * x[1] * t).exp()) - y)
                .collect()
        })
        .with_jacobian(move |x| {
            data.iter()
                .map(|(t, _)| {
                    let e = (-1e-4 * x[1] * t).exp();
                    vec![100.0 * (1.0 - e), 100.0 * x[0] * 1e-4 * t * e]
                })
                .collect()
        });
        let mut objective = LeastSquares::new(residuals);
        // NIST's first starting point, b = (500, 0.0001).
        let s = minimise(
            solver(text).as_mut(),
            &mut objective,
            &[5.0, 1.0],
            &Stop::default(),
        )
        .unwrap();
        assert!((s.x[0] - 2.389_421_291_8).abs() < 1e-8, "{text}: {s:?}");
        assert!((s.x[1] - 5.501_564_318_1).abs() < 1e-8, "{text}: {s:?}");
        assert!(
            (2.0 * s.value - 0.124_551_388_94).abs() < 1e-10,
            "{text}: {s:?}"
        );
    }
}
