//! Image-classification data sets, augmentation and a deterministic loader.
//!
//! From a name to batches of floats, with nothing random that is not a function of (seed, epoch,
//! image), and nothing in memory but bytes until the last moment:
//!
//! ```
//! use gradus_data::{
//!     Augmentation, DataSpec, Flip, Loader, LoaderConfig, Normalization, OpenOptions, Split,
//!     epoch_order,
//! };
//! # fn main() -> Result<(), gradus_data::DataError> {
//! let spec: DataSpec = "shapes".parse()?;
//! let data = spec.open(&OpenOptions { shapes_train: 500, shapes_test: 100, ..Default::default() })?;
//! let split = Split::stratified(&data.train.labels, data.classes.len(), 42, 0.1)?;
//! let normalization = Normalization::measure(&data.train, &split.train)?;
//! let augmentation = Augmentation { flip: Flip::Alternating, ..Augmentation::none() };
//!
//! let (seed, epoch) = (42, 0);
//! let order = epoch_order(seed, epoch, &split.train);
//! let config = LoaderConfig {
//!     augmentation: Some((augmentation, seed, epoch)),
//!     workers: 2,
//!     ..LoaderConfig::new(order, 128, normalization)
//! };
//! let mut seen = 0;
//! for batch in Loader::new(data.train.into(), config)? {
//!     seen += batch?.labels.len();
//! }
//! assert_eq!(seen, 450);
//! # Ok(())
//! # }
//! ```
//!
//! - what a set is: [`Dataset`], [`Images`], [`ImageShape`]
//! - sets by name: [`DataSpec`], [`OpenOptions`]; the formats: [`shapes`], [`cifar`], [`folder`],
//!   [`pack`]
//! - getting and checking them: [`fetch`], [`remote`], [`verify()`]
//! - dividing and ordering: [`Split`], [`epoch_order`]
//! - from bytes to inputs: [`Normalization`], [`Augmentation`], [`Layout`], [`Loader`], [`Batch`], [`Places`]
//! - looking at them: [`sheet()`], [`sheet_by_class`]; one image file: [`read_image`]

mod archive;
mod augment;
pub mod cifar;
mod cifar_names;
mod dataset;
mod decode;
mod draw;
mod error;
pub mod fetch;
pub mod folder;
mod loader;
mod normalization;
pub mod pack;
mod places;
pub mod remote;
mod render;
pub mod shapes;
mod sheet;
mod single;
mod spec;
mod split;
mod verify;

pub use augment::{Augmentation, Choice, Crop, Flip, PaddingMode};
pub use dataset::{Dataset, ImageShape, Images};
pub use error::DataError;
pub use loader::{Batch, Loader, LoaderConfig, PREFETCH};
pub use normalization::{Normalization, STD_FLOOR};
pub use places::{CHANNELS_PER_WORD, Places};
pub use render::Layout;
pub use sheet::{sheet, sheet_by_class};
pub use single::read_image;
pub use spec::{DATA_NAMES, DataSpec, OpenOptions};
pub use split::{Split, epoch_order};
pub use verify::{Verification, verify};
