//! A small model with every kind of part, for the tests of files and predictions.

use std::collections::BTreeMap;

use corral_classifier::refusal::SHARED_SIGNALS;
use corral_classifier::{
    Accents, Activation, BlockConfig, Calibration, ClassEntry, Detector, EmbeddingUse,
    EmbeddingView, Embeddings, Encoder, EncoderNeed, Featurizer, Grams, Head, KernelHead,
    LexicalConfig, Lexicon, LexiconUse, LinearHead, Link, LocalHead, MemberSpec, ModelSpec,
    NeighboursHead, NetworkHead, Normalisation, Precision, Refusal, RefusalScore, ShortestToken,
    SparseRows, StoredRows, Tempering, Thresholds, ViewRows, Vocabulary, Weighting,
};
use corral_types::BlobHash;

pub const TEXTS: [&str; 8] = [
    "my card has not arrived yet",
    "I lost my card, please block it",
    "cancel the hotel booking",
    "book a flight to Málaga",
    "what is the weather in Athens",
    "",
    "ΟΔΟΣ Ερμού 12",
    "zzz",
];

/// Outputs of the sample: the leaves of its tree.
pub const OUTPUTS: usize = 5;

/// Numbers without pattern, the same on every machine.
pub struct Numbers(u64);

impl Numbers {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub const fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// Between -1 and 1.
    pub const fn number(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// Embeds a text by its hash.
pub struct HashEncoder;

impl Encoder for HashEncoder {
    fn id(&self) -> BlobHash {
        BlobHash::of(b"hash encoder")
    }

    fn name(&self) -> &str {
        "hash-encoder"
    }

    fn dimension(&self, view: EmbeddingView) -> Option<usize> {
        Some(dimension(view))
    }

    fn encode(&self, texts: &[&str], views: &mut [ViewRows<'_>]) {
        for rows in views {
            let first = match rows.view {
                EmbeddingView::Pooled => 0,
                EmbeddingView::Layers => 8,
            };
            let places = rows.values.chunks_exact_mut(dimension(rows.view));
            for (text, out) in texts.iter().zip(places) {
                let hash = BlobHash::of(text.as_bytes());
                for (value, byte) in out.iter_mut().zip(&hash.as_bytes()[first..]) {
                    *value = (f32::from(*byte) - 127.5) / 256.0;
                }
            }
        }
    }
}

const fn dimension(view: EmbeddingView) -> usize {
    match view {
        EmbeddingView::Pooled => 8,
        EmbeddingView::Layers => 20,
    }
}

/// Both views.
pub fn embeddings(texts: &[&str]) -> Embeddings {
    HashEncoder.embed(texts, &EmbeddingView::ALL)
}

/// Six leaves and inner classes; `weather` is a leaf at the root that no head scores.
pub fn classes() -> Vec<ClassEntry> {
    let class = |id: &str, name: &str, parent| ClassEntry {
        id: id.to_owned(),
        name: name.to_owned(),
        parent,
    };
    vec![
        class("1.1.a", "arrival", Some(6)),
        class("1.1.b", "lost", Some(6)),
        class("2.a", "hotels", Some(7)),
        class("2.b", "flights", Some(7)),
        class("3", "wetter ☂", None),
        class("1", "money", None),
        class("1.1", "cards", Some(5)),
        class("2", "travel", None),
        class("4", "", None),
    ]
}

pub fn lexicons() -> Vec<Lexicon<'static>> {
    let words = LexicalConfig {
        case: corral_classifier::Case::Lower,
        accents: Accents::Strip,
        blocks: vec![BlockConfig {
            weighting: Weighting::Binary,
            ..BlockConfig::new(Grams::Words { min: 1, max: 2, shortest: ShortestToken::One })
        }],
        normalisation: Normalisation::Nothing,
    };
    vec![
        Lexicon::fit(&TEXTS[..6], &LexicalConfig::words_and_characters()).unwrap(),
        Lexicon::fit(&TEXTS, &words).unwrap(),
    ]
}

/// The features that the sample's members read for these texts.
pub fn lexical_rows(spec: &ModelSpec, texts: &[&str]) -> Vec<SparseRows> {
    spec.lexicons.iter().map(|lexicon| lexicon.transform_all(texts)).collect()
}

/// A model of four members: two lexical ones, one of a lexicon and embeddings, one of
/// embeddings alone; every precision and both calibrations.
pub fn sample(link: Link) -> ModelSpec {
    let lexicons = lexicons();
    let mut numbers = Numbers::new(11);
    let mut member = |name: &str, featurizer: Featurizer, precision, per_output: bool, weight| {
        let columns = featurizer.lexicon.map_or(0, |used| lexicons[used.lexicon].columns())
            + featurizer.embedding.map_or(0, |used| dimension(used.view));
        let weights: Vec<f32> = (0..columns * OUTPUTS).map(|_| 4.0 * numbers.number()).collect();
        let bias: Vec<f32> = (0..OUTPUTS).map(|_| numbers.number()).collect();
        let calibration = if per_output {
            Calibration::PerOutput {
                slopes: (0..OUTPUTS).map(|_| 1.5 + numbers.number()).collect(),
                offsets: (0..OUTPUTS).map(|_| numbers.number()).collect(),
            }
        } else {
            Calibration::Temperature(0.7)
        };
        MemberSpec {
            name: name.to_owned(),
            featurizer,
            head: LinearHead::from_column_major(&weights, bias, precision).unwrap().into(),
            calibration,
            weight,
        }
    };
    let joined = Featurizer {
        lexicon: Some(LexiconUse { lexicon: 1, scale: 0.5 }),
        embedding: Some(EmbeddingUse { view: EmbeddingView::Pooled, scale: 2.0 }),
    };
    let members = vec![
        member("int8", Featurizer::lexical(0), Precision::Int8, false, 2.0),
        member("joined", joined, Precision::F32, true, 1.0),
        member(
            "sparse",
            Featurizer::lexical(0),
            Precision::SparseInt8 { smallest: 1.0 },
            false,
            1.5,
        ),
        member(
            "embedding",
            Featurizer::embedding(EmbeddingView::Pooled),
            Precision::Int8,
            false,
            0.5,
        ),
    ];
    ModelSpec {
        name: "sample".to_owned(),
        metadata: BTreeMap::from([("taxonomy".to_owned(), "sample tree".to_owned())]),
        classes: classes(),
        outputs: vec![0, 1, 2, 3, 4],
        link,
        encoder: Some(EncoderNeed {
            hash: HashEncoder.id(),
            name: HashEncoder.name().to_owned(),
            dimension: 8,
            layers_dimension: None,
        }),
        lexicons,
        members,
        tempering: Tempering::by(0.8),
        thresholds: Thresholds {
            least_probability: Some(0.3),
            per_output: Some(vec![0.5, 0.4, 0.6, 0.5, 0.45]),
            refusal: None,
        },
    }
}

/// The sample with what the format learnt later: a lexicon of BM25, first words and hashed
/// columns, and the view of all layers.
pub fn later_sample(link: Link) -> ModelSpec {
    let mut spec = sample(link);
    let mut numbers = Numbers::new(12);
    let mut head = |columns: usize| -> Head<'static> {
        let weights: Vec<f32> = (0..columns * OUTPUTS).map(|_| 4.0 * numbers.number()).collect();
        LinearHead::from_column_major(&weights, vec![0.0; OUTPUTS], Precision::Int8).unwrap().into()
    };
    let first = Grams::FirstWords { words: 3, max: 2, shortest: ShortestToken::One };
    let config = LexicalConfig {
        blocks: vec![
            BlockConfig {
                weighting: Weighting::Bm25 { k1: 1.2, b: 0.75 },
                ..BlockConfig::new(Grams::Words { min: 1, max: 1, shortest: ShortestToken::Two })
            },
            BlockConfig { scale: 0.5, ..BlockConfig::new(first) },
            BlockConfig {
                vocabulary: Vocabulary::Hashed { bits: 8 },
                ..BlockConfig::new(Grams::Characters { min: 3, max: 4 })
            },
        ],
        ..LexicalConfig::words_and_characters()
    };
    let lexicon = Lexicon::fit(&TEXTS[..6], &config).unwrap();
    spec.members[2].featurizer = Featurizer::lexical(2);
    spec.members[2].head = head(lexicon.columns());
    spec.lexicons.push(lexicon);
    spec.members[3].featurizer = Featurizer::embedding(EmbeddingView::Layers);
    spec.members[3].head = head(dimension(EmbeddingView::Layers));
    spec.encoder.as_mut().unwrap().layers_dimension = Some(dimension(EmbeddingView::Layers) as u32);
    spec
}

/// The sample with members whose heads are not linear: networks over a lexicon and over both,
/// neighbours, and a kernel of embeddings beside a lexicon.
pub fn sample_of_every_head(link: Link) -> ModelSpec {
    let mut spec = later_sample(link);
    let mut numbers = Numbers::new(29);
    let columns = spec.lexicons[1].columns();
    let lexicon = Some(LexiconUse { lexicon: 1, scale: 0.5 });
    let joined = Featurizer {
        lexicon,
        embedding: Some(EmbeddingUse { view: EmbeddingView::Pooled, scale: 2.0 }),
    };
    let mut layer = |columns: usize, outputs: usize, precision| {
        let weights: Vec<f32> = (0..columns * outputs).map(|_| numbers.number()).collect();
        let bias = (0..outputs).map(|_| numbers.number()).collect();
        LinearHead::from_column_major(&weights, bias, precision).unwrap()
    };
    let bag = NetworkHead::new(
        layer(columns, 3, Precision::Int8),
        Activation::Identity,
        layer(3, OUTPUTS, Precision::F32),
    );
    let rectified = NetworkHead::new(
        layer(columns + 8, 6, Precision::SparseInt8 { smallest: 0.1 }),
        Activation::Rectified,
        layer(6, OUTPUTS, Precision::Int8),
    );
    let kept = embeddings(&TEXTS);
    let mut stored = StoredRows::new(8).unwrap();
    let mut neighbours = NeighboursHead::new(OUTPUTS, 8, 3, 12.0).unwrap();
    for (index, row) in kept.view(EmbeddingView::Pooled).unwrap().iter().enumerate() {
        stored.push(row).unwrap();
        let class = (index % OUTPUTS) as u32;
        if index % 3 == 0 {
            neighbours.push(row, &[class, 4], &[0.75, 0.25]).unwrap();
        } else {
            neighbours.push(row, &[class], &[1.0]).unwrap();
        }
    }
    let weights = layer(columns + TEXTS.len(), OUTPUTS, Precision::Int8);
    let kernel = KernelHead::new(3.0, stored, weights).unwrap();
    let mut add = |name: &str, featurizer, head: Head<'static>| {
        spec.members.push(MemberSpec {
            name: name.to_owned(),
            featurizer,
            head,
            calibration: Calibration::Temperature(0.9),
            weight: 1.0,
        });
    };
    add("bag", Featurizer { lexicon, embedding: None }, bag.unwrap().into());
    add("rectified", joined, rectified.unwrap().into());
    add("neighbours", Featurizer::embedding(EmbeddingView::Pooled), neighbours.into());
    add("kernel", joined, kernel.into());
    spec
}

