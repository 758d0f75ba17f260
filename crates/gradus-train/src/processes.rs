//! Ranks that are processes, on one machine or many, through an MPI library.
//!
//! ```text
//! sum of n numbers over R ranks
//!   few     everyone gets all R·n of them and adds them up                                one message each
//!   many    rank r gets piece r from all, adds it up, and sends the sum to all            2·n·(R − 1)/R numbers
//! ```
//!
//! `MPI_Allreduce` may add in whatever order its algorithm has, another one for another size or library.
//! Here the messages alone are MPI's, the additions are ours: in the order of ranks, in f64.
//!
//! One thread makes all calls, as `MPI_THREAD_FUNNELED` asks, and holds the library from its beginning to
//! its end; the others send it what is to be done and wait for the answer.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use gradus_core::ranks::{Collective, RankError};
use mpi::Threading;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Equivalence, Root};

/// Numbers that are sent to everyone rather than in pieces.
const FEW: usize = 4096;

/// Bytes of a broadcast that travel at once; MPI counts in 32 bits.
const AT_ONCE: usize = 1 << 28;

/// The processes that `mpirun` started together.
///
/// It must be [ended](Self::end) or [aborted](Self::abort): a process that simply exits makes `mpirun` end
/// all others.
#[derive(Debug)]
pub struct Mpi {
    rank: usize,
    size: usize,
    calls: Mutex<Sender<Call>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

enum Call {
    SumF32(Vec<f32>, Sender<Vec<f32>>),
    SumF64(Vec<f64>, Sender<Vec<f64>>),
    Broadcast(Vec<u8>, Sender<Vec<u8>>),
    Abort(i32),
}

impl Mpi {
    /// Joins the others. Once in the life of a process.
    ///
    /// # Errors
    /// When MPI was begun before, or does not allow threads.
    pub fn join() -> Result<Self, RankError> {
        let (ready, begun) = channel();
        let (calls, received) = channel();
        let thread = std::thread::Builder::new()
            .name("mpi".to_owned())
            .spawn(move || serve(&ready, &received))
            .map_err(|error| RankError(format!("cannot start the thread for MPI: {error}")))?;
        let (rank, size) = begun
            .recv()
            .unwrap_or_else(|_| Err("its initialisation failed".to_owned()))
            .map_err(|problem| RankError(format!("MPI cannot be used: {problem}")))?;
        Ok(Self {
            rank,
            size,
            calls: Mutex::new(calls),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Takes leave in order; all ranks must do so.
    pub fn end(&self) {
        // The thread ends, and MPI with it, when there is nobody left to call.
        *self.calls.lock().unwrap_or_else(PoisonError::into_inner) = channel().0;
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // A panic in it has been told by whoever waited for an answer.
            let _ = thread.join();
        }
    }

    /// Ends all processes, this one with `code`.
    pub fn abort(&self, code: i32) -> ! {
        let sent = self.send(Call::Abort(code));
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let (Ok(()), Some(thread)) = (sent, thread) {
            let _ = thread.join();
        }
        // Where MPI is beyond reach, `mpirun` notices that a process ended without leave.
        std::process::exit(code)
    }

    fn send(&self, call: Call) -> Result<(), RankError> {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.send(call).map_err(|_| over())
    }

    fn ask<T>(&self, call: impl FnOnce(Sender<T>) -> Call) -> Result<T, RankError> {
        let (reply, answer) = channel();
        self.send(call(reply))?;
        answer.recv().map_err(|_| over())
    }
}

fn over() -> RankError {
    RankError("the connection by MPI has ended".to_owned())
}

impl Collective for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn sum_f32(&self, values: &mut [f32]) -> Result<(), RankError> {
        let sums = self.ask(|reply| Call::SumF32(values.to_vec(), reply))?;
        values.copy_from_slice(&sums);
        Ok(())
    }

    fn sum_f64(&self, values: &mut [f64]) -> Result<(), RankError> {
        let sums = self.ask(|reply| Call::SumF64(values.to_vec(), reply))?;
        values.copy_from_slice(&sums);
        Ok(())
    }

    fn broadcast(&self, bytes: Vec<u8>) -> Result<Vec<u8>, RankError> {
        self.ask(|reply| Call::Broadcast(bytes, reply))
    }

    /// Nothing: `mpirun` ends those who wait for a process that is gone, see [`abort`](Self::abort).
    fn leave(&self) {}
}

/// The life of the thread: begins MPI, does what it is asked, ends MPI.
fn serve(ready: &Sender<Result<(usize, usize), String>>, calls: &Receiver<Call>) {
    let Some((universe, threading)) = mpi::initialize_with_threading(Threading::Funneled) else {
        let _ = ready.send(Err("it was begun before in this process".to_owned()));
        return;
    };
    if threading < Threading::Funneled {
        let problem = format!("this library has no support for threads ({threading:?})");
        let _ = ready.send(Err(problem));
        return;
    }
    let world = universe.world();
    let _ = ready.send(Ok((world.rank() as usize, world.size() as usize)));
    for call in calls {
        // Whoever asked may be gone; the other ranks have got their part.
        let _ = match call {
            Call::SumF32(values, reply) => reply.send(sum(&world, values)).is_ok(),
            Call::SumF64(values, reply) => reply.send(sum(&world, values)).is_ok(),
            Call::Broadcast(bytes, reply) => reply.send(broadcast(&world, bytes)).is_ok(),
            Call::Abort(code) => world.abort(code),
        };
    }
}

/// A number that can be added up.
trait Number: Equivalence + Copy + Default {
    fn number(self) -> f64;
    fn of(sum: f64) -> Self;
}

impl Number for f32 {
    fn number(self) -> f64 {
        f64::from(self)
    }
    fn of(sum: f64) -> Self {
        sum as f32
    }
}

impl Number for f64 {
    fn number(self) -> f64 {
        self
    }
    fn of(sum: f64) -> Self {
        sum
    }
}

/// The sums of what lies `each` apart in `parts`, in that order.
fn add_up<T: Number>(parts: &[T], each: usize) -> Vec<T> {
    let mut sums = vec![0.0; each];
    for part in parts.chunks_exact(each.max(1)) {
        for (sum, value) in sums.iter_mut().zip(part) {
            *sum += value.number();
        }
    }
    sums.into_iter().map(T::of).collect()
}

fn sum<T: Number>(world: &SimpleCommunicator, mut values: Vec<T>) -> Vec<T> {
    let (count, size) = (values.len(), world.size() as usize);
    if count <= FEW {
        let mut all = vec![T::default(); count * size];
        world.all_gather_into(&values[..], &mut all[..]);
        return add_up(&all, count);
    }
    // In pieces of one length, the last ones filled up with zeros.
    let each = count.div_ceil(size);
    values.resize(each * size, T::default());
    let mut pieces = vec![T::default(); each * size];
    world.all_to_all_into(&values[..], &mut pieces[..]);
    let own = add_up(&pieces, each);
    world.all_gather_into(&own[..], &mut values[..]);
    values.truncate(count);
    values
}

fn broadcast(world: &SimpleCommunicator, mut bytes: Vec<u8>) -> Vec<u8> {
    let first = world.process_at_rank(0);
    let mut length = [bytes.len() as u64];
    first.broadcast_into(&mut length[..]);
    bytes.resize(length[0] as usize, 0);
    for part in bytes.chunks_mut(AT_ONCE) {
        first.broadcast_into(part);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_taken_in_the_order_of_ranks_in_f64() {
        // An f64 near 1e16 is even: 1e16 + 5 is 1e16 + 4, where 1e16 − 1e16 + 5 would be 5.
        assert_eq!(add_up(&[1e16, 1.0, 5.0, 2.0, -1e16, 3.0], 2), [4.0, 6.0]);
        assert_eq!(add_up(&[1.0f32, 3e-8, 3e-8], 1), [1.000_000_1]);
        assert!(add_up::<f64>(&[], 0).is_empty());
    }
}
