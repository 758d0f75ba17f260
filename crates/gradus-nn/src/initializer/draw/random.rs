//! Random numbers whose values never change between versions of a dependency.
//!
//! `rand`'s distributions may be improved in a new release, and a seed would then give other weights.
//! These functions use nothing but the 64-bit words w of the stream, so a seed means the same weights
//! for good:
//!
//! ```text
//! unit    u = ⌊w/2¹¹⌋·2⁻⁵³                                     one word
//! below   ⌊w·n/2⁶⁴⌋, drawn again if (w·n mod 2⁶⁴) < (2⁶⁴ mod n)   one word, rarely more
//! normal  √(−2·ln(1 − u₁))·cos(2π·u₂)                           two words
//! ```

use gradus_core::random::ChaCha8Rng;
use rand::Rng;

/// A number in [0, 1) with 53 random bits.
pub(super) fn unit(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// An integer below `n`, each equally likely (D. Lemire, "Fast random integer generation in an
/// interval", 2019). 0 if `n` is 0.
pub(super) fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    let n = n.max(1) as u64;
    // 2⁶⁴ mod n: as many of the 2⁶⁴ words are too many for equal shares.
    let surplus = n.wrapping_neg() % n;
    loop {
        let wide = u128::from(rng.next_u64()) * u128::from(n);
        if wide as u64 >= surplus {
            return (wide >> 64) as usize;
        }
    }
}

/// A normal number of mean 0 and standard deviation 1 (G. Box, M. Muller, 1958). The second number of
/// the pair, with sin in place of cos, is not used: a function of two words is easier to replay than
/// one that remembers.
pub(super) fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - unit(rng)).ln()).sqrt(); // 1 − u > 0, so the logarithm is finite
    let angle = std::f64::consts::TAU * unit(rng);
    radius * angle.cos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use gradus_core::random::{Purpose, stream};

    /// Had any of these changed, saved seeds would mean other networks.
    #[test]
    fn the_values_are_pinned() {
        let rng = &mut stream(42, Purpose::Init, 0, 0);
        let units: Vec<f64> = (0..4).map(|_| unit(rng)).collect();
        assert_eq!(units, UNITS);
        let rng = &mut stream(42, Purpose::Init, 0, 0);
        let integers: Vec<usize> = (0..8).map(|_| below(rng, 1000)).collect();
        assert_eq!(integers, INTEGERS);
        let rng = &mut stream(42, Purpose::Init, 0, 0);
        for expected in NORMALS {
            let found = normal(rng);
            // ln and cos of another system's library may differ in the last bits.
            assert!((found - expected).abs() < 1e-14, "{found} and {expected}");
        }
    }

    const UNITS: [f64; 4] = [
        0.073_427_386_624_751_79,
        0.139_464_742_482_706_68,
        0.539_339_779_054_759_2,
        0.688_049_458_748_641,
    ];
    const INTEGERS: [usize; 8] = [73, 139, 539, 688, 334, 19, 354, 838];
    const NORMALS: [f64; 4] = [
        0.249_953_642_060_333_96,
        -0.472_492_054_898_274_17,
        0.896_340_030_397_974_6,
        0.494_668_250_645_480_7,
    ];

    #[test]
    fn integers_are_uniform() {
        // 70,000 draws over 7 values: each count is binomial, σ = √(n·p·(1 − p)) ≈ 92.6.
        let rng = &mut stream(1, Purpose::Init, 0, 0);
        let mut counts = [0i64; 7];
        for _ in 0..70_000 {
            counts[below(rng, 7)] += 1;
        }
        assert!(
            counts.iter().all(|c| (c - 10_000).abs() < 4 * 93),
            "{counts:?}"
        );
        assert_eq!((below(rng, 0), below(rng, 1)), (0, 0));
    }

    #[test]
    fn normal_numbers_have_the_moments_and_tails_of_the_normal_distribution() {
        let rng = &mut stream(2, Purpose::Init, 0, 0);
        let n = 200_000;
        let draws: Vec<f64> = (0..n).map(|_| normal(rng)).collect();
        let n = f64::from(n);
        let moment = |k: i32| draws.iter().map(|z| z.powi(k)).sum::<f64>() / n;
        // E z, z², z³, z⁴ are 0, 1, 0, 3; the variance of zᵏ is E z²ᵏ − (E zᵏ)²: 1, 2, 15, 96.
        for (k, mean, variance) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)] {
            let found = moment(k);
            let error = f64::sqrt(variance / n);
            assert!((found - mean).abs() < 4.0 * error, "moment {k}: {found}");
        }
        // P(|z| > 2) = 0.0455003.
        let beyond = draws.iter().filter(|z| z.abs() > 2.0).count() as f64 / n;
        let error = (0.045_500_3 * 0.954_5 / n).sqrt();
        assert!((beyond - 0.045_500_3).abs() < 4.0 * error, "{beyond}");
    }
}
