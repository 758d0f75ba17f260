//! The text of a chain: every stage prints back, mistakes are shown where they stand, nothing panics.

#![allow(clippy::unwrap_used, reason = "tests")]

use gradus_optim::solve::SolverConfig;
use gradus_optim::{OptimizerConfig, ScheduleConfig, Stage};
use proptest::prelude::*;

#[test]
fn stages_print_back_in_the_order_given() {
    for (text, shown) in [
        ("clip-global(1.0)", "clip_global(1)"),
        ("clip_norm(limit=0.5)", "clip_norm(0.5)"),
        ("Clip-Value(2)", "clip_value(2)"),
        ("clip_adaptive", "clip_adaptive(0.01)"),
        (
            "clip_adaptive(0.1, eps=1e-4, except=Head.*)",
            "clip_adaptive(0.1, eps=1e-4, except=head.*)",
        ),
        (
            "clip_quantile(q=0.5, window=10)",
            "clip_quantile(0.5, window=10)",
        ),
        ("noise(variance=0.3, gamma=0.55)", "noise(0.3, gamma=0.55)"),
        ("centralize()", "centralize"),
        ("accumulate(steps=4)", "accumulate(4)"),
        ("l1(lambda=1e-4)", "l1(1e-4)"),
        ("max_norm(3)", "max_norm(3)"),
        ("lookahead(k=6, alpha=0.8)", "lookahead(6, alpha=0.8)"),
        ("lookahead(alpha=0.8)", "lookahead(5, alpha=0.8)"),
        (
            "ema(0.99, debias=false, warmup=true)",
            "ema(0.99, debias=false, warmup=true)",
        ),
        ("swa(100, every=10)", "swa(100, every=10)"),
        ("sam", "sam(0.05)"),
        ("asam(rho=1, eta=0)", "asam(1, eta=0)"),
        ("entropy(5, gamma=0.1)", "entropy(5, gamma=0.1)"),
        ("no-decay", "no_decay"),
        ("group(head.*, lr=0.5)", "group(name=head.*, lr=0.5)"),
        (
            "group(rank=[0, 1], weight_decay=0)",
            "group(rank=(0, 1), weight_decay=0)",
        ),
        (
            "group(kind=(Bias, norm), rank=1, rule=SGD(lr=0.1, momentum=0.9))",
            "group(kind=(bias, norm), rank=1, rule=sgd(lr=0.1, momentum=0.9))",
        ),
        (
            "group(name=*.0.*, rule=lion)",
            "group(name=*.0.*, rule=lion(lr=0.0001))",
        ),
    ] {
        let config: OptimizerConfig = format!("sgd(weight_decay=0.1) | {text}").parse().unwrap();
        let expected = format!("sgd(lr=0.001, weight_decay=0.1) | {shown}");
        let expected = expected.replace("lr=0.0001", "lr=1e-4");
        assert_eq!(config.to_string(), expected);
        assert_eq!(
            expected.parse::<OptimizerConfig>().unwrap(),
            config,
            "{text}"
        );
    }
    let chain = "adam(lr=0.02) | ema(0.9) | noise(0.1) | clip_global(1) | no_decay | l1(0.1) | \
                 clip_global(2) | group(kind=conv, lr=0.3) | group(rank=1, lr=0) | lookahead(5)";
    let config: OptimizerConfig = chain.parse().unwrap();
    assert_eq!(config.to_string(), chain);
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(
        serde_json::from_str::<OptimizerConfig>(&json).unwrap(),
        config
    );
}

#[test]
fn mistakes_are_named() {
    for (chain, message) in [
        ("clip_global", "write clip_global(1.0)"),
        ("accumulate", "write accumulate(4)"),
        ("group", "write group(name=head.*, lr=0.1)"),
        (
            "emaa(0.9)",
            "there is no `emaa` to put after an optimizer; did you mean `ema`?",
        ),
        ("ema(1)", "`decay` of ema must lie in [0, 1), found 1"),
        (
            "accumulate(0)",
            "`steps` of accumulate must lie in [1, 9007199254740992], found 0",
        ),
        (
            "accumulate(1.5)",
            "`steps` of accumulate must be a whole number",
        ),
        (
            "clip_quantile(1.1)",
            "`q` of clip_quantile must lie in [0, 1], found 1.1",
        ),
        ("no_decay(1)", "no_decay takes this argument by name only"),
        (
            "lookahead(5, 0.5, 3)",
            "lookahead takes this argument by name only",
        ),
        (
            "group(lr=0.1)",
            "say which parameters: name=…, kind=… or rank=…",
        ),
        ("group(rank=1)", "say what is different"),
        (
            "group(kind=dense, lr=1)",
            "`kind` of group must lie in bias | norm",
        ),
        (
            "group(kind=1, lr=1)",
            "`kind` of group must be a kind like bias",
        ),
        (
            "group(rank=9, lr=1)",
            "`rank` of group must lie in [0, 8], found 9",
        ),
        (
            "group(name=1, lr=1)",
            "`name` of group must be a name pattern like head.*",
        ),
        (
            "group(name=a.*, rule=0.1)",
            "`rule` of group must be an optimizer like sgd(lr=0.1)",
        ),
        (
            "group(name=a.*, rule=sdg(lr=1))",
            "there is no optimizer `sdg`; did you mean `sgd`",
        ),
        (
            "group(rank=1, rule=sign_sgd, weight_decay=1)",
            "`sign_sgd` has no weight_decay to set",
        ),
        ("sam | entropy", "only one of sam, asam and entropy"),
        (
            "accumulate(2) | accumulate(2)",
            "`accumulate` can stand only once",
        ),
    ] {
        let error = format!("sgd(lr=0.1) | {chain}")
            .parse::<OptimizerConfig>()
            .unwrap_err()
            .to_string();
        assert!(error.contains(message), "{chain}: {error}");
    }
    let error = "sgd(lr=0) | group(rank=1, lr=0.1)"
        .parse::<OptimizerConfig>()
        .unwrap_err()
        .to_string();
    assert!(error.contains("the main rate is 0"), "{error}");
}

