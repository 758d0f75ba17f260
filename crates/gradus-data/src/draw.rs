//! Random numbers whose values never change between versions of a dependency.
//!
//! `rand`'s distributions may be improved in a new release, and a saved run would then resume to
//! other batches. These few lines use nothing but the 64-bit words of the stream and IEEE
//! arithmetic without transcendental functions, so that every platform draws the same bits.

use gradus_core::random::ChaCha8Rng;
use rand::Rng;

/// An integer below `n`: ⌊u·n / 2⁶⁴⌋ for a 64-bit u (Lemire, 2019, without the rejection step: the
/// bias is below n / 2⁶⁴). 0 if `n` is 0.
pub(crate) fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}

/// A fair coin.
pub(crate) fn coin(rng: &mut ChaCha8Rng) -> bool {
    rng.next_u64() >> 63 == 1
}

/// A number in [0, 1) with 53 random bits.
pub(crate) fn unit(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// A number in [low, high).
pub(crate) fn between(rng: &mut ChaCha8Rng, low: f64, high: f64) -> f64 {
    low + (high - low) * unit(rng)
}

/// A uniformly random order of `items` in place (Fisher and Yates, 1938; Durstenfeld, 1964).
pub(crate) fn shuffle<T>(rng: &mut ChaCha8Rng, items: &mut [T]) {
    for last in (1..items.len()).rev() {
        items.swap(last, below(rng, last + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gradus_core::random::{Purpose, stream};

    #[test]
    fn integers_are_uniform() {
        // 70,000 draws over 7 values: each count is binomial, σ = √(n·p·(1−p)) ≈ 92.6.
        let mut rng = stream(1, Purpose::Order, 0, 0);
        let mut counts = [0i64; 7];
        for _ in 0..70_000 {
            counts[below(&mut rng, 7)] += 1;
        }
        assert!(
            counts.iter().all(|c| (c - 10_000).abs() < 4 * 93),
            "{counts:?}"
        );
    }

    #[test]
    fn every_permutation_of_four_is_equally_likely() {
        // 24,000 shuffles over 4! = 24 orders: expected 1,000 each, σ ≈ 31.
        let mut rng = stream(2, Purpose::Order, 0, 0);
        let mut counts = std::collections::HashMap::<[u8; 4], i64>::new();
        for _ in 0..24_000 {
            let mut items = [0, 1, 2, 3];
            shuffle(&mut rng, &mut items);
            *counts.entry(items).or_default() += 1;
        }
        assert_eq!(counts.len(), 24);
        assert!(
            counts.values().all(|c| (c - 1_000).abs() < 4 * 31),
            "{counts:?}"
        );
    }

    #[test]
    fn the_unit_interval_is_half_open() {
        let mut rng = stream(3, Purpose::Order, 0, 0);
        let draws: Vec<f64> = (0..10_000).map(|_| unit(&mut rng)).collect();
        assert!(draws.iter().all(|u| (0.0..1.0).contains(u)));
        let mean = draws.iter().sum::<f64>() / 1e4;
        assert!((mean - 0.5).abs() < 4.0 / (12.0f64 * 1e4).sqrt(), "{mean}");
    }
}
