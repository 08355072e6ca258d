//! The state of a search between trials, so that it goes on where it was cut.
//!
//! Layout: the magic, the length of a JSON header, the header, then for each trial that has
//! predictions these as little-endian arrays: classes, probabilities, rests.

use corral_types::BlobHash;
use serde::{Deserialize, Serialize};

use crate::metrics::RankedRows;
use crate::report::TrialReport;
use crate::sampler::Point;
use crate::trial::{FittedCalibration, Outcome, Trial};

const MAGIC: &[u8; 8] = b"corralT3";

#[derive(Serialize, Deserialize)]
struct Header {
    fingerprint: BlobHash,
    class_count: usize,
    rows: usize,
    trials: Vec<TrialHeader>,
}

#[derive(Serialize, Deserialize)]
struct TrialHeader {
    report: TrialReport,
    point: Option<Point>,
    outcome: Option<OutcomeHeader>,
}

#[derive(Serialize, Deserialize)]
struct OutcomeHeader {
    calibration: FittedCalibration,
}

/// The finished trials of a search as bytes. `fingerprint` says of which rows and options.
pub fn write(fingerprint: BlobHash, class_count: usize, rows: usize, trials: &[Trial]) -> Vec<u8> {
    let header = Header {
        fingerprint,
        class_count,
        rows,
        trials: trials
            .iter()
            .map(|trial| TrialHeader {
                report: trial.report.clone(),
                point: trial.point.clone(),
                outcome: trial
                    .outcome
                    .as_ref()
                    .map(|outcome| OutcomeHeader { calibration: outcome.calibration.clone() }),
            })
            .collect(),
    };
    let header = serde_json::to_vec(&header).expect("plain values become JSON");
    let mut bytes = Vec::new();
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&(header.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&header);
    for outcome in trials.iter().filter_map(|trial| trial.outcome.as_ref()) {
        let (classes, probabilities, rest) = outcome.ranked.parts();
        bytes.extend(classes.iter().flat_map(|value| value.to_le_bytes()));
        bytes.extend(probabilities.iter().flat_map(|value| value.to_le_bytes()));
        bytes.extend(rest.iter().flat_map(|value| value.to_le_bytes()));
    }
    bytes
}

/// The trials of a checkpoint; `None` when it is damaged or of other rows or options, and
/// then the search starts anew.
pub fn read(bytes: &[u8], fingerprint: BlobHash) -> Option<Vec<Trial>> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (length, rest) = rest.split_first_chunk::<8>()?;
    let (header, mut rest) =
        rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    let header: Header = serde_json::from_slice(header).ok()?;
    if header.fingerprint != fingerprint {
        return None;
    }
    let width = RankedRows::width_for(header.class_count);
    let mut take = |count: usize| -> Option<Vec<[u8; 4]>> {
        let (taken, left) = rest.split_at_checked(count.checked_mul(4)?)?;
        rest = left;
        Some(taken.as_chunks::<4>().0.to_vec())
    };
    let mut trials = Vec::with_capacity(header.trials.len());
    for trial in header.trials {
        let mut ranked = || {
            let cells = header.rows.checked_mul(width)?;
            let classes = take(cells)?.into_iter().map(u32::from_le_bytes).collect();
            let probabilities = take(cells)?.into_iter().map(f32::from_le_bytes).collect();
            let rests = take(header.rows)?.into_iter().map(f32::from_le_bytes).collect();
            RankedRows::from_parts(header.class_count, classes, probabilities, rests)
        };
        let outcome = match trial.outcome {
            None => None,
            Some(OutcomeHeader { calibration }) => Some(Outcome { calibration, ranked: ranked()? }),
        };
        trials.push(Trial { report: trial.report, point: trial.point, outcome });
    }
    Some(trials)
}
