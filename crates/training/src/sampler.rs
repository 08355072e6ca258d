//! Which point of a search space to try next, learnt from the trials so far.
//!
//! The tree-structured Parzen estimator (Bergstra, Bardenet, Bengio, Kégl, NIPS 2011): trials
//! are divided into the better and the rest, each side's settings make a density, and of some
//! draws from the better side's the one with the highest ratio of the two is tried. Families
//! are the branches of the tree: a setting's density is made of its own family's trials.
//!
//! A proposal depends on the trials it is shown, the seed and its number, and on nothing else.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::random::Random;

/// The settings of one family: what each of a point's values may be.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameters(pub Vec<Parameter>);

/// What one value of a point may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Parameter {
    /// Any number from 0 to 1, which the family maps to its setting.
    Unit,
    /// One of so many options, by its number.
    Choice(usize),
}

/// A place in a space: a family and a value for each of its parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    pub family: usize,
    pub values: Vec<f64>,
}

/// A point that was tried, and how good it turned out: more is better.
#[derive(Clone, Debug)]
pub struct Observation {
    pub point: Point,
    pub goodness: f64,
}

/// The share of trials that count as the better side.
const BETTER_SHARE: f64 = 0.2;
/// No more than so many, so that the better side stays selective in a long search.
const MOST_BETTER: usize = 25;
/// Fewer trials than these say too little: points are drawn evenly until then.
const LEAST_OBSERVATIONS: usize = 12;
/// Draws of which the best is proposed.
const DRAWS: usize = 24;
/// One in so many proposals is drawn evenly, so that no corner is given up for good.
const EVEN_EVERY: usize = 6;
/// The weight of "any value alike" in each density, in trials.
const PRIOR_WEIGHT: f64 = 1.0;
/// How much of its promise a point loses for each time its cost is e-fold.
const COST_WEIGHT: f64 = 0.4;
/// The width of a kernel around a trial's value when there is one trial; it narrows as more
/// come, down to the least.
const WIDEST_KERNEL: f64 = 0.5;
const LEAST_KERNEL: f64 = 0.04;

/// Proposes points of a space.
#[derive(Clone, Debug)]
pub struct Sampler {
    families: Vec<Parameters>,
    seed: u64,
}

impl Sampler {
    /// A sampler over these families, at least one.
    pub const fn new(families: Vec<Parameters>, seed: u64) -> Self {
        Self { families, seed }
    }

    /// The point to try as the trial `number`, given those tried before. `cost` is what trying a
    /// point takes, in any unit: of points that promise alike the cheaper is taken.
    pub fn propose(
        &self,
        number: usize,
        tried: &[Observation],
        cost: &dyn Fn(&Point) -> f64,
    ) -> Point {
        let mut random = Random::new(self.seed, 0x7470_6500_0000 ^ number as u64);
        let told: Vec<&Observation> = tried.iter().filter(|one| one.goodness.is_finite()).collect();
        if told.len() < LEAST_OBSERVATIONS || number.is_multiple_of(EVEN_EVERY) {
            return self.even(&mut random);
        }
        let (better, rest) = divide(told);
        let promise = |point: &Point| {
            let ratio = self.log_density(&better, point) - self.log_density(&rest, point);
            ratio - COST_WEIGHT * cost(point).max(f64::MIN_POSITIVE).ln()
        };
        (0..DRAWS)
            .map(|_| self.draw(&better, &mut random))
            .map(|point| (promise(&point), point))
            .reduce(|best, next| if next.0 > best.0 { next } else { best })
            .map(|(_, point)| point)
            .expect("several were drawn")
    }

    fn even(&self, random: &mut Random) -> Point {
        let family = random.below(self.families.len());
        let value = |parameter: &Parameter| match *parameter {
            Parameter::Unit => random.unit(),
            Parameter::Choice(options) => random.below(options) as f64,
        };
        Point { family, values: self.families[family].0.iter().map(value).collect() }
    }

    /// A point from the density of `side`.
    fn draw(&self, side: &[&Observation], random: &mut Random) -> Point {
        let weights = self.family_weights(side);
        let family = pick(&weights, random);
        let own: Vec<&Point> = of_family(side, family).collect();
        let values = self.families[family].0.iter().enumerate().map(|(at, parameter)| {
            // The prior is one more place to draw from.
            let place = random.unit() * (own.len() as f64 + PRIOR_WEIGHT);
            let centre = own.get(place as usize).map(|point| point.values[at]);
            match (*parameter, centre) {
                (Parameter::Unit, None) => random.unit(),
                (Parameter::Unit, Some(centre)) => {
                    let width = kernel_width(own.len());
                    truncated_normal(centre, width, random)
                }
                (Parameter::Choice(options), None) => random.below(options) as f64,
                (Parameter::Choice(_), Some(option)) => option,
            }
        });
        Point { family, values: values.collect() }
    }

