//! The linear layer y = f(x·W + b) and its gradients.
//!
//! ```text
//! z = x·W + b,  y = f(z)                  x [N, C]   W [C, K]   b [K]   y, z [N, K]
//! dz = dy·f′(z),  dx = dz·Wᵀ,  dW = xᵀ·dz,  db = Σ over N of dz
//! ```
//!
//! The products are those of the `gemm` crate, cut along the longer side of the result into pieces that
//! the shape alone decides, each by one thread: every number is summed in the same order at any number
//! of threads.

use gemm::Parallelism;
use rayon::prelude::*;

use super::activation::{Act, Function, act_backward, with_function};
use super::pieces::{Itself, Rows, Step, map_each, march, read, sum_up, write};
use super::simd::Simd;
use super::volume;

/// The sizes of a linear layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinearShape {
    /// Examples N.
    pub batch: usize,
    /// Inputs C.
    pub inputs: usize,
    /// Outputs K.
    pub outputs: usize,
}

/// y = f(x·W + b); where `z` is given, z is kept there.
///
/// `x` `[N, C]`, `w` `[C, K]` as in Burn, `bias` `[K]`, `z` and `y` `[N, K]`. The backward pass needs z
/// unless f is the identity.
///
/// # Panics
/// If a length does not fit `shape`.
pub fn linear(
    shape: &LinearShape,
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    act: Act,
    z: Option<&mut [f32]>,
    y: &mut [f32],
) {
    let &LinearShape {
        batch,
        inputs,
        outputs,
    } = shape;
    assert_eq!(y.len(), volume(&[batch, outputs]), "y");
    if let Some(bias) = bias {
        assert_eq!(bias.len(), outputs, "bias");
    }
    if let Some(z) = &z {
        assert_eq!(z.len(), y.len(), "z and y");
    }
    product(
        [batch, inputs, outputs],
        Matrix::rows(x, [batch, inputs]),
        Matrix::rows(w, [inputs, outputs]),
        y,
    );
    if y.is_empty() || (bias.is_none() && act == Act::Identity && z.is_none()) {
        return;
    }
    let rows = Rows::new(y.len(), outputs);
    let bias = &rows.repeat(|k| bias.map_or(0.0, |b| b[k]));
    with_function!(act, |f| {
        let parts = rows.cut(y).into_iter().zip(rows.cut_option(z));
        map_each(parts.collect(), |_, (y, z)| {
            let len = y.len();
            // SAFETY: the pieces are of one length; the table is of a period.
            unsafe { march(Finish { f, bias, z, y }, len, rows.period) };
        });
    });
}

/// What [`linear_backward`] needs of the forward pass.
#[derive(Clone, Copy, Debug)]
pub struct LinearBackward<'a> {
    /// The sizes.
    pub shape: LinearShape,
    /// The input, `[N, C]`.
    pub x: &'a [f32],
    /// The weight, `[C, K]`.
    pub w: &'a [f32],
    /// z, `[N, K]`; may be absent if f is the identity.
    pub z: Option<&'a [f32]>,
    /// ∂L/∂y, `[N, K]`.
    pub dy: &'a [f32],
    /// f.
    pub act: Act,
}

/// The gradients that are wanted, each written, not added to.
#[derive(Debug, Default)]
pub struct LinearGradients<'a> {
    /// ∂L/∂x, `[N, C]`.
    pub dx: Option<&'a mut [f32]>,
    /// ∂L/∂W, `[C, K]`.
    pub dw: Option<&'a mut [f32]>,
    /// ∂L/∂b, `[K]`.
    pub db: Option<&'a mut [f32]>,
}

/// The gradients of y = f(x·W + b).
///
/// # Panics
/// If a length does not fit the shape, or `z` is absent and f not the identity.
pub fn linear_backward(args: &LinearBackward<'_>, gradients: LinearGradients<'_>) {
    let LinearShape {
        batch,
        inputs,
        outputs,
    } = args.shape;
    assert_eq!(args.dy.len(), volume(&[batch, outputs]), "dy");
    let through;
    let dz = match (args.act, args.z) {
        (Act::Identity, _) => args.dy,
        (act, Some(z)) => {
            let mut dz = vec![0.0; args.dy.len()];
            act_backward(z, args.dy, act, &mut dz);
            through = dz;
            &through
        }
        (act, None) => panic!("the gradient of {act:?} needs z"),
    };
    if let Some(dx) = gradients.dx {
        product(
            [batch, outputs, inputs],
            Matrix::rows(dz, [batch, outputs]),
            Matrix::rows(args.w, [inputs, outputs]).transposed(),
            dx,
        );
    }
    if let Some(dw) = gradients.dw {
        product(
            [inputs, batch, outputs],
            Matrix::rows(args.x, [batch, inputs]).transposed(),
            Matrix::rows(dz, [batch, outputs]),
            dw,
        );
    }
    if let Some(db) = gradients.db {
        assert_eq!(db.len(), outputs, "db");
        column_sums(dz, db);
    }
}

