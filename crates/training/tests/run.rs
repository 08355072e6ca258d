//! Whole runs on made-up data: the same bytes however they go, and clear refusals.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use corral_classifier::model::Scratch;
use corral_classifier::{EmbeddingView, Encoder, Link, Model, TextEmbedding, ViewRows};
use corral_training::{
    BlockCache, Candidate, ClassTexts, ClassWeighting, FeaturizerSettings, LabelKind,
    LearnerSettings, LexiconSettings, Metric, Observer, Report, RowLabels, Split, TrainError,
    TrainOptions, TrainOutcome, TrainingRows, TrialEnding, TrialReport, Unobserved, WarningKind,
    train,
};
use corral_types::{BlobHash, Explain};

/// An encoder that hashes words into a few directions.
struct WordEncoder;

impl Encoder for WordEncoder {
    fn id(&self) -> BlobHash {
        BlobHash::of(b"words")
    }

    fn name(&self) -> &str {
        "words"
    }

    fn dimension(&self, view: EmbeddingView) -> Option<usize> {
        Some(24).filter(|_| view == EmbeddingView::Pooled)
    }

    fn encode(&self, texts: &[&str], views: &mut [ViewRows<'_>]) {
        let [ViewRows { view: EmbeddingView::Pooled, values }] = views else {
            panic!("there is the pooled view only")
        };
        for (text, out) in texts.iter().zip(values.chunks_exact_mut(24)) {
            out.fill(0.0);
            for word in text.split_whitespace() {
                let hash = blake3::hash(word.as_bytes());
                out[usize::from(hash.as_bytes()[0]) % 24] += 1.0;
                out[usize::from(hash.as_bytes()[1]) % 24] -= 0.5;
            }
            let norm = out.iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-6);
            out.iter_mut().for_each(|value| *value /= norm);
        }
    }
}

/// Sentences of words that mostly belong to their class.
struct Corpus {
    texts: Vec<String>,
    labels: Vec<u32>,
}

const CLASSES: usize = 20;

fn corpus(rows: usize) -> Corpus {
    let mut state = 5u64;
    let mut below = |bound: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    let (mut texts, mut labels) = (Vec::new(), Vec::new());
    for row in 0..rows {
        let class = row % CLASSES;
        let words: Vec<String> = (0..4 + below(4))
            .map(|_| match below(3) {
                0 => format!("common{}", below(40)),
                1 => format!("noise{}", below(300)),
                _ => format!("topic{}word{}", class, below(6)),
            })
            .collect();
        texts.push(words.join(" "));
        labels.push(class as u32);
    }
    Corpus { texts, labels }
}

impl Corpus {
    fn rows(&self) -> TrainingRows<'_> {
        let names = (0..CLASSES).map(|class| format!("class {class:02}")).collect();
        let rows = self.texts.iter().map(String::as_str).zip(self.labels.iter().copied());
        let mut rows = TrainingRows::single_choice(names, rows);
        for (row, split) in rows.splits.iter_mut().enumerate() {
            *split = if row % 7 == 3 { Split::Test } else { Split::Train };
        }
        rows
    }
}

fn options() -> TrainOptions {
    TrainOptions { trials: Some(5), seed: 11, checkpoint_every_ms: 0, ..TrainOptions::default() }
}

/// Keeps every checkpoint.
#[derive(Default)]
struct Checkpoints(Mutex<Vec<Vec<u8>>>);

impl Observer for Checkpoints {
    fn progress(&self, fraction: f32, _: &str, detail: serde_json::Value) {
        assert!((0.0..=1.0).contains(&fraction));
        let memory = detail["memory_bytes"].as_u64();
        assert!(memory.is_some_and(|bytes| bytes > 1 << 20) || detail["phase"] == "done");
        if detail["phase"] == "search" {
            let count = |key: &str| detail[key].as_u64().unwrap();
            assert!(count("trials_done") + count("trials_running") <= count("trials_planned"));
            assert!(detail["seconds_left"].as_f64().unwrap() >= 0.0);
        }
    }

