//! Several processes, or threads of one, that compute one thing together. Each is called a rank.
//!
//! ```text
//! rank r of R does the share [⌊n·r/R⌋, ⌊n·(r+1)/R⌋) of n items
//! sum:        every rank gets  x⁽⁰⁾ + x⁽¹⁾ + … + x⁽ᴿ⁻¹⁾, added in this order in f64
//! broadcast:  every rank gets the bytes of rank 0
//! ```
//!
//! The order makes a sum the same to the last bit on every rank and in every run, whatever algorithm
//! carries the messages. How they are carried is a [`Collective`]: threads of this process
//! ([`threads`]), or MPI (`gradus-train` with the feature `mpi`).
//!
//! All ranks must make the same calls in the same order, as with every collective operation.

mod threads;

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

pub use threads::threads;

/// What carries messages between ranks.
pub trait Collective: Send + Sync + fmt::Debug {
    /// The number of this rank, below [`size`](Self::size).
    fn rank(&self) -> usize;

    /// How many ranks there are; at least 1.
    fn size(&self) -> usize;

    /// Puts the sum over all ranks, added in the order of ranks in f64, in the place of `values`.
    ///
    /// # Errors
    /// When a rank is gone, or sums something else.
    fn sum_f32(&self, values: &mut [f32]) -> Result<(), RankError>;

    /// As [`sum_f32`](Self::sum_f32).
    ///
    /// # Errors
    /// As there.
    fn sum_f64(&self, values: &mut [f64]) -> Result<(), RankError>;

    /// The bytes of rank 0; those of the others are dropped.
    ///
    /// # Errors
    /// When a rank is gone, or does something else.
    fn broadcast(&self, bytes: Vec<u8>) -> Result<Vec<u8>, RankError>;

    /// Says that this rank will make no more calls: whoever waits for it, now or later, gets an error.
    fn leave(&self);
}

/// Why ranks could not do something together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RankError(pub String);

impl fmt::Display for RankError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RankError {}

/// The ranks of a computation, seen from one of them; by default there is this one alone.
///
/// ```
/// use gradus_core::ranks::Ranks;
/// let ranks = Ranks::alone();
/// let mut x = [1.0, 2.0];
/// ranks.sum(&mut x)?;
/// assert_eq!((x, ranks.share(10)), ([1.0, 2.0], 0..10));
/// # Ok::<(), gradus_core::ranks::RankError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Ranks(Option<Arc<dyn Collective>>);

thread_local! {
    static CURRENT: RefCell<Ranks> = const { RefCell::new(Ranks(None)) };
}

impl Ranks {
    /// One rank.
    #[must_use]
    pub fn alone() -> Self {
        Self(None)
    }

    /// The ranks of `collective`. If there is one, nothing is ever sent.
    #[must_use]
    pub fn new(collective: Arc<dyn Collective>) -> Self {
        Self((collective.size() > 1).then_some(collective))
    }

