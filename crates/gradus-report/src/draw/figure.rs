//! A scene with a name, a title and a caption: what is written to `figures/` and shown on the page.

use std::path::{Path, PathBuf};

use super::{Mark, Paint, Scene, Theme, png, svg};
use crate::ReportError;
use crate::error::write;

/// A finished picture.
#[derive(Debug, Clone)]
pub struct Figure {
    /// File stem ("loss"): letters, digits, `-` and `_`.
    pub name: String,
    /// What it shows, a few words.
    pub title: String,
    /// How to read it, a sentence; may be empty.
    pub caption: String,
    /// The picture, without title and caption.
    pub scene: Scene,
}

/// White round a figure that stands alone.
const MARGIN: f64 = 16.0;
/// Room for the title above it.
const HEAD: f64 = 34.0;

impl Figure {
    /// A picture by its parts.
    #[must_use]
    pub fn new(name: impl Into<String>, title: impl Into<String>, scene: Scene) -> Self {
        Self {
            name: name.into(),
            title: title.into(),
            caption: String::new(),
            scene,
        }
    }

    /// With a sentence on how to read it.
    #[must_use]
    pub fn caption(mut self, text: impl Into<String>) -> Self {
        self.caption = text.into();
        self
    }

    /// A complete SVG file: title, margin and an opaque background, so that it can be read on any
    /// page. Under [`Theme::Page`] there is no background and no title, and the page must carry
    /// [`style_sheet`](super::style_sheet).
    #[must_use]
    pub fn svg(&self, theme: Theme) -> String {
        match theme {
            Theme::Page => svg::write(&self.scene, theme, &self.title),
            _ => svg::write(&self.framed(), theme, &self.title),
        }
    }

    /// A PNG file's bytes, `scale` pixels to a unit, as [`svg`](Self::svg) looks.
    ///
    /// # Errors
    /// [`ReportError::Draw`] if the picture is empty or larger than 64 million pixels.
    pub fn png(&self, theme: Theme, scale: f64) -> Result<Vec<u8>, ReportError> {
        let theme = if theme == Theme::Page {
            Theme::Light
        } else {
            theme
        };
        png::write(&self.framed(), theme, scale, &self.title).map_err(|problem| ReportError::Draw {
            figure: self.name.clone(),
            problem,
        })
    }

    /// Writes `NAME.svg` and `NAME.png` (two pixels a unit, light) into `folder`, each in one step.
    ///
    /// # Errors
    /// As [`png`](Self::png), or [`ReportError::Io`] naming the file.
    pub fn write(&self, folder: &Path) -> Result<[PathBuf; 2], ReportError> {
        let paths = ["svg", "png"].map(|ext| folder.join(format!("{}.{ext}", self.name)));
        write(&paths[0], self.svg(Theme::Light).as_bytes())?;
        write(&paths[1], &self.png(Theme::Light, 2.0)?)?;
        Ok(paths)
    }

    fn framed(&self) -> Scene {
        let (w, h) = (
            self.scene.width + 2.0 * MARGIN,
            self.scene.height + 2.0 * MARGIN + HEAD,
        );
        let mut framed = Scene::new(w, h);
        framed.push(Mark::rect(0.0, 0.0, w, h).fill(Paint::Surface));
        framed.push(
            Mark::text(MARGIN, MARGIN + 15.0, self.title.clone())
                .size(15.0)
                .bold(),
        );
        framed.place(&self.scene, MARGIN, MARGIN + HEAD);
        framed
    }
}
