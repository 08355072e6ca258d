//! Which kinds of features and learners are tried on a task, with the ranges of their settings
//! and where to begin.

use corral_classifier::EmbeddingView;

use super::{Family, Range, Space};
use crate::candidate::Candidate;
use crate::features::FeaturizerSettings;
use crate::learner::{BayesWeights, LANES, LearnerSettings};
use crate::lexicons::LexiconSettings;
use crate::rows::LabelKind;
use crate::sampler::Point;
use crate::task_shape::TaskShape;

/// Texts up to this size are read through several lexicons; each takes several times as much.
const SEVERAL_LEXICONS_BYTES: usize = 16 << 20;

const SVM_COSTS: Range = Range::Log { low: 0.03, high: 4.0 };
const SOFTMAX_COSTS: Range = Range::Log { low: 1.0, high: 60.0 };
const EMBEDDING_SVM_COSTS: Range = Range::Log { low: 0.1, high: 20.0 };
/// What an embedding is multiplied by beside a lexicon, whose blocks have norm 1 each.
const SCALES: Range = Range::Log { low: 0.5, high: 8.0 };

const NB_SVM_COSTS: Range = Range::Log { low: 0.1, high: 2.0 };
/// How much of a class's count ratios its features are multiplied by; less than half was worse
/// on every set it was tried on.
const INTERPOLATIONS: Range = Range::Log { low: 0.5, high: 1.0 };
/// Added to counts before their ratio is taken, as its authors do.
const RATIO_SMOOTHING: f32 = 1.0;
const RIDGE_COSTS: Range = Range::Log { low: 0.1, high: 2.0 };
/// How much of the mean of other classes' rows a centroid is moved away from.
const CONTRASTS: Range = Range::Log { low: 0.1, high: 1.0 };
const SMOOTHINGS: Range = Range::Log { low: 0.1, high: 1.0 };
const LEAST_WIDTH: u32 = 32;
const MOST_WIDTH: u32 = 256;
const PASSES: Range = Range::Log { low: 3.0, high: 15.0 };
const RATES: Range = Range::Log { low: 0.005, high: 0.05 };
const DROPOUTS: Range = Range::Log { low: 0.1, high: 0.5 };
/// What weights of networks shrink by: cross-validation hardly tells one from another.
const DECAY: f32 = 0.01;
const NEIGHBOURS: Range = Range::Log { low: 5.0, high: 60.0 };
const SHARPNESSES: Range = Range::Log { low: 10.0, high: 40.0 };
const RIDGES: Range = Range::Log { low: 0.03, high: 1.0 };
const KERNEL_DECAYS: Range = Range::Log { low: 1.0, high: 8.0 };
/// Texts for whose kernels there is time: a fit takes one second for half as many and eight
/// for twice as many, where others take no longer than for as many texts more.
const KERNEL_TEXTS: usize = 6_000;
/// The part of a run's memory that one fit may take where a family can be done without:
/// several run side by side.
const FIT_MEMORY_PART: u64 = 16;

/// How many places later a start comes for each time its cost is e-fold: where fits are slow
/// there is time for few of them, and of those that promise alike the cheaper tells as much.
const START_COST_WEIGHT: f64 = 1.0;

/// Gathers families and where to begin.
#[derive(Default)]
pub struct FamilyList {
    families: Vec<Family>,
    /// Starts with how early they are worth trying, over all families.
    starts: Vec<(usize, Point)>,
}

