//! Figures and the self-contained HTML report, drawn from the files of a run.
//!
//! **Claim.** Everything shown here comes from a file in the run folder that a person can open:
//! nothing is measured, nothing is guessed, and what a run did not write is left out with a line
//! saying so.
//!
//! ```text
//! run folder ── Run::read ──▶ Run ── figures::all ──▶ [Figure] ──▶ figures/*.svg, *.png
//!                              └───────── write_report ──▶ report.html (one file, no scripts)
//! ```
//!
//! ```no_run
//! # fn main() -> Result<(), gradus_report::ReportError> {
//! let paths = gradus_report::write_report(std::path::Path::new("runs/2026-11-22-cnn"))?;
//! println!("{}", paths.html.display());
//! # Ok(())
//! # }
//! ```
//!
//! The drawing half knows nothing of runs, so that other crates can draw with it:
//!
//! ```
//! use gradus_report::{Chart, Series, Theme};
//!
//! let figure = Chart::new("bowl", "Gradient descent on x²")
//!     .axes("step", "x")
//!     .series(Series::new("η = 0.1", (0..20).map(|t| [f64::from(t), 0.8_f64.powi(t)])))
//!     .figure();
//! assert!(figure.svg(Theme::Light).starts_with("<svg"));
//! ```
//!
//! # Map
//!
//! | module | what it holds |
//! |---|---|
//! | [`run`] | the run folder read back: configuration, metrics, evaluation, filters |
//! | [`draw`] | a scene of marks, written as SVG (print, dark screen, inline) and as PNG |
//! | [`plot`] | line charts, matrices, bars, tiles, scalar fields with contours |
//! | [`figures`] | which pictures a run gives |
//! | `report` | the page: [`write_report`] |

pub mod draw;
pub mod figures;
pub mod plot;
pub mod run;

mod error;
mod report;

pub use draw::{Figure, Mark, Paint, Pixels, Scene, Theme};
pub use error::ReportError;
pub use plot::{Bars, Chart, Field, Matrix, Scale, Series, Tiles};
pub use report::{ReportPaths, html, write_report};
pub use run::Run;
