//! Kinds of picture, each a description that `.figure()` lays out: [`Chart`] (lines, dots, over a
//! [`Field`] if wanted), [`Matrix`], [`Bars`], [`Tiles`].

mod axis;
mod bars;
mod chart;
mod field;
mod matrix;
mod series;
mod tiles;

pub use axis::{Axis, Scale};
pub use bars::{Bar, Bars};
pub use chart::Chart;
pub use field::Field;
pub use matrix::Matrix;
pub use series::Series;
pub use tiles::{Tile, Tiles};
