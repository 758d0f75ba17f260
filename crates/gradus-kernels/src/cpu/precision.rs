//! How precisely products are computed.

use std::cell::Cell;
use std::fmt;
use std::str::FromStr;

use super::simd;

/// What is multiplied. Weights, statistics, losses and the optimizer are f32 in any case.
///
/// On the CPU backend bf16 is a matter of the kernels in this module, and what passes between operations
/// stays f32. On every other device, and with f16 everywhere, what passes between them is of that type
/// too, as under `torch.autocast`; the table is in `gradus_kernels::mixed`. The kernels of this module have
/// no f16: called with it, they multiply in f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// f32.
    #[default]
    F32,
    /// bf16: 8 significant bits, the range of f32.
    ///
    /// On the CPU it is used where it is estimated to be faster than f32: convolutions by 3×3 filters with
    /// stride 1 that take some 32 channels or more. Others stay in f32. The error of such a convolution is
    /// about 4e-3 of its result.
    Bf16,
    /// f16: 11 significant bits, largest number 65504, smallest normal one 6e-5. Gradients are smaller than
    /// that, so that a loss has to be scaled before it is differentiated; `gradus-train` does.
    F16,
}

thread_local! {
    static CURRENT: Cell<Precision> = const { Cell::new(Precision::F32) };
}

impl Precision {
    /// The names that a precision is read from.
    pub const NAMES: [&str; 3] = ["f32", "bf16", "f16"];

    /// The precision of operations that this thread starts.
    #[must_use]
    pub fn current() -> Self {
        CURRENT.get()
    }

    /// Run `f` with this precision: forward passes inside it, and their backward passes whenever they
    /// run.
    ///
    /// ```
    /// use gradus_kernels::Precision;
    /// let inside = Precision::Bf16.during(Precision::current);
    /// assert_eq!((inside, Precision::current()), (Precision::Bf16, Precision::F32));
    /// ```
    pub fn during<R>(self, f: impl FnOnce() -> R) -> R {
        /// Puts the former precision back, even when `f` panics.
        struct Before(Precision);
        impl Drop for Before {
            fn drop(&mut self) {
                CURRENT.set(self.0);
            }
        }
        let _before = Before(CURRENT.replace(self));
        f()
    }

    /// Whether this processor has instructions for it that the kernels use. Elsewhere bf16 is emulated, with
    /// the same result, and slower than f32; f16 always is.
    #[must_use]
    pub fn is_native(self) -> bool {
        match self {
            Self::F32 => true,
            Self::Bf16 => simd::has_half(),
            Self::F16 => false,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        })
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            "f16" => Ok(Self::F16),
            other => Err(format!(
                "expected a precision, f32, bf16 or f16, found \"{other}\""
            )),
        }
    }
}