/// Σ over the rows of `x` `[rows, channels]`, channel by channel: the gradient of what was added to
/// each row.
///
/// # Panics
/// If the length of `sums`, the number of channels, does not divide that of `x`.
pub fn column_sums(x: &[f32], sums: &mut [f32]) {
    if sums.is_empty() {
        return assert!(x.is_empty(), "x without channels");
    }
    let rows = Rows::new(x.len(), sums.len());
    let [totals] = rows.sums((0..rows.pieces()).collect(), |_, i: usize, places| {
        let x = &x[rows.range(i)];
        // SAFETY: `x` has its own length; there are no tables.
        unsafe { sum_up(Itself { x }, x.len(), rows.period, places) };
    });
    for (sum, total) in sums.iter_mut().zip(totals) {
        *sum = total as f32;
    }
}

/// C = A·B of square matrices, n×n each, row by row, as the crate `gemm` computes it with the threads of
/// rayon's pool: what the machine gives, to compare kernels with.
///
/// # Panics
/// If a slice has not n² numbers.
pub fn square_product(n: usize, a: &[f32], b: &[f32], c: &mut [f32]) {
    let len = volume(&[n, n]);
    assert!(
        a.len() == len && b.len() == len && c.len() == len,
        "matrices of {n} × {n}"
    );
    let row = n as isize;
    // SAFETY: all three hold n·n numbers, as asserted; with strides 1 and n the product reads and writes
    // places below n·n only, and C overlaps neither A nor B, being borrowed mutably.
    unsafe {
        gemm::gemm(
            n,
            n,
            n,
            c.as_mut_ptr(),
            1,
            row,
            false,
            a.as_ptr(),
            1,
            row,
            b.as_ptr(),
            1,
            row,
            0.0,
            1.0,
            false,
            false,
            false,
            Parallelism::Rayon(0),
        );
    }
}

/// z = y + b, y = f(z).
struct Finish<'a, F> {
    f: F,
    bias: &'a [f32],
    z: Option<&'a mut [f32]>,
    y: &'a mut [f32],
}

impl<F: Function> Step for Finish<'_, F> {
    #[inline(always)]
    unsafe fn step<S: Simd>(&mut self, s: S, at: usize, place: usize, n: usize) {
        // SAFETY: the caller's promise; the table is of a period.
        unsafe {
            let z = s.add(read(s, self.y, at, n), read(s, self.bias, place, S::LANES));
            if let Some(kept) = &mut self.z {
                write(s, kept, at, z, n);
            }
            write(s, self.y, at, self.f.value(s, z), n);
        }
    }
}

/// A matrix in memory: element (i, j) is `data[i·row + j·column]`.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    data: &'a [f32],
    size: [usize; 2],
    row: usize,
    column: usize,
}

impl<'a> Matrix<'a> {
    /// One row after the other.
    fn rows(data: &'a [f32], size: [usize; 2]) -> Self {
        assert_eq!(data.len(), volume(&size), "elements of {size:?}");
        Self {
            data,
            size,
            row: size[1],
            column: 1,
        }
    }

    fn transposed(self) -> Self {
        Self {
            data: self.data,
            size: [self.size[1], self.size[0]],
            row: self.column,
            column: self.row,
        }
    }
}

/// A pointer that threads may share: each writes elsewhere.
#[derive(Clone, Copy)]
struct Shared(*mut f32);
// SAFETY: used only for writes to disjoint parts of a matrix.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// The pointer, from a method so that closures capture the whole.
    fn pointer(self) -> *mut f32 {
        self.0
    }
}

/// out = a·b, out `[m, n]` row by row.
fn product([m, k, n]: [usize; 3], a: Matrix<'_>, b: Matrix<'_>, out: &mut [f32]) {
    /// Multiplications of a piece, about.
    const WORK: usize = 1 << 20;
    assert_eq!(
        out.len(),
        volume(&[m, n]),
        "the product of {:?} and {:?}",
        a.size,
        b.size
    );
    assert!(a.size == [m, k] && b.size == [k, n]);
    if out.is_empty() {
        return;
    }
    if k == 0 {
        return out.fill(0.0);
    }
    let by_rows = m >= n;
    let (long, short) = (m.max(n), m.min(n));
    let piece = (WORK / (short * k)).next_multiple_of(32).max(32);
    let to = Shared(out.as_mut_ptr());
    let run = |i: usize| {
        let (start, len) = (i * piece, piece.min(long - i * piece));
        let (row, rows, column, columns) = if by_rows {
            (start, len, 0, n)
        } else {
            (0, m, start, len)
        };
        // SAFETY: the pointers are to the first element of a part, `rows` by k, k by `columns` and
        // `rows` by `columns`, of matrices whose lengths were checked; parts of `out` are disjoint.
        unsafe {
            gemm::gemm(
                rows,
                columns,
                k,
                to.pointer().add(row * n + column),
                1,
                n as isize,
                false,
                a.data.as_ptr().add(row * a.row),
                a.column as isize,
                a.row as isize,
                b.data.as_ptr().add(column * b.column),
                b.column as isize,
                b.row as isize,
                0.0,
                1.0,
                false,
                false,
                false,
                Parallelism::None,
            );
        }
    };
    match long.div_ceil(piece) {
        1 => run(0),
        pieces => (0..pieces).into_par_iter().for_each(run),
    }
}
