//! What tells one run's checkpoints from another's.

use corral_classifier::Encoder;
use corral_types::BlobHash;
use serde_json::json;

use crate::options::TrainOptions;
use crate::plan::Plan;
use crate::prepare::Prepared;

/// A hash over everything that finished trials depend on: rows, classes, candidates, folds,
/// seed, metric, encoder.
pub fn fingerprint(
    prepared: &Prepared<'_>,
    plan: &Plan,
    options: &TrainOptions,
    encoder: Option<&dyn Encoder>,
) -> BlobHash {
    let mut hasher = blake3::Hasher::new();
    let settings = json!({
        // Another version may draw other candidates.
        "version": env!("CARGO_PKG_VERSION"),
        "schedule": plan.schedule,
        "folds": plan.folds,
        "seed": options.seed,
        "metric": options.metric,
        "model_bytes": options.model_bytes,
        "max_latency_us": options.max_latency_us,
        "encoder": encoder.map(|encoder| encoder.id().to_string()),
        "taxonomy": prepared.taxonomy.version().to_string(),
        "outputs": prepared.outputs,
        "class_weights": prepared.class_weights,
        "scored": prepared.scored,
    });
    hasher.update(settings.to_string().as_bytes());
    for (row, text) in prepared.texts.iter().enumerate() {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
        let (classes, shares) = prepared.targets.row(row);
        hasher.update(&(classes.len() as u64).to_le_bytes());
        hasher.update(&[prepared.targets.meaning(row) as u8]);
        for (class, share) in classes.iter().zip(shares) {
            hasher.update(&class.to_le_bytes());
            hasher.update(&share.to_le_bytes());
        }
        hasher.update(&prepared.weights[row].to_le_bytes());
    }
    for weight in prepared.row_counts.iter().flatten() {
        hasher.update(&weight.to_le_bytes());
    }
    BlobHash::of(hasher.finalize().as_bytes())
}
