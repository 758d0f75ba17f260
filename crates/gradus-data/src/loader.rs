//! Batches, in order, whatever the number of worker threads.
//!
//! ```text
//! batch k  =  the images order[k·B .. (k+1)·B], augmented by (seed, epoch, image), normalised
//! worker w of W makes the batches k ≡ w (mod W) and sends them down its own bounded channel;
//! the caller takes from channel k mod W.
//! ```
//!
//! A batch depends on its number alone, so the bytes are the same with 0, 1 or 4 workers. One channel
//! per worker gives the order for free: no buffer of early arrivals that a slow worker could grow,
//! and at most [`PREFETCH`] finished batches wait per worker. Dropping the loader closes the channels,
//! which stops the workers at their next send, and waits for them. A worker that panics closes its
//! channel too: the caller meets the end of it and gets the panic's message as an error.

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, bounded};

use crate::{Augmentation, DataError, Images, Layout, Normalization};

/// Finished batches that may wait in each worker's channel.
pub const PREFETCH: usize = 2;

/// B images, ready for the device.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Augmented and normalised: `[B, C, H, W]` or `[B, H, W, C]`, as `layout` says.
    pub inputs: Vec<f32>,
    /// `[B, C, H, W]` as numbers, in either layout.
    pub shape: [usize; 4],
    /// The order of `inputs`.
    pub layout: Layout,
    /// `[B]` class numbers.
    pub labels: Vec<i32>,
    /// `[B]` positions of the images in their set.
    pub indices: Vec<u32>,
    /// Which batch of the epoch this is, from 0.
    pub number: usize,
}

/// What a [`Loader`] delivers.
///
/// | Field | Default | Range |
/// |---|---|---|
/// | `order` | (required) | positions below the number of images |
/// | `batch_size` | (required) | 1 … |
/// | `drop_last` | `false` | |
/// | `augmentation` | `None` | |
/// | `normalization` | (required) | one entry per channel |
/// | `workers` | 0 | 0 … 64; 0 makes batches in the calling thread |
/// | `first_batch` | 0 | any; past the end gives nothing |
/// | `layout` | channels first | |
#[derive(Clone, Debug)]
pub struct LoaderConfig {
    /// Positions of the images, in the order of the epoch: see [`epoch_order`](crate::epoch_order).
    pub order: Vec<u32>,
    /// Images per batch.
    pub batch_size: usize,
    /// Leave out a last batch of fewer than `batch_size` images.
    pub drop_last: bool,
    /// What to do to each image, with the seed and the epoch it depends on.
    pub augmentation: Option<(Augmentation, u64, u64)>,
    /// From bytes to inputs.
    pub normalization: Normalization,
    /// Threads that make batches; 0 = none, in the calling thread.
    pub workers: usize,
    /// The number of the first batch to deliver, to resume in the middle of an epoch.
    pub first_batch: usize,
    /// The order of a batch's inputs in memory.
    pub layout: Layout,
}

impl LoaderConfig {
    /// Every image of `order` once, no augmentation, in the calling thread.
    #[must_use]
    pub fn new(order: Vec<u32>, batch_size: usize, normalization: Normalization) -> Self {
        Self {
            order,
            batch_size,
            drop_last: false,
            augmentation: None,
            normalization,
            workers: 0,
            first_batch: 0,
            layout: Layout::default(),
        }
    }

    /// The number of batches in the whole epoch, `first_batch` aside.
    #[must_use]
    pub fn batches(&self) -> usize {
        match self.batch_size {
            0 => 0,
            size if self.drop_last => self.order.len() / size,
            size => self.order.len().div_ceil(size),
        }
    }

    /// The images of batch `number`.
    pub(crate) fn of(&self, number: usize) -> &[u32] {
        let start = number * self.batch_size;
        let end = (start + self.batch_size).min(self.order.len());
        &self.order[start..end]
    }

    /// The class numbers of batch `number`.
    pub(crate) fn labels(&self, images: &Images, number: usize) -> Vec<i32> {
        let label = |&index: &u32| i32::from(images.label(index as usize));
        self.of(number).iter().map(label).collect()
    }

