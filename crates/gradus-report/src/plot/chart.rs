//! Lines over two axes: the y label and the legend stand above the frame, grid lines are
//! horizontal, the data has the ink.

use super::{Axis, Field, Scale, Series};
use crate::draw::{Anchor, Figure, Mark, Paint, Scene, Weight, text_width};

const TICK: f64 = 11.5;
const LABEL: f64 = 12.0;
/// Radius of a dot.
const DOT: f64 = 2.6;
/// More dots than this on a line only thicken it.
const MOST_DOTS: usize = 60;

/// A line chart.
#[derive(Debug, Clone)]
pub struct Chart {
    name: String,
    title: String,
    caption: String,
    size: [f64; 2],
    x: Axis,
    y: Axis,
    series: Vec<Series>,
    guides: Vec<(f64, String)>,
    field: Option<Field>,
}

/// The frame inside which data is drawn, and the values at its edges.
struct Frame {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
    x: [f64; 2],
    y: [f64; 2],
}

impl Chart {
    /// An empty chart of 560 × 290 units; `name` is the file stem.
    pub fn new(name: impl Into<String>, title: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            title: title.into(),
            caption: String::new(),
            size: [560.0, 290.0],
            x: Axis::default(),
            y: Axis::default(),
            series: Vec::new(),
            guides: Vec::new(),
            field: None,
        }
    }

    /// A sentence on how to read it.
    #[must_use]
    pub fn caption(mut self, text: impl Into<String>) -> Self {
        self.caption = text.into();
        self
    }

    /// Width and height, in CSS pixels; at least 160 × 120.
    #[must_use]
    pub fn size(mut self, width: f64, height: f64) -> Self {
        self.size = [width.max(160.0), height.max(120.0)];
        self
    }

    /// What the axes measure.
    #[must_use]
    pub fn axes(mut self, x: impl Into<String>, y: impl Into<String>) -> Self {
        self.x.label = x.into();
        self.y.label = y.into();
        self
    }

    /// The horizontal axis, to be set in place.
    pub fn x_axis(&mut self) -> &mut Axis {
        &mut self.x
    }

    /// The vertical axis, to be set in place.
    pub fn y_axis(&mut self) -> &mut Axis {
        &mut self.y
    }

    /// Adds a line, over those before it.
    #[must_use]
    pub fn series(mut self, series: Series) -> Self {
        self.series.push(series);
        self
    }

    /// Adds a dashed vertical line at `x` with a word beside it.
    #[must_use]
    pub fn guide(mut self, x: f64, label: impl Into<String>) -> Self {
        self.guides.push((x, label.into()));
        self
    }

    /// Lays a scalar field under the lines; its extent becomes the axes' range.
    #[must_use]
    pub fn field(mut self, field: Field) -> Self {
        self.x.range = Some(field.x);
        self.y.range = Some(field.y);
        self.field = Some(field);
        self
    }

    /// Lays the chart out.
    #[must_use]
    pub fn figure(&self) -> Figure {
        let [width, height] = self.size;
        let mut scene = Scene::new(width, height);
        let paints = self.paints();

        let counted = || {
            self.series
                .iter()
                .filter(|s| s.counts || self.series.iter().all(|s| !s.counts))
        };
        let xs = self
            .series
            .iter()
            .flat_map(|s| s.points.iter().map(|p| p[0]));
        let ys = counted().flat_map(|s| s.points.iter().map(|p| p[1]));
        let (x, y) = (self.x.ends(xs, 0.0), self.y.ends(ys, 0.06));

        let top = 12.0 + self.legend(&mut scene, &paints);
        let bottom = height - if self.x.label.is_empty() { 24.0 } else { 40.0 };
        let y_ticks = self
            .y
            .ticks(y, ((bottom - top) / 36.0).round().max(2.0) as usize);
        let label_width = |t: &super::axis::Tick| {
            t.label
                .as_ref()
                .map_or(0.0, |l| text_width(l, TICK, Weight::Regular))
        };
        let left = y_ticks.iter().map(label_width).fold(12.0, f64::max) + 8.0;
        let frame = Frame {
            left,
            top,
            right: width - 12.0,
            bottom,
            x,
            y,
        };

        for tick in &y_ticks {
            let at = frame.y(tick.value, self.y.scale);
            let line = Mark::line([frame.left, at], [frame.right, at]);
            let faint = if tick.label.is_some() { 1.0 } else { 0.45 };
            scene.push(line.stroke(Paint::Grid, 1.0).opacity(faint));
            if let Some(label) = &tick.label {
                let text = Mark::text(frame.left - 8.0, at + 4.0, label.clone());
                scene.push(text.size(TICK).fill(Paint::Muted).anchor(Anchor::End));
            }
        }
        self.draw_x_axis(&mut scene, &frame);
        if let Some(field) = &self.field {
            field.draw(
                &mut scene,
                [frame.left, frame.top, frame.right, frame.bottom],
            );
        }
        for (at, label) in &self.guides {
            if *at >= x[0] && *at <= x[1] {
                frame.guide(&mut scene, *at, label, self.x.scale);
            }
        }
        for (series, paint) in self.series.iter().zip(&paints) {
            self.draw_series(&mut scene, &frame, series, *paint);
        }
        Figure::new(&self.name, &self.title, scene).caption(&self.caption)
    }

    /// Each line's colour: its own, or the next accent.
    fn paints(&self) -> Vec<Paint> {
        let mut next = 0;
        let paint = |series: &Series| {
            series.paint.unwrap_or_else(|| {
                next += 1;
                Paint::Accent(next - 1)
            })
        };
        self.series.iter().map(paint).collect()
    }

    /// Draws the y label at the left and the legend at the right, on as many rows as they need;
    /// returns their height.
    fn legend(&self, scene: &mut Scene, paints: &[Paint]) -> f64 {
        let row = 18.0;
        if !self.y.label.is_empty() {
            scene.push(
                Mark::text(0.0, 12.0, &self.y.label)
                    .size(LABEL)
                    .fill(Paint::Muted),
            );
        }
        let named: Vec<_> = self
            .series
            .iter()
            .zip(paints)
            .filter(|(s, _)| !s.name.is_empty())
            .collect();
        let width = |s: &Series| 24.0 + text_width(&s.name, LABEL, Weight::Regular) + 16.0;
        let label = text_width(&self.y.label, LABEL, Weight::Regular) + 24.0;
        if named.len() < 2 && named.iter().all(|(s, _)| s.name == self.y.label) {
            return if self.y.label.is_empty() { 0.0 } else { row };
        }
        // Rows filled from the left, then each pushed against the right edge.
        let mut rows: Vec<Vec<_>> = vec![Vec::new()];
        let mut used = label;
        for item in named {
            if used + width(item.0) - 16.0 > self.size[0]
                && rows.last().is_some_and(|r| !r.is_empty() || used > 0.0)
            {
                rows.push(Vec::new());
                used = 0.0;
            }
            used += width(item.0);
            if let Some(last) = rows.last_mut() {
                last.push(item);
            }
        }
        for (i, items) in rows.iter().enumerate() {
            let total: f64 = items.iter().map(|(s, _)| width(s)).sum::<f64>() - 16.0;
            let mut x = (self.size[0] - 12.0 - total).max(0.0);
            let y = 12.0 + i as f64 * row;
            for (series, paint) in items {
                let middle = y - 4.0;
                if series.line {
                    let line = Mark::line([x, middle], [x + 18.0, middle]).stroke(**paint, 2.0);
                    scene.push(series.dashed_as_said(line));
                }
                if series.dots {
                    scene.push(Mark::circle(x + 9.0, middle, DOT + 0.4).fill(**paint));
                }
                scene.push(Mark::text(x + 24.0, y, &series.name).size(LABEL));
                x += width(series);
            }
        }
        rows.len() as f64 * row
    }

    fn draw_x_axis(&self, scene: &mut Scene, frame: &Frame) {
        let base = Mark::line([frame.left, frame.bottom], [frame.right, frame.bottom]);
        scene.push(base.stroke(Paint::Muted, 1.0).opacity(0.7));
        let most = ((frame.right - frame.left) / 62.0).round().max(2.0) as usize;
        for tick in self.x.ticks(frame.x, most) {
            let at = frame.x(tick.value, self.x.scale);
            let mark = Mark::line([at, frame.bottom], [at, frame.bottom + 4.0]);
            scene.push(mark.stroke(Paint::Muted, 1.0).opacity(0.7));
            if let Some(label) = tick.label {
                let text = Mark::text(at, frame.bottom + 17.0, label).size(TICK);
                scene.push(text.fill(Paint::Muted).anchor(Anchor::Middle));
            }
        }
        if !self.x.label.is_empty() {
            let middle = (frame.left + frame.right) / 2.0;
            let text = Mark::text(middle, frame.bottom + 35.0, &self.x.label).size(LABEL);
            scene.push(text.fill(Paint::Muted).anchor(Anchor::Middle));
        }
    }

    fn draw_series(&self, scene: &mut Scene, frame: &Frame, series: &Series, paint: Paint) {
        let place = |p: &[f64; 2]| {
            let shown = self.x.scale.shows(p[0]) && self.y.scale.shows(p[1]);
            shown.then(|| [frame.x(p[0], self.x.scale), frame.y(p[1], self.y.scale)])
        };
        let points: Vec<Option<[f64; 2]>> = series.points.iter().map(place).collect();
        if series.line {
            let strokes = frame.clip(&points);
            if !strokes.is_empty() {
                let line = Mark::path(strokes).stroke(paint, series.width);
                scene.push(series.dashed_as_said(line).opacity(series.opacity));
            }
        }
        // A single point has no line to be seen by.
        if !series.dots && series.points.len() > 1 {
            return;
        }
        let few = points.len() <= MOST_DOTS;
        for (i, point) in points.iter().enumerate() {
            let Some([x, y]) = point.filter(|p| frame.holds(*p)) else {
                continue;
            };
            let dot = if few || !series.line {
                Mark::circle(x, y, DOT)
                    .fill(paint)
                    .stroke(Paint::Surface, 1.0)
            } else {
                // Nothing to see, something to point at.
                Mark::circle(x, y, 2.0 * DOT).fill(paint).opacity(0.0)
            };
            let tip = series.tips.get(i).cloned();
            scene.push(match tip {
                Some(tip) => dot.tip(tip),
                None => dot,
            });
        }
    }
}

