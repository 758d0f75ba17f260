//! One pass over the memory of all parameters: the fused step on the CPU backend (flex).
//!
//! θ, g and the slots are walked together in blocks. A block is copied to local arrays, the rule's
//! formula runs over it as a plain loop, and θ and the slots are written back; each byte crosses the
//! memory bus once. Because the arrays are local the compiler knows that they do not overlap and
//! vectorises the loop, for 256-bit instructions where the machine has them ([`pulp`] asks at run time).
//! Parameters, cut into chunks, are shared among rayon's threads: a thousand small ones as well as a
//! large one. θ and the slots change in place when nobody else holds them; a shared one is copied
//! first, so clones never see the change.
//!
//! The arithmetic is the same as one element at a time, so the result does not depend on the block
//! size, the instruction set or the number of threads. Sums are taken in f64, chunk by chunk in a
//! fixed order.

mod memory;
mod packed;
mod pass;
mod weight;

pub(crate) use gradus_kernels::resident::{Home, Resident};
pub(crate) use memory::{Values, both_here, flex_dtype, with_values};
pub(crate) use packed::Packed;
pub(crate) use weight::{copied, is_ours, settle, view, write};

use crate::execute::{Entry, Totals};
use crate::item::Weight;
use crate::{Rule, rule::MAX_SLOTS};
use burn::backend::DType;
use memory::{Element, flex, flex_mut, make_whole};
use pass::{Measure, Update};
use rayon::prelude::*;

/// Elements of one local array: small enough for the first-level cache with six slots.
const BLOCK: usize = 64;
/// Elements that one thread takes at a time; a multiple of the block.
const CHUNK: usize = 32 * 1024;
/// From this many elements on, more than one thread works.
const PARALLEL: usize = 2 * CHUNK;

/// Which entries this execution takes: those whose tensors are all untracked flex tensors of one
/// type, `f32` or `f64`. Their memory is brought in order, and missing slots are made.
pub(crate) fn prepare(slots: usize, entries: &mut [Entry<'_>]) -> Vec<bool> {
    let takes = |(item, state): &mut Entry<'_>| {
        let dtype = weight_dtype(&item.weight);
        let uniform =
            matches!(dtype, Some(DType::F32 | DType::F64)) && flex_dtype(&item.grad) == dtype;
        if uniform {
            make_whole(&mut item.grad);
            let dtype = dtype.unwrap_or(DType::F32);
            if !state
                .packed
                .as_ref()
                .is_some_and(|packed| packed.dtype() == dtype)
            {
                state.pack(slots, item, dtype);
            }
            if let Weight::Out(theta) = &mut item.weight {
                make_whole(theta);
                state.slots.iter_mut().for_each(make_whole);
            }
        }
        uniform
    };
    entries.iter_mut().map(takes).collect()
}

fn weight_dtype(weight: &Weight) -> Option<DType> {
    match weight {
        Weight::Out(theta) => flex_dtype(theta),
        Weight::In(resident) => Some(resident.dtype()),
    }
}

/// Calls `$run::<R, T, S>($arguments)` for the number type and the number of slots at hand, so that
/// both are constants inside and the slots of an element live in registers.
macro_rules! with_layout {
    ($rule:expr, $entries:expr, $fused:expr, $run:ident($($argument:expr),*)) => {
        for dtype in [DType::F32, DType::F64] {
            let taken = |index: usize, item: &crate::item::Item| {
                $fused[index] && weight_dtype(&item.weight) == Some(dtype)
            };
            if !$entries.iter().enumerate().any(|(index, (item, _))| taken(index, item)) {
                continue;
            }
            with_layout!(@ $rule, dtype, $run, taken, ($($argument),*), 0, 1, 2, 3, 4, 5, 6);
        }
    };
    (@ $rule:expr, $dtype:expr, $run:ident, $taken:expr, $arguments:tt, $($count:literal),*) => {
        match ($rule.slots().len(), $dtype) {
            $(
                ($count, DType::F32) if const { counts(R::SLOT_COUNTS, $count) } => {
                    with_layout!(call $run, f32, $count, $taken, $arguments)
                }
                ($count, _) if const { counts(R::SLOT_COUNTS, $count) } => {
                    with_layout!(call $run, f64, $count, $taken, $arguments)
                }
            )*
            (more, _) => unreachable!(
                "{} has {more} slots, which its SLOT_COUNTS {:?} do not list (at most {MAX_SLOTS})",
                R::NAME, R::SLOT_COUNTS
            ),
        }
    };
    (call $run:ident, $T:ty, $count:literal, $taken:expr, ($($argument:expr),*)) => {
        $run::<R, $T, $count>($($argument,)* &$taken)
    };
}