impl FamilyList {
    /// Those that a task's data, labels and encoder allow, and the memory of the run.
    pub fn for_task(shape: &TaskShape, memory_bytes: u64) -> Self {
        let mut families = FamilyList::default();
        let lexicons = lexicons(shape);
        let lexicon = Range::Choice(lexicons.len());
        let svm = |cost| LearnerSettings::LinearSvm { cost };
        let softmax = |cost| LearnerSettings::Softmax { cost };
        let of = |featurizer: FeaturizerSettings, learner| Candidate { featurizer, learner };
        let lexical = {
            let lexicons = lexicons.clone();
            move |at: f32| FeaturizerSettings::lexical(lexicons[at as usize])
        };

        let fit_bytes = memory_bytes / FIT_MEMORY_PART;
        families.add_networks(shape, &lexicons, fit_bytes);
        families.add_stored(shape, lexicons[0], fit_bytes);
        families.add_other_linear(shape, &lexicons, fit_bytes);
        families.add_local(shape, &lexicons);
        families.add_centroids(shape, lexicons[0]);
        let joined = move |at: f32, view: EmbeddingView, scale: f32| {
            FeaturizerSettings::joined(lexicons[at as usize], view, scale)
        };
        for view in views(shape) {
            let alone = FeaturizerSettings::embedding(view);
            let (with_svm, with_softmax) = (joined.clone(), joined.clone());
            let starts: &[(usize, &[f32])] = match view {
                EmbeddingView::Pooled => {
                    &[(0, &[0.0, 2.0, 0.3]), (5, &[0.0, 1.0, 0.5]), (9, &[0.0, 3.0, 0.1])]
                }
                EmbeddingView::Layers => &[(4, &[2.0, 3.0, 0.5])],
            };
            families.add(
                &[lexicon, SCALES, SVM_COSTS],
                move |at| of(with_svm(at[0], view, at[1]), svm(at[2])),
                starts,
            );
            let starts: &[(usize, &[f32])] = match view {
                EmbeddingView::Pooled => &[(11, &[0.5])],
                EmbeddingView::Layers => &[(6, &[2.0])],
            };
            families.add(&[EMBEDDING_SVM_COSTS], move |at| of(alone, svm(at[0])), starts);
            let starts: &[(usize, &[f32])] = match view {
                EmbeddingView::Pooled => &[(1, &[10.0]), (8, &[30.0])],
                EmbeddingView::Layers => &[(12, &[30.0])],
            };
            families.add(&[SOFTMAX_COSTS], move |at| of(alone, softmax(at[0])), starts);
            let starts: &[(usize, &[f32])] = match view {
                EmbeddingView::Pooled => &[(5, &[0.0, 2.0, 10.0]), (10, &[0.0, 1.0, 10.0])],
                EmbeddingView::Layers => &[],
            };
            families.add(
                &[lexicon, SCALES, SOFTMAX_COSTS],
                move |at| of(with_softmax(at[0], view, at[1]), softmax(at[2])),
                starts,
            );
        }
        let lexical_too = lexical.clone();
        families.add(
            &[lexicon, SOFTMAX_COSTS],
            move |at| of(lexical_too(at[0]), softmax(at[1])),
            &[(2, &[0.0, 10.0]), (11, &[0.0, 30.0])],
        );
        families.add(
            &[lexicon, SVM_COSTS],
            move |at| of(lexical(at[0]), svm(at[1])),
            &[(3, &[0.0, 0.5]), (6, &[0.0, 0.2]), (12, &[0.0, 1.0])],
        );
        families
    }

    /// A family, and settings of it to start from, each with its place in the order of all.
    fn add(
        &mut self,
        ranges: &[Range],
        build: impl Fn(&[f32]) -> Candidate + Send + Sync + 'static,
        starts: &[(usize, &[f32])],
    ) {
        let family = self.families.len();
        for &(order, settings) in starts {
            let values = ranges.iter().zip(settings);
            let values = values.map(|(range, &setting)| range.value_of(setting)).collect();
            self.starts.push((order, Point { family, values }));
        }
        self.families.push(Family { ranges: ranges.to_vec(), build: Box::new(build) });
    }

    /// Machines that choose a parent first, where the taxonomy has a level that saves work.
    fn add_local(&mut self, shape: &TaskShape, lexicons: &[LexiconSettings]) {
        if shape.local_blocks.is_none() {
            return;
        }
        let lexicon = Range::Choice(lexicons.len());
        let machines = |cost| LearnerSettings::LocalSvm { cost };
        let lexicons = lexicons.to_vec();
        if views(shape).contains(&EmbeddingView::Pooled) {
            let lexicons = lexicons.clone();
            self.add(
                &[lexicon, SCALES, SVM_COSTS],
                move |at| Candidate {
                    featurizer: FeaturizerSettings::joined(
                        lexicons[at[0] as usize],
                        EmbeddingView::Pooled,
                        at[1],
                    ),
                    learner: machines(at[2]),
                },
                &[(1, &[0.0, 2.0, 0.3])],
            );
        }
        self.add(
            &[lexicon, SVM_COSTS],
            move |at| Candidate {
                featurizer: FeaturizerSettings::lexical(lexicons[at[0] as usize]),
                learner: machines(at[1]),
            },
            &[(4, &[0.0, 0.3])],
        );
    }