    fn log(&self, _: &str) {}

    fn checkpoint(&self, state: &[u8]) {
        self.0.lock().unwrap().push(state.to_vec());
    }
}

fn run(
    rows: &TrainingRows<'_>,
    options: &TrainOptions,
    observer: &dyn Observer,
    checkpoint: Option<&[u8]>,
) -> (TrainOutcome, Vec<u8>) {
    let out = tempfile::tempdir().unwrap();
    let outcome =
        train(rows, None, options, Some(&WordEncoder), observer, checkpoint, out.path()).unwrap();
    let bytes = std::fs::read(&outcome.model_path).unwrap();
    assert_eq!(outcome.model_hash, BlobHash::of(&bytes));
    (outcome, bytes)
}

fn refusal(rows: &TrainingRows<'_>, options: &TrainOptions) -> TrainError {
    let out = tempfile::tempdir().unwrap();
    let error = train(rows, None, options, None, &Unobserved, None, out.path()).unwrap_err();
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0, "a refused run left files");
    error
}

#[test]
fn threads_and_resumption_do_not_change_a_byte() {
    // As many rows as make trials climb rungs, and trials enough that the sampler learns.
    let corpus = corpus(3600);
    let rows = corpus.rows();
    let kept = Checkpoints::default();
    let options = || TrainOptions { trials: Some(13), ..options() };
    let one_thread = TrainOptions { threads: Some(1), ..options() };
    let (outcome, bytes) = run(&rows, &one_thread, &kept, None);
    let report = &outcome.report;
    assert_eq!(report.trials.len(), 13);
    let stopped = |trial: &&TrialReport| trial.ending == TrialEnding::StoppedEarly;
    assert!(report.trials.iter().filter(stopped).count() > 3, "{}", report.render_text());
    assert!(report.cv.accuracy > 0.88, "{}", report.render_text());
    assert!(report.test.as_ref().unwrap().accuracy > 0.85, "{}", report.render_text());
    assert!(report.cv.ece < report.cv_ece_uncalibrated.max(0.05), "{}", report.render_text());

    for threads in [2, 4] {
        let options = TrainOptions { threads: Some(threads), ..options() };
        let (other, other_bytes) = run(&rows, &options, &Unobserved, None);
        assert_eq!(bytes, other_bytes, "{threads} threads");
        assert_eq!(report.cv, other.report.cv);
    }

    let checkpoints = kept.0.into_inner().unwrap();
    assert_eq!(checkpoints.len(), 4, "one trial alone, then three brackets of four");
    for (brackets, state) in checkpoints.iter().enumerate().skip(1) {
        let done = 1 + 4 * brackets;
        let later = Checkpoints::default();
        let (resumed, resumed_bytes) = run(&rows, &one_thread, &later, Some(state));
        assert_eq!(bytes, resumed_bytes, "resumed after trial {done}");
        assert_eq!(
            report.trials[..done],
            resumed.report.trials[..done],
            "finished trials are told again"
        );
        assert_eq!(
            later.0.into_inner().unwrap().len(),
            3 - brackets,
            "finished trials are not run again"
        );
    }

    let another = TrainOptions { seed: 12, ..one_thread.clone() };
    assert_ne!(
        bytes,
        run(&rows, &another, &Unobserved, Some(&checkpoints[3])).1,
        "another run's checkpoint is not used"
    );
    for damaged in [
        &checkpoints[3][..checkpoints[3].len() - 1],
        b"",
        b"corralT2\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        assert_eq!(
            bytes,
            run(&rows, &one_thread, &Unobserved, Some(damaged)).1,
            "a damaged checkpoint starts anew"
        );
    }
}

/// Cancels, or asks to finish, once so many folds are done.
struct Ends {
    after: usize,
    folds: AtomicUsize,
    cancels: bool,
}

impl Ends {
    fn is_over(&self) -> bool {
        self.folds.load(Ordering::SeqCst) >= self.after
    }
}