    pub(crate) fn validate(&self, images: &Images) -> Result<(), DataError> {
        if self.batch_size == 0 {
            return Err(DataError::option("batch size", 0, "at least 1"));
        }
        if self.workers > 64 {
            return Err(DataError::option("workers", self.workers, "0 to 64"));
        }
        if let Some(index) = self
            .order
            .iter()
            .find(|&&index| index as usize >= images.len())
        {
            return Err(DataError::option(
                "image index",
                index,
                format!("below {}", images.len()),
            ));
        }
        self.normalization.validate(images.shape.channels)?;
        self.augmentation
            .map_or(Ok(()), |(a, ..)| a.validate(images.shape))
    }
}

/// An iterator over the batches of one epoch: as inputs, or as [`Places`](crate::Places) for a device that
/// holds the images.
///
/// ```
/// use gradus_data::{DataSpec, Loader, LoaderConfig, Normalization, OpenOptions, epoch_order};
/// # fn main() -> Result<(), gradus_data::DataError> {
/// let options = OpenOptions { shapes_train: 100, shapes_test: 10, ..OpenOptions::default() };
/// let data = "shapes".parse::<DataSpec>()?.open(&options)?;
/// let all: Vec<u32> = (0..100).collect();
/// let normalization = Normalization::measure(&data.train, &all)?;
/// let config = LoaderConfig { workers: 2, ..LoaderConfig::new(epoch_order(0, 0, &all), 32, normalization) };
/// for batch in Loader::new(data.train.into(), config)? {
///     let batch = batch?;
///     assert_eq!(batch.inputs.len(), batch.labels.len() * 3 * 32 * 32);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Loader<T = Batch> {
    source: Source<T>,
    next: usize,
    end: usize,
}

enum Source<T> {
    Here(Box<dyn Fn(usize) -> T + Send>),
    Workers {
        channels: Vec<Receiver<T>>,
        threads: Vec<Option<JoinHandle<()>>>,
        first: usize,
    },
}

impl<T> std::fmt::Debug for Source<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Here(_) => f.write_str("Here"),
            Self::Workers { channels, .. } => write!(f, "Workers({})", channels.len()),
        }
    }
}

impl Loader {
    /// Starts the workers.
    ///
    /// # Errors
    /// If a field of `config` is outside its range for these images, or a thread cannot be started.
    pub fn new(images: Arc<Images>, config: LoaderConfig) -> Result<Self, DataError> {
        config.validate(&images)?;
        let (first, end, workers) = (config.first_batch, config.batches(), config.workers);
        let table = config.normalization.table();
        let make = move |number| make_batch(&images, &config, &table, number);
        Self::start(first.min(end), end, workers, make)
    }
}

impl<T: Send + 'static> Loader<T> {
    /// Lets `workers` threads make the batches `first .. end`.
    pub(crate) fn start<F>(
        first: usize,
        end: usize,
        workers: usize,
        make: F,
    ) -> Result<Self, DataError>
    where
        F: Fn(usize) -> T + Send + Sync + 'static,
    {
        let workers = workers.min(end - first);
        if workers == 0 {
            return Ok(Self {
                source: Source::Here(Box::new(make)),
                next: first,
                end,
            });
        }
        let make = Arc::new(make);
        let (mut channels, mut threads) = (Vec::new(), Vec::new());
        for worker in 0..workers {
            let (sender, receiver) = bounded(PREFETCH);
            let make = Arc::clone(&make);
            let thread = std::thread::Builder::new()
                .name(format!("gradus-loader-{worker}"))
                .spawn(move || {
                    for number in (first + worker..end).step_by(workers) {
                        if sender.send(make(number)).is_err() {
                            break; // the loader was dropped
                        }
                    }
                })
                .map_err(|e| DataError::Worker {
                    batch: first,
                    problem: e.to_string(),
                })?;
            channels.push(receiver);
            threads.push(Some(thread));
        }
        Ok(Self {
            source: Source::Workers {
                channels,
                threads,
                first,
            },
            next: first,
            end,
        })
    }
}

impl<T> Iterator for Loader<T> {
    type Item = Result<T, DataError>;

