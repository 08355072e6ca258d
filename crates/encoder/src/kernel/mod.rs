//! The arithmetic of the network, in one version for each kind of processor.
//!
//! **Every version gives the same bits.** Eight-bit products are summed as integers, which
//! is exact in any order. Everything in floating point is written once, over vectors of
//! sixteen lanes with explicit fused multiply-adds and a fixed order of reduction, and
//! compiled once per processor kind; no function of the system's mathematics library is
//! called. So an embedding does not depend on the machine, the number of threads, or the
//! texts that stand beside it.

mod attention;
mod elementwise;
mod float_product;
mod integer_product;
mod level;

pub(crate) use attention::{AttentionScratch, AttentionShape, attend};
pub(crate) use elementwise::{
    QuantizedRow, add_and_normalize, gelu, normalize, pool, quantize, quantized_word,
};
pub(crate) use float_product::{FloatMatrix, Product, multiply_floats};
pub(crate) use integer_product::{GROUP, IntegerMatrix, QuantizedRows, multiply_integers};
pub(crate) use level::Level;

/// Divides `rows` into the fewest blocks of at most `height`, all of about the same: their
/// first rows and heights.
fn row_blocks(rows: usize, height: usize) -> impl Iterator<Item = (usize, usize)> {
    let blocks = rows.div_ceil(height);
    (0..blocks).map(move |block| {
        let (start, end) = (rows * block / blocks, rows * (block + 1) / blocks);
        (start, end - start)
    })
}
