//! What waits to be used again, by size; see the [module above](super).

use std::collections::BTreeMap;

use super::{Memory, Usage};

/// Requests after which the classes look back.
const WINDOW: u64 = 4096;

/// The buffers of one size.
#[derive(Default)]
pub(super) struct Class {
    /// Those that wait, the last one used on top.
    idle: Vec<Memory>,
    pub(super) in_use: usize,
    /// The most in use at once in this window and in the one before.
    most: [usize; 2],
}

pub(super) struct Pool {
    classes: BTreeMap<usize, Class>,
    pub(super) usage: Usage,
}

impl Pool {
    pub(super) const fn new() -> Self {
        Self {
            classes: BTreeMap::new(),
            usage: Usage {
                in_use: 0,
                held: 0,
                peak: 0,
                fresh: 0,
                requests: 0,
            },
        }
    }

    /// Memory of this class, with whatever is in it; all of it was written once.
    pub(super) fn take(&mut self, size: usize) -> Memory {
        self.usage.requests += 1;
        if self.usage.requests.is_multiple_of(WINDOW) {
            self.look_back();
        }
        let class = self.classes.entry(size).or_default();
        class.in_use += 1;
        class.most[0] = class.most[0].max(class.in_use);
        self.usage.in_use += size;
        if let Some(memory) = class.idle.pop() {
            return memory;
        }
        let usage = &mut self.usage;
        usage.fresh += 1;
        usage.held += size;
        usage.peak = usage.peak.max(usage.held);
        Memory::cleared(size)
    }

    /// It waits until somebody takes it.
    pub(super) fn give(&mut self, memory: Memory) {
        self.usage.in_use -= memory.size();
        let class = self.classes.entry(memory.size()).or_default();
        class.in_use -= 1;
        class.idle.push(memory);
    }

    /// A window ends.
    fn look_back(&mut self) {
        self.release(|class| class.most[0].max(class.most[1]));
        for class in self.classes.values_mut() {
            class.most = [class.in_use, class.most[0]];
        }
    }

    /// Keep of each class only so many, counting those in use.
    pub(super) fn release(&mut self, keep: impl Fn(&Class) -> usize) {
        for (size, class) in &mut self.classes {
            let idle = keep(class).saturating_sub(class.in_use);
            while class.idle.len() > idle {
                if let Some(memory) = class.idle.pop() {
                    // SAFETY: it waited in the pool, so no buffer owns it, and here it is forgotten.
                    unsafe { memory.free() };
                    self.usage.held -= size;
                }
            }
        }
        self.classes
            .retain(|_, class| class.in_use > 0 || !class.idle.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::super::class_of;
    use super::*;

    #[test]
    fn the_second_step_takes_nothing_fresh() {
        let mut pool = Pool::new();
        let sizes = [5000, 7000, 5000, 100_000];
        for step in 0..3 {
            let taken: Vec<Memory> = sizes
                .iter()
                .map(|s| pool.take(class_of(*s).unwrap()))
                .collect();
            let total: usize = sizes.iter().filter_map(|s| class_of(*s)).sum();
            assert_eq!((pool.usage.in_use, pool.usage.held), (total, total));
            taken.into_iter().for_each(|memory| pool.give(memory));
            assert_eq!((pool.usage.in_use, pool.usage.held), (0, total), "{step}");
            assert_eq!(pool.usage.fresh, 4);
        }
        pool.release(|class| class.in_use);
        assert_eq!((pool.usage.held, pool.classes.len()), (0, 0));
    }

    #[test]
    fn what_is_no_longer_needed_goes_back() {
        let mut pool = Pool::new();
        let big = 1 << 20;
        let many: Vec<Memory> = (0..8).map(|_| pool.take(big)).collect();
        many.into_iter().for_each(|memory| pool.give(memory));
        assert_eq!(pool.usage.held, 8 * big);
        // Two at once from now on: in the third window that is all that is remembered.
        for _ in 0..3 * WINDOW {
            let pair = [pool.take(big), pool.take(big)];
            pair.into_iter().for_each(|memory| pool.give(memory));
        }
        assert_eq!((pool.usage.held, pool.usage.fresh), (2 * big, 8));
        pool.release(|_| 0);
        assert_eq!(pool.usage.held, 0);
    }

    /// Images of every size, one at a time. An octave of classes up to, not including, 2ᵏ sums up to
    /// (4 + 5 + 6 + 7)/8·2ᵏ and all below to as much again, so with the largest, 2ᵏ, it is 6.5·2ᵏ; where the
    /// largest lies inside an octave, it is less.
    #[test]
    fn sizes_that_all_differ_hold_a_bounded_multiple_of_the_largest() {
        let mut pool = Pool::new();
        let mut largest = 0;
        for i in 0..3000_usize {
            let size = class_of(400 * (1 + i * 7919 % 5003)).unwrap();
            largest = largest.max(size);
            let memory = pool.take(size);
            pool.give(memory);
        }
        assert!(
            pool.usage.held > 3 * largest,
            "{} {largest}",
            pool.usage.held
        );
        assert!(
            2 * pool.usage.held <= 13 * largest,
            "{} {largest}",
            pool.usage.held
        );
        pool.release(|_| 0);
    }
}