    /// Linear learners that err in other places than machines and regression do.
    fn add_other_linear(
        &mut self,
        shape: &TaskShape,
        lexicons: &[LexiconSettings],
        fit_bytes: u64,
    ) {
        let ratios =
            LearnerSettings::NbSvm { cost: 1.0, smoothing: RATIO_SMOOTHING, interpolation: 1.0 };
        // The largest of these; there are as many columns again for ratios as for weights.
        if ratios.memory_bytes(shape.columns, shape.texts, shape.classes, 1) as u64 > fit_bytes {
            return;
        }
        let lexicon = Range::Choice(lexicons.len());
        let nb_svm = |cost, interpolation| LearnerSettings::NbSvm {
            cost,
            smoothing: RATIO_SMOOTHING,
            interpolation,
        };
        let bayes = |smoothing| LearnerSettings::ComplementBayes {
            smoothing,
            weights: BayesWeights::Plain,
        };
        let ridge = |cost| LearnerSettings::Ridge { cost };
        let of = |featurizer, learner| Candidate { featurizer, learner };
        let chosen = {
            let lexicons = lexicons.to_vec();
            move |at: f32| lexicons[at as usize]
        };
        let (with_ratios, with_bayes) = (chosen.clone(), chosen.clone());
        self.add(
            &[lexicon, NB_SVM_COSTS, INTERPOLATIONS],
            move |at| of(FeaturizerSettings::lexical(with_ratios(at[0])), nb_svm(at[1], at[2])),
            &[(9, &[0.0, 0.5, 1.0])],
        );
        self.add(
            &[lexicon, SMOOTHINGS],
            move |at| of(FeaturizerSettings::lexical(with_bayes(at[0])), bayes(at[1])),
            &[(13, &[0.0, 0.3])],
        );
        for view in views(shape) {
            let (with_ratios, with_ridge) = (chosen.clone(), chosen.clone());
            let starts: &[(usize, &[f32])] = match view {
                EmbeddingView::Pooled => &[(7, &[0.0, 2.0, 0.5])],
                EmbeddingView::Layers => &[],
            };
            self.add(
                &[lexicon, SCALES, RIDGE_COSTS],
                move |at| {
                    of(FeaturizerSettings::joined(with_ridge(at[0]), view, at[1]), ridge(at[2]))
                },
                starts,
            );
            let starts: &[(usize, &[f32])] = match view {
                EmbeddingView::Pooled => &[(12, &[0.0, 2.0, 0.5, 0.7])],
                EmbeddingView::Layers => &[],
            };
            self.add(
                &[lexicon, SCALES, NB_SVM_COSTS, INTERPOLATIONS],
                move |at| {
                    let features = FeaturizerSettings::joined(with_ratios(at[0]), view, at[1]);
                    of(features, nb_svm(at[2], at[3]))
                },
                starts,
            );
        }
    }

    /// Nearest centroids: weak alone, nearly free, and unlike all others where classes have few
    /// rows.
    fn add_centroids(&mut self, shape: &TaskShape, lexicon: LexiconSettings) {
        if !views(shape).contains(&EmbeddingView::Pooled) {
            return;
        }
        let view = EmbeddingView::Pooled;
        let of = |featurizer, contrast| Candidate {
            featurizer,
            learner: LearnerSettings::Centroid { contrast },
        };
        self.add(
            &[CONTRASTS],
            move |at| of(FeaturizerSettings::embedding(view), at[0]),
            &[(14, &[0.3])],
        );
        self.add(
            &[SCALES, CONTRASTS],
            move |at| of(FeaturizerSettings::joined(lexicon, view, at[0]), at[1]),
            &[(15, &[2.0, 0.3])],
        );
    }

