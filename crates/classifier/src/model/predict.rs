//! Answers: the one way from a text to probabilities and classes.

use rayon::prelude::*;

use super::error::PredictError;
use super::open::{MemberView, Model};
use super::spec::{MemberSpec, ModelSpec};
use crate::calibration::{Link, add_weighted, combine, temper};
use crate::classes::ClassSubset;
use crate::encoder::{EmbeddingView, Embeddings, Encoder, TextEmbedding};
use crate::head::{FeatureRow, HeadScratch};
use crate::lexical::LexicalScratch;
use crate::refusal::{RefusalVerdict, Signals};
use crate::rows::{DenseRows, SparseRow, SparseRows};

/// Texts whose embeddings are held at once in a batch: 1.5 MiB at 384 numbers each.
const TEXTS_PER_BATCH: usize = 1024;
/// From which probability on a class is chosen, where a model of [`Link::Sigmoid`] says
/// nothing else.
const EVEN_ODDS: f32 = 0.5;

/// Buffers for predictions, kept from text to text; one for each thread.
#[derive(Debug, Default)]
pub struct Scratch {
    /// One for each lexicon of the model that was asked last.
    lexical: Vec<LexicalScratch>,
    head: HeadScratch,
    scores: Vec<f32>,
    probabilities: Vec<f32>,
    rolled_up: Vec<f32>,
    order: Vec<u32>,
    signals: Signals,
}

impl Scratch {
    /// The probabilities of the outputs of the model that was asked last, for the text that it
    /// was asked about.
    pub fn probabilities(&self) -> &[f32] {
        &self.probabilities
    }
}

/// What is asked of a prediction.
#[derive(Clone, Copy, Debug)]
pub struct PredictOptions<'a> {
    /// How many classes to rank, at least one; chosen classes are listed in any case.
    pub top_k: usize,
    /// Overrides the model's own thresholds.
    pub threshold: Option<f32>,
    /// Restricts the answer; see [`Model::subset`].
    pub subset: Option<&'a ClassSubset>,
    pub ancestors: Ancestors,
    /// Asks for the deepest class of the tree that is at least so probable; see
    /// [`Prediction::backed_off`].
    pub back_off: Option<f32>,
    pub refusals: Refusals,
}

/// Whether a model may take a text for none of its classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refusals {
    /// As the model was trained to.
    #[default]
    Apply,
    /// Its score is told, and nothing is refused.
    Ignore,
}

/// Whether a prediction tells the probabilities of inner classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ancestors {
    Skip,
    Include,
}

impl Default for PredictOptions<'_> {
    fn default() -> Self {
        Self {
            top_k: 1,
            threshold: None,
            subset: None,
            ancestors: Ancestors::Skip,
            back_off: None,
            refusals: Refusals::Apply,
        }
    }
}

/// The answer for a text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prediction {
    /// Classes by falling probability.
    pub ranked: Vec<Ranked>,
    /// The classes from the root to the first ranked one, itself included, each with the
    /// probability of all below it. Empty unless asked for.
    pub path: Vec<Ranked>,
    /// With [`PredictOptions::back_off`], the class to answer: the likeliest output where it is
    /// as probable as was asked, and else the deepest class whose probability, with all below
    /// it, is; the more probable among equals. Without one the text is none of the classes.
    pub backed_off: Option<Ranked>,
    /// What a model that refuses texts makes of this one.
    pub refusal: Option<RefusalVerdict>,
}

/// A class in an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    /// The class, by its place in the model; see [`Model::class`].
    pub class: u32,
    pub probability: f32,
    /// Whether the class passes the threshold: at most one does with [`Link::Softmax`].
    pub chosen: bool,
}

impl Prediction {
    /// The classes that the text is taken to have; none stands for "none of these", as for
    /// every text that is refused.
    pub fn chosen(&self) -> impl Iterator<Item = &Ranked> {
        self.ranked.iter().filter(|ranked| ranked.chosen)
    }
}