    /// The trials of each family on one side, and its part of the prior.
    fn family_weights(&self, side: &[&Observation]) -> Vec<f64> {
        let mut weights = vec![PRIOR_WEIGHT; self.families.len()];
        side.iter().for_each(|one| weights[one.point.family] += 1.0);
        weights
    }

    fn log_density(&self, side: &[&Observation], point: &Point) -> f64 {
        let weights = self.family_weights(side);
        let mut sum = (weights[point.family] / weights.iter().sum::<f64>()).ln();
        let own: Vec<&Point> = of_family(side, point.family).collect();
        let total = own.len() as f64 + PRIOR_WEIGHT;
        for (at, parameter) in self.families[point.family].0.iter().enumerate() {
            let value = point.values[at];
            let density = match *parameter {
                Parameter::Unit => {
                    let width = kernel_width(own.len());
                    let kernels = own.iter().map(|one| kernel(value, one.values[at], width));
                    kernels.sum::<f64>() + PRIOR_WEIGHT
                }
                Parameter::Choice(options) => {
                    let same = own.iter().filter(|one| one.values[at] == value).count();
                    same as f64 + PRIOR_WEIGHT / options as f64
                }
            };
            sum += (density / total).ln();
        }
        sum
    }
}

fn of_family<'a>(side: &'a [&Observation], family: usize) -> impl Iterator<Item = &'a Point> {
    side.iter().map(|one| &one.point).filter(move |point| point.family == family)
}

/// The better trials and the rest; among equals the earlier are better.
fn divide(mut tried: Vec<&Observation>) -> (Vec<&Observation>, Vec<&Observation>) {
    tried.sort_by(|a, b| b.goodness.total_cmp(&a.goodness));
    let count = ((tried.len() as f64 * BETTER_SHARE).ceil() as usize).clamp(1, MOST_BETTER);
    let rest = tried.split_off(count);
    (tried, rest)
}

/// Kernels narrow as trials come: faster than for estimating a density, since the aim is to close
/// in on the best.
fn kernel_width(trials: usize) -> f64 {
    (WIDEST_KERNEL * (trials.max(1) as f64).powf(-0.6)).max(LEAST_KERNEL)
}

/// The density at `value` of a normal distribution cut off at 0 and 1.
fn kernel(value: f64, centre: f64, width: f64) -> f64 {
    let inside = normal_share(-centre / width..(1.0 - centre) / width);
    let distance = (value - centre) / width;
    (-0.5 * distance * distance).exp() / ((2.0 * std::f64::consts::PI).sqrt() * width * inside)
}

/// How much of the standard normal distribution lies within a range, by the logistic
/// approximation of Bowling et al. (2009), which is off by at most 2e-4: enough for weights.
fn normal_share(range: Range<f64>) -> f64 {
    let below = |z: f64| (1.0 + (-(1.5976 * z + 0.070_566 * z * z * z)).exp()).recip();
    below(range.end) - below(range.start)
}

/// A value near `centre` within 0 to 1.
fn truncated_normal(centre: f64, width: f64, random: &mut Random) -> f64 {
    /// Half of a normal distribution around an edge is inside: so many misses in a row do not
    /// happen.
    const ATTEMPTS: usize = 64;
    let attempt = |random: &mut Random| {
        // Box and Muller.
        let radius = (-2.0 * (1.0 - random.unit()).ln()).sqrt();
        centre + width * radius * (2.0 * std::f64::consts::PI * random.unit()).cos()
    };
    (0..ATTEMPTS)
        .map(|_| attempt(random))
        .find(|value| (0.0..=1.0).contains(value))
        .unwrap_or(centre)
}

