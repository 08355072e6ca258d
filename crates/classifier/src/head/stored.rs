//! Embeddings that a head keeps to compare texts with, a byte a number.
//!
//! Comparing is exact integer arithmetic on a query of eleven bits and rows of seven, so that
//! every instruction set gives the same bits.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "vector instructions, after asking the CPU")
)]

use std::borrow::Cow;

use super::HeadError;

/// Numbers of a row at most: products of so many still fit into 32 bits.
pub const MAX_STORED_WIDTH: usize = 8192;
/// Rows at most: more cannot be compared with in a request's time.
pub const MAX_STORED_ROWS: usize = 1 << 22;

/// The largest whole number that stands for a part of a stored row, and of a query.
const LARGEST_STORED: f32 = 127.0;
const LARGEST_ASKED: f32 = 2047.0;
const _: () = assert!(MAX_STORED_WIDTH as i64 * 127 * 2047 <= i32::MAX as i64);
/// Rows are padded to a multiple of it: the widest register of 16-bit numbers.
const PADDING: usize = 32;
/// Sums of a norm that are kept apart, so that they are computed side by side.
const NORM_LANES: usize = 16;

/// Rows of norm 1.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredRows<'a> {
    pub(crate) width: usize,
    /// What a row's numbers are multiplied by.
    pub(crate) scales: Cow<'a, [f32]>,
    /// [`padded_width`] numbers a row.
    pub(crate) values: Cow<'a, [i8]>,
}

/// A row to compare with stored ones.
#[derive(Clone, Debug, Default)]
pub struct Query {
    values: Vec<i16>,
    scale: f32,
}

/// The numbers that a stored row takes.
pub(crate) const fn padded_width(width: usize) -> usize {
    width.next_multiple_of(PADDING)
}

impl StoredRows<'static> {
    /// No rows yet, each to be `width` wide.
    pub fn new(width: usize) -> Result<Self, HeadError> {
        if width == 0 || width > MAX_STORED_WIDTH {
            return Err(HeadError::StoredWidth(width));
        }
        Ok(Self { width, scales: Cow::default(), values: Cow::default() })
    }

    /// Appends a row, divided by its norm; one of zeros stays.
    pub fn push(&mut self, row: &[f32]) -> Result<(), HeadError> {
        if row.len() != self.width {
            return Err(HeadError::Length { given: row.len(), wanted: self.width });
        }
        if self.rows() == MAX_STORED_ROWS {
            return Err(HeadError::TooManyRows);
        }
        let norm = norm(row);
        let largest = row.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        if !norm.is_finite() {
            return Err(HeadError::NotFinite { column: self.rows() });
        }
        let (factor, scale) = if norm > 0.0 {
            (LARGEST_STORED / largest, largest / LARGEST_STORED / norm)
        } else {
            (0.0, 0.0)
        };
        let values = self.values.to_mut();
        values.extend(row.iter().map(|value| (value * factor).round_ties_even() as i8));
        values.extend(std::iter::repeat_n(0, padded_width(self.width) - self.width));
        self.scales.to_mut().push(scale);
        Ok(())
    }
}

impl StoredRows<'_> {
    pub fn rows(&self) -> usize {
        self.scales.len()
    }

    /// The length of a row.
    pub const fn width(&self) -> usize {
        self.width
    }

    /// The bytes of its arrays.
    pub fn memory_bytes(&self) -> usize {
        self.values.len() + size_of_val(&*self.scales)
    }

    /// Writes the cosine similarity of each row with each query to `out`, query after query.
    pub fn similarities(&self, queries: &[Query], out: &mut [f32]) {
        let padded = padded_width(self.width);
        let rows = self.rows();
        debug_assert_eq!(out.len(), queries.len() * rows, "a place for each pair");
        for (queries, out) in
            queries.chunks(QUERIES_AT_ONCE).zip(out.chunks_mut((QUERIES_AT_ONCE * rows).max(1)))
        {
            let fits = queries.iter().all(|query| query.values.len() == padded);
            let mut products = [0i32; QUERIES_AT_ONCE];
            for (index, (row, scale)) in
                self.values.chunks_exact(padded).zip(self.scales.iter()).enumerate()
            {
                if fits {
                    products_with(queries, row, &mut products);
                }
                for (place, (query, product)) in queries.iter().zip(products).enumerate() {
                    out[place * rows + index] = product as f32 * (query.scale * scale);
                }
            }
        }
    }
}

impl Query {
    /// Takes up a row; one of zeros is alike to nothing.
    pub fn set(&mut self, row: &[f32]) {
        let norm = norm(row);
        let largest = row.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let (factor, scale) = if norm > 0.0 && norm.is_finite() {
            (LARGEST_ASKED / largest, largest / LARGEST_ASKED / norm)
        } else {
            (0.0, 0.0)
        };
        self.scale = scale;
        self.values.clear();
        self.values.extend(row.iter().map(|value| (value * factor).round_ties_even() as i16));
        self.values.resize(padded_width(row.len()), 0);
    }
}