/// The sample of every head with one that chooses a parent, then one of its children.
pub fn sample_with_parents(link: Link) -> ModelSpec {
    let mut spec = sample_of_every_head(link);
    let mut numbers = Numbers::new(31);
    let joined = spec.members[5].featurizer;
    let columns = spec.lexicons[1].columns() + 8;
    let mut tier = |outputs: usize, precision| {
        let weights: Vec<f32> = (0..columns * outputs).map(|_| numbers.number()).collect();
        let bias = (0..outputs).map(|_| numbers.number()).collect();
        LinearHead::from_column_major(&weights, bias, precision).unwrap()
    };
    let parents = tier(3, Precision::F32);
    let children = tier(OUTPUTS, Precision::SparseInt8 { smallest: 0.2 });
    spec.members.push(MemberSpec {
        name: "local".to_owned(),
        featurizer: joined,
        head: LocalHead::new(parents, children, vec![0, 0, 1, 1, 2], 1.25).unwrap().into(),
        calibration: Calibration::Temperature(1.1),
        weight: 1.0,
    });
    spec
}

/// The sample of every head and one of parents, with a detector of texts that are none of the classes, tempered by
/// confidence.
pub fn refusing_sample() -> ModelSpec {
    let mut spec = sample_with_parents(Link::Softmax);
    let mut numbers = Numbers::new(37);
    let weights: Vec<f32> =
        (0..SHARED_SIGNALS + spec.members.len()).map(|_| numbers.number()).collect();
    spec.tempering.confidence_power = -0.25;
    spec.thresholds.refusal = Some(Refusal {
        score: RefusalScore::Detector(Detector { weights: weights.into(), bias: 0.25 }),
        threshold: 0.5,
    });
    spec
}
