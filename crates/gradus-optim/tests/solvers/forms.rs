//! Text, state, errors.

use super::*;

#[test]
fn every_solver_prints_back_and_is_documented() {
    for entry in SolverConfig::catalogue() {
        let config: SolverConfig = entry.name.parse().unwrap();
        assert_eq!(config.to_string(), entry.name);
        assert_eq!(config.solver().unwrap().name(), entry.name);
        for word in [
            "```text",
            "Memory:",
            "When to use:",
            "When not:",
            "minimise(",
        ] {
            assert!(
                entry.documentation.contains(word),
                "{} lacks {word}",
                entry.name
            );
        }
    }
    for (text, shown) in [
        (
            "CG(Beta=HS, line-search=Golden)",
            "cg(beta=hs, line_search=golden)",
        ),
        ("lbfgs(0.5, 7)", "lbfgs(lr=0.5, max_iter=7)"),
        (
            "multi_start(solver=cg(beta=fr), starts=3)",
            "multi_start(solver=cg(beta=fr), starts=3)",
        ),
        ("multi_start(solver=newton)", "multi_start(solver=newton)"),
    ] {
        let config: SolverConfig = text.parse().unwrap();
        assert_eq!(config.to_string(), shown);
        assert_eq!(shown.parse::<SolverConfig>().unwrap(), config);
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<SolverConfig>(&json).unwrap(), config);
    }
    for (text, message) in [
        ("lbgfs", "there is no solver `lbgfs`; did you mean `lbfgs`?"),
        ("cg(beta=xx)", "`beta` of cg must be fr, pr_plus, hs or dy"),
        ("cg(c1=0.5)", "`c1` must be below `c2`"),
        ("lbfgs | clip_global(1)", "nothing can stand after a solver"),
        (
            "lbfgs(history_size=0)",
            "`history_size` of lbfgs must lie in [1, inf), found 0",
        ),
        ("multi_start(solver=adam)", "must be a solver like"),
    ] {
        let error = text.parse::<SolverConfig>().unwrap_err().to_string();
        assert!(error.contains(message), "{text}: {error}");
    }
}

#[test]
fn every_solver_resumes_bit_by_bit() {
    for entry in SolverConfig::catalogue() {
        let make = || {
            LeastSquares::new(ResidualFunction::new(2, 2, |x| {
                vec![1.0 - x[0], 10.0 * (x[1] - x[0] * x[0])]
            }))
        };
        let mut whole = solver(entry.name);
        let mut x = vec![-1.2, 1.0];
        let mut f = make();
        for _ in 0..4 {
            whole.step(&mut f, &mut x).unwrap();
        }
        let mut resumed = solver(entry.name);
        resumed.restore(&whole.state()).unwrap();
        assert_eq!(resumed.state(), whole.state(), "{}", entry.name);
        let mut y = x.clone();
        for _ in 0..4 {
            let a = whole.step(&mut f, &mut x).unwrap();
            let b = resumed.step(&mut make(), &mut y).unwrap();
            assert_eq!(a, b, "{}", entry.name);
            assert_eq!(x, y, "{}", entry.name);
        }
        assert!(resumed.restore(&SolverState::default()).is_err());
        // Another function of another dimension.
        let mut other = Function::new(3, |x| dot(x, x));
        assert!(
            resumed.step(&mut other, &mut [1.0; 3]).is_err(),
            "{}",
            entry.name
        );
    }
}

#[test]
fn a_change_of_function_is_noticed() {
    // Two bowls, by turns: what is remembered of one must not be used for the other.
    struct Turns(u64);
    impl Objective for Turns {
        fn dimension(&self) -> usize {
            2
        }
        fn value(&mut self, x: &[f64]) -> f64 {
            let c = self.0 as f64;
            (x[0] - c).powi(2) + 3.0 * (x[1] + c).powi(2)
        }
        fn value_and_gradient(&mut self, x: &[f64], g: &mut [f64]) -> f64 {
            let c = self.0 as f64;
            g.copy_from_slice(&[2.0 * (x[0] - c), 6.0 * (x[1] + c)]);
            self.value(x)
        }
        fn version(&self) -> u64 {
            self.0
        }
    }
    for entry in SolverConfig::catalogue() {
        if ["gauss_newton", "levenberg_marquardt"].contains(&entry.name) {
            continue; // these want residuals
        }
        let mut by_turns = solver(entry.name);
        let mut x = vec![3.0, 4.0];
        for step in 0..6 {
            let mut f = Turns(step % 2);
            let before = f.value(&x);
            let report = by_turns.step(&mut f, &mut x).unwrap();
            assert_eq!(report.value, f.value(&x), "{}", entry.name);
            if entry.name != "nelder_mead" {
                assert_eq!(report.before, before, "{}", entry.name);
            }
        }
    }
}

#[test]
fn what_cannot_be_solved_is_an_error_that_says_what_to_do() {
    let n = 1001;
    let mut large = Function::new(n, |x| dot(x, x)).with_gradient(|x| x.to_vec());
    let message = |text: &str, f: &mut Function<'_>, x: &mut [f64]| {
        solver(text).step(f, x).unwrap_err().to_string()
    };
    let error = message("newton", &mut large, &mut vec![1.0; n]);
    assert!(
        error.starts_with("newton: ") && error.contains("take lbfgs, cg or newton_cg"),
        "{error}"
    );
    assert!(message("powell", &mut large, &mut vec![1.0; n]).starts_with("powell: "));
    assert!(message("nelder_mead", &mut large, &mut vec![1.0; n]).contains("1001"));
    let error = message("gauss_newton", &mut rosenbrock(), &mut [0.0, 1.0]);
    assert!(error.contains("LeastSquares"), "{error}");
    let mut nan = Function::new(1, |_| f64::NAN);
    for entry in SolverConfig::catalogue() {
        let error = solver(entry.name).step(&mut nan, &mut [1.0]).unwrap_err();
        assert!(
            matches!(error, OptimError::Unsolvable { .. }),
            "{}: {error}",
            entry.name
        );
    }
}
