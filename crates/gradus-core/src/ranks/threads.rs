//! Ranks that are threads of this process: several devices in one machine, and every test.
//!
//! In a round each rank puts down what it has; when the last has done so, each takes what all have put
//! down and adds it up by itself, in the order of ranks.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::{Collective, RankError, Ranks};

/// `size` ranks that hear each other, one for each thread to take.
///
/// A rank that has [left](Ranks::leave) stays away: they serve one computation.
///
/// ```
/// use gradus_core::ranks;
/// let sums: Vec<f64> = std::thread::scope(|scope| {
///     let threads: Vec<_> = ranks::threads(3)
///         .into_iter()
///         .map(|rank| {
///             scope.spawn(move || {
///                 let mut x = [10.0 + rank.rank() as f64];
///                 rank.sum(&mut x).map(|()| x[0])
///             })
///         })
///         .collect();
///     threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect()
/// });
/// assert_eq!(sums, [33.0; 3]);
/// ```
#[must_use]
pub fn threads(size: usize) -> Vec<Ranks> {
    let meeting = Arc::new(Meeting {
        size,
        state: Mutex::new(State {
            given: vec![None; size],
            ..State::default()
        }),
        changed: Condvar::new(),
    });
    (0..size)
        .map(|rank| {
            Ranks::new(Arc::new(Thread {
                rank,
                meeting: Arc::clone(&meeting),
            }))
        })
        .collect()
}

#[derive(Debug)]
struct Thread {
    rank: usize,
    meeting: Arc<Meeting>,
}

#[derive(Debug)]
struct Meeting {
    size: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Rounds that are complete.
    round: u64,
    /// What each rank has put down in the round under way.
    given: Vec<Option<Message>>,
    /// What all have put down in the last complete round. Nobody can complete another before each rank
    /// has taken this.
    taken: Arc<Vec<Message>>,
    /// The first rank that left.
    gone: Option<usize>,
}

#[derive(Clone, Debug, PartialEq)]
enum Message {
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bytes(Vec<u8>),
}

impl Message {
    fn what(&self) -> String {
        match self {
            Self::F32(values) => format!("adds {} numbers of f32", values.len()),
            Self::F64(values) => format!("adds {} numbers of f64", values.len()),
            Self::Bytes(_) => "waits for the bytes of rank 0".to_owned(),
        }
    }
}

impl Meeting {
    /// A panic elsewhere cannot leave the state half written: each change is one move.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn exchange(&self, rank: usize, message: Message) -> Result<Arc<Vec<Message>>, RankError> {
        let mut state = self.lock();
        let round = state.round;
        state.given[rank] = Some(message);
        if state.given.iter().all(Option::is_some) {
            state.taken = Arc::new(state.given.iter_mut().filter_map(Option::take).collect());
            state.round += 1;
            self.changed.notify_all();
        }
        while state.round == round {
            if let Some(gone) = state.gone {
                return Err(RankError(format!(
                    "rank {gone} of {} has ended; without it the others cannot go on",
                    self.size
                )));
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        Ok(Arc::clone(&state.taken))
    }
}

impl Thread {
    fn exchange(&self, message: Message) -> Result<Arc<Vec<Message>>, RankError> {
        self.meeting.exchange(self.rank, message)
    }

    fn out_of_step(&self, mine: &str, other: usize, message: &Message) -> RankError {
        RankError(format!(
            "the ranks are out of step: rank {} {mine} where rank {other} {}; this is a bug",
            self.rank,
            message.what()
        ))
    }
}

/// The sum, element by element, in the order of ranks.
macro_rules! sum {
    ($rank:expr, $values:expr, $kind:ident) => {{
        let message = Message::$kind($values.to_vec());
        let mine = message.what();
        let all = $rank.exchange(message)?;
        let mut parts = Vec::with_capacity(all.len());
        for (other, message) in all.iter().enumerate() {
            match message {
                Message::$kind(part) if part.len() == $values.len() => parts.push(part),
                message => return Err($rank.out_of_step(&mine, other, message)),
            }
        }
        for (at, value) in $values.iter_mut().enumerate() {
            *value = parts.iter().map(|part| f64::from(part[at])).sum::<f64>() as _;
        }
        Ok(())
    }};
}

impl Collective for Thread {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.meeting.size
    }