impl Frame {
    fn x(&self, value: f64, scale: Scale) -> f64 {
        self.left + scale.place(value, self.x) * (self.right - self.left)
    }

    fn y(&self, value: f64, scale: Scale) -> f64 {
        self.bottom - scale.place(value, self.y) * (self.bottom - self.top)
    }

    fn holds(&self, [x, y]: [f64; 2]) -> bool {
        let slack = 0.5;
        x >= self.left - slack
            && x <= self.right + slack
            && y >= self.top - slack
            && y <= self.bottom + slack
    }

    fn guide(&self, scene: &mut Scene, at: f64, label: &str, scale: Scale) {
        let x = self.x(at, scale);
        let line = Mark::line([x, self.top], [x, self.bottom]);
        scene.push(line.stroke(Paint::Alarm, 1.0).dash(3.0, 3.0));
        let left_half = x < (self.left + self.right) / 2.0;
        let (dx, anchor) = if left_half {
            (6.0, Anchor::Start)
        } else {
            (-6.0, Anchor::End)
        };
        let text = Mark::text(x + dx, self.top + 11.0, label)
            .size(11.0)
            .anchor(anchor);
        scene.push(text.fill(Paint::Alarm));
    }

    /// The polyline through `points` cut to the frame, as strokes; a missing point breaks it.
    fn clip(&self, points: &[Option<[f64; 2]>]) -> Vec<Vec<[f64; 2]>> {
        let mut strokes: Vec<Vec<[f64; 2]>> = Vec::new();
        for pair in points.windows(2) {
            let &[Some(a), Some(b)] = pair else { continue };
            let Some((a, b)) = self.cut(a, b) else {
                continue;
            };
            match strokes.last_mut() {
                Some(stroke) if stroke.last() == Some(&a) => stroke.push(b),
                _ => strokes.push(vec![a, b]),
            }
        }
        strokes
    }

