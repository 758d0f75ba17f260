//! The shape of a weight as an initialiser sees it: units, fans and where each value goes.

/// A weight of `units` outputs, each with `fan_in` incoming values.
///
/// ```text
/// linear  [d_in, d_out]          fan_in = d_in            fan_out = d_out
/// conv    [k, c/groups, h, w]    fan_in = c/groups·h·w    fan_out = k·h·w
/// ```
///
/// Both fans are PyTorch's (`_calculate_fan_in_and_fan_out`), whose linear weight is the transpose
/// of ours: here, as in Burn, a linear layer computes `x·W` with `W: [d_in, d_out]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightShape {
    /// The weight `[d_in, d_out]` of a linear layer.
    Linear {
        /// Number of inputs.
        d_in: usize,
        /// Number of outputs.
        d_out: usize,
    },
    /// The weight `[out_channels, in_channels, height, width]` of a convolution.
    Conv {
        /// Number of filters.
        out_channels: usize,
        /// Input channels that one filter sees (all of them divided by the groups).
        in_channels: usize,
        /// Height and width of the kernel.
        kernel: [usize; 2],
    },
}

impl WeightShape {
    /// The dimensions of the tensor.
    #[must_use]
    pub fn dims(&self) -> Vec<usize> {
        match *self {
            Self::Linear { d_in, d_out } => vec![d_in, d_out],
            Self::Conv {
                out_channels,
                in_channels,
                kernel: [h, w],
            } => {
                vec![out_channels, in_channels, h, w]
            }
        }
    }

    /// Number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.units() * self.fan_in()
    }

    /// Whether there are no values at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of outputs: columns of a linear weight, filters of a convolution.
    #[must_use]
    pub fn units(&self) -> usize {
        match *self {
            Self::Linear { d_out, .. } => d_out,
            Self::Conv { out_channels, .. } => out_channels,
        }
    }

    /// Number of values that flow into one unit.
    #[must_use]
    pub fn fan_in(&self) -> usize {
        match *self {
            Self::Linear { d_in, .. } => d_in,
            Self::Conv {
                in_channels,
                kernel: [h, w],
                ..
            } => in_channels * h * w,
        }
    }

    /// Number of units that one input value flows into.
    #[must_use]
    pub fn fan_out(&self) -> usize {
        match *self {
            Self::Linear { d_out, .. } => d_out,
            Self::Conv {
                out_channels,
                kernel: [h, w],
                ..
            } => out_channels * h * w,
        }
    }

    /// Where the value number `input` of unit `unit` lies in the tensor's memory.
    pub(crate) fn place(&self, unit: usize, input: usize) -> usize {
        match *self {
            Self::Linear { d_out, .. } => input * d_out + unit,
            Self::Conv { .. } => unit * self.fan_in() + input,
        }
    }
}