    fn sum_f32(&self, values: &mut [f32]) -> Result<(), RankError> {
        sum!(self, values, F32)
    }

    fn sum_f64(&self, values: &mut [f64]) -> Result<(), RankError> {
        sum!(self, values, F64)
    }

    fn broadcast(&self, bytes: Vec<u8>) -> Result<Vec<u8>, RankError> {
        let all = self.exchange(Message::Bytes(bytes))?;
        match &all[0] {
            Message::Bytes(bytes) => Ok(bytes.clone()),
            message => Err(self.out_of_step("waits for the bytes of rank 0", 0, message)),
        }
    }

    fn leave(&self) {
        self.meeting.lock().gone.get_or_insert(self.rank);
        self.meeting.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn together<R: Send>(size: usize, f: impl Fn(&Ranks) -> R + Sync) -> Vec<R> {
        std::thread::scope(|scope| {
            let f = &f;
            let threads: Vec<_> = threads(size)
                .into_iter()
                .map(|rank| scope.spawn(move || f(&rank)))
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        })
    }

    #[test]
    fn many_rounds_add_up_in_the_order_of_ranks() {
        let found = together(4, |rank| {
            (0..500)
                .map(|round| {
                    // Not associative: (1e16 + 1) − 1e16 is 0, 1e16 − 1e16 + 1 is 1.
                    let mut x = [[1e16, 1.0, -1e16, f64::from(round)][rank.rank()]];
                    rank.sum(&mut x).unwrap();
                    x[0]
                })
                .collect::<Vec<_>>()
        });
        let expected: Vec<f64> = (0..500).map(f64::from).collect();
        assert!(found.iter().all(|sums| *sums == expected), "{found:?}");
    }

    #[test]
    fn f32_is_added_in_f64() {
        let found = together(3, |rank| {
            let mut x = [[1.0, 3e-8, 3e-8][rank.rank()]];
            rank.sum_f32(&mut x).unwrap();
            x[0]
        });
        assert_eq!(found, [1.000_000_1f32; 3]);
    }

    #[test]
    fn all_get_the_bytes_of_the_first_and_the_number_of_the_lowest() {
        let found = together(3, |rank| {
            let bytes = rank.from_first(|| Ok::<_, RankError>(vec![7, 8])).unwrap();
            let signal = (rank.rank() > 0).then_some(rank.rank() as i32 * 10);
            (
                bytes,
                rank.agree(signal).unwrap(),
                rank.agree(None).unwrap(),
            )
        });
        assert_eq!(found, vec![(vec![7, 8], Some(10), None); 3]);
    }

    #[test]
    fn a_rank_that_leaves_wakes_those_who_wait_for_it() {
        let found = together(3, |rank| {
            let mut x = [1.0];
            rank.sum(&mut x).unwrap();
            if rank.rank() == 1 {
                rank.leave();
                return Ok(());
            }
            rank.sum(&mut x)
        });
        assert!(found[1].is_ok());
        for other in [0, 2] {
            let error = found[other].clone().unwrap_err().to_string();
            assert!(error.contains("rank 1 of 3 has ended"), "{error}");
        }
    }

    #[test]
    fn ranks_that_do_different_things_are_told_so() {
        let found = together(2, |rank| match rank.rank() {
            0 => rank.sum(&mut [1.0, 2.0]),
            _ => rank.sum(&mut [1.0]),
        });
        let error = found[0].clone().unwrap_err().to_string();
        assert!(error.contains("out of step"), "{error}");
        assert!(
            error.contains("2 numbers") && error.contains("1 numbers"),
            "{error}"
        );
    }
}
