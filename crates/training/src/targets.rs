//! The right answers of rows, as classes of the model.

/// For each row its classes with their shares, in rising order of class.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    offsets: Vec<u32>,
    classes: Vec<u32>,
    shares: Vec<f32>,
}

impl Targets {
    pub fn new() -> Self {
        Self { offsets: vec![0], classes: Vec::new(), shares: Vec::new() }
    }

    /// Appends a row. Classes are distinct; shares are above zero.
    pub fn push(&mut self, labels: &mut [(u32, f32)]) {
        labels.sort_unstable_by_key(|label| label.0);
        self.classes.extend(labels.iter().map(|label| label.0));
        self.shares.extend(labels.iter().map(|label| label.1));
        self.offsets.push(self.classes.len() as u32);
    }

    /// Appends a row of other targets.
    pub fn push_from(&mut self, other: &Self, row: usize) {
        let (classes, shares) = other.row(row);
        self.classes.extend_from_slice(classes);
        self.shares.extend_from_slice(shares);
        self.offsets.push(self.classes.len() as u32);
    }

    /// Leaves the first rows.
    pub fn truncate(&mut self, rows: usize) {
        self.offsets.truncate(rows + 1);
        let end = self.offsets[self.len()] as usize;
        self.classes.truncate(end);
        self.shares.truncate(end);
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

    /// The classes that count as right: those with at least half the largest share. All codes
    /// of an ambiguous row are, the runner-up of a probabilistic label is not.
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
        assert_eq!(
            (targets.first(0), targets.first(1), targets.first(2)),
            (Some(2), Some(1), None)
        );
    }
}
