//! The candidates a search may try: families of settings, and where to begin.

mod families;

use self::families::FamilyList;
use crate::candidate::Candidate;
use crate::sampler::{Parameter, Parameters, Point, Sampler};
use crate::task_shape::TaskShape;

/// All families of a task.
pub struct Space {
    families: Vec<Family>,
    /// Points to try before any is drawn, the most promising first.
    starts: Vec<Point>,
}

/// A kind of features with a kind of learner, and the ranges of their settings.
struct Family {
    ranges: Vec<Range>,
    build: Box<Build>,
}

/// Makes a candidate of a family's settings.
type Build = dyn Fn(&[f32]) -> Candidate + Send + Sync;

/// What one setting may be.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Range {
    /// Even in the logarithm.
    Log { low: f32, high: f32 },
    /// One of so many, by its number.
    Choice(usize),
}

impl Space {
    /// The families that a task's data, labels and encoder allow, and the memory of the run.
    pub fn for_task(shape: &TaskShape, memory_bytes: u64) -> Self {
        FamilyList::for_task(shape, memory_bytes).finish(shape)
    }

    /// Draws points of this space.
    pub fn sampler(&self, seed: u64) -> Sampler {
        let parameters = |family: &Family| {
            Parameters(family.ranges.iter().map(|range| range.parameter()).collect())
        };
        Sampler::new(self.families.iter().map(parameters).collect(), seed)
    }

    /// Points to try before any is drawn, the most promising first.
    pub fn starts(&self) -> &[Point] {
        &self.starts
    }

    /// What stands at a point.
    pub fn candidate(&self, point: &Point) -> Candidate {
        let family = &self.families[point.family];
        let settings = family.ranges.iter().zip(&point.values);
        let settings: Vec<f32> = settings.map(|(range, &value)| range.at(value)).collect();
        (family.build)(&settings)
    }

    /// Candidates of each family: every choice, with numbers in the middle of their ranges.
    pub fn samples(&self) -> Vec<Candidate> {
        let points = self.families.iter().enumerate().flat_map(|(family, of)| {
            let mut all = vec![Vec::new()];
            for range in &of.ranges {
                let samples = range.samples();
                all = all
                    .into_iter()
                    .flat_map(|before: Vec<f64>| {
                        let longer = |&sample| before.iter().copied().chain([sample]).collect();
                        samples.iter().map(longer).collect::<Vec<Vec<f64>>>()
                    })
                    .collect();
            }
            all.into_iter().map(move |values| Point { family, values })
        });
        points.map(|point| self.candidate(&point)).collect()
    }
}

impl Range {
    /// The setting for a value of a point. Numbers have two significant digits: what a person
    /// reads in a report is what was tried.
    fn at(self, value: f64) -> f32 {
        match self {
            Self::Log { low, high } => {
                let (low, high) = (f64::from(low), f64::from(high));
                let exact = low * (high / low).powf(value);
                let digit = 10f64.powf(exact.log10().floor() - 1.0);
                ((exact / digit).round() * digit).clamp(low, high) as f32
            }
            Self::Choice(_) => value as f32,
        }
    }

    /// The value of a point for a setting.
    fn value_of(self, setting: f32) -> f64 {
        match self {
            Self::Log { low, high } => {
                (f64::from(setting / low).ln() / f64::from(high / low).ln()).clamp(0.0, 1.0)
            }
            Self::Choice(_) => f64::from(setting),
        }
    }

    const fn parameter(self) -> Parameter {
        match self {
            Self::Log { .. } => Parameter::Unit,
            Self::Choice(options) => Parameter::Choice(options),
        }
    }

    /// All options of a choice, and the middle of a range.
    fn samples(self) -> Vec<f64> {
        match self {
            Self::Log { .. } => vec![0.5],
            Self::Choice(options) => (0..options).map(|option| option as f64).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learner::LearnerSettings;
    use crate::parents::Parents;
    use crate::rows::LabelKind;
    use crate::task_shape::EmbeddingWidths;

    const WIDTHS: EmbeddingWidths = EmbeddingWidths { pooled: Some(384), layers: Some(5376) };

    #[test]
    fn a_range_gives_back_what_it_was_asked_for() {
        let costs = Range::Log { low: 0.03, high: 4.0 };
        for setting in [0.03, 0.1, 0.3, 0.5, 1.0, 2.0, 4.0] {
            assert_eq!(costs.at(costs.value_of(setting)), setting);
        }
        assert_eq!(costs.at(0.5), 0.35);
    }

    #[test]
    fn starts_are_points_of_the_space() {
        let shape = TaskShape::expected(LabelKind::SingleChoice, 1000, 50_000, 20, WIDTHS);
        let space = Space::for_task(&shape, 2 << 30);
        let names: Vec<String> =
            space.starts().iter().map(|start| space.candidate(start).name()).collect();
        assert_eq!(names[0], "words 1-2 chars 3-5 & pooled×2 + linear_svm C=0.3");
        assert!(names.iter().all(|name| names.iter().filter(|other| *other == name).count() == 1));
    }

    #[test]
    fn a_tree_with_a_level_for_it_gets_local_models() {
        let flat = TaskShape::expected(LabelKind::SingleChoice, 40_000, 2_000_000, 1000, WIDTHS);
        let parents = Parents::new((0..1000).map(|class| class / 40).collect());
        let count = |shape: &TaskShape| {
            let space = Space::for_task(shape, 4 << 30);
            let starts = space.starts().iter().map(|start| space.candidate(start).learner);
            starts.filter(|learner| matches!(learner, LearnerSettings::LocalSvm { .. })).count()
        };
        assert_eq!((count(&flat), count(&flat.under(Some(&parents)))), (0, 2));
        // A fit of it is so much cheaper that it is tried first where others are slow.
        let space = Space::for_task(&flat.under(Some(&parents)), 4 << 30);
        let first = space.candidate(&space.starts()[0]);
        assert!(matches!(first.learner, LearnerSettings::LocalSvm { .. }), "{}", first.name());
    }

    #[test]
    fn a_multi_label_task_gets_learners_that_can_do_it() {
        let shape = TaskShape::expected(LabelKind::MultiLabel, 1000, 50_000, 20, WIDTHS);
        let space = Space::for_task(&shape, 2 << 30);
        let samples = space.samples();
        assert!(samples.len() > 3);
        assert!(samples.iter().all(|candidate| candidate.learner.abilities().multi_label));
        assert!(
            space.starts().iter().all(|at| space.candidate(at).learner.abilities().multi_label)
        );
    }
}
