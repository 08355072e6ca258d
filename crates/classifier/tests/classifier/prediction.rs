//! Answers: ranking, thresholds, subsets, the tree, batches.

use corral_classifier::{
    Ancestors, EmbeddingView, Encoder, Link, Model, ModelSpec, PredictError, PredictOptions,
    Prediction, Refusal, RefusalScore, Refusals, Scratch, TextEmbedding, Thresholds, ViewRows,
};
use corral_types::BlobHash;

use crate::sample::{
    HashEncoder, OUTPUTS, TEXTS, embeddings, later_sample, refusing_sample, sample,
};

fn open(spec: &ModelSpec) -> Model {
    Model::from_bytes(&spec.to_bytes().unwrap()).unwrap()
}

fn ask(model: &Model, text: &str, options: &PredictOptions<'_>) -> Prediction {
    let embedding = embeddings(&[text]);
    model.predict(text, embedding.text(0), &mut Scratch::default(), options).unwrap()
}

fn probabilities(model: &Model, text: &str) -> Vec<f32> {
    let embedding = embeddings(&[text]);
    model.probabilities(text, embedding.text(0), &mut Scratch::default()).unwrap().to_vec()
}

#[test]
fn ranking_is_by_probability() {
    let model = open(&sample(Link::Softmax));
    for text in TEXTS {
        let wanted = probabilities(&model, text);
        assert!((wanted.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        for top_k in [0, 1, 3, OUTPUTS, 100] {
            let answer = ask(&model, text, &PredictOptions { top_k, ..Default::default() });
            assert_eq!(answer.ranked.len(), top_k.clamp(1, OUTPUTS));
            assert!(answer.ranked.is_sorted_by(|a, b| a.probability >= b.probability));
            for ranked in &answer.ranked {
                assert_eq!(ranked.probability, wanted[ranked.class as usize]);
            }
            let best = wanted.iter().copied().fold(0.0, f32::max);
            assert_eq!(answer.ranked[0].probability, best);
            assert_eq!(answer.ranked[0].chosen, best >= 0.3, "the model's own threshold");
            assert!(answer.ranked[1..].iter().all(|ranked| !ranked.chosen));
        }
    }
}

#[test]
fn a_threshold_gives_none_of_these() {
    let model = open(&sample(Link::Softmax));
    let best = ask(&model, TEXTS[0], &PredictOptions::default()).ranked[0].probability;
    let chosen = |threshold| {
        let options = PredictOptions { threshold: Some(threshold), ..Default::default() };
        ask(&model, TEXTS[0], &options).chosen().count()
    };
    assert_eq!((chosen(0.0), chosen(best), chosen(best + 1e-3), chosen(1.1)), (1, 1, 0, 0));
}

#[test]
fn a_subset_is_renormalised() {
    let model = open(&sample(Link::Softmax));
    // Ids by themselves, paths of ids, the id of an inner class, paths of names.
    let cases: [(&str, &[u32]); 9] = [
        ("1", &[0, 1]),
        ("1.1", &[0, 1]),
        ("1/1.1/1.1.b", &[1]),
        ("2.a", &[2]),
        ("travel", &[2, 3]),
        ("money/cards/l", &[1]),
        ("wetter", &[4]),
        ("", &[0, 1, 2, 3, 4]),
        ("3", &[4]),
    ];
    for (prefix, wanted) in cases {
        let subset = model.subset(prefix).unwrap();
        assert_eq!(subset.len(), wanted.len(), "{prefix}");
        let options = PredictOptions { top_k: 9, subset: Some(&subset), ..Default::default() };
        for text in TEXTS {
            let all = probabilities(&model, text);
            let sum: f32 = wanted.iter().map(|&class| all[class as usize]).sum();
            let answer = ask(&model, text, &options);
            let mut classes: Vec<u32> = answer.ranked.iter().map(|ranked| ranked.class).collect();
            classes.sort_unstable();
            assert_eq!(classes, wanted, "{prefix}");
            for ranked in &answer.ranked {
                let wanted = all[ranked.class as usize] / sum;
                assert!((ranked.probability - wanted).abs() < 1e-5);
            }
        }
    }
    // A leaf and an inner class that no output stands for.
    for prefix in ["4", "1.1.c", "cards", "nothing"] {
        let refused = model.subset(prefix).unwrap_err();
        assert_eq!(refused, PredictError::PrefixUnknown { prefix: prefix.to_owned() });
    }
}

#[test]
fn probabilities_roll_up_the_tree() {
    let model = open(&sample(Link::Softmax));
    let leaves = probabilities(&model, TEXTS[0]);
    let mut rolled_up = Vec::new();
    model.roll_up(&leaves, &mut rolled_up);
    let close = |class: usize, wanted: f32| (rolled_up[class] - wanted).abs() < 1e-6;
    assert!((0..OUTPUTS).all(|leaf| close(leaf, leaves[leaf])));
    assert!(close(5, leaves[0] + leaves[1]) && close(6, leaves[0] + leaves[1]));
    assert!(close(7, leaves[2] + leaves[3]) && close(8, 0.0));

    for text in TEXTS {
        let options = PredictOptions { ancestors: Ancestors::Include, ..Default::default() };
        let answer = ask(&model, text, &options);
        let path: Vec<u32> = answer.path.iter().map(|ranked| ranked.class).collect();
        assert_eq!(path, model.class_path(answer.ranked[0].class));
        assert!(answer.path.is_sorted_by(|a, b| a.probability >= b.probability - 1e-6));
        assert_eq!(answer.path.last().unwrap().probability, answer.ranked[0].probability);
    }
}

#[test]
fn labels_of_a_multi_label_model_stand_alone() {
    let model = open(&sample(Link::Sigmoid));
    let thresholds = [0.5, 0.4, 0.6, 0.5, 0.45];
    let mut counts = [0; OUTPUTS + 1];
    for text in TEXTS {
        let all = probabilities(&model, text);
        assert!(all.iter().all(|probability| (0.0..=1.0).contains(probability)));
        let passing = (0..OUTPUTS).filter(|&class| all[class] >= thresholds[class]).count();
        counts[passing] += 1;
        let answer = ask(&model, text, &PredictOptions::default());
        assert_eq!(answer.ranked.len(), passing.max(1), "all chosen are listed");
        assert_eq!(answer.chosen().count(), passing);
        for ranked in &answer.ranked {
            let threshold = thresholds[ranked.class as usize];
            assert_eq!(ranked.chosen, ranked.probability >= threshold);
        }
        let common = PredictOptions { threshold: Some(0.7), top_k: 5, ..Default::default() };
        let answer = ask(&model, text, &common);
        assert_eq!(answer.ranked.len(), 5);
        let above = all.iter().filter(|probability| **probability >= 0.7).count();
        assert_eq!(answer.chosen().count(), above);
        assert!(answer.ranked.is_sorted_by(|a, b| a.probability >= b.probability));
    }
    assert!(counts.iter().filter(|count| **count > 0).count() > 1, "the sample tells cases apart");

    let even = ModelSpec { thresholds: Thresholds::default(), ..sample(Link::Sigmoid) };
    let even = open(&even);
    let above = probabilities(&even, TEXTS[1]).iter().filter(|p| **p >= 0.5).count();
    assert_eq!(ask(&even, TEXTS[1], &PredictOptions::default()).chosen().count(), above);
}

#[test]
fn a_batch_answers_as_one_by_one() {
    let model = open(&sample(Link::Softmax));
    let texts: Vec<String> = (0..3000).map(|n| format!("{} {n}", TEXTS[n % 8])).collect();
    let options = PredictOptions { top_k: 2, ..Default::default() };
    let batch = model.predict_batch(&texts, Some(&HashEncoder), &options).unwrap();
    assert_eq!(batch.len(), texts.len());
    for (text, answer) in texts.iter().zip(&batch).step_by(37) {
        assert_eq!(*answer, ask(&model, text, &options));
    }
    let nothing: [&str; 0] = [];
    assert_eq!(model.predict_batch(&nothing, None, &options), Ok(vec![]));
}

struct OtherEncoder {
    id: BlobHash,
    dimension: usize,
}

impl Encoder for OtherEncoder {
    fn id(&self) -> BlobHash {
        self.id
    }
    fn name(&self) -> &str {
        "other"
    }
    fn dimension(&self, view: EmbeddingView) -> Option<usize> {
        Some(self.dimension).filter(|_| view == EmbeddingView::Pooled)
    }
    fn encode(&self, _texts: &[&str], _views: &mut [ViewRows<'_>]) {
        panic!("an encoder that does not fit is not asked");
    }
}

#[test]
fn only_the_right_embedding_is_taken() {
    let model = open(&sample(Link::Softmax));
    let options = PredictOptions::default();
    let mut scratch = Scratch::default();
    let missing = model.predict("x", TextEmbedding::NONE, &mut scratch, &options).unwrap_err();
    assert!(
        matches!(&missing, PredictError::EncoderMissing { name, .. } if name == "hash-encoder")
    );
    let view = EmbeddingView::Pooled;
    let short = TextEmbedding::pooled(&[0.0; 7]);
    let short = model.predict("x", short, &mut scratch, &options).unwrap_err();
    assert_eq!(short, PredictError::EmbeddingLength { view, found: 7, wanted: 8 });
    let other = OtherEncoder { id: BlobHash::of(b"other"), dimension: 8 };
    let refused = model.predict_batch(&["x"], Some(&other), &options).unwrap_err();
    assert_eq!(refused, PredictError::EncoderDiffers { wanted: HashEncoder.id(), found: other.id });
    let longer = OtherEncoder { id: HashEncoder.id(), dimension: 9 };
    let refused = model.predict_batch(&["x"], Some(&longer), &options).unwrap_err();
    assert_eq!(refused, PredictError::EmbeddingLength { view, found: 9, wanted: 8 });

    // A model of all layers: neither an encoder nor an embedding without them will do.
    let layered = open(&later_sample(Link::Softmax));
    assert_eq!(layered.views().collect::<Vec<_>>(), EmbeddingView::ALL);
    let pooled_only = OtherEncoder { id: HashEncoder.id(), dimension: 8 };
    let refused = layered.predict_batch(&["x"], Some(&pooled_only), &options).unwrap_err();
    let view = EmbeddingView::Layers;
    assert_eq!(refused, PredictError::EmbeddingLength { view, found: 0, wanted: 20 });
    let pooled = TextEmbedding::pooled(&[0.0; 8]);
    let refused = layered.predict("x", pooled, &mut scratch, &options).unwrap_err();
    assert!(matches!(refused, PredictError::EncoderMissing { .. }));

    // A subset belongs to the model that made it.
    let smaller = ModelSpec { outputs: vec![0], ..sample(Link::Softmax) };
    assert!(smaller.to_bytes().is_err());
    let mut lexical = sample(Link::Softmax);
    lexical.members.truncate(1);
    lexical.encoder = None;
    let lexical = open(&lexical);
    assert!(lexical.predict("x", TextEmbedding::NONE, &mut scratch, &options).is_ok());
    assert!(lexical.predict("x", TextEmbedding::pooled(&[0.0; 3]), &mut scratch, &options).is_ok());
}

#[test]
fn a_scratch_serves_models_in_turn() {
    let models = [open(&sample(Link::Softmax)), open(&sample(Link::Sigmoid)), {
        let mut lexical = sample(Link::Softmax);
        lexical.members.truncate(1);
        open(&lexical)
    }];
    let mut shared = Scratch::default();
    let options = PredictOptions { top_k: 5, ..Default::default() };
    for text in TEXTS {
        for model in &models {
            let embedding = embeddings(&[text]);
            let answer = model.predict(text, embedding.text(0), &mut shared, &options);
            assert_eq!(answer.unwrap(), ask(model, text, &options));
        }
    }
}

#[test]
fn a_refused_text_has_no_chosen_class() {
    let with = |score, threshold| {
        let mut spec = sample(Link::Softmax);
        spec.thresholds =
            Thresholds { refusal: Some(Refusal { score, threshold }), ..Thresholds::default() };
        open(&spec)
    };
    let best =
        |text| probabilities(&open(&sample(Link::Softmax)), text).into_iter().fold(0.0, f32::max);
    let mut doubts = TEXTS.map(|text| 1.0 - best(text));
    doubts.sort_by(f32::total_cmp);
    let threshold = doubts[TEXTS.len() / 2];
    let model = with(RefusalScore::Doubt, threshold);
    let mut refused = 0;
    for text in TEXTS {
        let answer =
            ask(&model, text, &PredictOptions { back_off: Some(0.0), ..Default::default() });
        let verdict = answer.refusal.unwrap();
        assert_eq!(verdict.score, 1.0 - best(text));
        assert_eq!(verdict.is_refused, verdict.score >= threshold);
        assert_eq!(answer.chosen().count(), usize::from(!verdict.is_refused));
        assert_eq!(answer.backed_off.is_none(), verdict.is_refused);
        refused += usize::from(verdict.is_refused);

        // The score is of all classes, and may be left without effect.
        let subset = model.subset("1").unwrap();
        let options = PredictOptions {
            subset: Some(&subset),
            refusals: Refusals::Ignore,
            ..Default::default()
        };
        let within = ask(&model, text, &options);
        assert_eq!(within.refusal.unwrap().score, verdict.score);
        assert!(!within.refusal.unwrap().is_refused && within.chosen().count() == 1);
    }
    assert!(refused > 0 && refused < TEXTS.len());
    let entropy = ask(&with(RefusalScore::Entropy, 0.5), TEXTS[0], &PredictOptions::default());
    let wanted = corral_classifier::refusal::normalised_entropy(&probabilities(
        &open(&sample(Link::Softmax)),
        TEXTS[0],
    ));
    assert_eq!(entropy.refusal.unwrap().score, wanted);
    assert_eq!(ask(&open(&sample(Link::Softmax)), TEXTS[0], &Default::default()).refusal, None);
}

#[test]
fn a_detector_scores_the_signals_that_training_reads() {
    let spec = refusing_sample();
    let model = open(&spec);
    let Some(Refusal { score: RefusalScore::Detector(detector), .. }) = &spec.thresholds.refusal
    else {
        panic!("a detector")
    };
    for text in TEXTS {
        let embedding = embeddings(&[text]);
        let mut scratch = Scratch::default();
        let signals = model.signals(text, embedding.text(0), &mut scratch).unwrap().to_vec();
        assert_eq!(signals.len(), detector.weights.len());
        assert!(signals.iter().all(|signal| signal.is_finite()));
        let answer = ask(&model, text, &PredictOptions::default());
        assert_eq!(answer.refusal.unwrap().score, detector.score(&signals));
    }
}

#[test]
fn an_unsure_answer_backs_off_to_a_parent() {
    let model = open(&sample(Link::Softmax));
    for text in TEXTS {
        let leaves = probabilities(&model, text);
        let mut all = Vec::new();
        model.roll_up(&leaves, &mut all);
        let best = leaves.iter().copied().fold(0.0, f32::max);
        for least in [0.0, 0.3, 0.5, 0.6, 0.8, 0.95, 0.999, 1.1] {
            let options = PredictOptions { back_off: Some(least), ..Default::default() };
            let found = ask(&model, text, &options).backed_off;
            let reaching = |class: &u32| all[*class as usize] >= least;
            let deepest = (0..all.len() as u32)
                .filter(reaching)
                .map(|class| model.class_path(class).len())
                .max();
            match found {
                None => assert_eq!(deepest, None, "{least}"),
                Some(found) if best >= least => assert_eq!(found.probability, best),
                Some(found) => {
                    assert!((all[found.class as usize] - found.probability).abs() < 1e-6);
                    assert!(found.probability >= least && found.chosen);
                    assert_eq!(Some(model.class_path(found.class).len()), deepest);
                }
            }
        }
    }
}