#[test]
fn a_mistake_inside_a_rule_inside_a_group_is_shown_at_its_character() {
    let error = "sgd | group(rank=1, rule=adam(epz=1))"
        .parse::<OptimizerConfig>()
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "adam has no hyper-parameter `epz`; did you mean `eps`?\n  \
         sgd | group(rank=1, rule=adam(epz=1))\n                                ^^^"
    );
}

#[test]
fn values_set_in_code_are_checked() {
    use gradus_optim::stages::{ClipAdaptive, Group, Pattern};
    let base: OptimizerConfig = "sgd".parse().unwrap();
    for name in ["two words", "a|b", "none", "", "3"] {
        let group = Group {
            name: Some(Pattern::new(name)),
            lr: Some(0.1),
            ..Group::default()
        };
        let error = base.clone().with(group).validate().unwrap_err().to_string();
        assert!(error.contains("is no pattern for names"), "{name}: {error}");
    }
    let clip = ClipAdaptive {
        clipping: -1.0,
        ..ClipAdaptive::default()
    };
    assert!(base.clone().with(clip).validate().is_err());

    let config = "sgd | clip_global(1) | ema | clip_global(2)";
    let config: OptimizerConfig = config.parse().unwrap();
    let config = config.with_clip_global(3.0).with_clip_value(4.0);
    assert_eq!(
        config.to_string(),
        "sgd(lr=0.001) | ema(0.999) | clip_global(3) | clip_value(4)"
    );
}

/// The part of the text that is underlined.
fn underlined(error: impl std::fmt::Display) -> String {
    let shown = error.to_string();
    let lines: Vec<&str> = shown.lines().collect();
    let [.., text, carets] = lines[..] else {
        return shown;
    };
    let marked = text.chars().zip(carets.chars());
    marked
        .filter(|(_, caret)| *caret == '^')
        .map(|(c, _)| c)
        .collect()
}

#[test]
fn a_conflict_points_at_a_field_that_it_names() {
    for (text, place) in [
        ("sgd(lr=1, nesterov=true) | ema", "nesterov=true"),
        ("Lars(momentum=0, nesterov=true)", "nesterov=true"),
        ("rprop(0.1, etas=(1.2, 0.5))", "etas=(1.2, 0.5)"),
        ("rprop(0.1, (1.2, 0.5))", "rprop"),
        ("adam | clip-global(1) | group(name=a)", "group"),
        (
            "adam | group(name=a, rule=sgd(nesterov=true))",
            "nesterov=true",
        ),
        ("schedule-free-adamw(b1=0)", "schedule-free-adamw"),
    ] {
        let error = text.parse::<OptimizerConfig>().unwrap_err();
        assert_eq!(underlined(&error), place, "{error}");
    }
    for (text, place) in [
        ("sequence(linear, cosine)", "sequence"),
        (
            "sequence(linear, cosine, rex, milestones=(5, 5))",
            "milestones=(5, 5)",
        ),
        ("product(rex, sequence(linear, cosine))", "sequence"),
        ("cosine | momentum(constant)", "momentum"),
    ] {
        let error = text.parse::<ScheduleConfig>().unwrap_err();
        assert_eq!(underlined(&error), place, "{error}");
    }
    let error = "lbfgs(c1=0.9, c2=0.1)".parse::<SolverConfig>().unwrap_err();
    assert!(error.to_string().contains("^^"), "{error}");
    // Either sequence could be meant: no place is better than a wrong one.
    let two = "product(sequence(rex), sequence(linear, cosine))";
    let error = two.parse::<ScheduleConfig>().unwrap_err().to_string();
    assert!(!error.contains('^'), "{error}");
}

#[test]
fn the_catalogue_is_the_documentation() {
    let catalogue = Stage::catalogue();
    assert_eq!(catalogue.len(), 19);
    for entry in catalogue {
        for part in ["```text", "Memory:", "When to use:"] {
            assert!(entry.documentation.contains(part), "{}: {part}", entry.name);
        }
        for row in &entry.hyperparameters {
            assert!(row.meaning.ends_with('.'), "{}: {}", entry.name, row.name);
        }
    }
}

/// Texts that nearly are chains.
fn nearly() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "sgd",
        "adam",
        "ema",
        "group",
        "clip_global",
        "noise",
        "rule",
        "name",
        "kind",
        "lr",
        "0.1",
        "1e-3",
        "head.*",
        "*",
        "bias",
        "none",
        "true",
        "=",
        "(",
        ")",
        "[",
        "]",
        ",",
        "|",
        " ",
        "-",
        "é",
        "\n",
        "inf",
        "nan",
        "1e999",
        "accumulate",
        "99999999999999999999",
    ]);
    prop::collection::vec(word, 0..24).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn no_text_makes_a_chain_panic(text in nearly()) {
        match text.parse::<OptimizerConfig>() {
            Err(error) => drop(error.to_string()),
            Ok(config) => {
                // What is read prints back to itself.
                let shown = config.to_string();
                prop_assert_eq!(shown.parse::<OptimizerConfig>().unwrap().to_string(), shown);
            }
        }
    }

    #[test]
    fn no_tail_makes_a_chain_panic(text in "\\PC{0,30}") {
        if let Err(error) = format!("sgd | group({text}").parse::<OptimizerConfig>() {
            drop(error.to_string());
        }
    }
}
