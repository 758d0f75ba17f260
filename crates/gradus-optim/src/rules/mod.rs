//! One file, one rule. Shared pieces of formulas stand here.

mod adabelief;
mod adadelta;
mod adafactor;
mod adagrad;
mod adahessian;
mod adam;
mod adamax;
mod adamw;
mod adan;
mod ademamix;
mod adopt;
mod asgd;
mod dadapt_adamw;
mod dadapt_sgd;
mod lamb;
mod lars;
mod lion;
mod modes;
mod momentum;
mod muon;
mod nadam;
mod nadamw;
mod novograd;
mod prodigy;
mod qhadam;
mod qhm;
mod radam;
mod rmsprop;
mod rprop;
mod schedule_free_adamw;
mod schedule_free_sgd;
mod sgd;
mod shampoo;
mod sign_sgd;
mod soap;
mod sophia;
mod tiger;
mod yogi;

pub use adabelief::AdaBelief;
pub use adadelta::Adadelta;
pub use adafactor::Adafactor;
pub use adagrad::Adagrad;
pub use adahessian::AdaHessian;
pub use adam::Adam;
pub use adamax::Adamax;
pub use adamw::AdamW;
pub use adan::Adan;
pub use ademamix::AdEMAMix;
pub use adopt::Adopt;
pub use asgd::Asgd;
pub use dadapt_adamw::DAdaptAdamW;
pub use dadapt_sgd::DAdaptSgd;
pub use lamb::Lamb;
pub use lars::Lars;
pub use lion::Lion;
pub use momentum::{Momentum, Nesterov};
pub use muon::{AdjustLr, Muon};
pub use nadam::NAdam;
pub use nadamw::NAdamW;
pub use novograd::Novograd;
pub use prodigy::Prodigy;
pub use qhadam::QhAdam;
pub use qhm::Qhm;
pub use radam::RAdam;
pub use rmsprop::RmsProp;
pub use rprop::Rprop;
pub use schedule_free_adamw::ScheduleFreeAdamW;
pub use schedule_free_sgd::ScheduleFreeSgd;
pub use sgd::Sgd;
pub use shampoo::Shampoo;
pub use sign_sgd::SignSgd;
pub use soap::Soap;
pub use sophia::Sophia;
pub use tiger::Tiger;
pub use yogi::Yogi;

use crate::Number;

/// The one list of rules, in the order of `gradus optim list`: calls `$with!` with it.
macro_rules! all_rules {
    ($with:ident) => {
        $with! {
            elementwise:
            Sgd, Momentum, Qhm, SignSgd, Rprop, Asgd, ScheduleFreeSgd, Adagrad, RmsProp, Adadelta, Adam,
            AdamW, Adamax, NAdam, NAdamW, RAdam, AdaBelief, Yogi, Adan, Adopt, AdEMAMix, QhAdam,
            ScheduleFreeAdamW, Lion, Tiger, DAdaptAdamW, DAdaptSgd, Lamb, Lars, Novograd, Prodigy;
            // They need gradients that Burn's trait cannot give.
            curvature:
            AdaHessian, Sophia;
            tensor:
            Adafactor, Muon, Shampoo, Soap;
        }
    };
}
pub(crate) use all_rules;

macro_rules! burn_optimizers {
    (
        elementwise: $($rule:ident),*;
        curvature: $($curved:ident),*;
        tensor: $($shaped:ident),*;
    ) => {
        crate::burn_optimizer!($($rule),*);
        crate::burn_tensor_optimizer!($($shaped),*);
    };
}
all_rules!(burn_optimizers);

/// g ← ±g + λ·θ: the sign of `maximize`, and weight decay coupled into the gradient, the L2 penalty
/// of the textbooks.
#[inline(always)]
fn penalised<N: Number>(g: N, theta: &N, weight_decay: f64, maximize: bool) -> N {
    let g = if maximize { -g } else { g };
    if weight_decay == 0.0 {
        g
    } else {
        g + theta.clone() * weight_decay
    }
}

/// √(v̂ + ε₀), where v̂ = v·root²: the root of the bias-corrected mean of squares.
#[inline(always)]
fn rooted<N: Number>(v: N, root: f64, eps_root: f64) -> N {
    if eps_root == 0.0 {
        v.sqrt() * root
    } else {
        (v * (root * root) + eps_root).sqrt()
    }
}
