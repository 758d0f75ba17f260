//! Medians and spreads of repeated measurements.

use serde::Serialize;

/// What repetitions say about a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one; of an even number, the upper of the two in the middle.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of `values`; zeros of none.
    #[must_use]
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self {
            median: values.get(values.len() / 2).copied().unwrap_or_default(),
            min: values.first().copied().unwrap_or_default(),
            max: values.last().copied().unwrap_or_default(),
        }
    }
}

/// The middle value; zero of none.
pub(crate) fn median(values: Vec<f64>) -> f64 {
    Spread::of(values).median
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_does_not_mind_one_slow_round() {
        let spread = Spread::of(vec![2.0, 90.0, 1.0]);
        assert_eq!((spread.median, spread.min, spread.max), (2.0, 1.0, 90.0));
        assert_eq!(Spread::of(Vec::new()), Spread::default());
    }
}
