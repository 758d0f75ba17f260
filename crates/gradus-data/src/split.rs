//! Which images train and which validate, and in what order an epoch visits them.
//!
//! ```text
//! class k with n members, shuffled by (seed, k):  the first min(round(fraction·n), n − 1) validate
//! ```
//!
//! Stratified, so that a class is as common in the validation part as in the whole; and every class
//! keeps at least one image to learn from.

use gradus_core::random::{Purpose, stream};

use crate::DataError;
use crate::draw::shuffle;

/// A partition of a training set, as positions in it, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Positions to train on.
    pub train: Vec<u32>,
    /// Positions to validate on; empty for the fraction 0.
    pub validation: Vec<u32>,
}

impl Split {
    /// Sets aside `fraction` of each class for validation.
    ///
    /// It is a function of its arguments alone. A class of one image gives none to validation.
    ///
    /// # Errors
    /// If `fraction` is outside [0, 1), a label is not below `classes`, or there are 2³² images.
    pub fn stratified(
        labels: &[u16],
        classes: usize,
        seed: u64,
        fraction: f64,
    ) -> Result<Self, DataError> {
        if !(0.0..1.0).contains(&fraction) {
            return Err(DataError::option(
                "validation fraction",
                fraction,
                "0 ≤ fraction < 1",
            ));
        }
        let count = u32::try_from(labels.len())
            .map_err(|_| DataError::option("images", labels.len(), "fewer than 2³²"))?;
        let mut members = vec![Vec::new(); classes];
        for (position, &label) in (0..count).zip(labels) {
            members
                .get_mut(usize::from(label))
                .ok_or_else(|| DataError::option("label", label, format!("below {classes}")))?
                .push(position);
        }
        let (mut train, mut validation) = (Vec::new(), Vec::new());
        for (class, mut positions) in members.into_iter().enumerate() {
            shuffle(
                &mut stream(seed, Purpose::Split, 0, class as u64),
                &mut positions,
            );
            let wanted = (fraction * positions.len() as f64).round() as usize;
            let taken = wanted.min(positions.len().saturating_sub(1));
            validation.extend_from_slice(&positions[..taken]);
            train.extend_from_slice(&positions[taken..]);
        }
        train.sort_unstable();
        validation.sort_unstable();
        Ok(Self { train, validation })
    }
}

/// The order in which epoch `epoch` visits `indices`: a permutation that depends on nothing else.
#[must_use]
pub fn epoch_order(seed: u64, epoch: u64, indices: &[u32]) -> Vec<u32> {
    let mut order = indices.to_vec();
    shuffle(&mut stream(seed, Purpose::Order, epoch, 0), &mut order);
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_tenth_of_each_class_validates() {
        let labels: Vec<u16> = (0..1000).map(|i| i % 10).collect();
        let split = Split::stratified(&labels, 10, 7, 0.1).unwrap();
        assert_eq!((split.train.len(), split.validation.len()), (900, 100));
        let mut counts = [0; 10];
        for &i in &split.validation {
            counts[usize::from(labels[i as usize])] += 1;
        }
        assert_eq!(counts, [10; 10]);
        assert_ne!(split, Split::stratified(&labels, 10, 8, 0.1).unwrap());
    }

    #[test]
    fn fractions_outside_the_range_are_refused_by_name() {
        for fraction in [-0.1, 1.0, 1.5, f64::NAN, f64::INFINITY] {
            let error = Split::stratified(&[0, 1], 2, 0, fraction).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("validation fraction = {fraction}: expected 0 ≤ fraction < 1")
            );
        }
        let error = Split::stratified(&[0, 5], 2, 0, 0.5).unwrap_err();
        assert_eq!(error.to_string(), "label = 5: expected below 2");
    }

    #[test]
    fn an_order_is_pinned() {
        // Had this changed, a run saved by an earlier version would resume to other batches.
        assert_eq!(
            epoch_order(42, 3, &[0, 1, 2, 3, 4, 5, 6, 7]),
            [7, 3, 1, 5, 2, 0, 6, 4]
        );
    }

    proptest! {
        #[test]
        fn a_split_is_a_partition_and_no_class_is_emptied(
            labels in proptest::collection::vec(0u16..7, 1..300), seed: u64, fraction in 0.0..0.999
        ) {
            let split = Split::stratified(&labels, 7, seed, fraction).unwrap();
            let mut all = [split.train.clone(), split.validation.clone()].concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..labels.len() as u32).collect::<Vec<_>>());
            for class in labels.iter().collect::<std::collections::HashSet<_>>() {
                prop_assert!(split.train.iter().any(|&i| labels[i as usize] == *class));
            }
        }

        #[test]
        fn an_epoch_order_is_a_permutation(seed: u64, epoch: u64, n in 0u32..500) {
            let indices: Vec<u32> = (0..n).map(|i| 3 * i + 1).collect();
            let mut order = epoch_order(seed, epoch, &indices);
            prop_assert_eq!(&order, &epoch_order(seed, epoch, &indices));
            order.sort_unstable();
            prop_assert_eq!(order, indices);
        }
    }
}
