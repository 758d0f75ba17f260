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
    /// Batch norm uses the statistics of the batch and takes their mean into its running averages,
    /// dropout is the identity: see [`measure`](Self::measure).
    Measure {
        /// Which batch of the measurement this is, from 1.
        batch: u64,
    },
}

/// The coordinates of a training pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrainMode {
    /// The run's seed.
    pub seed: u64,
    /// The step, counted from the start of the run: together with `seed` and the layer's own stream
    /// it determines every dropout mask.
    pub step: u64,
    /// Where the rows at hand begin in the batch: 0, unless other ranks have others of its rows.
    pub first_row: usize,
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
            first_row: 0,
            update_statistics: true,
        })
    }

    /// The same mode for the rows of the batch from `first_row` on, where several ranks share a batch:
    /// a row is dropped out as it would be in the whole batch. No change in the other modes.
    #[must_use]
    pub fn from_row(self, first_row: usize) -> Self {
        match self {
            Self::Eval | Self::Measure { .. } => self,
            Self::Train(train) => Self::Train(TrainMode { first_row, ..train }),
        }
    }

    /// Measures the statistics of batch norm anew, as averaged weights need it: the `batch`-th of the
    /// batches, from 1 (0 counts as 1).
    ///
    /// ```text
    /// s ← s + (s_batch − s)/k        at the k-th: after K batches the mean of K statistics, exactly
    /// ```
    /// What was there before is forgotten at the first. Dropout drops nothing, so that the statistics
    /// are those of the network that [`eval`](Self::eval) runs.
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use gradus_nn::{BatchNormConfig, Mode};
    /// let device = Device::flex();
    /// let norm = BatchNormConfig::new(1).init(&device)?;
    /// for (k, mean) in [2.0, 4.0, 9.0].into_iter().enumerate() {
    ///     norm.forward(Tensor::<2>::full([5, 1], mean, &device), Mode::measure(k as u64 + 1));
    /// }
    /// assert!((norm.running_mean.value().into_scalar::<f32>() - 5.0).abs() < 1e-6);
    /// # Ok::<(), gradus_nn::NnError>(())
    /// ```
    #[must_use]
    pub fn measure(batch: u64) -> Self {
        Self::Measure { batch }
    }

    /// The same mode, leaving the running averages of batch norm as they are.
    ///
    /// For second looks at a batch: a line search, SAM's second pass, a landscape. No change in the
    /// other modes.
    #[must_use]
    pub fn without_statistics(self) -> Self {
        match self {
            Self::Eval | Self::Measure { .. } => self,
            Self::Train(train) => Self::Train(TrainMode {
                update_statistics: false,
                ..train
            }),
        }
    }

    /// Whether this is training: neither evaluation nor a measurement.
    #[must_use]
    pub fn is_train(&self) -> bool {
        matches!(self, Self::Train(_))
    }
}
