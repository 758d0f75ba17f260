//! What is known without computing.

use super::*;

#[test]
fn conjugate_gradients_end_in_n_steps_on_a_quadratic() {
    let n = 12;
    for beta in ["fr", "pr_plus", "hs", "dy"] {
        let mut f = quadratic(laplacian(n), (0..n).map(|i| (i as f64).sin()).collect());
        let mut cg = solver(&format!("cg(beta={beta}, line_search=exact)"));
        let mut x = vec![1.0; n];
        let mut norms = Vec::new();
        for _ in 0..n {
            norms.push(cg.step(&mut f, &mut x).unwrap().gradient_norm.unwrap());
        }
        assert!(norms[n - 1] < 1e-12, "{beta}: {norms:?}");
        assert!(norms[n - 2] > 1e-6, "{beta} needs all n steps: {norms:?}");
    }
}

#[test]
fn newton_reaches_the_minimum_of_a_quadratic_in_one_step() {
    let n = 6;
    for text in [
        "newton",
        "newton(positive=false, line_search=none)",
        "newton_cg(tolerance=1e-14)",
    ] {
        let mut f = quadratic(laplacian(n), vec![1.0; n]);
        let mut x: Vec<f64> = (0..n).map(|i| 10.0 * (i as f64).cos()).collect();
        let report = solver(text).step(&mut f, &mut x).unwrap();
        assert!(report.gradient_norm.unwrap() < 1e-12, "{text}: {report:?}");
    }
}

#[test]
fn plain_newton_goes_to_a_saddle_and_the_modified_one_does_not() {
    // f = x² − y² + y⁴, a saddle at 0 and minima at y = ±1/√2.
    let make = || {
        Function::new(2, |x| x[0] * x[0] - x[1] * x[1] + x[1].powi(4))
            .with_gradient(|x| vec![2.0 * x[0], -2.0 * x[1] + 4.0 * x[1].powi(3)])
            .with_hessian(|x| vec![vec![2.0, 0.0], vec![0.0, -2.0 + 12.0 * x[1] * x[1]]])
    };
    let stop = Stop::default();
    let mut plain = solver("newton(positive=false, line_search=none)");
    let saddle = minimise(plain.as_mut(), &mut make(), &[1.0, 0.1], &stop).unwrap();
    assert!(largest(&saddle.x) < 1e-8, "{saddle:?}");
    let found = minimise(solver("newton").as_mut(), &mut make(), &[1.0, 0.1], &stop).unwrap();
    assert!((found.x[1].abs() - 0.5f64.sqrt()).abs() < 1e-8, "{found:?}");
}

#[test]
fn successive_directions_are_orthogonal_where_the_line_search_is_exact() {
    let cosine = |a: &[f64], b: &[f64]| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
    let run = |text: &str, f: &mut Function<'_>, mut x: Vec<f64>| {
        let mut steepest = solver(text);
        let mut last: Option<Vec<f64>> = None;
        for k in 0..15 {
            let before = x.clone();
            steepest.step(f, &mut x).unwrap();
            let d: Vec<f64> = x.iter().zip(&before).map(|(x, b)| x - b).collect();
            if let Some(last) = last {
                assert!(cosine(&d, &last).abs() < 1e-8, "{text}, step {k}");
            }
            last = Some(d);
        }
    };
    let mut bowl = quadratic(vec![vec![1.0, 0.2], vec![0.2, 30.0]], vec![0.0; 2]);
    run("steepest", &mut bowl, vec![30.0, 1.0]);
    run(
        "steepest(line_search=brent_dekker)",
        &mut rosenbrock(),
        vec![-1.2, 1.0],
    );
}

#[test]
fn the_exact_step_is_that_of_the_lectures() {
    // α* = gᵀg/gᵀHg.
    let a = vec![vec![1.0, 0.2], vec![0.2, 30.0]];
    let mut x = vec![3.0, 1.0];
    let g = times(&a, &x);
    let alpha = dot(&g, &g) / dot(&g, &times(&a, &g));
    let expected: Vec<f64> = x.iter().zip(&g).map(|(x, g)| x - alpha * g).collect();
    solver("steepest")
        .step(&mut quadratic(a, vec![0.0; 2]), &mut x)
        .unwrap();
    assert!(x.iter().zip(&expected).all(|(x, e)| (x - e).abs() < 1e-14));
}

#[test]
fn difference_products_are_as_good_as_stated() {
    let x = [-1.2, 1.0];
    let v = [0.3, -2.0];
    // H of Rosenbrock's function.
    let h = [[2.0 - 400.0 * (1.0 - 3.0 * 1.44), 480.0], [480.0, 200.0]];
    let exact = [dot(&h[0], &v), dot(&h[1], &v)];
    let mut found = [0.0; 2];
    rosenbrock().hessian_vector(&x, &v, &mut found);
    for (f, e) in found.iter().zip(exact) {
        assert!((f - e).abs() < 1e-8 * e.abs(), "{f} and {e}");
    }
}
