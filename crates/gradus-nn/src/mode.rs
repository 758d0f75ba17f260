//! Training or evaluation, said explicitly at every forward pass.
//!
//! Burn decides by the tensor: a layer trains when its input is tracked. Here the caller decides, so
//! that a network can be differentiated in evaluation mode (gradient checks, saliency, landscapes) and
//! run in training mode without a tape (recalibrating batch-norm statistics).

/// How a forward pass behaves: which statistics batch norm uses, and whether dropout drops.
///
/// ```
/// use gradus_nn::Mode;
/// assert!(Mode::train(42, 0).is_train());
/// assert!(!Mode::eval().is_train());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Batch norm uses its running averages, dropout is the identity: `f(x)` is a pure function of
    /// the parameters and the buffers.
    Eval,
    /// Batch norm uses the statistics of the batch, dropout drops.
    Train(TrainMode),
}

/// The coordinates of a training pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrainMode {
    /// The run's seed.
    pub seed: u64,
    /// The step, counted from the start of the run: together with `seed` and the layer's own stream
    /// it determines every dropout mask.
    pub step: u64,
    /// Whether batch norm folds this batch into its running averages.
    pub update_statistics: bool,
}

impl Mode {
    /// Evaluation.
    #[must_use]
    pub fn eval() -> Self {
        Self::Eval
    }

    /// Training at `step` of the run with this `seed`; running averages are updated.
    #[must_use]
    pub fn train(seed: u64, step: u64) -> Self {
        Self::Train(TrainMode {
            seed,
            step,
            update_statistics: true,
        })
    }

    /// The same mode, leaving the running averages of batch norm as they are.
    ///
    /// For second looks at a batch: a line search, SAM's second pass, a landscape. No change in
    /// evaluation mode.
    #[must_use]
    pub fn without_statistics(self) -> Self {
        match self {
            Self::Eval => Self::Eval,
            Self::Train(train) => Self::Train(TrainMode {
                update_statistics: false,
                ..train
            }),
        }
    }

    /// Whether this is training.
    #[must_use]
    pub fn is_train(&self) -> bool {
        matches!(self, Self::Train(_))
    }
}
