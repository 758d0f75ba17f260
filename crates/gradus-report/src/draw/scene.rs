//! The scene: marks in drawing order, y downwards, one unit = one CSS pixel.

use std::sync::Arc;

use super::{Paint, Pixels, Weight};

/// A picture before it is written.
#[derive(Debug, Clone, Default)]
pub struct Scene {
    /// Width, in CSS pixels.
    pub width: f64,
    /// Height, in CSS pixels.
    pub height: f64,
    pub(super) marks: Vec<Mark>,
}

/// Where a text stands relative to its x.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Anchor {
    /// The text starts there.
    #[default]
    Start,
    /// Its middle is there.
    Middle,
    /// It ends there.
    End,
}

#[derive(Debug, Clone)]
pub(super) enum Geometry {
    Rect {
        x: f64,
        y: f64,
        width: f64,
        height: f64,
        radius: f64,
    },
    Circle {
        x: f64,
        y: f64,
        radius: f64,
    },
    /// Strokes of points; `closed` joins each stroke's end to its start.
    Path {
        strokes: Vec<Vec<[f64; 2]>>,
        closed: bool,
    },
    Text {
        x: f64,
        y: f64,
        text: String,
        size: f64,
        anchor: Anchor,
        weight: Weight,
        angle: f64,
    },
    Image {
        x: f64,
        y: f64,
        width: f64,
        height: f64,
        pixels: Arc<Pixels>,
        smooth: bool,
    },
}

/// One thing to draw. Built by a shape and refined by what follows:
/// `Mark::rect(0.0, 0.0, 10.0, 4.0).fill(Paint::Accent(0)).tip("ten by four")`.
#[derive(Debug, Clone)]
pub struct Mark {
    pub(super) geometry: Geometry,
    pub(super) fill: Option<Paint>,
    pub(super) stroke: Option<(Paint, f64)>,
    pub(super) dash: Option<[f64; 2]>,
    pub(super) opacity: f64,
    pub(super) tip: Option<String>,
}

impl Scene {
    /// An empty picture of this size.
    #[must_use]
    pub fn new(width: f64, height: f64) -> Self {
        Self {
            width,
            height,
            marks: Vec::new(),
        }
    }

    /// Adds a mark on top of the others.
    pub fn push(&mut self, mark: Mark) {
        self.marks.push(mark);
    }

    /// Adds the marks of another picture, moved by `(dx, dy)`.
    pub fn place(&mut self, other: &Scene, dx: f64, dy: f64) {
        self.marks
            .extend(other.marks.iter().map(|mark| mark.moved(dx, dy)));
    }

    /// All texts, for choosing fonts.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.marks.iter().filter_map(|mark| match &mark.geometry {
            Geometry::Text { text, .. } => Some(text.as_str()),
            _ => None,
        })
    }
}

impl Mark {
    fn new(geometry: Geometry) -> Self {
        Self {
            geometry,
            fill: None,
            stroke: None,
            dash: None,
            opacity: 1.0,
            tip: None,
        }
    }

    /// A rectangle by its top left corner.
    #[must_use]
    pub fn rect(x: f64, y: f64, width: f64, height: f64) -> Self {
        Self::new(Geometry::Rect {
            x,
            y,
            width,
            height,
            radius: 0.0,
        })
    }

    /// A disc.
    #[must_use]
    pub fn circle(x: f64, y: f64, radius: f64) -> Self {
        Self::new(Geometry::Circle { x, y, radius })
    }

    /// A straight line, to be stroked.
    #[must_use]
    pub fn line(from: [f64; 2], to: [f64; 2]) -> Self {
        Self::path(vec![vec![from, to]])
    }

    /// Open strokes, each through its points.
    #[must_use]
    pub fn path(strokes: Vec<Vec<[f64; 2]>>) -> Self {
        Self::new(Geometry::Path {
            strokes,
            closed: false,
        })
    }