    /// The next batch; after an error, nothing more.
    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.end {
            return None;
        }
        let number = self.next;
        self.next += 1;
        match &mut self.source {
            Source::Here(make) => Some(Ok(make(number))),
            Source::Workers {
                channels,
                threads,
                first,
            } => {
                let worker = (number - *first) % channels.len();
                if let Ok(batch) = channels[worker].recv() {
                    return Some(Ok(batch));
                }
                // The channel closed before its last batch: the worker has panicked.
                self.next = self.end;
                let problem = match threads[worker].take().map(JoinHandle::join) {
                    Some(Err(panic)) => panic_message(&*panic),
                    _ => "the thread ended early".to_owned(),
                };
                Some(Err(DataError::Worker {
                    batch: number,
                    problem,
                }))
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.end - self.next, Some(self.end - self.next))
    }
}

impl<T> ExactSizeIterator for Loader<T> {}
impl<T> std::iter::FusedIterator for Loader<T> {}

impl<T> Drop for Loader<T> {
    fn drop(&mut self) {
        if let Source::Workers {
            channels, threads, ..
        } = &mut self.source
        {
            channels.clear(); // every send now fails, so every worker ends
            for thread in threads.iter_mut().filter_map(Option::take) {
                let _ = thread.join(); // a panic nobody waited for has no one to be told
            }
        }
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}

fn make_batch(
    images: &Images,
    config: &LoaderConfig,
    table: &[[f32; 256]],
    number: usize,
) -> Batch {
    let indices = config.of(number).to_vec();
    let (shape, size) = (images.shape, images.shape.bytes());
    let mut inputs = vec![0.0; indices.len() * size];
    let (augmentation, seed, epoch) = config.augmentation.unwrap_or((Augmentation::none(), 0, 0));
    for (&index, out) in indices.iter().zip(inputs.chunks_exact_mut(size)) {
        let choice = augmentation.choose(shape, seed, epoch, index);
        let pixels = images.image(index as usize);
        augmentation.apply(choice, shape, pixels, table, config.layout, out);
    }
    Batch {
        shape: [indices.len(), shape.channels, shape.height, shape.width],
        layout: config.layout,
        labels: config.labels(images, number),
        inputs,
        indices,
        number,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    fn empty(number: usize) -> Batch {
        Batch {
            inputs: vec![],
            shape: [0; 4],
            layout: Layout::default(),
            labels: vec![],
            indices: vec![],
            number,
        }
    }

    #[test]
    fn a_panicking_worker_is_an_error_that_names_the_batch() {
        for workers in [1, 3] {
            let loader = Loader::start(2, 20, workers, |number| {
                assert!(number != 9, "the disc is on fire");
                empty(number)
            })
            .unwrap();
            let results: Vec<_> = loader.collect();
            assert_eq!(results.len(), 8); // batches 2..9, then the error, then nothing
            assert!(
                results[..7]
                    .iter()
                    .zip(2..)
                    .all(|(r, n)| r.as_ref().unwrap().number == n)
            );
            assert_eq!(
                results[7].as_ref().unwrap_err().to_string(),
                "loader worker failed while making batch 9: the disc is on fire"
            );
        }
    }

    #[test]
    fn dropping_early_stops_the_workers() {
        let made = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&made);
        let mut loader = Loader::start(0, 1_000_000, 4, move |number| {
            counter.fetch_add(1, Ordering::SeqCst);
            empty(number)
        })
        .unwrap();
        assert_eq!(loader.next().unwrap().unwrap().number, 0);
        let start = Instant::now();
        drop(loader);
        assert!(start.elapsed() < Duration::from_secs(2));
        assert_eq!(Arc::strong_count(&made), 1); // every thread has ended and let go of the closure
        // One taken, and per worker at most PREFETCH waiting, one being sent, one being made.
        assert!(made.load(Ordering::SeqCst) <= 1 + 4 * (PREFETCH + 2));
    }

    #[test]
    fn a_slow_worker_does_not_change_the_order() {
        let loader = Loader::start(0, 24, 3, |number| {
            std::thread::sleep(Duration::from_millis(if number % 3 == 1 { 4 } else { 0 }));
            empty(number)
        })
        .unwrap();
        assert_eq!(loader.len(), 24);
        let numbers: Vec<usize> = loader.map(|batch| batch.unwrap().number).collect();
        assert_eq!(numbers, (0..24).collect::<Vec<_>>());
    }
}
