//! Horizontal bars with the name at the left and the number at the right, in as many columns as
//! keep the page short.

use crate::draw::{Anchor, Figure, Mark, Paint, Scene, Weight, ellipsis, text_width};

/// One bar.
#[derive(Debug, Clone)]
pub struct Bar {
    /// Its name.
    pub label: String,
    /// Its length in `[0, 1]`; not finite: no bar.
    pub value: f64,
    /// What is written at its right.
    pub text: String,
    /// What is shown while the pointer rests on it.
    pub tip: String,
}

/// Bars over a common length of 1.
#[derive(Debug, Clone)]
pub struct Bars {
    name: String,
    title: String,
    caption: String,
    bars: Vec<Bar>,
    reference: Option<(f64, String)>,
}

impl Bars {
    /// Bars in the order given.
    pub fn new(name: impl Into<String>, title: impl Into<String>, bars: Vec<Bar>) -> Self {
        let (name, title) = (name.into(), title.into());
        Self {
            name,
            title,
            caption: String::new(),
            bars,
            reference: None,
        }
    }

    /// A sentence on how to read it.
    #[must_use]
    pub fn caption(mut self, text: impl Into<String>) -> Self {
        self.caption = text.into();
        self
    }

    /// A dashed line through all bars at `value`, named.
    #[must_use]
    pub fn reference(mut self, value: f64, label: impl Into<String>) -> Self {
        self.reference = Some((value, label.into()));
        self
    }

    /// Lays them out.
    #[must_use]
    pub fn figure(&self) -> Figure {
        let n = self.bars.len();
        let columns = match n {
            0..=25 => 1,
            26..=60 => 2,
            61..=120 => 3,
            _ => 4,
        };
        let (row, font) = if n <= 25 { (24.0, 12.0) } else { (16.0, 10.5) };
        let per_column = n.div_ceil(columns).max(1);
        let (column, space) = (if columns == 1 { 520.0 } else { 330.0 }, 28.0);
        let longest = match columns {
            1 => 320.0,
            2 => 280.0,
            _ => 110.0,
        };
        let head = if self.reference.is_some() { 20.0 } else { 0.0 };

        let widest = |texts: &mut dyn Iterator<Item = f64>| texts.fold(0.0, f64::max);
        let names = widest(
            &mut self
                .bars
                .iter()
                .map(|b| text_width(&b.label, font, Weight::Regular)),
        );
        let numbers = widest(
            &mut self
                .bars
                .iter()
                .map(|b| text_width(&b.text, font, Weight::Regular)),
        );
        let names = names.min(longest) + 10.0;
        // Long names widen the figure, not shorten the bars.
        let track = (column - names - numbers - 10.0).max(150.0);
        let column = names + track + numbers + 10.0;

        let width = columns as f64 * (column + space) - space;
        let height = head + per_column as f64 * row + 2.0;
        let mut scene = Scene::new(width, height);
        for (i, bar) in self.bars.iter().enumerate() {
            let left = (i / per_column) as f64 * (column + space);
            let y = head + (i % per_column) as f64 * row;
            let base = y + row / 2.0 + font * 0.35;
            let label = ellipsis(&bar.label, font, Weight::Regular, longest);
            let text = Mark::text(left + names - 10.0, base, label).size(font);
            scene.push(text.anchor(Anchor::End).tip(&bar.tip));

            let (top, thick) = (y + row * 0.16, row * 0.68);
            let rail = Mark::rect(left + names, top, track, thick).rounded(2.0);
            scene.push(rail.fill(Paint::Soft).tip(&bar.tip));
            if bar.value > 0.0 {
                let length = bar.value.min(1.0) * track;
                let mark = Mark::rect(left + names, top, length, thick).rounded(2.0);
                scene.push(mark.fill(Paint::Accent(0)).opacity(0.85).tip(&bar.tip));
            }
            let text = Mark::text(left + column, base, &bar.text).size(font);
            scene.push(text.fill(Paint::Muted).anchor(Anchor::End));
        }
        if let Some((value, label)) = self.reference.as_ref().filter(|r| r.0.is_finite()) {
            for c in 0..columns.min(n.div_ceil(per_column)) {
                let x = c as f64 * (column + space) + names + value.clamp(0.0, 1.0) * track;
                let rows = per_column.min(n - c * per_column) as f64;
                let line = Mark::line([x, head - 4.0], [x, head + rows * row]);
                scene.push(line.stroke(Paint::Ink, 1.0).dash(3.0, 3.0).opacity(0.7));
                if c == 0 {
                    let text = Mark::text(x, 11.0, label).size(11.0).fill(Paint::Muted);
                    let anchor = if *value > 0.7 {
                        Anchor::End
                    } else {
                        Anchor::Middle
                    };
                    scene.push(text.anchor(anchor));
                }
            }
        }
        Figure::new(&self.name, &self.title, scene).caption(&self.caption)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::Theme;

    #[test]
    fn long_names_are_written_out_up_to_sixty_bars() {
        let name = "airnet 32,64,64 · 128 · flex, torch channels_last";
        for count in [3, 40] {
            let bar = |i: usize| Bar {
                label: format!("{name} {i}"),
                value: 0.5,
                text: "12345".to_owned(),
                tip: String::new(),
            };
            let bars = Bars::new("bars", "Bars", (0..count).map(bar).collect());
            let svg = bars.figure().svg(Theme::Light);
            assert_eq!(svg.matches(name).count(), count);
            assert!(!svg.contains('…'));
        }
    }
}
