//! What each operation computes: every result, shown to whoever listens, who may replace it.
//!
//! ```text
//! nobody listens   one reading of a thread's flag, nothing else
//! somebody does    each result is brought to the host, shown, and goes on as it was or as it is answered
//! ```
//!
//! What an operation is given is shown too, before it computes: it may come from operations of Burn's own
//! (reshape, add), which are not shown themselves.
//!
//! `gradus parity` listens on one device after another. An operation is named as in
//! [`profile`](crate::profile), and numbered by its forward call: the gradients of the n-th call carry n,
//! in whatever order the tape runs them.
//!
//! On request a result comes with its [`Terms`]: how much was added up for each element, which is what
//! rounding is in proportion to.
//!
//! ```
//! use std::{cell::RefCell, rc::Rc};
//! use burn::tensor::{Device, Tensor};
//! use gradus_kernels::{Act, activation, trace::{self, Listener, Seen}};
//!
//! struct Names(Vec<&'static str>);
//! impl Listener for Names {
//!     fn hear(&mut self, seen: Seen) -> Option<Vec<f64>> {
//!         if seen.entering {
//!             return None;
//!         }
//!         self.0.push(seen.operation);
//!         Some(vec![7.0; seen.values.len()])
//!     }
//! }
//! let names = Rc::new(RefCell::new(Names(Vec::new())));
//! let x = Tensor::<1>::ones([2], &Device::flex());
//! let y = trace::listening(names.clone(), || activation(x, Act::Relu));
//! assert_eq!(names.borrow().0, ["activation"]);
//! assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [7.0, 7.0]);
//! ```

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{TensorData, try_read_sync};

use crate::kernels::Kernels;

/// Hears what operations compute.
pub trait Listener {
    /// A result, or what an operation is given. What is answered takes its place; `None` leaves it as
    /// it is.
    fn hear(&mut self, seen: Seen) -> Option<Vec<f64>>;

    /// Whether results come with their terms, which cost about as much as the operation itself.
    fn wants_terms(&self) -> bool {
        false
    }
}

/// One result of an operation, or what it is given.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The operation, such as `conv2d_weight_gradient`.
    pub operation: &'static str,
    /// Whether this is what the operation is given, before it computes, rather than its result. Images
    /// and gradients are shown so, weights are not.
    pub entering: bool,
    /// The forward call that it is, or is the gradient of, from 0.
    pub call: u64,
    /// Which of its results: `output`, `weight`, `mean`, …; of what it is given, `x` or `dy`.
    pub output: &'static str,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its numbers, in the order of the shape; all NaN if the device could not deliver them.
    pub values: Vec<f64>,
    /// How much was added up, if the listener [wants](Listener::wants_terms) it.
    pub terms: Option<Terms>,
}

/// How large a result's rounding may be.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// For each element the sum of the absolute values of what was added up, `Σ|tᵢ|`.
    pub sums: Vec<f64>,
    /// How many there were, n. Computed with unit roundoff u in whatever order, an element errs by at most
    /// `n·u·Σ|tᵢ|` and probably by less than a few times `√n·u·Σ|tᵢ|` (Higham & Mary, "A new approach to
    /// probabilistic rounding error analysis", SIAM J. Sci. Comput. 41, 2019).
    pub count: usize,
}

/// What operations of Burn's own are taken to have added up: a normalisation over groups, say.
const ELSEWHERE: usize = 4096;

thread_local! {
    static ON: Cell<bool> = const { Cell::new(false) };
    static CALLS: Cell<u64> = const { Cell::new(0) };
    static LISTENER: RefCell<Option<Rc<RefCell<dyn Listener>>>> = const { RefCell::new(None) };
}

/// Whether somebody listens on this thread.
#[must_use]
pub fn is_listening() -> bool {
    ON.get()
}

/// Runs `run` with `listener` hearing every operation of this thread; calls are counted from 0. Who
/// listened before hears nothing meanwhile.
pub fn listening<T>(listener: Rc<RefCell<dyn Listener>>, run: impl FnOnce() -> T) -> T {
    /// Puts back what was there, also when `run` panics.
    struct Before(bool, u64, Option<Rc<RefCell<dyn Listener>>>);
    impl Drop for Before {
        fn drop(&mut self) {
            ON.set(self.0);
            CALLS.set(self.1);
            LISTENER.set(self.2.take());
        }
    }
    let _before = Before(
        ON.replace(true),
        CALLS.replace(0),
        LISTENER.replace(Some(listener)),
    );
    run()
}

/// The number of a forward call; none while nobody listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call(Option<u64>);

impl Call {
    /// The next.
    pub(crate) fn next() -> Self {
        if !is_listening() {
            return Self(None);
        }
        let number = CALLS.get();
        CALLS.set(number + 1);
        Self(Some(number))
    }

    /// Whether its results are to be shown: a tape may be run back when nobody listens any more.
    pub(crate) fn is_heard(self) -> bool {
        self.0.is_some() && is_listening()
    }

    /// Shows a result, and gives what the run goes on with. `terms` are `Σ|tᵢ|`, of the result's shape,
    /// and n.
    pub(crate) fn show<B: Kernels>(
        self,
        operation: &'static str,
        output: &'static str,
        tensor: FloatTensor<B>,
        terms: impl FnOnce() -> (FloatTensor<B>, usize),
    ) -> FloatTensor<B> {
        self.tell::<B>(operation, false, output, tensor, terms)
    }

    /// Shows what an operation is given, and gives what it computes with.
    pub(crate) fn enter<B: Kernels>(
        self,
        operation: &'static str,
        name: &'static str,
        tensor: FloatTensor<B>,
    ) -> FloatTensor<B> {
        let like = tensor.clone();
        self.tell::<B>(operation, true, name, tensor, || {
            (B::float_abs(like), ELSEWHERE)
        })
    }

    fn tell<B: Kernels>(
        self,
        operation: &'static str,
        entering: bool,
        output: &'static str,
        tensor: FloatTensor<B>,
        terms: impl FnOnce() -> (FloatTensor<B>, usize),
    ) -> FloatTensor<B> {
        let listener = LISTENER.with_borrow(Clone::clone);
        let (Some(call), Some(listener)) = (self.0.filter(|_| is_listening()), listener) else {
            return tensor;
        };
        let shape = tensor.shape().to_vec();
        let wanted = listener.borrow().wants_terms();
        let terms = wanted.then(|| {
            let (sums, count) = terms();
            let sums = numbers::<B>(sums);
            Terms { sums, count }
        });
        let seen = Seen {
            operation,
            entering,
            call,
            output,
            shape: shape.clone(),
            values: numbers::<B>(tensor.clone()),
            terms,
        };
        let Some(values) = listener.borrow_mut().hear(seen) else {
            return tensor;
        };
        let data = TensorData::new(values, shape).convert_dtype(tensor.dtype());
        B::in_order(B::float_from_data(data, &tensor.device()))
    }
}

/// The numbers of a tensor, or NaN where the device fails.
fn numbers<B: Kernels>(tensor: FloatTensor<B>) -> Vec<f64> {
    let len = tensor.shape().num_elements();
    match try_read_sync(B::float_into_data(tensor)) {
        Some(Ok(data)) => data.iter::<f64>().collect(),
        _ => vec![f64::NAN; len],
    }
}
