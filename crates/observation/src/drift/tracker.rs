//! The recent texts of a version against its reference, and whether they have crossed a bound.

use super::profile::{Counts, Distances, Profile};
use crate::record::TextAnswer;

/// What the largest distance must fall below, as a part of the bound, before passing it again is
/// told again: one that stays about the bound shall not be told over and over.
const REARMED_BELOW: f64 = 0.8;

/// Recent texts counted in two halves, so that whole windows pass by without keeping a text.
#[derive(Debug)]
pub struct Tracker {
    profile: Profile,
    older: Counts,
    newer: Counts,
    standing: Standing,
}

/// Whether the recent texts are too far off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    #[default]
    Within,
    Beyond,
}

/// What came of comparing a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    pub distances: Distances,
    /// Texts of the window.
    pub texts: u64,
    pub standing: Standing,
    /// Whether the bound was passed with this window.
    pub crossing: Crossing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crossing {
    None,
    Outward,
    Back,
}

impl Tracker {
    pub fn new(profile: Profile, standing: Standing) -> Self {
        let empty = profile.empty();
        Self { profile, older: empty.clone(), newer: empty, standing }
    }

    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Texts counted towards the next comparison.
    pub fn texts(&self) -> u64 {
        self.older.texts() + self.newer.texts()
    }

    /// Takes a text in; compares once half a window is new and a whole one is there.
    pub fn add(
        &mut self,
        text: &str,
        answer: &TextAnswer,
        window_texts: u64,
        bound: f64,
    ) -> Option<Comparison> {
        self.profile.count(&mut self.newer, text, answer);
        if self.newer.texts() < window_texts.div_ceil(2) {
            return None;
        }
        let window = self.older.plus(&self.newer);
        self.older = std::mem::replace(&mut self.newer, self.profile.empty());
        if window.texts() < window_texts {
            return None;
        }
        let distances = self.profile.distances(&window);
        let crossing = match self.standing {
            Standing::Within if distances.largest() > bound => Crossing::Outward,
            Standing::Beyond if distances.largest() < REARMED_BELOW * bound => Crossing::Back,
            _ => Crossing::None,
        };
        match crossing {
            Crossing::Outward => self.standing = Standing::Beyond,
            Crossing::Back => self.standing = Standing::Within,
            Crossing::None => {}
        }
        Some(Comparison { distances, texts: window.texts(), standing: self.standing, crossing })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Labelled;

    fn answer(id: &str) -> TextAnswer {
        let labels = vec![Labelled { id: id.to_owned(), probability: 0.9 }];
        TextAnswer { labels, is_refused: false }
    }

    #[test]
    fn a_bound_is_crossed_once_each_way() {
        let texts: Vec<String> = (0..400).map(|_| "my parcel is late".to_owned()).collect();
        let answers: Vec<_> =
            (0..400).map(|number| answer(["a", "b"][usize::from(number % 4 == 0)])).collect();
        let mut tracker = Tracker::new(Profile::of(&texts, &answers).unwrap(), Standing::Within);
        let mut crossings = Vec::new();
        let mut comparisons = 0;
        let mut ask = |count: u32, part_b: u32| {
            for number in 0..count {
                let id = if number % 4 < part_b { "b" } else { "a" };
                let found = tracker.add("my parcel is late", &answer(id), 100, 0.25);
                comparisons += u32::from(found.is_some());
                crossings
                    .extend(found.map(|found| found.crossing).filter(|it| *it != Crossing::None));
            }
        };
        ask(400, 1);
        ask(400, 4);
        ask(400, 1);
        ask(400, 4);
        use Crossing::{Back, Outward};
        assert_eq!(crossings, [Outward, Back, Outward]);
        // Half a window apart, from the first whole one on.
        assert_eq!(comparisons, 1600 / 50 - 1);
    }
}
