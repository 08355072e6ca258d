//! How long the finished model takes for one text, measured as it will be served.

use std::path::Path;
use std::time::Instant;

use corral_classifier::model::Scratch;
use corral_classifier::{Encoder, Model};

use crate::error::TrainError;
use crate::prepare::Prepared;
use crate::report::Latency;

/// Texts measured: enough for a 99th percentile, few enough to take no time.
const MEASURED_TEXTS: usize = 200;

/// Predicts some texts one by one, test rows where there are any; the first round warms up.
pub fn measure(
    prepared: &Prepared<'_>,
    model_path: &Path,
    encoder: Option<&dyn Encoder>,
) -> Result<Option<Latency>, TrainError> {
    let texts = if prepared.test.texts.is_empty() {
        &prepared.texts[..prepared.scored]
    } else {
        &prepared.test.texts
    };
    let stride = texts.len().div_ceil(MEASURED_TEXTS).max(1);
    let model = Model::open(model_path).map_err(TrainError::OpenModel)?;
    let mut scratch = Scratch::default();
    let mut predict = |text: &str| -> Result<f64, TrainError> {
        let clock = Instant::now();
        let embedding = model.encode(&[text], encoder).map_err(TrainError::Predict)?;
        model.probabilities(text, embedding.text(0), &mut scratch).map_err(TrainError::Predict)?;
        Ok(clock.elapsed().as_secs_f64() * 1e3)
    };
    let chosen = || texts.iter().step_by(stride);
    for text in chosen() {
        predict(text)?;
    }
    let mut times: Vec<f64> =
        chosen().map(|text| predict(text)).collect::<Result<_, TrainError>>()?;
    times.sort_by(f64::total_cmp);
    let quantile = |share: f64| {
        let place = (share * times.len() as f64).ceil() as usize;
        times.get(place.max(1) - 1).copied()
    };
    let (p50, p99) = (quantile(0.5), quantile(0.99));
    Ok(p50.zip(p99).map(|(p50_ms, p99_ms)| Latency { texts: times.len() as u64, p50_ms, p99_ms }))
}