    /// The number of this rank.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.0.as_ref().map_or(0, |ranks| ranks.rank())
    }

    /// How many there are.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.as_ref().map_or(1, |ranks| ranks.size())
    }

    /// Whether there is only this one.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.0.is_none()
    }

    /// Whether this is rank 0, which speaks and writes for all.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// The part of `n` items that is this rank's. The shares are in the order of ranks and differ by at
    /// most one item; none is empty if n is at least the number of ranks.
    #[must_use]
    pub fn share(&self, n: usize) -> Range<usize> {
        let (rank, size) = (self.rank(), self.size());
        n * rank / size..n * (rank + 1) / size
    }

    /// Puts the sum over all ranks in the place of `values`.
    ///
    /// # Errors
    /// The engine's.
    pub fn sum(&self, values: &mut [f64]) -> Result<(), RankError> {
        self.0
            .as_ref()
            .map_or(Ok(()), |ranks| ranks.sum_f64(values))
    }

    /// As [`sum`](Self::sum), of numbers that travel as f32.
    ///
    /// # Errors
    /// The engine's.
    pub fn sum_f32(&self, values: &mut [f32]) -> Result<(), RankError> {
        self.0
            .as_ref()
            .map_or(Ok(()), |ranks| ranks.sum_f32(values))
    }

    /// What `bytes` gives on rank 0, the only one where it is called.
    ///
    /// # Errors
    /// That of `bytes`, and the engine's.
    pub fn from_first<E: From<RankError>>(
        &self,
        bytes: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Vec<u8>, E> {
        let bytes = match self.is_first() {
            true => bytes()?,
            false => Vec::new(),
        };
        match &self.0 {
            None => Ok(bytes),
            Some(ranks) => Ok(ranks.broadcast(bytes)?),
        }
    }

    /// The number that the lowest of the ranks with one has: how all decide together to stop.
    ///
    /// # Errors
    /// The engine's.
    pub fn agree(&self, mine: Option<i32>) -> Result<Option<i32>, RankError> {
        if self.is_alone() {
            return Ok(mine);
        }
        // Twice the places: a number may be 0.
        let mut said = vec![0.0; 2 * self.size()];
        if let Some(number) = mine {
            let at = 2 * self.rank();
            said[at..at + 2].copy_from_slice(&[1.0, f64::from(number)]);
        }
        self.sum(&mut said)?;
        let first = said.chunks_exact(2).find(|said| said[0] > 0.0);
        Ok(first.map(|said| said[1] as i32))
    }

    /// Says that this rank will make no more calls; see [`Collective::leave`].
    pub fn leave(&self) {
        if let Some(ranks) = &self.0 {
            ranks.leave();
        }
    }

    /// [Leaves](Self::leave) when the result is dropped: at the end of a scope, by an error or a panic.
    #[must_use]
    pub fn leaving(&self) -> Leaving {
        Leaving(self.clone())
    }

    /// Runs `f` as a computation of these ranks together: what looks at a batch as a whole inside it
    /// (batch normalisation) looks at the shares of all of them.
    pub fn during<R>(&self, f: impl FnOnce() -> R) -> R {
        /// Puts the former ranks back, even when `f` panics.
        struct Before(Ranks);
        impl Drop for Before {
            fn drop(&mut self) {
                CURRENT.set(std::mem::take(&mut self.0));
            }
        }
        let _before = Before(CURRENT.replace(self.clone()));
        f()
    }

    /// The ranks of the [`during`](Self::during) that this thread is in.
    #[must_use]
    pub fn current() -> Self {
        CURRENT.with_borrow(Clone::clone)
    }
}

/// See [`Ranks::leaving`].
#[derive(Debug)]
pub struct Leaving(Ranks);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A rank that has nobody to talk to.
    #[derive(Debug)]
    struct Silent(usize, usize);

    impl Collective for Silent {
        fn rank(&self) -> usize {
            self.0
        }
        fn size(&self) -> usize {
            self.1
        }
        fn sum_f32(&self, _: &mut [f32]) -> Result<(), RankError> {
            Err(RankError("silent".to_owned()))
        }
        fn sum_f64(&self, _: &mut [f64]) -> Result<(), RankError> {
            Err(RankError("silent".to_owned()))
        }
        fn broadcast(&self, _: Vec<u8>) -> Result<Vec<u8>, RankError> {
            Err(RankError("silent".to_owned()))
        }
        fn leave(&self) {}
    }

    #[test]
    fn shares_cover_everything_once_and_none_is_empty() {
        for size in 1..9 {
            for n in size..40 {
                let shares: Vec<_> = (0..size)
                    .map(|rank| Ranks::new(Arc::new(Silent(rank, size))).share(n))
                    .collect();
                assert_eq!(shares[0].start, 0);
                assert_eq!(shares[size - 1].end, n);
                assert!(shares.windows(2).all(|pair| pair[0].end == pair[1].start));
                let lengths = || shares.iter().map(ExactSizeIterator::len);
                assert!(lengths().min() >= Some(1));
                assert!(lengths().max() <= lengths().min().map(|least| least + 1));
            }
        }
    }

    #[test]
    fn one_rank_sends_nothing() {
        let ranks = Ranks::new(Arc::new(Silent(0, 1)));
        assert!(ranks.is_alone() && ranks.sum(&mut [1.0]).is_ok());
        assert_eq!(ranks.agree(Some(2)), Ok(Some(2)));
    }

    #[test]
    fn the_current_ranks_are_those_of_the_innermost_during() {
        let ranks = Ranks::new(Arc::new(Silent(1, 2)));
        assert!(Ranks::current().is_alone());
        let inside = ranks.during(|| {
            (
                Ranks::current().rank(),
                Ranks::alone().during(Ranks::current),
            )
        });
        assert!(inside.0 == 1 && inside.1.is_alone() && Ranks::current().is_alone());
    }
}
