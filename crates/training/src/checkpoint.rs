//! The state of a search between trials, so that it goes on where it was cut.
//!
//! Layout: the magic, the length of a JSON header, the header, then for each trial its
//! predictions as little-endian arrays: classes, probabilities, rests.

use corral_types::BlobHash;
use serde::{Deserialize, Serialize};

use crate::metrics::RankedRows;
use crate::report::TrialReport;
use crate::trial::{FittedCalibration, Trial};

const MAGIC: &[u8; 8] = b"corralT1";

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
    calibration: FittedCalibration,
    ece_uncalibrated: f64,
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
                calibration: trial.calibration.clone(),
                ece_uncalibrated: trial.ece_uncalibrated,
            })
            .collect(),
    };
    let header = serde_json::to_vec(&header).expect("plain values become JSON");
    let mut bytes = Vec::new();
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&(header.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&header);
    for trial in trials {
        let (classes, probabilities, rest) = trial.ranked.parts();
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
        let cells = header.rows.checked_mul(width)?;
        let classes = take(cells)?.into_iter().map(u32::from_le_bytes).collect();
        let probabilities = take(cells)?.into_iter().map(f32::from_le_bytes).collect();
        let rests = take(header.rows)?.into_iter().map(f32::from_le_bytes).collect();
        trials.push(Trial {
            report: trial.report,
            calibration: trial.calibration,
            ranked: RankedRows::from_parts(header.class_count, classes, probabilities, rests)?,
            ece_uncalibrated: trial.ece_uncalibrated,
        });
    }
    Some(trials)
}
