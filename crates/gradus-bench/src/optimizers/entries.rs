//! The rows: every optimizer with a rate that suits the runs of the table.

use serde::{Deserialize, Serialize};

/// The parts of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Update rules alone.
    Rules,
    /// Rules with something around them.
    Stages,
    /// Closure solvers.
    Solvers,
}

impl Part {
    /// The network that is trained.
    #[must_use]
    pub fn model(self) -> &'static str {
        match self {
            Self::Rules | Self::Stages => "cnn",
            Self::Solvers => "linear",
        }
    }
}

/// One optimizer of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The part that it stands in.
    pub part: Part,
    /// Its text form.
    pub optimizer: &'static str,
}

/// The solvers that keep n² numbers, and refuse the 30,730 variables of `linear`.
pub const TOO_LARGE: [&str; 3] = ["newton", "powell", "nelder_mead"];

const RULES: [&str; 43] = [
    "sgd(lr=1)",
    "sgd(lr=0.15, momentum=0.9)",
    "sgd(lr=0.15, momentum=0.9, nesterov=true)",
    "momentum(lr=0.15, momentum=0.9)",
    "momentum(lr=1.5, momentum=0.9, convention=dampened)",
    "momentum(lr=0.15, momentum=0.9, nesterov=look_ahead)",
    "qhm(lr=1.5, momentum=0.95)",
    "asgd(lr=1, t0=100)",
    "schedule_free_sgd(lr=1)",
    "sign_sgd(lr=0.003)",
    "tiger(lr=0.003)",
    "lion(lr=0.002)",
    "rprop(lr=0.0003, etas=(0.9, 1.12), step_sizes=(1e-5, 0.003))",
    "adagrad(lr=0.03)",
    "rmsprop(lr=0.003)",
    "rmsprop(lr=0.003, centered=true, momentum=0.5)",
    "adadelta(lr=3)",
    "adam(lr=0.01)",
    "adam(lr=0.01, amsgrad=true)",
    "adamw(lr=0.01)",
    "adamax(lr=0.02)",
    "nadam(lr=0.01)",
    "nadamw(lr=0.01)",
    "radam(lr=0.03)",
    "adabelief(lr=0.01)",
    "yogi(lr=0.02)",
    "adan(lr=0.01)",
    "adopt(lr=0.01)",
    "ademamix(lr=0.01, alpha=2)",
    "qhadam(lr=0.01)",
    "schedule_free_adamw(lr=0.01)",
    "lars(lr=10)",
    "lamb(lr=0.03)",
    "novograd(lr=0.02)",
    "dadapt_sgd",
    "dadapt_adamw",
    "prodigy",
    "adafactor(lr=0.05)",
    "muon(lr=0.02)",
    "shampoo(lr=0.1, momentum=0.9)",
    "soap(lr=0.01)",
    "sophia(lr=0.003)",
    "adahessian(lr=0.5)",
];

const STAGES: [&str; 21] = [
    "sgd(lr=0.15, momentum=0.9) | clip_global(1)",
    "sgd(lr=0.15, momentum=0.9) | clip_norm(0.5)",
    "sgd(lr=0.15, momentum=0.9) | clip_value(0.05)",
    "sgd(lr=0.15, momentum=0.9) | clip_adaptive(0.16)",
    "sgd(lr=0.15, momentum=0.9) | clip_quantile",
    "sgd(lr=0.15, momentum=0.9) | noise(1e-5, gamma=0.55)",
    "sgd(lr=0.15, momentum=0.9) | centralize",
    "sgd(lr=0.3, momentum=0.9) | accumulate(2)",
    "sgd(lr=0.15, momentum=0.9) | l1(1e-4)",
    "sgd(lr=0.15, momentum=0.9) | max_norm(3)",
    "sgd(lr=0.15, momentum=0.9) | lookahead",
    "sgd(lr=0.15, momentum=0.9) | rising_lookahead",
    "sgd(lr=0.15, momentum=0.9) | ema(0.95)",
    "sgd(lr=0.15, momentum=0.9) | swa(150)",
    "sgd(lr=0.15, momentum=0.9) | sam",
    "sgd(lr=0.15, momentum=0.9) | asam(0.5)",
    "sgd(lr=1, momentum=0.9, nesterov=true) | entropy(steps=5)",
    "sgd(lr=0.15, momentum=0.9, weight_decay=5e-4) | no_decay",
    "sgd(lr=0.15, momentum=0.9) | group(kind=(bias, norm), lr=0.3)",
    "muon(lr=0.02) | ema(0.95)",
    "adamw(lr=0.01) | lookahead | ema(0.95)",
];

const SOLVERS: [&str; 12] = [
    "steepest",
    "cg",
    "lbfgs",
    "newton_cg(cg_iterations=10)",
    "gauss_newton(cg_iterations=10, damping=0.1)",
    "levenberg_marquardt(cg_iterations=10, damping=0.1)",
    "coordinate(step=0.01, tolerance=0.01, coordinates=20)",
    "random_search(scale=1e-3, samples=20)",
    "local_search(step=1e-3, samples=20)",
    "annealing(temperature=1e-3, step=1e-3, samples=20)",
    "genetic(population=20, spread=1e-3, mutation=1e-3)",
    "multi_start(solver=cg, starts=3, iterations=10, spread=1e-3)",
];

/// Every row, in the order of the table.
#[must_use]
pub fn entries() -> Vec<Entry> {
    let part = |part, texts: &'static [&'static str]| {
        texts.iter().map(move |optimizer| Entry { part, optimizer })
    };
    part(Part::Rules, &RULES)
        .chain(part(Part::Stages, &STAGES))
        .chain(part(Part::Solvers, &SOLVERS))
        .collect()
}
