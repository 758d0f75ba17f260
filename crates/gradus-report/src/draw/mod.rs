//! A scene of marks, and the ways out of it: SVG for paper, SVG for a dark screen, SVG for a page,
//! PNG.
//!
//! A [`Scene`] holds rectangles, paths, circles, texts and images whose colours are *roles* ("ink",
//! "grid", "second series"), not numbers. The role becomes a colour only when it is written, by
//! [`Theme`], so that one picture serves print, dark screen and a page that follows the reader's
//! setting.

mod figure;
mod paint;
mod pixels;
mod png;
mod scene;
mod svg;
mod text;

pub use figure::Figure;
pub use paint::{Paint, Theme, style_sheet};
pub use pixels::Pixels;
pub use scene::{Anchor, Mark, Scene};
pub use text::{Weight, ellipsis, text_width};

pub(crate) use svg::escape;
pub(crate) use text::{REGULAR_WOFF2, SEMIBOLD_WOFF2};
