//! A run's report from its parts, and the files it is kept in.

use std::path::{Path, PathBuf};

use corral_classifier::Encoder;
use corral_types::{BlobHash, Timestamp};

use super::{
    Actual, ClassReport, Findings, MemberReport, ModelReport, RefusalSummary, Report, advise,
};
use crate::analysis;
use crate::error::TrainError;
use crate::metrics::{DetailedEvaluation, RankedRows};
use crate::options::TrainOptions;
use crate::plan::Plan;
use crate::prepare::Prepared;
use crate::search::Found;
use crate::train::MODEL_FILE;

/// The report's name in the folder of a run.
pub const REPORT_FILE: &str = "report.json";
/// The name of its page.
pub const PAGE_FILE: &str = "report.html";

/// What a report is made of.
pub struct ReportParts<'a> {
    pub options: &'a TrainOptions,
    /// The encoder that the run was given, read by a member or not.
    pub encoder: Option<&'a dyn Encoder>,
    pub started_at: Timestamp,
    pub prepared: &'a Prepared<'a>,
    pub plan: &'a Plan,
    pub found: &'a Found,
    pub members: Vec<MemberReport>,
    /// The microseconds that the ensemble takes for one text, by estimate.
    pub estimated_latency_us: f64,
    /// The calibration error of the member that was picked first, before calibration.
    pub ece_uncalibrated: f64,
    /// The ensemble on the rows that folds held out.
    pub cv: DetailedEvaluation,
    /// Its predictions of them.
    pub held_out: &'a RankedRows,
    pub findings: Findings,
    pub refusals: Option<RefusalSummary>,
    pub test: Option<DetailedEvaluation>,
    pub actual: Actual,
    pub model_path: &'a Path,
    pub model_hash: BlobHash,
}

/// Puts a report together.
pub fn build(parts: ReportParts<'_>) -> Report {
    let (prepared, options) = (parts.prepared, parts.options);
    let classes = parts.cv.classes.iter().map(|class| ClassReport {
        id: prepared.class_id(class.class).to_owned(),
        name: prepared.class_name(class.class).to_owned(),
        support: class.support,
        predicted: class.predicted,
        precision: class.precision,
        recall: class.recall,
        f1: class.f1,
    });
    let reads_encoder = parts.members.iter().any(|member| {
        parts.found.trials[member.trial - 1].report.candidate.featurizer.reads_encoder()
    });
    let mut report = Report {
        name: options.name.clone(),
        seed: options.seed,
        metric: prepared.metric(options),
        regime: prepared.regime,
        weak: prepared.weak.clone(),
        started_at: parts.started_at,
        ended_at: Timestamp::now(),
        data: prepared.summary.clone(),
        folds: parts.plan.folds,
        trials: parts.found.trials.iter().map(|trial| trial.report.clone()).collect(),
        trials_left_out: parts.found.left_out,
        cut_short: parts.found.left_out > 0,
        members: parts.members,
        cv: parts.cv.summary.clone(),
        cv_ece_uncalibrated: parts.ece_uncalibrated,
        test: parts.test.map(|test| test.summary),
        refusals: parts.refusals,
        classes: classes.collect(),
        confused: analysis::confused_pairs(prepared, parts.held_out, &parts.cv),
        warnings: prepared.warnings.clone(),
        findings: parts.findings,
        advice: Vec::new(),
        estimate: parts.plan.estimate,
        actual: parts.actual,
        price: options.price,
        model: ModelReport {
            file: MODEL_FILE.to_owned(),
            hash: parts.model_hash.to_string(),
            bytes: std::fs::metadata(parts.model_path).map_or(0, |file| file.len()),
            estimated_latency_us: Some(parts.estimated_latency_us),
            max_latency_us: options.max_latency_us,
            encoder: parts
                .encoder
                .filter(|_| reads_encoder)
                .map(|encoder| encoder.name().to_owned()),
        },
        provenance: options.provenance.clone(),
    };
    report.advice = advise(&report);
    report
}

/// Writes a report and its page into the folder of its run and says where the report is.
///
/// # Errors
/// When a file cannot be written.
pub fn write(report: &Report, out_dir: &Path) -> Result<PathBuf, TrainError> {
    let path = out_dir.join(REPORT_FILE);
    let text = serde_json::to_vec_pretty(report).expect("plain values become JSON");
    let files = [(&path, text), (&out_dir.join(PAGE_FILE), report.render_html().into_bytes())];
    for (path, bytes) in files {
        std::fs::write(path, bytes)
            .map_err(|source| TrainError::WriteReport { path: path.clone(), source })?;
    }
    Ok(path)
}