impl Model {
    /// The answer for a text. `embedding` is the text's, by the model's
    /// [encoder](Self::encoder), in the [views](Self::views) that members read.
    pub fn predict(
        &self,
        text: &str,
        embedding: TextEmbedding<'_>,
        scratch: &mut Scratch,
        options: &PredictOptions<'_>,
    ) -> Result<Prediction, PredictError> {
        if let Some(subset) = options.subset {
            let (found, wanted) = (subset.within.len(), self.output_count());
            if found != wanted {
                return Err(PredictError::SubsetDiffers { found, wanted });
            }
        }
        self.probabilities(text, embedding, scratch)?;
        // By all classes, whatever the answer is restricted to.
        let verdict = self.verdict(scratch, options.refusals);
        if let Some(subset) = options.subset {
            self.restrict(&mut scratch.probabilities, subset);
        }
        let is_refused = verdict.is_some_and(|verdict| verdict.is_refused);
        let mut prediction = self.rank(scratch, options);
        if is_refused {
            let listed = prediction.ranked.iter_mut().chain(&mut prediction.path);
            listed.for_each(|ranked| ranked.chosen = false);
        }
        if let Some(least) = options.back_off.filter(|_| !is_refused) {
            prediction.backed_off = self.back_off(scratch, least);
        }
        prediction.refusal = verdict;
        Ok(prediction)
    }

    /// What a model that refuses texts makes of the text that was scored last.
    fn verdict(&self, scratch: &mut Scratch, refusals: Refusals) -> Option<RefusalVerdict> {
        let refusal = self.refusal()?;
        let Scratch { probabilities, signals, .. } = scratch;
        let signals = if self.has_detector() { signals.finish(probabilities) } else { &[] };
        let score = refusal.score.of(probabilities, signals);
        let is_refused = refusals == Refusals::Apply && score >= refusal.threshold;
        Some(RefusalVerdict { score, is_refused })
    }