    /// Networks of two layers over a lexicon, over each view of the embedding beside it, and
    /// over the embedding alone.
    fn add_networks(&mut self, shape: &TaskShape, lexicons: &[LexiconSettings], fit_bytes: u64) {
        let Some(most) = widest(shape, fit_bytes) else { return };
        let widths = Range::Log { low: LEAST_WIDTH as f32, high: most as f32 };
        let lexicon = Range::Choice(lexicons.len());
        let mlp = |width: f32, passes: f32, rate, dropout| LearnerSettings::Mlp {
            width: whole_width(width),
            passes: passes.round() as u32,
            rate,
            decay: DECAY,
            dropout,
        };
        let bag = |width: f32, passes: f32, rate| LearnerSettings::EmbeddingBag {
            width: whole_width(width),
            passes: passes.round() as u32,
            rate,
        };
        let of = |featurizer, learner| Candidate { featurizer, learner };
        let chosen = {
            let lexicons = lexicons.to_vec();
            move |at: f32| lexicons[at as usize]
        };
        let (with_mlp, with_bag) = (chosen.clone(), chosen.clone());
        self.add(
            &[lexicon, widths, PASSES, RATES, DROPOUTS],
            move |at| {
                let features = FeaturizerSettings::lexical(with_mlp(at[0]));
                of(features, mlp(at[1], at[2], at[3], at[4]))
            },
            &[(8, &[0.0, 128.0, 10.0, 0.02, 0.2])],
        );
        self.add(
            &[lexicon, widths, PASSES, RATES],
            move |at| of(FeaturizerSettings::lexical(with_bag(at[0])), bag(at[1], at[2], at[3])),
            &[(10, &[0.0, 128.0, 4.0, 0.02])],
        );
        for view in views(shape) {
            let (with_mlp, with_bag) = (chosen.clone(), chosen.clone());
            let starts: &[(usize, &[f32])] = match view {
                EmbeddingView::Pooled => &[(6, &[0.0, 1.0, 128.0, 10.0, 0.01, 0.2])],
                EmbeddingView::Layers => &[],
            };
            self.add(
                &[lexicon, SCALES, widths, PASSES, RATES, DROPOUTS],
                move |at| {
                    let features = FeaturizerSettings::joined(with_mlp(at[0]), view, at[1]);
                    of(features, mlp(at[2], at[3], at[4], at[5]))
                },
                starts,
            );
            let starts: &[(usize, &[f32])] = match view {
                EmbeddingView::Pooled => &[(12, &[0.0, 1.0, 128.0, 4.0, 0.02])],
                EmbeddingView::Layers => &[],
            };
            self.add(
                &[lexicon, SCALES, widths, PASSES, RATES],
                move |at| {
                    let features = FeaturizerSettings::joined(with_bag(at[0]), view, at[1]);
                    of(features, bag(at[2], at[3], at[4]))
                },
                starts,
            );
        }
    }

    /// Heads that keep embeddings: neighbours, and kernels where rows are few enough.
    fn add_stored(&mut self, shape: &TaskShape, lexicon: LexiconSettings, fit_bytes: u64) {
        if !views(shape).contains(&EmbeddingView::Pooled) {
            return;
        }
        let pooled = FeaturizerSettings::embedding(EmbeddingView::Pooled);
        let of = |featurizer, learner| Candidate { featurizer, learner };
        self.add(
            &[NEIGHBOURS, SHARPNESSES],
            move |at| {
                let neighbours = at[0].round() as u32;
                of(pooled, LearnerSettings::Neighbours { neighbours, sharpness: at[1] })
            },
            &[(7, &[20.0, 20.0])],
        );
        let kernel = |ridge, decay| LearnerSettings::KernelRidge { ridge, decay };
        let columns = shape.columns + shape.widths.pooled.unwrap_or(0);
        let bytes = kernel(1.0, 1.0).memory_bytes(columns, shape.texts, shape.classes, 1);
        if shape.texts > KERNEL_TEXTS || bytes as u64 > 2 * fit_bytes {
            return;
        }
        self.add(
            &[RIDGES, KERNEL_DECAYS],
            move |at| of(pooled, kernel(at[0], at[1])),
            &[(9, &[0.1, 4.0])],
        );
        self.add(
            &[SCALES, RIDGES, KERNEL_DECAYS],
            move |at| {
                let joined = FeaturizerSettings::joined(lexicon, EmbeddingView::Pooled, at[0]);
                of(joined, kernel(at[1], at[2]))
            },
            &[(13, &[1.0, 0.3, 4.0])],
        );
    }