/// A place drawn by weight.
fn pick(weights: &[f64], random: &mut Random) -> usize {
    let mut left = random.unit() * weights.iter().sum::<f64>();
    for (place, weight) in weights.iter().enumerate() {
        left -= weight;
        if left < 0.0 {
            return place;
        }
    }
    weights.len() - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn families() -> Vec<Parameters> {
        vec![
            Parameters(vec![Parameter::Unit, Parameter::Unit]),
            Parameters(vec![Parameter::Choice(4), Parameter::Unit]),
            Parameters(Vec::new()),
        ]
    }

    /// Best in family 1 with option 2 and a value near 0.3.
    fn goodness(point: &Point) -> f64 {
        match point.family {
            0 => 0.3 - (point.values[0] - 0.5).abs() * 0.2,
            1 => {
                let option = if point.values[0] == 2.0 { 0.2 } else { 0.0 };
                0.5 + option - (point.values[1] - 0.3).abs()
            }
            _ => 0.1,
        }
    }

    fn search(seed: u64, trials: usize, learning: bool) -> f64 {
        let sampler = Sampler::new(families(), seed);
        let mut tried = Vec::new();
        for number in 0..trials {
            let shown: &[Observation] = if learning { &tried } else { &[] };
            let point = sampler.propose(number, shown, &|_| 1.0);
            assert_eq!(point.values.len(), sampler.families[point.family].0.len());
            for (value, parameter) in point.values.iter().zip(&sampler.families[point.family].0) {
                match *parameter {
                    Parameter::Unit => assert!((0.0..=1.0).contains(value)),
                    Parameter::Choice(options) => assert!((*value as usize) < options),
                }
            }
            tried.push(Observation { goodness: goodness(&point), point });
        }
        tried.iter().map(|one| one.goodness).fold(f64::MIN, f64::max)
    }

    #[test]
    fn learning_from_trials_beats_drawing_evenly() {
        let mean =
            |learning: bool| (0..200).map(|seed| search(seed, 60, learning)).sum::<f64>() / 200.0;
        let (learnt, even) = (mean(true), mean(false));
        assert!(0.7 - learnt < 0.5 * (0.7 - even), "learnt {learnt}, even {even}, best 0.7");
    }

    #[test]
    fn a_proposal_depends_on_trials_seed_and_number_alone() {
        let sampler = Sampler::new(families(), 3);
        let tried: Vec<Observation> = (0..40)
            .map(|number| {
                let point = sampler.propose(number, &[], &|_| 1.0);
                Observation { goodness: goodness(&point), point }
            })
            .collect();
        assert_eq!(sampler.propose(41, &tried, &|_| 1.0), sampler.propose(41, &tried, &|_| 1.0));
        assert_ne!(sampler.propose(41, &tried, &|_| 1.0), sampler.propose(43, &tried, &|_| 1.0));
        let other = Sampler::new(families(), 4);
        assert_ne!(sampler.propose(41, &tried, &|_| 1.0), other.propose(41, &tried, &|_| 1.0));
    }

    #[test]
    fn of_points_that_promise_alike_the_cheaper_is_tried() {
        let families = vec![Parameters(vec![Parameter::Unit])];
        let dear = |point: &Point| if point.values[0] > 0.5 { 20.0 } else { 1.0 };
        let share = |cost: &dyn Fn(&Point) -> f64| {
            let mut low = 0;
            for seed in 0..100 {
                let sampler = Sampler::new(families.clone(), seed);
                let tried: Vec<Observation> = (0..30)
                    .map(|at| at as f64 / 29.0)
                    .map(|value| Observation {
                        point: Point { family: 0, values: vec![value] },
                        goodness: -(value - 0.5).abs(),
                    })
                    .collect();
                low += usize::from(sampler.propose(31, &tried, cost).values[0] < 0.5);
            }
            low
        };
        let (even, aware) = (share(&|_| 1.0), share(&dear));
        assert!((30..=70).contains(&even), "{even} of 100");
        assert!(aware > 90, "{aware} of 100");
    }

    #[test]
    fn trials_without_a_score_are_passed_over() {
        let sampler = Sampler::new(families(), 3);
        let point = Point { family: 2, values: Vec::new() };
        let tried = vec![Observation { point, goodness: f64::NAN }; 30];
        assert_eq!(sampler.propose(13, &tried, &|_| 1.0), sampler.propose(13, &[], &|_| 1.0));
    }

    #[test]
    fn a_kernel_holds_one_whole() {
        for (centre, width) in [(0.0, 0.5), (0.5, 0.1), (0.97, 0.04), (0.2, 0.3)] {
            let steps = 10_000;
            let sum: f64 =
                (0..steps).map(|at| kernel((at as f64 + 0.5) / steps as f64, centre, width)).sum();
            assert!((sum / steps as f64 - 1.0).abs() < 2e-3, "{centre} {width}: {sum}");
        }
    }
}
