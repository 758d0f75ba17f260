//! Scales and ticks. A tick step is 1, 2 or 5 times a power of ten, the one that gives at most the
//! wanted number of ticks; on a logarithmic axis ticks are powers of ten, or 1-2-5 within few
//! decades.

/// How values become places along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scale {
    /// Equal differences, equal lengths.
    #[default]
    Linear,
    /// Equal ratios, equal lengths; only positive values have a place.
    Log,
}

/// One axis of a chart.
#[derive(Debug, Clone, Default)]
pub struct Axis {
    /// What is measured, with its unit.
    pub label: String,
    /// Linear unless said otherwise.
    pub scale: Scale,
    /// Ends of the axis; taken from the data if `None`.
    pub range: Option<[f64; 2]>,
    /// Whether values in `[0, 1]` are written as percent.
    pub percent: bool,
    /// Whether zero is always on the axis (linear scale).
    pub from_zero: bool,
    /// Whether ticks stand at whole numbers only, where the axis is long enough to have some.
    pub whole: bool,
}

/// A place along the axis with what is written there; `None` for a line without a number.
pub(super) struct Tick {
    pub(super) value: f64,
    pub(super) label: Option<String>,
}

impl Scale {
    pub(super) fn shows(self, value: f64) -> bool {
        value.is_finite() && (self == Scale::Linear || value > 0.0)
    }

    /// Where `value` lies between the ends: 0 at the low one, 1 at the high one.
    pub(super) fn place(self, value: f64, [low, high]: [f64; 2]) -> f64 {
        match self {
            Scale::Linear => (value - low) / (high - low),
            Scale::Log => (value.ln() - low.ln()) / (high.ln() - low.ln()),
        }
    }
}

impl Axis {
    /// The ends: as given, or round the data with a little air; never empty.
    pub(super) fn ends(&self, data: impl Iterator<Item = f64>, air: f64) -> [f64; 2] {
        if let Some([low, high]) = self.range
            && self.scale.shows(low)
            && self.scale.shows(high)
            && low < high
        {
            return [low, high];
        }
        let shown = data.filter(|&v| self.scale.shows(v));
        let (low, high) = shown.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| {
            (a.min(v), b.max(v))
        });
        if low > high {
            return if self.scale == Scale::Log {
                [0.1, 1.0]
            } else {
                [0.0, 1.0]
            };
        }
        match self.scale {
            Scale::Log => {
                let room = (high / low).powf(air).max(1.1);
                [low / room, high * room]
            }
            Scale::Linear => {
                let low = if self.from_zero { low.min(0.0) } else { low };
                let span = high - low;
                let room = if span > 0.0 {
                    air * span
                } else {
                    low.abs().max(1.0) * 0.05
                };
                let floor = if self.from_zero && low == 0.0 {
                    0.0
                } else {
                    low - room
                };
                let ceiling = high + room;
                [
                    floor,
                    if self.percent && high <= 1.0 {
                        ceiling.min(1.0)
                    } else {
                        ceiling
                    },
                ]
            }
        }
    }

    pub(super) fn ticks(&self, ends: [f64; 2], most: usize) -> Vec<Tick> {
        match self.scale {
            Scale::Linear => self.linear_ticks(ends, most),
            Scale::Log => self.log_ticks(ends, most),
        }
    }

    fn linear_ticks(&self, [low, high]: [f64; 2], most: usize) -> Vec<Tick> {
        let step = round_step((high - low) / most.max(1) as f64);
        let step = if self.whole && high - low > 2.0 {
            step.max(1.0)
        } else {
            step
        };
        let first = (low / step - 1e-9).ceil() as i64;
        let last = (high / step + 1e-9).floor() as i64;
        let largest = low.abs().max(high.abs());
        (first..=last.min(first + 1000))
            .map(|i| {
                let value = i as f64 * step;
                Tick {
                    value,
                    label: Some(self.write(value, step, largest)),
                }
            })
            .collect()
    }

    fn log_ticks(&self, [low, high]: [f64; 2], most: usize) -> Vec<Tick> {
        let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
        let inside = |v: f64| v >= low * (1.0 - 1e-9) && v <= high * (1.0 + 1e-9);
        let whole = decades.clone().filter(|&e| inside(10_f64.powi(e))).count();
        if (high / low) < 4.0 {
            return self.linear_ticks([low, high], most);
        }
        let every = whole.div_ceil(most.max(1)).max(1) as i32;
        let mut ticks = Vec::new();
        for e in decades {
            for m in 1..10_i32 {
                let value = f64::from(m) * 10_f64.powi(e);
                let named = match m {
                    1 => e.rem_euclid(every) == 0,
                    2 | 5 => whole <= 2,
                    _ => false,
                };
                if inside(value) && (named || every == 1) {
                    ticks.push(Tick {
                        value,
                        label: named.then(|| power(value, m, e)),
                    });
                }
            }
        }
        ticks
    }

    fn write(&self, value: f64, step: f64, largest: f64) -> String {
        let value = if value.abs() < step * 1e-6 {
            0.0
        } else {
            value
        };
        if self.percent {
            return minus(&format!("{:.*} %", decimals(step * 100.0), value * 100.0));
        }
        if largest >= 1e6 {
            return minus(&format!("{:.*}M", decimals(step / 1e6), value / 1e6));
        }
        if largest >= 1e4 {
            return minus(&format!("{:.*}k", decimals(step / 1e3), value / 1e3));
        }
        if largest < 1e-4 && value != 0.0 {
            let e = value.abs().log10().floor() as i32;
            return minus(&format!(
                "{}×10{}",
                short(value / 10_f64.powi(e)),
                superscript(e)
            ));
        }
        minus(&format!("{:.*}", decimals(step), value))
    }
}

