//! Text, and what a shape means to a rule.

use super::*;

#[test]
fn text_knows_pairs_with_none_and_words() {
    for (text, shown) in [
        (
            "adafactor(eps=(none, 0.01))",
            "adafactor(lr=0.01, eps=(none, 0.01))",
        ),
        (
            "adafactor(eps=(1e-30, 1e-3))",
            "adafactor(lr=0.01, eps=(1e-30, 0.001))",
        ),
        ("muon(adjust-lr-fn=none)", "muon(lr=0.001)"),
        (
            "muon(adjust_lr_fn=off, rest_lr=0.1)",
            "muon(lr=0.001, adjust_lr_fn=off, rest_lr=0.1)",
        ),
    ] {
        let config: OptimizerConfig = text.parse().unwrap();
        assert_eq!(config.to_string(), shown);
        assert_eq!(shown.parse::<OptimizerConfig>().unwrap(), config);
    }
    let error = "muon(adjust_lr_fn=sometimes)"
        .parse::<OptimizerConfig>()
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("must be original, match_rms_adamw"),
        "{error}"
    );
}

#[test]
fn what_muon_does_not_take_goes_to_adamw_at_its_own_rate() {
    let muon: OptimizerConfig = "muon(lr=0.02, weight_decay=0.01)".parse().unwrap();
    assert!(muon.rule.takes(&[2, 3]) && !muon.rule.takes(&[6]) && !muon.rule.takes(&[]));
    let rest = muon.rule.rest().unwrap();
    assert_eq!(rest.rule.get("weight_decay"), Some(Value::Number(0.01)));
    let adamw: RuleConfig = rest.rule;
    let gradients: Vec<_> = (0..3).map(|t| gradient(4, t)).collect();
    assert_eq!(
        muon.rule.trajectory(0.02, &theta0(4), &gradients),
        adamw.trajectory(0.02 * 0.015, &theta0(4), &gradients),
    );
}

#[test]
fn a_convolution_is_the_matrix_of_its_outputs_by_all_else() {
    let text = "muon(lr=0.1, momentum=0.9)";
    assert_eq!(last(text, &[3, 2, 2, 1], 3), last(text, &[3, 4], 3));
}
