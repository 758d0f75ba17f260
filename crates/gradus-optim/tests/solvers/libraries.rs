//! Against PyTorch and SciPy.

use super::*;

/// ```python
/// import torch; torch.set_default_dtype(torch.float64)      # torch 2.15.0
/// def run(n, **kw):
///     p = torch.tensor([-1.2, 1.0], requires_grad=True); o = torch.optim.LBFGS([p], **kw)
///     def c():
///         o.zero_grad(); l = (1-p[0])**2 + 100*(p[1]-p[0]**2)**2; l.backward(); return l
///     for _ in range(n): o.step(c); print(p.tolist())
/// run(12, max_iter=1, max_eval=25, line_search_fn='strong_wolfe')
/// run(8, max_iter=1, lr=0.3)
/// run(3, line_search_fn='strong_wolfe')
/// run(4, max_iter=4, history_size=3, lr=0.8, line_search_fn='strong_wolfe')
/// ```
#[test]
fn lbfgs_equals_pytorch() {
    let wolfe: &[[f64; 2]] = &[
        [-1.0245319303460325, 1.0716196202669255],
        [-1.0284565745562346, 1.068187455748677],
        [-1.0288795348319695, 1.0655029516848564],
        [-1.0276177663827242, 1.0584120782656612],
        [-1.0203084803940978, 1.0352769866467468],
        [-0.9970310351680055, 0.9755913846740084],
        [-0.9431278012083242, 0.8529662725410918],
        [-0.8802131649658734, 0.7274772060719978],
        [-0.7745797354515831, 0.5476256792320806],
        [-0.6657084570888959, 0.41398308319536115],
        [-0.5160277728852024, 0.2265458257902353],
        [-0.34877876200144664, 0.12519507039453415],
    ];
    let none: &[[f64; 2]] = &[
        [-0.9869565217391304, 1.0869565217391304],
        [-0.9970645176585913, 1.0815901915850177],
        [-1.0067181103249683, 1.0760536020696054],
        [-1.0130549130759112, 1.0719007434826986],
        [-1.0171758282223906, 1.0686117529410861],
        [-1.0198212539507168, 1.0658527149178012],
        [-1.021471613921834, 1.0634033622069718],
        [-1.0224417007566116, 1.0610913919177531],
    ];
    let defaults: &[[f64; 2]] = &[
        [0.38062264334648777, 0.12491013187293636],
        [0.9999814210791366, 0.9999619651810989],
        [0.9999814210791366, 0.9999619651810989],
    ];
    let short: &[[f64; 2]] = &[
        [-1.0290183775880242, 1.0654358784970797],
        [-0.9589406310895326, 0.8892490792166456],
        [-0.5044950630788956, 0.22529862358439526],
        [-0.16162938883535555, 0.030376209678488746],
    ];
    for (text, expected) in [
        ("lbfgs(max_iter=1)", wolfe),
        ("lbfgs(max_iter=1, lr=0.3, line_search_fn=none)", none),
        ("lbfgs", defaults),
        (
            "lbfgs(max_iter=4, max_eval=5, history_size=3, lr=0.8)",
            short,
        ),
    ] {
        let mut lbfgs = solver(text);
        let mut x = vec![-1.2, 1.0];
        for (step, expected) in expected.iter().enumerate() {
            lbfgs.step(&mut rosenbrock(), &mut x).unwrap();
            for (x, e) in x.iter().zip(expected) {
                assert!(
                    (x - e).abs() <= 1e-10 * e.abs(),
                    "{text}, step {step}: {x} and {e}"
                );
            }
        }
    }
}

/// ```python
/// points = []                                              # scipy 1.17.1
/// scipy.optimize.minimize(rosenbrock, [-1.2, 1.0], method='Nelder-Mead',
///                         callback=lambda x: points.append(x.copy()), options=dict(maxiter=40))
/// for i in (1, 2, 5, 10, 20): print(i, points[i - 1])
/// ```
#[test]
fn nelder_mead_equals_scipy() {
    let expected = [
        (1, [-1.0799999999999996, 1.0749999999999997]),
        (2, [-1.0799999999999994, 1.125]),
        (5, [-1.0462499999999995, 1.11875]),
        (10, [-0.9994921874999996, 1.0111328124999996]),
        (20, [-0.37196777343749843, 0.10373535156249414]),
    ];
    let mut simplex = solver("nelder_mead");
    let mut x = vec![-1.2, 1.0];
    for step in 1..=20 {
        simplex.step(&mut rosenbrock(), &mut x).unwrap();
        if let Some((_, expected)) = expected.iter().find(|(i, _)| *i == step) {
            assert!(
                x.iter().zip(expected).all(|(x, e)| (x - e).abs() < 1e-12),
                "step {step}: {x:?} and {expected:?}"
            );
        }
    }
}
