//! Chains of stages: saving, clones, backends.

use super::*;

const CHAINS: [&str; 9] = [
    "sgd(lr=0.1, momentum=0.9) | clip_quantile(0.3, window=5)",
    "adam(lr=0.1) | noise(0.01, gamma=0.55) | clip_adaptive | centralize",
    "sgd(lr=0.1) | accumulate(3) | ema(0.9)",
    "sgd(lr=0.1) | lookahead(4) | max_norm(1)",
    "adamw(lr=0.1) | swa(3, every=2) | l1(0.01) | no_decay",
    "sgd(lr=0.1) | ema(0.9, warmup=true) | ema(0.5)",
    "sgd(lr=0.05, momentum=0.9) | sam(0.1) | ema(0.9)",
    "sgd(lr=0.05) | asam(0.1) | lookahead(3) | clip_global(1)",
    "sgd(lr=0.5) | entropy(3) | group(kind=bias, rule=adam(lr=0.1)) | ema(0.8)",
];

fn advance(model: Net, optimizer: &mut ModelOptimizer, steps: usize) -> Net {
    (0..steps).fold(model, |model, _| {
        let given = grads(&model, &bowl(&values(&model)));
        optimizer.step_with(0.05, model, given, &mut |model| {
            grads(model, &bowl(&values(model)))
        })
    })
}

#[test]
fn a_resumed_run_is_the_uninterrupted_one() {
    for text in CHAINS {
        let mut whole = optimizer(text);
        let half = advance(net(), &mut whole, 7);
        let bytes = whole.save().unwrap();
        let resumed = net_on(&values(&half), &Device::flex());
        let mut second = optimizer(text);
        second.load(&bytes, &resumed).unwrap();
        assert_eq!(second.save().unwrap(), bytes, "{text}");
        let (a, b) = (
            advance(half, &mut whole, 6),
            advance(resumed, &mut second, 6),
        );
        assert_eq!(values(&a), values(&b), "{text}");
        let used = [whole.evaluation_model(&a), second.evaluation_model(&b)];
        assert_eq!(values(&used[0]), values(&used[1]), "{text}");
        assert_eq!(whole.save().unwrap(), second.save().unwrap(), "{text}");
    }
}

#[test]
fn other_stages_are_refused_and_other_values_are_not() {
    let mut first = optimizer("sgd(lr=0.1) | ema(0.9) | clip_global(1)");
    let model = advance(net(), &mut first, 3);
    let bytes = first.save().unwrap();
    let error = optimizer("sgd(lr=0.1) | swa(1)")
        .load(&bytes, &model)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the state was saved with these stages that remember: 0.ema; this optimizer has: 0.swa"
    );
    let error = optimizer("sgd(lr=0.1)").load(&bytes, &model).unwrap_err();
    assert!(matches!(error, OptimError::OtherStages { .. }));
    for text in [
        "sgd(lr=0.2) | ema(0.99)",
        "sgd | noise(0.1) | ema(0.5) | no_decay",
    ] {
        optimizer(text).load(&bytes, &model).unwrap();
    }
    #[derive(Module, Debug)]
    struct Other {
        theta: Param<Tensor<1>>,
    }
    let other = Other {
        theta: Param::from_tensor(tensor(&[1.0; 5], [5], &Device::flex())),
    };
    let error = optimizer("sgd | ema").load(&bytes, &other).unwrap_err();
    assert!(matches!(error, OptimError::OtherShape { parameter, .. } if parameter == "theta"));
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x15;
        // Whatever it is now, it is no panic.
        let _ = optimizer("sgd | ema").load(&damaged, &model);
    }
}

#[test]
fn a_clone_and_the_model_evaluated_leave_the_original_alone() {
    for text in CHAINS {
        let mut one = optimizer(text);
        let model = advance(net(), &mut one, 5);
        let (before, state) = (values(&model), one.save().unwrap());
        let evaluated = one.evaluation_model(&model);
        let mut two = one.clone();
        let _ = advance(evaluated, &mut two, 3);
        assert_eq!(values(&model), before, "{text}");
        assert_eq!(one.save().unwrap(), state, "{text}");
    }
}

#[test]
fn every_backend_takes_the_same_steps() {
    #[expect(
        deprecated,
        reason = "stands for the backends without direct access to memory"
    )]
    let other = Device::ndarray();
    for text in CHAINS {
        let (mut a, mut b) = (optimizer(text), optimizer(text));
        let here = advance(net(), &mut a, 8);
        let there = advance(net_on(&start(), &other), &mut b, 8);
        for (here, there) in values(&here).iter().zip(values(&there)) {
            for (here, there) in here.iter().zip(there) {
                assert!((here - there).abs() < 1e-10, "{text}: {here} {there}");
            }
        }
        let (here, there) = (a.evaluation_model(&here), b.evaluation_model(&there));
        for (here, there) in values(&here).iter().zip(values(&there)) {
            for (here, there) in here.iter().zip(there) {
                assert!(
                    (here - there).abs() < 1e-10,
                    "{text}, evaluated: {here} {there}"
                );
            }
        }
    }
}
