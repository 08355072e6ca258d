//! Turning texts into rows and rows into probabilities allocates nothing once the buffers have
//! grown: serving holds its latency under load by that.
#![expect(unsafe_code, reason = "an allocator that counts is an allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;

use corral_classifier::lexical::LexicalScratch;
use corral_classifier::refusal::SHARED_SIGNALS;
use corral_classifier::{
    Accents, Activation, Calibration, ClassEntry, Detector, EmbeddingUse, EmbeddingView,
    EncoderNeed, Featurizer, Head, KernelHead, LexicalConfig, Lexicon, LinearHead, Link, LocalHead,
    MemberSpec, Model, ModelSpec, NeighboursHead, NetworkHead, Precision, Refusal, RefusalScore,
    Scratch, StoredRows, Tempering, TextEmbedding, Thresholds,
};
use corral_types::BlobHash;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; what `alloc` gave came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const TEXTS: [&str; 5] = [
    "My card has not arrived yet, and I have waited, waited, waited",
    "Où est ma carte ? Elle n’est pas arrivée",
    "कार्ड अभी तक नहीं आया",
    "",
    "LOST CARD",
];

/// The allocations of the calling thread while `work` runs.
fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

#[test]
fn rows_need_no_allocation_after_the_first() {
    for accents in [Accents::Keep, Accents::Strip] {
        let config = LexicalConfig { accents, ..LexicalConfig::words_and_characters() };
        let lexicon = Lexicon::fit(&TEXTS, &config).expect("the texts have n-grams");
        let mut scratch = LexicalScratch::default();
        let mut pass = || {
            for text in TEXTS {
                lexicon.transform(text, &mut scratch);
            }
        };
        assert!(allocations(&mut pass) > 0, "the counter counts");
        assert_eq!(allocations(&mut pass), 0, "{accents:?}");
    }
}

#[test]
fn probabilities_need_no_allocation_after_the_first() {
    let lexicon = Lexicon::fit(&TEXTS, &LexicalConfig::words_and_characters());
    let lexicon = lexicon.expect("the texts have n-grams");
    let member = |precision| {
        let weights: Vec<f32> = (0..lexicon.columns() * 3).map(|n| (n % 7) as f32).collect();
        MemberSpec {
            name: format!("{precision:?}"),
            featurizer: Featurizer::lexical(0),
            head: LinearHead::from_column_major(&weights, vec![0.0; 3], precision)
                .expect("three weights a column")
                .into(),
            calibration: Calibration::Temperature(2.0),
            weight: 1.0,
        }
    };
    let mut stored = StoredRows::new(4).expect("a width");
    let mut neighbours = NeighboursHead::new(3, 4, 2, 8.0).expect("three outputs");
    for class in 0..3u32 {
        let row = [1.0, class as f32, 0.5, 0.0];
        stored.push(&row).expect("four numbers");
        neighbours.push(&row, &[class], &[1.0]).expect("a class of three");
    }
    let layer = |columns: usize, outputs: usize| {
        LinearHead::from_column_major(
            &vec![0.1; columns * outputs],
            vec![0.0; outputs],
            Precision::Int8,
        )
        .expect("as many weights a column as outputs")
    };
    let network = NetworkHead::new(layer(4, 5), Activation::Rectified, layer(5, 3));
    let kernel = KernelHead::new(2.0, stored, layer(lexicon.columns() + 3, 3));
    let tier = |outputs| layer(lexicon.columns(), outputs);
    let local = LocalHead::new(tier(2), tier(3), vec![0, 0, 1], 2.0);
    let of_kind = |head: Head<'static>, featurizer| MemberSpec {
        name: "not linear".to_owned(),
        featurizer,
        head,
        calibration: Calibration::Temperature(2.0),
        weight: 1.0,
    };
    let detector = Detector { weights: vec![0.1; SHARED_SIGNALS + 7].into(), bias: 0.0 };
    let refusal = Refusal { score: RefusalScore::Detector(detector), threshold: 0.5 };
    let pooled = EmbeddingUse { view: EmbeddingView::Pooled, scale: 0.5 };
    let joined = Featurizer { embedding: Some(pooled), ..Featurizer::lexical(0) };
    let spec = ModelSpec {
        name: "small".to_owned(),
        metadata: BTreeMap::new(),
        classes: ["a", "b", "c"]
            .map(|id| ClassEntry { id: id.to_owned(), name: String::new(), parent: None })
            .to_vec(),
        outputs: vec![0, 1, 2],
        link: Link::Softmax,
        encoder: Some(EncoderNeed {
            hash: BlobHash::of(b"encoder"),
            name: "encoder".to_owned(),
            dimension: 4,
            layers_dimension: None,
        }),
        lexicons: vec![lexicon.clone()],
        members: vec![
            member(Precision::F32),
            member(Precision::Int8),
            member(Precision::SparseInt8 { smallest: 1.0 }),
            of_kind(
                network.expect("layers that fit").into(),
                Featurizer::embedding(EmbeddingView::Pooled),
            ),
            of_kind(neighbours.into(), Featurizer::embedding(EmbeddingView::Pooled)),
            of_kind(kernel.expect("a column a row").into(), joined),
            of_kind(local.expect("a parent for each").into(), Featurizer::lexical(0)),
        ],
        tempering: Tempering::by(0.9),
        thresholds: Thresholds { refusal: Some(refusal), ..Thresholds::default() },
    };
    let bytes = spec.to_bytes().expect("parts that fit");
    let model = Model::from_bytes(&bytes).expect("a model just written");
    let mut scratch = Scratch::default();
    let mut pass = || {
        for text in TEXTS {
            let embedding = TextEmbedding::pooled(&[0.5, 0.25, -1.0, 0.0]);
            model.signals(text, embedding, &mut scratch).expect("four numbers");
        }
    };
    assert!(allocations(&mut pass) > 0, "the counter counts");
    assert_eq!(allocations(&mut pass), 0);
}