    /// The families whose learners can do the task; the dearer a start, the later.
    pub fn finish(self, shape: &TaskShape) -> Space {
        let mut space = Space { families: Vec::new(), starts: Vec::new() };
        let mut starts = Vec::new();
        for (number, family) in self.families.into_iter().enumerate() {
            let middle: Vec<f32> =
                family.ranges.iter().map(|range| range.at(range.samples()[0])).collect();
            let abilities = (family.build)(&middle).learner.abilities();
            if shape.kind == LabelKind::MultiLabel && !abilities.multi_label {
                continue;
            }
            let own = self.starts.iter().filter(|(_, start)| start.family == number);
            starts.extend(own.map(|(order, start)| {
                (*order, Point { family: space.families.len(), values: start.values.clone() })
            }));
            space.families.push(family);
        }
        let place = |(order, point): &(usize, Point)| {
            let seconds = shape.fit_seconds(&space.candidate(point), 1.0).max(f64::MIN_POSITIVE);
            *order as f64 + START_COST_WEIGHT * seconds.ln()
        };
        let mut placed: Vec<(f64, Point)> =
            starts.into_iter().map(|start| (place(&start), start.1)).collect();
        placed.sort_by(|a, b| a.0.total_cmp(&b.0));
        space.starts = placed.into_iter().map(|start| start.1).collect();
        space
    }
}

/// Values of all layers' embeddings times blocks of classes, up to which fits on them are quick
/// enough to be tried: small sets, which are those that gain by them.
const LAYERS_WORK: usize = 120_000_000;

/// The views of the embedding that candidates may read.
fn views(shape: &TaskShape) -> Vec<EmbeddingView> {
    let is_affordable = |&view: &EmbeddingView| match (view, shape.widths.of(view)) {
        (EmbeddingView::Pooled, width) => width.is_some(),
        (EmbeddingView::Layers, Some(width)) => {
            shape.texts * width * shape.classes.div_ceil(LANES) <= LAYERS_WORK
        }
        (EmbeddingView::Layers, None) => false,
    };
    EmbeddingView::ALL.into_iter().filter(is_affordable).collect()
}

/// The hidden units for which a network over all features has room, in sixteens.
fn widest(shape: &TaskShape, fit_bytes: u64) -> Option<u32> {
    let embedding =
        [EmbeddingView::Pooled, EmbeddingView::Layers].map(|view| shape.widths.of(view));
    let columns = shape.columns + embedding.into_iter().flatten().max().unwrap_or(0);
    let fits = |width: &u32| {
        let bag = LearnerSettings::EmbeddingBag { width: *width, passes: 1, rate: 1.0 };
        bag.memory_bytes(columns, shape.texts, shape.classes, 1) as u64 <= fit_bytes
    };
    (LEAST_WIDTH..=MOST_WIDTH).rev().step_by(LANES).find(fits)
}

/// The width of hidden units nearest to a setting: they are computed in sixteens.
fn whole_width(width: f32) -> u32 {
    let blocks = (width / LANES as f32).round().max(1.0);
    blocks as u32 * LANES as u32
}

/// The lexicons that candidates may read, the usual one first. Of the presets these are the ones
/// that gained on some set: how a text begins 1.4 points on TREC, words alone variety.
fn lexicons(shape: &TaskShape) -> Vec<LexiconSettings> {
    let usual = LexiconSettings::WORDS_AND_CHARACTERS.for_texts(shape.texts);
    if shape.text_bytes > SEVERAL_LEXICONS_BYTES {
        return vec![usual];
    }
    [
        LexiconSettings::WORDS_AND_CHARACTERS,
        LexiconSettings::WORDS,
        LexiconSettings::FIRST_WORDS,
        LexiconSettings::BM25,
        LexiconSettings::CHARACTERS,
    ]
    .map(|settings| settings.for_texts(shape.texts))
    .to_vec()
}