/// The L2 norm, summed in a fixed order.
fn norm(row: &[f32]) -> f32 {
    let mut sums = [0f32; NORM_LANES];
    for chunk in row.chunks(NORM_LANES) {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            *sum += value * value;
        }
    }
    sums.iter().sum::<f32>().sqrt()
}

/// Queries that a row is read for at once: as many sums as stay in registers beside it.
const QUERIES_AT_ONCE: usize = 8;

/// The products of a row with up to [`QUERIES_AT_ONCE`] queries, all of the row's length, a
/// multiple of [`PADDING`].
fn products_with(queries: &[Query], row: &[i8], products: &mut [i32; QUERIES_AT_ONCE]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512bw")
    {
        // SAFETY: the CPU has the instructions, as asked just above.
        return unsafe { x86::products_avx512(queries, row, products) };
    } else if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: as above.
        return unsafe { x86::products_avx2(queries, row, products) };
    }
    products_plain(queries, row, products);
}

fn products_plain(queries: &[Query], row: &[i8], products: &mut [i32; QUERIES_AT_ONCE]) {
    for (query, product) in queries.iter().zip(products) {
        *product = (query.values.iter().zip(row)).fold(0i32, |sum, (&asked, &stored)| {
            sum.wrapping_add(i32::from(asked) * i32::from(stored))
        });
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{PADDING, QUERIES_AT_ONCE, Query};

    /// Calls a tile of as many queries as there are.
    macro_rules! by_count {
        ($tile:ident, $queries:expr, $row:expr, $products:expr) => {
            match $queries.len() {
                1 => $tile::<1>($queries, $row, $products),
                2 => $tile::<2>($queries, $row, $products),
                3 => $tile::<3>($queries, $row, $products),
                4 => $tile::<4>($queries, $row, $products),
                5 => $tile::<5>($queries, $row, $products),
                6 => $tile::<6>($queries, $row, $products),
                7 => $tile::<7>($queries, $row, $products),
                _ => $tile::<QUERIES_AT_ONCE>($queries, $row, $products),
            }
        };
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn products_avx2(
        queries: &[Query],
        row: &[i8],
        products: &mut [i32; QUERIES_AT_ONCE],
    ) {
        by_count!(avx2_tile, queries, row, products);
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn products_avx512(
        queries: &[Query],
        row: &[i8],
        products: &mut [i32; QUERIES_AT_ONCE],
    ) {
        by_count!(avx512_tile, queries, row, products);
    }

    /// Where the first `COUNT` queries begin.
    ///
    /// # Panics
    /// When there are fewer, or one is not as long as the row.
    #[inline(always)]
    fn query_starts<const COUNT: usize>(queries: &[Query], row: &[i8]) -> [*const i16; COUNT] {
        std::array::from_fn(|index| {
            let values = &queries[index].values;
            assert_eq!(values.len(), row.len(), "a query as long as the row");
            values.as_ptr()
        })
    }

    #[target_feature(enable = "avx2")]
    fn avx2_tile<const COUNT: usize>(
        queries: &[Query],
        row: &[i8],
        products: &mut [i32; QUERIES_AT_ONCE],
    ) {
        const AT_ONCE: usize = PADDING / 2;
        let queries = query_starts::<COUNT>(queries, row);
        let mut sums = [_mm256_setzero_si256(); COUNT];
        for (index, row) in row.as_chunks::<AT_ONCE>().0.iter().enumerate() {
            // SAFETY: sixteen bytes are read of an array of sixteen.
            let row = unsafe { _mm_loadu_si128(row.as_ptr().cast()) };
            let row = _mm256_cvtepi8_epi16(row);
            for (sum, query) in sums.iter_mut().zip(queries) {
                // SAFETY: queries are as long as the row.
                let query = unsafe { _mm256_loadu_si256(query.add(index * AT_ONCE).cast()) };
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(row, query));
            }
        }
        for (product, sum) in products.iter_mut().zip(sums) {
            let sum =
                _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
            let sum = _mm_add_epi32(sum, _mm_shuffle_epi32::<0b00_00_11_10>(sum));
            let sum = _mm_add_epi32(sum, _mm_shuffle_epi32::<0b00_00_00_01>(sum));
            *product = _mm_cvtsi128_si32(sum);
        }
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    fn avx512_tile<const COUNT: usize>(
        queries: &[Query],
        row: &[i8],
        products: &mut [i32; QUERIES_AT_ONCE],
    ) {
        let queries = query_starts::<COUNT>(queries, row);
        let mut sums = [_mm512_setzero_si512(); COUNT];
        for (index, row) in row.as_chunks::<PADDING>().0.iter().enumerate() {
            // SAFETY: thirty-two bytes are read of an array of thirty-two.
            let row = unsafe { _mm256_loadu_si256(row.as_ptr().cast()) };
            let row = _mm512_cvtepi8_epi16(row);
            for (sum, query) in sums.iter_mut().zip(queries) {
                // SAFETY: queries are as long as the row.
                let query = unsafe { _mm512_loadu_si512(query.add(index * PADDING).cast()) };
                *sum = _mm512_add_epi32(*sum, _mm512_madd_epi16(row, query));
            }
        }
        for (product, sum) in products.iter_mut().zip(sums) {
            *product = _mm512_reduce_add_epi32(sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(seed: u64) -> impl FnMut() -> f32 {
        let mut state = seed;
        move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        }
    }

    #[test]
    fn similarities_are_cosines() {
        for width in [1, 8, 31, 32, 33, 384, 1000] {
            let mut number = numbers(width as u64);
            let mut row = || (0..width).map(|_| number()).collect::<Vec<f32>>();
            let rows: Vec<Vec<f32>> = (0..13).map(|_| row()).collect();
            let asked: Vec<Vec<f32>> = (0..11).map(|_| row()).collect();
            let mut stored = StoredRows::new(width).unwrap();
            rows.iter().for_each(|row| stored.push(row).unwrap());
            let mut queries = vec![Query::default(); asked.len()];
            queries.iter_mut().zip(&asked).for_each(|(query, row)| query.set(row));
            let mut found = vec![0.0; asked.len() * rows.len()];
            stored.similarities(&queries, &mut found);
            let dot = |a: &[f32], b: &[f32]| -> f64 {
                a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
            };
            for (place, asked) in asked.iter().enumerate() {
                for (index, row) in rows.iter().enumerate() {
                    let exact = dot(asked, row) / (dot(asked, asked) * dot(row, row)).sqrt();
                    let found = f64::from(found[place * rows.len() + index]);
                    assert!((found - exact).abs() < 0.01, "width {width}: {found} for {exact}");
                }
            }
            // One by one as all at once.
            for (place, query) in queries.iter().enumerate() {
                let mut alone = vec![0.0; rows.len()];
                stored.similarities(std::slice::from_ref(query), &mut alone);
                assert_eq!(alone, found[place * rows.len()..][..rows.len()]);
            }
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_products() {
        let mut number = numbers(5);
        for width in [32, 64, 384, MAX_STORED_WIDTH] {
            for count in 1..=QUERIES_AT_ONCE {
                let mut queries = vec![Query::default(); count];
                for query in &mut queries {
                    query.set(&(0..width).map(|_| number()).collect::<Vec<f32>>());
                }
                let row: Vec<i8> = (0..width).map(|_| (number() * 127.0) as i8).collect();
                let (mut wanted, mut found) = ([0; QUERIES_AT_ONCE], [0; QUERIES_AT_ONCE]);
                products_plain(&queries, &row, &mut wanted);
                products_with(&queries, &row, &mut found);
                assert_eq!(found, wanted);
                #[cfg(target_arch = "x86_64")]
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: the CPU has the instructions, as asked just above.
                    unsafe { x86::products_avx2(&queries, &row, &mut found) };
                    assert_eq!(found, wanted);
                }
            }
        }
        // The largest products there are.
        let mut query = Query::default();
        query.set(&vec![-1.0; MAX_STORED_WIDTH]);
        let mut found = [0; QUERIES_AT_ONCE];
        products_with(&[query], &vec![127; MAX_STORED_WIDTH], &mut found);
        assert_eq!(found[0], -(MAX_STORED_WIDTH as i32) * 127 * 2047);
    }

    #[test]
    fn zeros_are_alike_to_nothing() {
        let mut stored = StoredRows::new(3).unwrap();
        stored.push(&[0.0; 3]).unwrap();
        stored.push(&[0.0, 2.0, 0.0]).unwrap();
        let mut queries = [Query::default(), Query::default()];
        queries[1].set(&[0.0; 3]);
        queries[0].set(&[0.0, 5.0, 0.0]);
        let mut found = [9.0; 4];
        stored.similarities(&queries, &mut found);
        for (found, wanted) in found.iter().zip([0.0, 1.0, 0.0, 0.0]) {
            assert!((found - wanted).abs() < 1e-6, "{found} for {wanted}");
        }
        assert_eq!(stored.push(&[f32::INFINITY; 3]), Err(HeadError::NotFinite { column: 2 }));
        assert_eq!(stored.push(&[1.0]), Err(HeadError::Length { given: 1, wanted: 3 }));
        assert_eq!(StoredRows::new(0), Err(HeadError::StoredWidth(0)));
    }
}