    /// Closed outlines.
    #[must_use]
    pub fn area(outlines: Vec<Vec<[f64; 2]>>) -> Self {
        Self::new(Geometry::Path {
            strokes: outlines,
            closed: true,
        })
    }

    /// A text on its baseline, in ink, 12 units high, starting at x.
    #[must_use]
    pub fn text(x: f64, y: f64, text: impl Into<String>) -> Self {
        let geometry = Geometry::Text {
            x,
            y,
            text: text.into(),
            size: 12.0,
            anchor: Anchor::Start,
            weight: Weight::Regular,
            angle: 0.0,
        };
        Self::new(geometry).fill(Paint::Ink)
    }

    /// An image scaled to a rectangle, its pixels crisp.
    #[must_use]
    pub fn image(x: f64, y: f64, width: f64, height: f64, pixels: impl Into<Arc<Pixels>>) -> Self {
        let pixels = pixels.into();
        Self::new(Geometry::Image {
            x,
            y,
            width,
            height,
            pixels,
            smooth: false,
        })
    }

    /// Filled with this colour.
    #[must_use]
    pub fn fill(mut self, paint: Paint) -> Self {
        self.fill = Some(paint);
        self
    }

    /// Drawn along its edge with this colour and width.
    #[must_use]
    pub fn stroke(mut self, paint: Paint, width: f64) -> Self {
        self.stroke = Some((paint, width));
        self
    }

    /// Dashed: on, off.
    #[must_use]
    pub fn dash(mut self, on: f64, off: f64) -> Self {
        self.dash = Some([on, off]);
        self
    }

    /// Seen through: 0 invisible, 1 solid.
    #[must_use]
    pub fn opacity(mut self, opacity: f64) -> Self {
        self.opacity = opacity.clamp(0.0, 1.0);
        self
    }

    /// A text shown while the pointer rests on the mark.
    #[must_use]
    pub fn tip(mut self, text: impl Into<String>) -> Self {
        self.tip = Some(text.into());
        self
    }

    /// Rounded corners (rectangles).
    #[must_use]
    pub fn rounded(mut self, corner: f64) -> Self {
        if let Geometry::Rect { radius, .. } = &mut self.geometry {
            *radius = corner;
        }
        self
    }

    /// Interpolated between pixels instead of crisp (images).
    #[must_use]
    pub fn smooth(mut self) -> Self {
        if let Geometry::Image { smooth, .. } = &mut self.geometry {
            *smooth = true;
        }
        self
    }

    /// Em size (texts).
    #[must_use]
    pub fn size(mut self, em: f64) -> Self {
        if let Geometry::Text { size, .. } = &mut self.geometry {
            *size = em;
        }
        self
    }

    /// Semi-bold (texts).
    #[must_use]
    pub fn bold(mut self) -> Self {
        if let Geometry::Text { weight, .. } = &mut self.geometry {
            *weight = Weight::Bold;
        }
        self
    }

    /// Which part of the text stands at x (texts).
    #[must_use]
    pub fn anchor(mut self, to: Anchor) -> Self {
        if let Geometry::Text { anchor, .. } = &mut self.geometry {
            *anchor = to;
        }
        self
    }

    /// Turned about its point, degrees clockwise (texts).
    #[must_use]
    pub fn turned(mut self, degrees: f64) -> Self {
        if let Geometry::Text { angle, .. } = &mut self.geometry {
            *angle = degrees;
        }
        self
    }

    fn moved(&self, dx: f64, dy: f64) -> Self {
        let mut mark = self.clone();
        match &mut mark.geometry {
            Geometry::Rect { x, y, .. }
            | Geometry::Circle { x, y, .. }
            | Geometry::Text { x, y, .. }
            | Geometry::Image { x, y, .. } => {
                *x += dx;
                *y += dy;
            }
            Geometry::Path { strokes, .. } => {
                for point in strokes.iter_mut().flatten() {
                    point[0] += dx;
                    point[1] += dy;
                }
            }
        }
        mark
    }
}