    /// The signals by which a [detector](crate::RefusalScore::Detector) judges a text, which is scored
    /// for that; none where the model has no detector.
    pub fn signals<'s>(
        &self,
        text: &str,
        embedding: TextEmbedding<'_>,
        scratch: &'s mut Scratch,
    ) -> Result<&'s [f32], PredictError> {
        self.probabilities(text, embedding, scratch)?;
        let Scratch { probabilities, signals, .. } = scratch;
        Ok(if self.has_detector() { signals.finish(probabilities) } else { &[] })
    }

    /// The class to answer where it shall be at least so probable; see
    /// [`Prediction::backed_off`].
    fn back_off(&self, scratch: &mut Scratch, least: f32) -> Option<Ranked> {
        let Scratch { probabilities, rolled_up, .. } = scratch;
        let table = self.class_table();
        let ranked = |(class, probability)| Ranked { class, probability, chosen: true };
        let outputs = table.outputs.iter().copied().zip(probabilities.iter().copied());
        let best = outputs.reduce(|best, next| if next.1 > best.1 { next } else { best });
        if let Some(best) = best.filter(|best| best.1 >= least) {
            return Some(ranked(best));
        }
        self.roll_up(probabilities, rolled_up);
        let reaching = (0u32..).zip(rolled_up.iter().copied()).filter(|class| class.1 >= least);
        let with_depth = reaching.map(|class| (table.upward(class.0).count(), class));
        let deepest = with_depth.reduce(|best, next| {
            let order = next.0.cmp(&best.0).then(next.1.1.total_cmp(&best.1.1));
            if order.is_gt() { next } else { best }
        });
        deepest.map(|(_, class)| ranked(class))
    }

    /// The probability of each output for a text.
    pub fn probabilities<'s>(
        &self,
        text: &str,
        embedding: TextEmbedding<'_>,
        scratch: &'s mut Scratch,
    ) -> Result<&'s [f32], PredictError> {
        self.check_embedding(&embedding)?;
        let lexicons = self.settings().lexicons.len();
        scratch.lexical.resize_with(lexicons.max(scratch.lexical.len()), LexicalScratch::default);
        for (index, lexical) in scratch.lexical.iter_mut().take(lexicons).enumerate() {
            self.lexicon(index).transform(text, lexical);
        }
        scratch.probabilities.clear();
        scratch.probabilities.resize(self.output_count(), 0.0);
        let members = self.settings().members.len();
        let takes_signals = self.has_detector();
        scratch.signals.begin();
        for index in 0..members {
            let member = self.member(index);
            let row = member
                .row(member.lexicon.map(|used| scratch.lexical[used.lexicon].row()), embedding);
            member.head.score(row, &mut scratch.head, &mut scratch.scores);
            if takes_signals {
                scratch.signals.note_scores(&scratch.scores);
            }
            member.calibration.apply(self.link(), &mut scratch.scores);
            if takes_signals {
                scratch.signals.note_probabilities(&scratch.scores, member.weight);
            }
            if members == 1 {
                // Not multiplied by a weight of 1 and added to 0: the same bits, sooner.
                std::mem::swap(&mut scratch.scores, &mut scratch.probabilities);
            } else {
                add_weighted(&mut scratch.probabilities, &scratch.scores, member.weight);
            }
        }
        if takes_signals {
            scratch.signals.note_sum(&scratch.probabilities);
        }
        temper(&mut scratch.probabilities, self.link(), self.tempering());
        Ok(&scratch.probabilities)
    }

    /// The answers for many texts, on all threads of the current pool. Models that read
    /// embeddings need their encoder.
    pub fn predict_batch<T: AsRef<str> + Sync>(
        &self,
        texts: &[T],
        encoder: Option<&dyn Encoder>,
        options: &PredictOptions<'_>,
    ) -> Result<Vec<Prediction>, PredictError> {
        let mut answers = Vec::with_capacity(texts.len());
        for texts in texts.chunks(TEXTS_PER_BATCH) {
            let embeddings = self.encode(texts, encoder)?;
            let batch: Result<Vec<Prediction>, PredictError> = texts
                .par_iter()
                .enumerate()
                .map_init(Scratch::default, |scratch, (index, text)| {
                    self.predict(text.as_ref(), embeddings.text(index), scratch, options)
                })
                .collect();
            answers.append(&mut batch?);
        }
        Ok(answers)
    }

    /// The embeddings that the model needs for texts, by `encoder`, in one pass of the network;
    /// none where it reads none.
    pub fn encode<T: AsRef<str>>(
        &self,
        texts: &[T],
        encoder: Option<&dyn Encoder>,
    ) -> Result<Embeddings, PredictError> {
        let views = self.views_of(encoder)?;
        let Some(encoder) = encoder.filter(|_| !views.is_empty()) else {
            return Ok(Embeddings::default());
        };
        let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
        Ok(encoder.embed(&texts, &views))
    }

    /// The views of `encoder` that the model reads; none where it reads none.
    ///
    /// # Errors
    /// When it is not the encoder that the model needs.
    pub fn views_of(
        &self,
        encoder: Option<&dyn Encoder>,
    ) -> Result<Vec<EmbeddingView>, PredictError> {
        let Some(need) = self.encoder() else { return Ok(Vec::new()) };
        let Some(encoder) = encoder else {
            let (name, hash) = (need.name.clone(), need.hash);
            return Err(PredictError::EncoderMissing { name, hash });
        };
        if encoder.id() != need.hash {
            return Err(PredictError::EncoderDiffers { wanted: need.hash, found: encoder.id() });
        }
        let views: Vec<EmbeddingView> = self.views().collect();
        for &view in &views {
            let found = encoder.dimension(view).unwrap_or(0);
            let wanted = need.dimension_of(view).unwrap_or(0);
            if found != wanted || found == 0 {
                return Err(PredictError::EmbeddingLength { view, found, wanted });
            }
        }
        Ok(views)
    }

    /// The outputs whose class has an id, a path of ids or a path of names (steps joined by
    /// `/`) that starts with `prefix`, and all below the class that has it as id.
    pub fn subset(&self, prefix: &str) -> Result<ClassSubset, PredictError> {
        self.class_table().subset(prefix)
    }

    /// Adds up the probabilities of outputs along the tree: `rolled_up` gets one value for
    /// each class. With [`Link::Sigmoid`] a class gets the largest of those below it.
    pub fn roll_up(&self, probabilities: &[f32], rolled_up: &mut Vec<f32>) {
        let table = self.class_table();
        rolled_up.clear();
        rolled_up.resize(table.len(), 0.0);
        for (&class, &probability) in table.outputs.iter().zip(probabilities) {
            for class in table.upward(class) {
                if let Some(total) = rolled_up.get_mut(class as usize) {
                    match self.link() {
                        Link::Softmax => *total += probability,
                        Link::Sigmoid => *total = total.max(probability),
                    }
                }
            }
        }
    }

    fn check_embedding(&self, embedding: &TextEmbedding<'_>) -> Result<(), PredictError> {
        let Some(need) = self.encoder() else { return Ok(()) };
        for view in self.views() {
            let (found, wanted) = (embedding.view(view).len(), need.dimension_of(view));
            match wanted {
                Some(wanted) if wanted == found => {}
                _ if found == 0 => {
                    let (name, hash) = (need.name.clone(), need.hash);
                    return Err(PredictError::EncoderMissing { name, hash });
                }
                wanted => {
                    let wanted = wanted.unwrap_or(0);
                    return Err(PredictError::EmbeddingLength { view, found, wanted });
                }
            }
        }
        Ok(())
    }

    /// Takes away the probability of outputs without; with [`Link::Softmax`] the rest again
    /// sums to 1.
    fn restrict(&self, probabilities: &mut [f32], subset: &ClassSubset) {
        for (probability, within) in probabilities.iter_mut().zip(&subset.within) {
            if !within {
                *probability = 0.0;
            }
        }
        if self.link() == Link::Softmax {
            let sum: f32 = probabilities.iter().sum();
            let even = (subset.count.max(1) as f32).recip();
            for (probability, within) in probabilities.iter_mut().zip(&subset.within) {
                if *within {
                    *probability = if sum > 0.0 { *probability / sum } else { even };
                }
            }
        }
    }

    fn rank(&self, scratch: &mut Scratch, options: &PredictOptions<'_>) -> Prediction {
        let Scratch { probabilities, order, rolled_up, .. } = scratch;
        let outputs = self.class_table().outputs;
        let threshold = |output: u32| {
            let own = options.threshold.or_else(|| match self.link() {
                Link::Softmax => None,
                Link::Sigmoid => self.output_thresholds().map(|own| own[output as usize]),
            });
            own.or(self.settings().least_probability).unwrap_or(match self.link() {
                Link::Softmax => 0.0,
                Link::Sigmoid => EVEN_ODDS,
            })
        };
        order.clear();
        order.extend(
            (0..outputs.len() as u32)
                .filter(|&output| options.subset.is_none_or(|s| s.within[output as usize])),
        );
        let falling = |a: &u32, b: &u32| {
            probabilities[*b as usize].total_cmp(&probabilities[*a as usize]).then(a.cmp(b))
        };
        let passes = |output: u32| probabilities[output as usize] >= threshold(output);
        let mut listed = options.top_k.max(1);
        match self.link() {
            Link::Softmax if listed < order.len() => {
                order.select_nth_unstable_by(listed, falling);
            }
            Link::Softmax => {}
            Link::Sigmoid => {
                // Thresholds may differ from class to class, so that the chosen need not be
                // the most probable; they are listed before others all the same.
                order.sort_unstable_by(|&a, &b| {
                    passes(b).cmp(&passes(a)).then_with(|| falling(&a, &b))
                });
                listed = listed.max(order.partition_point(|&output| passes(output)));
            }
        }
        order.truncate(listed);
        order.sort_unstable_by(falling);
        let ranked: Vec<Ranked> = (order.iter().enumerate())
            .map(|(rank, &output)| Ranked {
                class: outputs[output as usize],
                probability: probabilities[output as usize],
                chosen: passes(output) && (rank == 0 || self.link() == Link::Sigmoid),
            })
            .collect();
        let path = match (options.ancestors, ranked.first()) {
            (Ancestors::Include, Some(best)) => {
                self.roll_up(probabilities, rolled_up);
                let ranked = |class: u32| Ranked {
                    class,
                    probability: rolled_up.get(class as usize).copied().unwrap_or(0.0),
                    chosen: best.chosen,
                };
                self.class_path(best.class).into_iter().map(ranked).collect()
            }
            _ => Vec::new(),
        };
        Prediction { ranked, path, ..Prediction::default() }
    }
}

