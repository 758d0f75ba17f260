//! Layers: Burn modules with an explicit [`Mode`](crate::Mode) and seeds of their own.

pub mod batch_norm;
pub mod conv;
pub mod dropout;
pub mod linear;
pub mod norm;
pub mod pool;
pub mod residual;
pub mod statistic;

pub use batch_norm::{Affine, BatchNorm, BatchNormConfig};
pub use conv::{Conv2d, Conv2dConfig};
pub use dropout::{Dropout, DropoutConfig};
pub use linear::{Linear, LinearConfig};
pub use norm::{NORM_NAMES, Norm, NormKind};
pub use pool::{AvgPool2d, MaxPool2d, Pool2dConfig, flatten, global_avg_pool, global_max_pool};
pub use residual::{ResidualBlock, ResidualBlockConfig, Shortcut};
pub use statistic::RunningStatistic;
