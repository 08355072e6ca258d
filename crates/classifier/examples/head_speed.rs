//! The time of one score by each kind of head, for heads of the size that Banking77 gives
//! them, beside the estimate that a search goes by.
//!
//! `cargo run --release -p corral-classifier --example head_speed`

use std::hint::black_box;
use std::time::Instant;

use corral_classifier::head::RowShape;
use corral_classifier::{
    Activation, FeatureRow, Head, HeadScratch, KernelHead, LinearHead, NeighboursHead, NetworkHead,
    Precision, SparseRow, StoredRows,
};

const ROWS: usize = 10_003;
const CLASSES: usize = 77;
const LEXICAL_COLUMNS: usize = 43_000;
const LEXICAL_ENTRIES: usize = 125;
const EMBEDDING_WIDTH: usize = 384;
const HIDDEN_UNITS: usize = 128;
const REPETITIONS: usize = 300;

/// Numbers between -1 and 1 without pattern.
fn numbers(count: usize, mut state: u64) -> Vec<f32> {
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn linear(columns: usize, outputs: usize) -> LinearHead<'static> {
    let weights = numbers(columns * outputs, 3);
    LinearHead::from_column_major(&weights, vec![0.0; outputs], Precision::Int8)
        .expect("as many weights a column as outputs")
}

fn main() {
    let embeddings = numbers(ROWS * EMBEDDING_WIDTH, 5);
    let mut neighbours =
        NeighboursHead::new(CLASSES, EMBEDDING_WIDTH, 20, 20.0).expect("a width and outputs");
    let mut stored = StoredRows::new(EMBEDDING_WIDTH).expect("a width");
    for (row, embedding) in embeddings.chunks_exact(EMBEDDING_WIDTH).enumerate() {
        neighbours.push(embedding, &[(row % CLASSES) as u32], &[1.0]).expect("a class");
        stored.push(embedding).expect("finite numbers");
    }
    let joined = LEXICAL_COLUMNS + EMBEDDING_WIDTH;
    let network = |columns: usize| -> Head<'static> {
        let layers = (linear(columns, HIDDEN_UNITS), linear(HIDDEN_UNITS, CLASSES));
        NetworkHead::new(layers.0, Activation::Rectified, layers.1).expect("layers that fit").into()
    };
    let kernel = KernelHead::new(4.0, stored, linear(LEXICAL_COLUMNS + ROWS, CLASSES));
    let heads: [(&str, Head<'static>, usize, usize); 7] = [
        ("linear, lexical", linear(LEXICAL_COLUMNS, CLASSES).into(), LEXICAL_ENTRIES, 0),
        ("linear, embedding", linear(EMBEDDING_WIDTH, CLASSES).into(), 0, EMBEDDING_WIDTH),
        ("linear, joined", linear(joined, CLASSES).into(), LEXICAL_ENTRIES, EMBEDDING_WIDTH),
        ("network, lexical", network(LEXICAL_COLUMNS), LEXICAL_ENTRIES, 0),
        ("network, joined", network(joined), LEXICAL_ENTRIES, EMBEDDING_WIDTH),
        ("neighbours", neighbours.into(), 0, EMBEDDING_WIDTH),
        (
            "kernel, joined",
            kernel.expect("a column a row").into(),
            LEXICAL_ENTRIES,
            EMBEDDING_WIDTH,
        ),
    ];
    let indices: Vec<u32> =
        (0..LEXICAL_ENTRIES).map(|n| (n * LEXICAL_COLUMNS / LEXICAL_ENTRIES) as u32).collect();
    let values = vec![0.1; LEXICAL_ENTRIES];
    for (name, head, lexical_entries, embedding_width) in &heads {
        let row = FeatureRow {
            lexical: SparseRow {
                indices: &indices[..*lexical_entries],
                values: &values[..*lexical_entries],
            },
            lexical_scale: 1.0,
            embedding: &embeddings[..*embedding_width],
            embedding_scale: 1.0,
        };
        let (mut scratch, mut scores) = (HeadScratch::default(), Vec::new());
        let mut times: Vec<f64> = (0..REPETITIONS)
            .map(|_| {
                let clock = Instant::now();
                head.score(black_box(row), &mut scratch, &mut scores);
                black_box(&scores);
                clock.elapsed().as_secs_f64() * 1e6
            })
            .collect();
        times.sort_by(f64::total_cmp);
        let shape =
            RowShape { lexical_entries: *lexical_entries, embedding_width: *embedding_width };
        println!(
            "{name:18} {:7.1} µs, estimated {:7.1} µs, {:5.1} MB",
            times[REPETITIONS / 2],
            head.score_nanos(shape) / 1e3,
            head.memory_bytes() as f64 / 1e6,
        );
    }
}