impl MemberView<'_> {
    fn row<'r>(
        &self,
        lexical: Option<SparseRow<'r>>,
        embedding: TextEmbedding<'r>,
    ) -> FeatureRow<'r> {
        FeatureRow {
            lexical: lexical.unwrap_or(SparseRow::EMPTY),
            lexical_scale: self.lexicon.map_or(1.0, |used| used.scale),
            embedding: self.embedding.map_or(&[], |used| embedding.view(used.view)),
            embedding_scale: self.embedding.map_or(1.0, |used| used.scale),
        }
    }
}

impl MemberSpec {
    /// The member's calibrated probabilities for rows whose features are at hand: those of
    /// its lexicon, and embeddings, as its featurizer says. The same arithmetic as in
    /// [`Model::predict`], on all threads of the current pool.
    ///
    /// # Panics
    /// When rows that the featurizer reads are absent, or numbers of rows differ.
    pub fn predict_rows(
        &self,
        link: Link,
        lexical: Option<&SparseRows>,
        embeddings: &Embeddings,
    ) -> DenseRows {
        let lexical = self.featurizer.lexicon.map(|used| {
            (lexical.expect("rows of the lexicon for a member that reads it"), used.scale)
        });
        let embeddings = self.featurizer.embedding.map(|used| {
            let rows = embeddings.view(used.view);
            (rows.expect("embeddings in the view that a member reads"), used.scale)
        });
        let rows = [lexical.map(|(rows, _)| rows.rows()), embeddings.map(|(rows, _)| rows.rows())];
        let count = rows.into_iter().flatten().next().unwrap_or(0);
        assert!(rows.into_iter().flatten().all(|rows| rows == count), "as many rows on both sides");
        let mut probabilities = DenseRows::zeros(count, self.head.outputs());
        let width = self.head.outputs().max(1);
        probabilities.values_mut().par_chunks_exact_mut(width).enumerate().for_each_init(
            <(HeadScratch, Vec<f32>)>::default,
            |(scratch, scores), (index, out)| {
                let row = FeatureRow {
                    lexical: lexical.map_or(SparseRow::EMPTY, |(rows, _)| rows.row(index)),
                    lexical_scale: lexical.map_or(1.0, |(_, scale)| scale),
                    embedding: embeddings.map_or(&[], |(rows, _)| rows.row(index)),
                    embedding_scale: embeddings.map_or(1.0, |(_, scale)| scale),
                };
                self.head.score(row, scratch, scores);
                self.calibration.apply(link, scores);
                out.copy_from_slice(scores);
            },
        );
        probabilities
    }
}

impl ModelSpec {
    /// The probabilities of the whole ensemble for rows whose features are at hand: those of
    /// each lexicon, and embeddings. The same arithmetic as in [`Model::predict`].
    ///
    /// # Panics
    /// When rows that a member reads are absent, numbers of rows differ, or there is no
    /// member.
    pub fn predict_rows(&self, lexical: &[SparseRows], embeddings: &Embeddings) -> DenseRows {
        let rows: Vec<DenseRows> = (self.members.iter())
            .map(|member| {
                let lexical = member.featurizer.lexicon.map(|used| &lexical[used.lexicon]);
                member.predict_rows(self.link, lexical, embeddings)
            })
            .collect();
        let weighted: Vec<(&DenseRows, f32)> = rows.iter().zip(self.shares()).collect();
        combine(&weighted, self.link, self.tempering)
    }
}