    /// The part of the segment a–b inside the frame (Liang & Barsky, 1984).
    fn cut(&self, a: [f64; 2], b: [f64; 2]) -> Option<([f64; 2], [f64; 2])> {
        let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
        let (mut enter, mut leave) = (0.0_f64, 1.0_f64);
        let edges = [
            (-dx, a[0] - self.left),
            (dx, self.right - a[0]),
            (-dy, a[1] - self.top),
            (dy, self.bottom - a[1]),
        ];
        for (along, room) in edges {
            if along == 0.0 {
                if room < 0.0 {
                    return None;
                }
            } else if along < 0.0 {
                enter = enter.max(room / along);
            } else {
                leave = leave.min(room / along);
            }
        }
        // The ends themselves, where nothing is cut, so that neighbouring segments meet exactly.
        let at = |t: f64| match t {
            0.0 => a,
            1.0 => b,
            _ => [a[0] + t * dx, a[1] + t * dy],
        };
        (enter <= leave).then(|| (at(enter), at(leave)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_to_the_frame_and_broken_at_gaps() {
        let frame = Frame {
            left: 0.0,
            top: 0.0,
            right: 10.0,
            bottom: 10.0,
            x: [0.0, 1.0],
            y: [0.0, 1.0],
        };
        let cut = frame.clip(&[Some([-10.0, 5.0]), Some([5.0, 5.0]), Some([5.0, 20.0])]);
        assert_eq!(cut, [vec![[0.0, 5.0], [5.0, 5.0], [5.0, 10.0]]]);
        let gap = frame.clip(&[
            Some([1.0, 1.0]),
            Some([2.0, 2.0]),
            None,
            Some([3.0, 3.0]),
            Some([4.0, 4.0]),
        ]);
        assert_eq!(gap.len(), 2);
        assert!(
            frame
                .clip(&[Some([-5.0, -5.0]), Some([-1.0, 20.0])])
                .is_empty()
        );
    }

    #[test]
    fn a_chart_of_nothing_is_still_a_chart() {
        let svg = Chart::new("empty", "Empty")
            .figure()
            .svg(crate::Theme::Light);
        assert!(svg.contains("</svg>") && !svg.contains("NaN"));
    }
}
