//! Fitting the members of an ensemble once more: on all rows, for the model; or without a fold,
//! for what has to be learnt from rows that the ensemble has not seen.

use corral_classifier::{
    ClassEntry, EmbeddingView, Encoder, EncoderNeed, MemberSpec, ModelSpec, Tempering, Thresholds,
};
use corral_taxonomy::Taxonomy;
use rayon::prelude::*;

use crate::ensemble::Member;
use crate::error::TrainError;
use crate::features::BlocksNeeded;
use crate::lexicons::LexiconSettings;
use crate::options::TrainOptions;
use crate::prepare::{self, HeldOut};
use crate::report::MemberReport;
use crate::trial::{Trial, Workbench};

/// An ensemble that was chosen, to be fitted.
pub struct Refit<'a> {
    pub bench: &'a Workbench<'a>,
    pub trials: &'a [Trial],
    pub members: &'a [Member],
    pub tempering: Tempering,
    pub options: &'a TrainOptions,
    /// The one that the run was given, read by a member or not.
    pub encoder: Option<&'a dyn Encoder>,
}

impl Refit<'_> {
    /// Fits the members on all rows, or on all but a fold's as the search did.
    pub fn fit(&self, held_out: HeldOut) -> Result<(ModelSpec, Vec<MemberReport>), TrainError> {
        let (bench, prepared) = (self.bench, self.bench.prepared);
        let (rows, seed) = match held_out {
            HeldOut::Nothing => ((0..prepared.texts.len() as u32).collect(), bench.seed),
            HeldOut::Fold(fold) => (bench.folds.parts(fold).0, bench.fold_seed(fold)),
        };
        let needed = BlocksNeeded::by(
            self.members.iter().map(|member| self.trials[member.trial].report.candidate.featurizer),
        );
        let lexicons: Vec<LexiconSettings> = needed.lexicons.iter().copied().collect();
        let picks: u32 = self.members.iter().map(|member| member.picks).sum();
        let fitted: Vec<(MemberSpec, MemberReport)> = self
            .members
            .par_iter()
            .map(|member| {
                let trial = &self.trials[member.trial];
                let (number, candidate) = (trial.report.number, trial.report.candidate);
                let outcome = trial.outcome.as_ref().expect("members are complete trials");
                let fitted = bench.fit(number, &candidate, &rows, held_out, seed)?;
                let weight = member.picks as f32 / picks as f32;
                let report = MemberReport {
                    trial: number,
                    weight,
                    name: candidate.name(),
                    score_with: member.score_with,
                    head_bytes: fitted.head.memory_bytes() as u64,
                    fit_cpu_seconds: fitted.cpu.as_secs_f64(),
                };
                let spec = MemberSpec {
                    name: candidate.name(),
                    featurizer: candidate.featurizer.in_model(&lexicons),
                    head: fitted.head,
                    calibration: outcome.calibration.clone().into_applied(),
                    weight,
                };
                Ok((spec, report))
            })
            .collect::<Result<_, TrainError>>()?;
        let (members, reports): (Vec<MemberSpec>, Vec<MemberReport>) = fitted.into_iter().unzip();
        let reads_encoder = !needed.views.is_empty();
        let lexicon = |settings| bench.blocks.lexical(settings).lexicon.clone();
        let spec = ModelSpec {
            name: self.options.name.clone(),
            metadata: prepare::metadata(prepared, self.options),
            classes: class_entries(&prepared.taxonomy),
            outputs: prepared.outputs.clone(),
            link: bench.link(),
            encoder: self
                .encoder
                .filter(|_| reads_encoder)
                .map(|encoder| encoder_need(encoder, &needed)),
            lexicons: lexicons.iter().map(lexicon).collect(),
            members,
            tempering: self.tempering,
            thresholds: Thresholds::default(),
        };
        Ok((spec, reports))
    }
}

fn encoder_need(encoder: &dyn Encoder, needed: &BlocksNeeded) -> EncoderNeed {
    let dimension = |view| encoder.dimension(view).map(|length| length as u32);
    EncoderNeed {
        hash: encoder.id(),
        name: encoder.name().to_owned(),
        dimension: dimension(EmbeddingView::Pooled).expect("every encoder has the pooled view"),
        layers_dimension: needed
            .views
            .get(&EmbeddingView::Layers)
            .and_then(|&view| dimension(view)),
    }
}

fn class_entries(taxonomy: &Taxonomy) -> Vec<ClassEntry> {
    let entry = |class: &corral_taxonomy::Class| ClassEntry {
        id: class.id.clone(),
        name: class.name.clone(),
        parent: class.parent,
    };
    taxonomy.classes().iter().map(entry).collect()
}