/// The least of 1, 2, 5 × 10ᵏ that is not below `step`.
fn round_step(step: f64) -> f64 {
    if !(step.is_finite() && step > 0.0) {
        return 1.0;
    }
    let power = 10_f64.powf(step.log10().floor());
    let factor = [1.0, 2.0, 5.0]
        .into_iter()
        .find(|f| f * power >= step * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

/// Decimals that tell multiples of `step` apart.
fn decimals(step: f64) -> usize {
    (-(step.log10() + 1e-9).floor()).clamp(0.0, 12.0) as usize
}

fn power(value: f64, m: i32, e: i32) -> String {
    match e {
        -3..=3 => short(value),
        _ if m == 1 => format!("10{}", superscript(e)),
        _ => format!("{m}×10{}", superscript(e)),
    }
}

fn short(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A true minus sign instead of a hyphen.
fn minus(text: &str) -> String {
    text.replace('-', "−")
}

fn superscript(e: i32) -> String {
    let raise = |c| match c {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        c => char::from_u32(c.to_digit(10).unwrap_or(0) + 0x2070).unwrap_or(c),
    };
    e.to_string().chars().map(raise).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis, ends: [f64; 2], most: usize) -> Vec<String> {
        axis.ticks(ends, most)
            .into_iter()
            .filter_map(|t| t.label)
            .collect()
    }

    #[test]
    fn linear_ticks_are_round_and_written_alike() {
        let axis = Axis::default();
        assert_eq!(
            labels(&axis, [0.0, 1.0], 5),
            ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
        );
        assert_eq!(
            labels(&axis, [-1.0, 1.0], 4),
            ["−1.0", "−0.5", "0.0", "0.5", "1.0"]
        );
        assert_eq!(
            labels(&axis, [0.0, 23_400.0], 5),
            ["0k", "5k", "10k", "15k", "20k"]
        );
        assert_eq!(
            labels(&axis, [0.0, 4e-5], 2),
            ["0.00000", "2×10⁻⁵", "4×10⁻⁵"]
        );
        let percent = Axis {
            percent: true,
            ..Axis::default()
        };
        assert_eq!(
            labels(&percent, [0.5, 1.0], 5),
            ["50 %", "60 %", "70 %", "80 %", "90 %", "100 %"]
        );
    }

    #[test]
    fn log_ticks_name_the_decades() {
        let axis = Axis {
            scale: Scale::Log,
            ..Axis::default()
        };
        assert_eq!(
            labels(&axis, [0.01, 1000.0], 6),
            ["0.01", "0.1", "1", "10", "100", "1000"]
        );
        assert_eq!(
            labels(&axis, [1e-5, 1e-4], 6),
            ["10⁻⁵", "2×10⁻⁵", "5×10⁻⁵", "10⁻⁴"]
        );
        assert_eq!(labels(&axis, [0.3, 8.0], 6), ["0.5", "1", "2", "5"]);
    }

    #[test]
    fn ends_survive_any_data() {
        for scale in [Scale::Linear, Scale::Log] {
            for data in [
                vec![],
                vec![f64::NAN],
                vec![0.0],
                vec![3.0],
                vec![-1.0, f64::INFINITY],
            ] {
                let axis = Axis {
                    scale,
                    ..Axis::default()
                };
                let [low, high] = axis.ends(data.iter().copied(), 0.05);
                assert!(
                    low < high && low.is_finite() && high.is_finite(),
                    "{scale:?} {data:?}"
                );
                assert!(axis.ticks([low, high], 5).len() < 100);
            }
        }
    }
}
