//! A model keeps to the time that it may take for one text.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use corral_classifier::{EmbeddingView, Encoder, ViewRows};
use corral_training::{Report, TrainError, TrainOptions, TrainingRows, Unobserved, train};
use corral_types::{BlobHash, ErrorKind, Explain};

const CLASSES: u32 = 6;
const WIDTH: usize = 8;

/// An encoder that knows the classes: nobody would leave it out who need not.
struct KnowingEncoder;

impl Encoder for KnowingEncoder {
    fn id(&self) -> BlobHash {
        BlobHash::of(b"knowing")
    }

    fn name(&self) -> &str {
        "knowing"
    }

    fn dimension(&self, view: EmbeddingView) -> Option<usize> {
        Some(WIDTH).filter(|_| view == EmbeddingView::Pooled)
    }

    fn encode(&self, texts: &[&str], views: &mut [ViewRows<'_>]) {
        for rows in views {
            for (text, out) in texts.iter().zip(rows.values.chunks_exact_mut(WIDTH)) {
                let (_, number) = text.rsplit_once(' ').unwrap();
                out.fill(0.0);
                out[number.parse::<usize>().unwrap() % CLASSES as usize] = 1.0;
            }
        }
    }
}

/// Sentences whose words tell their class most of the time, and whose last number does always.
fn trained(max_latency_us: Option<u64>) -> Result<Report, TrainError> {
    let texts: Vec<String> = (0..240u32)
        .map(|row| {
            let told = if row % 4 == 0 { row * 7 % 11 } else { row };
            format!("topic{} of filler{} and number {row}", told % CLASSES, row % 13)
        })
        .collect();
    let names = (0..CLASSES).map(|class| format!("class {class}")).collect();
    let labelled = (0u32..).zip(&texts).map(|(row, text)| (text.as_str(), row % CLASSES));
    let rows = TrainingRows::single_choice(names, labelled);
    let options = TrainOptions { trials: Some(12), max_latency_us, ..TrainOptions::default() };
    let out = tempfile::tempdir().unwrap();
    let encoder = Some(&KnowingEncoder as &dyn Encoder);
    let outcome = train(&rows, None, &options, encoder, &Unobserved, None, out.path())?;
    Ok(outcome.report)
}

#[test]
fn a_tight_limit_leaves_the_encoder_out() {
    let free = trained(None).unwrap();
    assert_eq!(free.model.encoder.as_deref(), Some("knowing"));
    assert_eq!(free.model.max_latency_us, None);
    assert!(free.model.estimated_latency_us.unwrap() > 500.0);

    let tight = trained(Some(500)).unwrap();
    assert_eq!(tight.model.encoder, None);
    let reads_encoder = |name: &str| name.contains("pooled");
    assert!(tight.trials.iter().all(|trial| !reads_encoder(&trial.candidate.name())));
    assert!(tight.trials.iter().all(|trial| trial.head_nanos > 0.0));
    let estimated = tight.model.estimated_latency_us.unwrap();
    assert!(estimated > 0.0 && estimated <= 500.0, "{estimated}");
    let text = tight.render_text();
    assert!(text.contains("ms expected and 0.500 ms allowed"), "{text}");
    assert!(tight.render_html().contains("It was allowed to take"));

    // Room for the encoder and one lexicon, not for everything.
    let limit = free.model.estimated_latency_us.unwrap().ceil() as u64;
    let some = trained(Some(limit)).unwrap();
    assert_eq!(some.model.encoder.as_deref(), Some("knowing"));
    assert!(some.model.estimated_latency_us.unwrap() <= limit as f64);
}

#[test]
fn a_limit_that_nothing_keeps_is_refused_by_name() {
    let refused = trained(Some(1)).unwrap_err();
    let TrainError::Latency { limit_us: 1, fastest_us, .. } = &refused else {
        panic!("{refused}");
    };
    assert!(*fastest_us > 1);
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    let text = refused.to_string();
    assert!(text.contains("within 0.001 ms: the fastest, words"), "{text}");
    assert!(refused.hint().unwrap().contains("--max-latency"));
}
