//! A curve in characters.

/// Columns and rows of the drawing, without its axes.
const WIDTH: usize = 64;
const HEIGHT: usize = 12;

/// `values` over their place, as lines of text. Each column shows all the values that fall on it,
/// from the lowest to the highest.
pub(crate) fn curve(values: &[f64], label: impl Fn(f64) -> String) -> String {
    let finite = || values.iter().copied().filter(|value| value.is_finite());
    let (low, high) = (
        finite().fold(f64::INFINITY, f64::min),
        finite().fold(f64::NEG_INFINITY, f64::max),
    );
    if low > high {
        return "no finite value".to_owned();
    }
    let span = if high > low { high - low } else { 1.0 };
    let row = |value: f64| ((value - low) / span * (HEIGHT - 1) as f64).round() as usize;

    let columns = values.len().min(WIDTH);
    let mut grid = vec![vec![' '; columns]; HEIGHT];
    for column in 0..columns {
        let from = column * values.len() / columns;
        let to = (column + 1) * values.len() / columns;
        let here = || values[from..to].iter().copied().filter(|v| v.is_finite());
        if let (Some(bottom), Some(top)) = (here().map(row).min(), here().map(row).max()) {
            for line in &mut grid[bottom..=top] {
                line[column] = '•';
            }
        }
    }

    let labels = [label(high), label(low)];
    let margin = labels.iter().map(|l| l.chars().count()).max().unwrap_or(0);
    let mut lines: Vec<String> = grid
        .iter()
        .enumerate()
        .rev()
        .map(|(place, line)| {
            let label = match place {
                0 => labels[1].as_str(),
                place if place == HEIGHT - 1 => labels[0].as_str(),
                _ => "",
            };
            let line: String = line.iter().collect();
            format!("{label:>margin$} │{line}").trim_end().to_owned()
        })
        .collect();
    lines.push(format!("{:margin$} └{}", "", "─".repeat(columns)));
    let last = match values.len() - 1 {
        0 => String::new(),
        last => last.to_string(),
    };
    // Where there is no room between them, the labels may go beyond the axis but not into one.
    let gap = columns.saturating_sub(1 + last.len()).max(1);
    lines.push(
        format!("{:margin$}  0{:gap$}{last}", "", "")
            .trim_end()
            .to_owned(),
    );
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_straight_line_is_drawn_straight() {
        let values: Vec<f64> = (0..HEIGHT).map(|i| i as f64).collect();
        let drawn = curve(&values, |x| x.to_string());
        let lines: Vec<&str> = drawn.lines().collect();
        assert_eq!(lines.len(), HEIGHT + 2);
        assert_eq!(lines[0], format!("11 │{}•", " ".repeat(HEIGHT - 1)));
        assert_eq!(lines[HEIGHT - 1], " 0 │•");
        for (place, line) in lines[..HEIGHT].iter().enumerate() {
            assert_eq!(line.chars().filter(|c| *c == '•').count(), 1);
            assert_eq!(line.chars().count(), 4 + HEIGHT - place);
        }
    }

    #[test]
    fn constant_short_long_and_bad_values_do_no_harm() {
        for values in [
            vec![0.5],
            vec![0.5; 7],
            vec![f64::NAN, 1.0],
            (0..1000).map(f64::from).collect(),
            vec![f64::INFINITY],
        ] {
            let drawn = curve(&values, |x| x.to_string());
            assert!(
                drawn.lines().all(|line| line.chars().count() < 90),
                "{drawn}"
            );
        }
        assert_eq!(curve(&[f64::NAN], |x| x.to_string()), "no finite value");
        let axis = |count: usize| {
            let drawn = curve(&vec![0.5; count], |x| x.to_string());
            drawn.lines().last().map(|line| line.trim().to_owned())
        };
        assert_eq!(axis(1).as_deref(), Some("0"));
        assert_eq!(axis(2).as_deref(), Some("0 1"));
        assert_eq!(axis(12).as_deref(), Some("0         11"));
    }
}
