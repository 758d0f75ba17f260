//! Which optimizers are compared: every rule, every wrapper, or those of a list.

use gradus_optim::{MethodConfig, OptimizerConfig, RuleConfig};

use crate::BenchError;

/// Options that change a formula.
const VARIANTS: [&str; 13] = [
    "sgd(momentum=0.9)",
    "sgd(momentum=0.9, nesterov=true, weight_decay=0.01)",
    "momentum(convention=dampened)",
    "momentum(nesterov=look_ahead)",
    "asgd(t0=3)",
    "rmsprop(centered=true, momentum=0.5)",
    "adam(amsgrad=true, weight_decay=0.01)",
    "adamw(amsgrad=true)",
    "adan(weight_decay=0.02)",
    "shampoo(momentum=0.9, beta=0.95, update_every=2)",
    "soap(precondition_frequency=2)",
    "sophia(update_interval=3)",
    "adahessian(average_kernels=false, update_interval=2)",
];

/// Every wrapper, and some together.
const STAGES: [&str; 23] = [
    "sgd(momentum=0.9) | clip_global(1)",
    "sgd(momentum=0.9) | clip_norm(0.5)",
    "sgd(momentum=0.9) | clip_value(0.05)",
    "sgd(momentum=0.9) | clip_adaptive(0.16)",
    "sgd(momentum=0.9) | clip_quantile(0.5)",
    "sgd(momentum=0.9) | noise(1e-3, gamma=0.55)",
    "sgd(momentum=0.9) | centralize",
    "sgd(momentum=0.9) | accumulate(2)",
    "sgd(momentum=0.9) | l1(1e-3)",
    "sgd(momentum=0.9) | max_norm(1)",
    "sgd(momentum=0.9) | lookahead(3)",
    "sgd(momentum=0.9) | rising_lookahead(3)",
    "sgd(momentum=0.9) | ema(0.9)",
    "sgd(momentum=0.9) | swa(4)",
    "sgd(momentum=0.9) | sam",
    "sgd(momentum=0.9) | asam(0.5)",
    // Its gradient is the way of a walk; with shorter steps that is lost in the rounding of the weights.
    "sgd(momentum=0.9) | entropy(steps=5, inner_lr=1)",
    "sgd(momentum=0.9, weight_decay=0.1) | no_decay",
    "sgd(momentum=0.9) | group(kind=(bias, norm), lr=0.3)",
    "adamw | group(name=table, rule=lion, lr=1e-4)",
    "muon | clip_global(1) | ema(0.95)",
    "adamw | lookahead(3) | ema(0.95)",
    "adam | sam | centralize | no_decay",
];

/// The optimizers of a list: texts as after `--optimizer`, separated by commas, among them `rules` (every
/// rule of the catalogue at its defaults, and again with options that change its formula), `stages` (every
/// wrapper) and `all`.
///
/// # Errors
/// [`BenchError::Settings`] or [`BenchError::Optim`] for what is no optimizer.
pub fn optimizers(list: &str) -> Result<Vec<OptimizerConfig>, BenchError> {
    let mut found = Vec::new();
    for part in parts(list) {
        let rules = || {
            let catalogue = RuleConfig::catalogue().into_iter();
            catalogue.map(|entry| entry.name).chain(VARIANTS)
        };
        match part {
            "" => {
                return Err(BenchError::Settings(format!(
                    "expected all, rules, stages or optimizers separated by commas, found {list:?}"
                )));
            }
            "rules" => found.extend(rules().map(read)),
            "stages" => found.extend(STAGES.into_iter().map(read)),
            "all" => found.extend(rules().chain(STAGES).map(read)),
            text => found.push(read(text)),
        }
    }
    found.into_iter().collect()
}

/// The parts of a list between commas that stand in no parentheses.
fn parts(list: &str) -> Vec<&str> {
    let mut depth = 0i32;
    let cut = list.split(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    });
    cut.map(str::trim).collect()
}

fn read(text: &str) -> Result<OptimizerConfig, BenchError> {
    match text.parse::<MethodConfig>()? {
        MethodConfig::Rule(rule) => Ok(rule),
        MethodConfig::Solver(solver) => Err(BenchError::Settings(format!(
            "{solver} is a closure solver, which looks at a function as often as it likes: no two sides \
             need look at the same places; give update rules, such as adamw"
        ))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use gradus_optim::Stage;

    #[test]
    fn a_list_is_cut_between_optimizers_only() {
        let list = "adam(lr=0.1, betas=(0.9, 0.99)),lion | group(kind=(bias, norm), lr=1) , rules";
        let found = optimizers(list).unwrap();
        let rules = RuleConfig::catalogue().len() + VARIANTS.len();
        assert_eq!(found.len(), 2 + rules);
        assert_eq!(found[0].to_string(), "adam(lr=0.1, betas=(0.9, 0.99))");
        for (bad, why) in [
            ("", "expected all"),
            ("adam,,lion", "expected all"),
            ("adan,lbfgs", "closure solver"),
            ("adma", "did you mean"),
        ] {
            let error = optimizers(bad).unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }

    #[test]
    fn all_is_every_rule_and_every_wrapper() {
        let all = optimizers("all").unwrap();
        for entry in RuleConfig::catalogue() {
            assert!(all.iter().any(|config| config.rule.name() == entry.name));
        }
        for entry in Stage::catalogue() {
            let mut stages = all.iter().flat_map(|config| &config.stages);
            assert!(
                stages.any(|stage| stage.name() == entry.name),
                "{}",
                entry.name
            );
        }
    }
}