const fn counts(list: &[usize], count: usize) -> bool {
    let mut i = 0;
    while i < list.len() {
        if list[i] == count {
            return true;
        }
        i += 1;
    }
    false
}

/// The second pass: θ and slots of the entries taken.
pub(crate) fn update<R: Rule>(
    rule: &R,
    scalars: &[R::Scalars],
    entries: &mut [Entry<'_>],
    fused: &[bool],
) {
    with_layout!(rule, entries, fused, update_all(rule, scalars, entries));
}

/// The first pass of a rule with sums: the totals of the entries taken.
pub(crate) fn measure<R: Rule>(
    rule: &R,
    scalars: &[R::Scalars],
    entries: &mut [Entry<'_>],
    fused: &[bool],
    totals: &mut [Totals],
) {
    if const { R::SUMS.count > 0 } {
        with_layout!(
            rule,
            entries,
            fused,
            measure_all(rule, scalars, entries, totals)
        );
    }
}

/// A stretch of one parameter, or all of it.
struct Job<'a, K, T, const S: usize> {
    k: &'a K,
    theta: &'a mut [T],
    grad: &'a [T],
    slots: [&'a mut [T]; S],
    /// The entry, for sums.
    entry: usize,
}

/// All parameters taken, cut into chunks.
fn jobs<'a, R: Rule, T: Element, const S: usize>(
    scalars: &'a [R::Scalars],
    entries: &'a mut [Entry<'_>],
    taken: &impl Fn(usize, &crate::item::Item) -> bool,
) -> Vec<Job<'a, R::Scalars, T, S>> {
    let mut jobs = Vec::with_capacity(entries.len());
    for (entry, (item, state)) in entries.iter_mut().enumerate() {
        if !taken(entry, item) {
            continue;
        }
        let k = &scalars[entry];
        let item = &mut **item;
        let mut theta = match &mut item.weight {
            Weight::Out(theta) => T::memory_mut(flex_mut(theta)),
            Weight::In(resident) => resident.memory_mut(),
        };
        let mut grad = T::memory(flex(&item.grad));
        let mut slots = packed::slots_mut(&mut state.packed, &mut state.slots);
        while theta.len() > CHUNK {
            jobs.push(Job {
                k,
                theta: theta.split_off_mut(..CHUNK).unwrap_or_default(),
                grad: grad.split_off(..CHUNK).unwrap_or_default(),
                slots: slots
                    .each_mut()
                    .map(|slot| slot.split_off_mut(..CHUNK).unwrap_or_default()),
                entry,
            });
        }
        jobs.push(Job {
            k,
            theta,
            grad,
            slots,
            entry,
        });
    }
    jobs
}

/// Whether there is enough work to wake other threads for.
fn worth_sharing<K, T, const S: usize>(jobs: &[Job<'_, K, T, S>]) -> bool {
    jobs.len() > 1 && jobs.iter().map(|job| job.theta.len()).sum::<usize>() >= PARALLEL
}

/// The least number of jobs that a thread takes: small parameters are taken by the dozen.
fn batch(jobs: usize) -> usize {
    (jobs / (16 * rayon::current_num_threads())).max(1)
}

fn update_all<R: Rule, T: Element, const S: usize>(
    rule: &R,
    scalars: &[R::Scalars],
    entries: &mut [Entry<'_>],
    taken: &impl Fn(usize, &crate::item::Item) -> bool,
) {
    let jobs = jobs::<R, T, S>(scalars, entries, taken);
    if worth_sharing(&jobs) {
        let least = batch(jobs.len());
        jobs.into_par_iter()
            .with_min_len(least)
            .for_each(|job| T::dispatch(Update { rule, job }));
    } else {
        for job in jobs {
            T::dispatch(Update { rule, job });
        }
    }
}

fn measure_all<R: Rule, T: Element, const S: usize>(
    rule: &R,
    scalars: &[R::Scalars],
    entries: &mut [Entry<'_>],
    totals: &mut [Totals],
    taken: &impl Fn(usize, &crate::item::Item) -> bool,
) {
    let jobs = jobs::<R, T, S>(scalars, entries, taken);
    let of = |job: Job<'_, R::Scalars, T, S>| (job.entry, T::dispatch(Measure { rule, job }));
    let sums: Vec<(usize, Totals)> = if worth_sharing(&jobs) {
        let least = batch(jobs.len());
        jobs.into_par_iter().with_min_len(least).map(of).collect()
    } else {
        jobs.into_iter().map(of).collect()
    };
    for (entry, sums) in sums {
        for (total, sum) in totals[entry].iter_mut().zip(sums) {
            *total += sum;
        }
    }
}