impl Observer for Ends {
    fn progress(&self, _: f32, _: &str, detail: serde_json::Value) {
        if detail["phase"] == "search" {
            self.folds.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn log(&self, _: &str) {}

    fn is_cancelled(&self) -> bool {
        self.cancels && self.is_over()
    }

    fn finish_now(&self) -> bool {
        !self.cancels && self.is_over()
    }
}

#[test]
fn the_trials_of_a_report_make_the_same_model_again() {
    let corpus = corpus(3600);
    let rows = corpus.rows();
    let searched = TrainOptions { trials: Some(13), ..options() };
    let (outcome, bytes) = run(&rows, &searched, &Unobserved, None);
    let complete =
        outcome.report.trials.iter().filter(|trial| trial.ending == TrialEnding::Complete);
    let replay = TrainOptions {
        replay: complete.map(|trial| trial.candidate).collect(),
        trials: None,
        ..searched
    };
    let (replayed, replayed_bytes) = run(&rows, &replay, &Unobserved, None);
    assert_eq!(bytes, replayed_bytes);
    assert_eq!(replayed.report.cv, outcome.report.cv);
}

#[test]
fn listed_candidates_follow_each_other_and_bad_ones_are_refused() {
    let corpus = corpus(700);
    let rows = corpus.rows();
    let featurizer = FeaturizerSettings::lexical(LexiconSettings::WORDS);
    let svm = |cost| Candidate { featurizer, learner: LearnerSettings::LinearSvm { cost } };
    let softmax = |cost| Candidate { featurizer, learner: LearnerSettings::Softmax { cost } };
    // Out of order and mixed with another kind: paths are found and taken upwards.
    let candidates = vec![svm(1.0), softmax(8.0), svm(0.25), svm(0.5), softmax(2.0), svm(2.0)];
    let listed = |threads| TrainOptions {
        candidates: candidates.clone(),
        trials: None,
        threads: Some(threads),
        ..options()
    };
    let (outcome, bytes) = run(&rows, &listed(1), &Unobserved, None);
    let trials = &outcome.report.trials;
    assert_eq!(trials.iter().map(|trial| trial.candidate).collect::<Vec<_>>(), candidates);
    assert_eq!(bytes, run(&rows, &listed(3), &Unobserved, None).1);

    let alone = TrainOptions { replay: candidates.clone(), candidates: Vec::new(), ..listed(1) };
    let (alone, _) = run(&rows, &alone, &Unobserved, None);
    for (trial, alone) in trials.iter().zip(&alone.report.trials) {
        assert!((trial.score - alone.score).abs() < 0.02, "{}", trial.candidate.name());
    }
    let passes = |report: &Report| report.trials.iter().map(|trial| trial.passes).sum::<usize>();
    let (together, alone) = (passes(&outcome.report), passes(&alone.report));
    assert!(together < alone, "{together} passes as paths, {alone} alone");

    let refused = |candidate| {
        let options = TrainOptions { candidates: vec![svm(1.0), candidate], ..listed(1) };
        refusal(&rows, &options).to_string()
    };
    assert_eq!(
        refused(svm(-1.0)),
        "candidate 2 cannot be tried: its cost is -1, and must be from 0.000001 to 1000000"
    );
    let pooled = FeaturizerSettings::embedding(EmbeddingView::Pooled);
    let unreadable = refused(Candidate { featurizer: pooled, ..svm(1.0) });
    assert!(unreadable.contains("no encoder"), "{unreadable}");
    let neighbours = LearnerSettings::Neighbours { neighbours: 5, sharpness: 10.0 };
    let wrong = refused(Candidate { featurizer, learner: neighbours });
    assert!(wrong.ends_with("neighbours reads an embedding alone"), "{wrong}");
}

/// Counts the texts that an encoder is given.
struct Counted(AtomicUsize);

impl Encoder for Counted {
    fn id(&self) -> BlobHash {
        WordEncoder.id()
    }

    fn name(&self) -> &str {
        WordEncoder.name()
    }

    fn dimension(&self, view: EmbeddingView) -> Option<usize> {
        WordEncoder.dimension(view)
    }

    fn encode(&self, texts: &[&str], views: &mut [ViewRows<'_>]) {
        self.0.fetch_add(texts.len(), Ordering::Relaxed);
        WordEncoder.encode(texts, views);
    }
}

#[test]
fn a_repeated_run_does_not_embed_again() {
    let corpus = corpus(300);
    let rows = corpus.rows();
    let folder = tempfile::tempdir().unwrap();
    let cache = BlockCache { folder: folder.path().join("blocks"), quota_bytes: 1 << 20 };
    let cached = TrainOptions { block_cache: Some(cache), ..options() };
    let texts_embedded = |options: &TrainOptions| {
        let (encoder, out) = (Counted(AtomicUsize::new(0)), tempfile::tempdir().unwrap());
        let outcome =
            train(&rows, None, options, Some(&encoder), &Unobserved, None, out.path()).unwrap();
        (encoder.0.into_inner(), outcome.model_hash)
    };
    let (without, model) = texts_embedded(&options());
    let first = texts_embedded(&cached);
    assert_eq!(first, (without, model));
    let (again, same) = texts_embedded(&cached);
    assert_eq!(same, model);
    let learnt_from = rows.splits.iter().filter(|split| **split != Split::Test).count();
    assert_eq!(without - again, learnt_from, "only texts of the test split are embedded again");
}

#[test]
fn a_run_can_be_cancelled_or_finished_early() {
    let corpus = corpus(200);
    let rows = corpus.rows();
    let out = tempfile::tempdir().unwrap();
    let one_thread = TrainOptions { threads: Some(1), ..options() };
    let cancel = Ends { after: 7, folds: AtomicUsize::new(0), cancels: true };
    let error = train(&rows, None, &one_thread, None, &cancel, None, out.path()).unwrap_err();
    assert!(matches!(error, TrainError::Cancelled), "{error}");
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0);

    let finish = Ends { after: 7, folds: AtomicUsize::new(0), cancels: false };
    let (outcome, _) = run(&rows, &one_thread, &finish, None);
    assert_eq!((outcome.report.trials.len(), outcome.report.trials_left_out), (1, 4));
    assert!(outcome.report.cut_short);
    assert_eq!(outcome.report.warnings.last().unwrap().kind, WarningKind::CutShort);

    let no_time = TrainOptions { stop_after_ms: Some(0), ..one_thread };
    assert_eq!(
        run(&rows, &no_time, &Unobserved, None).0.report.trials.len(),
        1,
        "one trial is always run"
    );
}

#[test]
fn the_model_file_answers_as_the_report_says() {
    let corpus = corpus(420);
    let rows = corpus.rows();
    let out = tempfile::tempdir().unwrap();
    let outcome =
        train(&rows, None, &options(), Some(&WordEncoder), &Unobserved, None, out.path()).unwrap();
    let model = Model::open(&outcome.model_path).unwrap();
    assert_eq!((model.link(), model.output_count()), (Link::Softmax, CLASSES));
    let mut scratch = Scratch::default();
    let (mut hits, mut count) = (0, 0);
    for row in (0..rows.texts.len()).filter(|&row| rows.splits[row] == Split::Test) {
        let embedding = model.encode(&[rows.texts[row]], Some(&WordEncoder)).unwrap();
        let probabilities =
            model.probabilities(rows.texts[row], embedding.text(0), &mut scratch).unwrap();
        assert!((probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-4);
        let best =
            (0..CLASSES).max_by(|&a, &b| probabilities[a].total_cmp(&probabilities[b])).unwrap();
        hits += usize::from(
            model.output_class(best).unwrap().name == rows.label_names[corpus.labels[row] as usize],
        );
        count += 1;
    }
    let told = outcome.report.test.unwrap().accuracy;
    assert!(
        (told - hits as f64 / count as f64).abs() < 1e-9,
        "{told} told, {hits} of {count} found"
    );
    let read: corral_training::Report =
        serde_json::from_slice(&std::fs::read(&outcome.report_path).unwrap()).unwrap();
    assert_eq!(read.trials, outcome.report.trials);
}

#[test]
fn ambiguous_rows_and_probabilistic_labels_are_learnt() {
    let corpus = corpus(400);
    let mut rows = corpus.rows();
    rows.labels = RowLabels::new();
    for (row, &label) in corpus.labels.iter().enumerate() {
        match row % 3 {
            0 => rows.labels.push_several(&[label, (label + 1) % CLASSES as u32]),
            1 => rows.labels.push_shares(&[(label, 8.0), ((label + 5) % CLASSES as u32, 2.0)]),
            _ => rows.labels.push_one(label),
        }
    }
    rows.weights =
        Some((0..rows.texts.len()).map(|row| if row % 11 == 0 { 0.0 } else { 1.5 }).collect());
    let (outcome, _) = run(&rows, &options(), &Unobserved, None);
    // A third of the rows are worth 0.8 at best.
    let accuracy = outcome.report.test.unwrap().accuracy;
    assert!((0.78..0.934).contains(&accuracy), "{accuracy}");
    let zero = (0..rows.texts.len())
        .filter(|&row| row % 11 == 0 && rows.splits[row] != Split::Test)
        .count();
    assert_eq!(outcome.report.data.labelled_rows, outcome.report.data.train_rows - zero as u64);
}

#[test]
fn several_labels_a_row_are_learnt() {
    let corpus = corpus(400);
    let texts: Vec<String> = (0..corpus.texts.len())
        .map(|row| match row % 10 {
            9 => "nothing of note".to_owned(),
            _ => format!("{} {}", corpus.texts[row], corpus.texts[(row + 23) % corpus.texts.len()]),
        })
        .collect();
    let mut rows = corpus.rows();
    rows.kind = LabelKind::MultiLabel;
    rows.texts = texts.iter().map(String::as_str).collect();
    rows.labels = RowLabels::new();
    for row in 0..texts.len() {
        match row % 10 {
            9 => rows.labels.push_several(&[]),
            _ => rows
                .labels
                .push_several(&[corpus.labels[row], corpus.labels[(row + 23) % texts.len()]]),
        }
    }
    let options = TrainOptions {
        metric: Some(Metric::MicroF1),
        class_weighting: ClassWeighting::Balanced,
        ..options()
    };
    let (outcome, bytes) = run(&rows, &options, &Unobserved, None);
    let test = outcome.report.test.as_ref().unwrap();
    assert!(test.micro_f1 > 0.8 && test.macro_f1 > 0.8, "{}", outcome.report.render_text());
    assert_eq!(Model::from_bytes(&bytes).unwrap().link(), Link::Sigmoid);
    let log_loss = TrainOptions { metric: Some(Metric::LogLoss), ..options };
    assert!(matches!(refusal(&rows, &log_loss), TrainError::MetricUndefined { .. }));
}

#[test]
fn members_of_a_multi_label_task_are_joined() {
    // Classes share most of their words with their neighbours: no learner can be sure, and each
    // is wrong about other rows.
    let mut numbers = 9u64;
    let mut below = |bound: u64| {
        numbers = numbers.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99_991);
        (numbers >> 33) % bound
    };
    let classes = |row: u64| [row % 20, (row * 7 + row / 20) % 20];
    let texts: Vec<String> = (0..700)
        .map(|row| {
            let words = classes(row).map(|class| {
                let words = (0..5).map(|_| format!("word{} ", (class * 3 + below(9)) % 60));
                words.collect::<String>()
            });
            words.concat()
        })
        .collect();
    let corpus = Corpus { labels: vec![0; texts.len()], texts };
    let mut rows = corpus.rows();
    rows.kind = LabelKind::MultiLabel;
    rows.labels = RowLabels::new();
    (0..700).for_each(|row| rows.labels.push_several(&classes(row).map(|class| class as u32)));
    let options = TrainOptions {
        metric: Some(Metric::MicroF1),
        trials: Some(8),
        threads: Some(1),
        ..options()
    };
    let (outcome, bytes) = run(&rows, &options, &Unobserved, None);
    let three = TrainOptions { threads: Some(3), ..options };
    assert_eq!(run(&rows, &three, &Unobserved, None).1, bytes, "by three threads");
    let report = &outcome.report;
    let complete = report.trials.iter().filter(|trial| trial.ending == TrialEnding::Complete);
    let best = complete.map(|trial| trial.score).fold(0.0, f64::max);
    println!("{}", report.render_text());
    assert!(report.members.len() > 1);
    assert!(report.cv.micro_f1 > best, "{} for {best}", report.cv.micro_f1);
    assert!(report.cv.ece < 0.03, "{}", report.cv.ece);
    println!("thresholds {:?}", Model::from_bytes(&bytes).unwrap().output_thresholds());
    let test = report.test.as_ref().unwrap();
    assert!((test.micro_f1 - report.cv.micro_f1).abs() < 0.1, "{test:?}");
}

#[test]
fn a_taxonomy_brings_its_texts_and_its_levels() {
    let corpus = corpus(400);
    let mut rows = corpus.rows();
    let mut lines = vec!["id,name,parent".to_owned()];
    lines.extend((0..4).map(|group| format!("g{group},group {group},")));
    lines.extend((0..CLASSES).map(|class| format!("c{class},class {class:02},g{}", class % 4)));
    lines.push("c99,topic99word1 topic99word2 alone,g0".to_owned());
    let taxonomy =
        corral_taxonomy::parse("t.csv", lines.join("\n").as_bytes(), &Default::default()).unwrap();
    let out = tempfile::tempdir().unwrap();
    let run = |rows: &TrainingRows<'_>, options: &TrainOptions| {
        train(rows, Some(&taxonomy), options, None, &Unobserved, None, out.path())
    };
    let outcome = run(&rows, &options()).unwrap();
    assert_eq!((outcome.report.data.classes, outcome.report.data.class_texts), (21, 21));
    let levels = &outcome.report.test.as_ref().unwrap().levels;
    assert_eq!((levels.len(), levels[0].classes, levels[1].classes), (2, 4, 21));
    assert!(levels[0].accuracy >= levels[1].accuracy);
    let model = Model::open(&outcome.model_path).unwrap();
    let answer = model
        .predict(
            "topic99word1 alone",
            TextEmbedding::NONE,
            &mut Scratch::default(),
            &Default::default(),
        )
        .unwrap();
    assert_eq!(
        model.class(answer.ranked[0].class).unwrap().id,
        "c99",
        "a class known by its name alone"
    );

    let without = TrainOptions { class_texts: ClassTexts::None, ..options() };
    assert_eq!(run(&rows, &without).unwrap().report.data.classes, 20);

    rows.label_names[3] = "clas 03".to_owned();
    let error = run(&rows, &options()).unwrap_err();
    assert!(error.to_string().contains("`clas 03` (20 rows; like `class 03`)"), "{error}");
    assert!(error.hint().is_some());
}

#[test]
fn what_cannot_be_learnt_is_refused_with_what_to_do() {
    let corpus = corpus(60);
    let mut unlabelled = corpus.rows();
    unlabelled.labels = RowLabels::new();
    (0..60).for_each(|_| unlabelled.labels.push_unlabelled());
    let error = refusal(&unlabelled, &options());
    assert!(matches!(error, TrainError::NothingLabelled { .. }), "{error}");
    assert!(error.hint().unwrap().contains("--label"));

    let names = || vec!["a".to_owned(), "b".to_owned()];
    let one_class = TrainingRows::single_choice(names(), [("x y", 0), ("y z", 0), ("z w", 0)]);
    assert!(
        matches!(refusal(&one_class, &options()), TrainError::OneClass { class } if class == "a")
    );
    let one_row = TrainingRows::single_choice(names(), [("x y", 0)]);
    assert!(matches!(refusal(&one_row, &options()), TrainError::OneClass { .. }));
    let same_text = TrainingRows::single_choice(names(), [("x y", 0), ("X  y", 1), ("x y", 1)]);
    assert!(matches!(refusal(&same_text, &options()), TrainError::TooFewTexts { texts: 1, .. }));
    let no_words = TrainingRows::single_choice(names(), [(" ", 0), ("", 1), ("\t", 1)]);
    assert!(matches!(refusal(&no_words, &options()), TrainError::NothingLabelled { .. }));
    let far_code = TrainingRows::single_choice(names(), [("x", 0), ("y", 2)]);
    assert!(matches!(refusal(&far_code, &options()), TrainError::LabelCode { code: 2, .. }));

    let mut rows = corpus.rows();
    rows.weights = Some(vec![1.0; 60]);
    rows.weights.as_mut().unwrap()[7] = f32::NAN;
    assert!(matches!(refusal(&rows, &options()), TrainError::RowWeight { row_id: 7, .. }));
    rows.weights = Some(vec![1.0; 59]);
    assert!(matches!(
        refusal(&rows, &options()),
        TrainError::ColumnLength { column: "weights", .. }
    ));
    rows.weights = None;
    rows.labels = RowLabels::new();
    (0..60).for_each(|_| rows.labels.push_shares(&[(0, 0.5), (1, f32::INFINITY)]));
    assert!(matches!(refusal(&rows, &options()), TrainError::LabelShare { row_id: 0, .. }));

    let rows = corpus.rows();
    let small = TrainOptions { memory_bytes: 1 << 10, ..options() };
    let error = refusal(&rows, &small);
    assert!(matches!(error, TrainError::Memory { limit: 1024, .. }), "{error}");
    assert!(error.hint().unwrap().contains("features"), "{:?}", error.hint());
    let options = |change: fn(&mut TrainOptions)| {
        let mut options = options();
        change(&mut options);
        options
    };
    assert!(matches!(
        refusal(&rows, &options(|o| o.trials = Some(0))),
        TrainError::ZeroOption { option: "trials" }
    ));
    assert!(matches!(
        refusal(&rows, &options(|o| o.threads = Some(0))),
        TrainError::ZeroOption { .. }
    ));
    assert!(matches!(
        refusal(&rows, &options(|o| o.folds = Some(1))),
        TrainError::Folds { folds: 1, .. }
    ));
    let nowhere = train(
        &rows,
        None,
        &options(|_| ()),
        None,
        &Unobserved,
        None,
        Path::new("/nonexistent/folder"),
    );
    assert!(matches!(nowhere.unwrap_err(), TrainError::WriteModel(_)));
}

#[test]
fn odd_data_is_learnt_with_a_warning() {
    let names = vec!["a".to_owned(), "b".to_owned(), "rare".to_owned(), "only in test".to_owned()];
    let mut rows: Vec<(String, u32)> = (0..40)
        .map(|row| (format!("{} thing {row}", if row % 2 == 0 { "red" } else { "blue" }), row % 2))
        .collect();
    rows.push(("a rare bird".to_owned(), 2));
    rows.push((String::new(), 0));
    rows.push(("red thing 0".to_owned(), 0));
    rows.push(("something else".to_owned(), 3));
    let mut rows = TrainingRows::single_choice(
        names,
        rows.iter().map(|(text, label)| (text.as_str(), *label)),
    );
    rows.splits[42] = Split::Test;
    rows.splits[43] = Split::Test;
    let out = tempfile::tempdir().unwrap();
    let outcome = train(&rows, None, &options(), None, &Unobserved, None, out.path()).unwrap();
    let report = outcome.report;
    let kinds: Vec<WarningKind> = report.warnings.iter().map(|warning| warning.kind).collect();
    assert_eq!(
        kinds,
        [
            WarningKind::EmptyTexts,
            WarningKind::TinyClasses,
            WarningKind::TestClassesNotLearnt,
            WarningKind::DuplicatesAcrossSplits
        ]
    );
    assert_eq!(report.warnings[3].examples, ["row 42"]);
    assert_eq!(report.data.classes, 3);
    assert!(report.cv.accuracy > 0.9);
    assert_eq!(report.test.unwrap().accuracy, 0.5, "a class never learnt is never hit");
}
