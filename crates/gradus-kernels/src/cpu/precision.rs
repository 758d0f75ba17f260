//! How precisely products are computed.

use std::cell::Cell;
use std::fmt;
use std::str::FromStr;

use super::simd;

/// What is multiplied. Weights, sums and everything that is not a product are f32 in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// f32.
    #[default]
    F32,
    /// bf16, with 8 significant bits, where that is estimated to be faster than f32: convolutions by
    /// 3×3 filters with stride 1 that take some 32 channels or more. Others stay in f32. The error of
    /// such a convolution is about 4e-3 of its result.
    Bf16,
}

thread_local! {
    static CURRENT: Cell<Precision> = const { Cell::new(Precision::F32) };
}

impl Precision {
    /// The names that a precision is read from.
    pub const NAMES: [&str; 2] = ["f32", "bf16"];

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

    /// Whether this processor has instructions for it. Elsewhere bf16 is emulated, with the same result,
    /// and slower than f32.
    #[must_use]
    pub fn is_native(self) -> bool {
        match self {
            Self::F32 => true,
            Self::Bf16 => simd::has_half(),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            other => Err(format!(
                "expected a precision, f32 or bf16, found \"{other}\""
            )),
        }
    }
}
