//! The right answers of rows, as classes of the model.

use crate::rows::RowMeaning;

/// For each row its classes with their shares, in rising order of class.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    offsets: Vec<u32>,
    classes: Vec<u32>,
    shares: Vec<f32>,
    meanings: Vec<RowMeaning>,
}

impl Targets {
    pub fn new() -> Self {
        Self { offsets: vec![0], classes: Vec::new(), shares: Vec::new(), meanings: Vec::new() }
    }

    /// Appends a row all of whose classes are right: any of them will do in a single-choice
    /// task, all of them are wanted in a multi-label one. Classes are distinct; shares are above
    /// zero.
    pub fn push(&mut self, labels: &mut [(u32, f32)]) {
        self.push_meaning(labels, RowMeaning::AnyOf);
    }

    /// Appends a row one of whose classes is right, each as likely as its share says. Classes
    /// are distinct; shares are above zero and sum to one.
    pub fn push_likely(&mut self, labels: &mut [(u32, f32)]) {
        self.push_meaning(labels, RowMeaning::Likely);
    }

    /// Appends a row that means this.
    pub fn push_meaning(&mut self, labels: &mut [(u32, f32)], meaning: RowMeaning) {
        labels.sort_unstable_by_key(|label| label.0);
        self.classes.extend(labels.iter().map(|label| label.0));
        self.shares.extend(labels.iter().map(|label| label.1));
        self.offsets.push(self.classes.len() as u32);
        self.meanings.push(meaning);
    }

    /// Appends a row of other targets.
    pub fn push_from(&mut self, other: &Self, row: usize) {
        let (classes, shares) = other.row(row);
        self.classes.extend_from_slice(classes);
        self.shares.extend_from_slice(shares);
        self.offsets.push(self.classes.len() as u32);
        self.meanings.push(other.meaning(row));
    }

    /// Leaves the first rows.
    pub fn truncate(&mut self, rows: usize) {
        self.offsets.truncate(rows + 1);
        let end = self.offsets[self.len()] as usize;
        self.classes.truncate(end);
        self.shares.truncate(end);
        self.meanings.truncate(rows);
    }

    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The classes of a row and their shares.
    pub fn row(&self, row: usize) -> (&[u32], &[f32]) {
        let range = self.offsets[row] as usize..self.offsets[row + 1] as usize;
        (&self.classes[range.clone()], &self.shares[range])
    }

    /// What the classes of a row mean.
    pub fn meaning(&self, row: usize) -> RowMeaning {
        self.meanings[row]
    }

    /// What it is worth to answer a row with one of these classes: 1 if any of them is right;
    /// where one class is right with some likelihood, how likely it is among them.
    pub fn worth(&self, row: usize, is_answered: impl Fn(u32) -> bool) -> f64 {
        let (classes, shares) = self.row(row);
        match self.meaning(row) {
            RowMeaning::AnyOf => f64::from(u8::from(self.right(row).any(is_answered))),
            RowMeaning::Likely => classes
                .iter()
                .zip(shares)
                .filter(|(class, _)| is_answered(**class))
                .map(|(_, &share)| f64::from(share))
                .sum(),
        }
    }

    /// The classes that are taken as right where that is a yes or no, as for learners without
    /// use for shares: those with at least half the largest share. All codes of an ambiguous row
    /// are, the runner-up of a probabilistic label is not.
    pub fn right(&self, row: usize) -> impl Iterator<Item = u32> + Clone + '_ {
        let (classes, shares) = self.row(row);
        let least = shares.iter().copied().fold(0.0, f32::max) / 2.0;
        classes
            .iter()
            .zip(shares)
            .filter(move |(_, share)| **share >= least)
            .map(|(class, _)| *class)
    }

    /// The likeliest class of a row, the lowest among equals.
    pub fn first(&self, row: usize) -> Option<u32> {
        let (classes, shares) = self.row(row);
        let largest = shares.iter().copied().fold(0.0, f32::max);
        classes.iter().zip(shares).find(|(_, share)| **share == largest).map(|(class, _)| *class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_the_largest_share_is_right() {
        let mut targets = Targets::new();
        targets.push(&mut [(4, 0.5), (2, 0.5)]);
        targets.push(&mut [(1, 0.6), (2, 0.25), (3, 0.15)]);
        targets.push(&mut []);
        assert_eq!(targets.right(0).collect::<Vec<_>>(), [2, 4]);
        assert_eq!(targets.right(1).collect::<Vec<_>>(), [1]);
        assert_eq!(targets.right(2).count(), 0);
        let of_first_two = |row: usize| targets.worth(row, |class| class < 3);
        assert_eq!([0, 1, 2].map(of_first_two), [1.0, 1.0, 0.0]);
        let mut likely = Targets::new();
        likely.push_likely(&mut [(3, 0.15), (1, 0.6), (2, 0.25)]);
        likely.push_from(&targets, 0);
        assert!((likely.worth(0, |class| class == 1) - 0.6).abs() < 1e-6);
        assert!((likely.worth(0, |class| class > 1) - 0.4).abs() < 1e-6);
        assert_eq!(likely.worth(0, |class| class == 9), 0.0);
        assert_eq!(likely.worth(1, |class| class == 4), 1.0);
        assert_eq!(
            (targets.first(0), targets.first(1), targets.first(2)),
            (Some(2), Some(1), None)
        );
    }
}
