//! Predictions of many rows, kept small: the likeliest classes and what is left for the rest.

use rayon::prelude::*;

/// The classes kept for each row. Top-5 needs five and ensembles weigh what members nearly
/// chose; keeping all of a thousand classes would take hundreds of megabytes a trial.
pub const KEPT_CLASSES: usize = 32;

/// Rows changed by one task.
const ROWS_PER_TASK: usize = 256;

/// The likeliest classes of rows with their probabilities.
#[derive(Clone, Debug, PartialEq)]
pub struct RankedRows {
    class_count: usize,
    width: usize,
    /// `width` a row, likeliest first; among equals the lower class first.
    classes: Vec<u32>,
    probabilities: Vec<f32>,
    /// The probability of all other classes together, by row.
    rest: Vec<f32>,
}

impl RankedRows {
    /// No rows yet, over this many classes.
    pub fn new(class_count: usize) -> Self {
        let width = Self::width_for(class_count);
        Self {
            class_count,
            width,
            classes: Vec::new(),
            probabilities: Vec::new(),
            rest: Vec::new(),
        }
    }

    /// Rows from the parts that [`Self::parts`] gave; `None` when they do not fit together.
    pub fn from_parts(
        class_count: usize,
        classes: Vec<u32>,
        probabilities: Vec<f32>,
        rest: Vec<f32>,
    ) -> Option<Self> {
        let width = Self::width_for(class_count);
        let fits = classes.len() == probabilities.len()
            && classes.len() == rest.len() * width
            && classes.iter().all(|&class| (class as usize) < class_count);
        fits.then_some(Self { class_count, width, classes, probabilities, rest })
    }

    /// The classes, probabilities and rests, as [`Self::from_parts`] takes them.
    pub fn parts(&self) -> (&[u32], &[f32], &[f32]) {
        (&self.classes, &self.probabilities, &self.rest)
    }

    pub fn len(&self) -> usize {
        self.rest.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub const fn class_count(&self) -> usize {
        self.class_count
    }

    /// Appends a row from the probabilities of all classes.
    pub fn push(&mut self, probabilities: &[f32]) {
        debug_assert_eq!(probabilities.len(), self.class_count);
        let mut order: Vec<u32> = (0..self.class_count as u32).collect();
        let by_rank = |a: &u32, b: &u32| {
            let (left, right) = (probabilities[*a as usize], probabilities[*b as usize]);
            right.total_cmp(&left).then(a.cmp(b))
        };
        if self.width < order.len() {
            order.select_nth_unstable_by(self.width, by_rank);
            order.truncate(self.width);
        }
        order.sort_unstable_by(by_rank);
        let total: f64 = probabilities.iter().map(|&p| f64::from(p)).sum();
        let kept: f64 = order.iter().map(|&class| f64::from(probabilities[class as usize])).sum();
        self.probabilities.extend(order.iter().map(|&class| probabilities[class as usize]));
        self.classes.extend_from_slice(&order);
        self.rest.push(((total - kept) as f32).max(0.0));
    }

    /// The rows of all parts, one part after the other.
    pub fn concatenate(class_count: usize, parts: Vec<Self>) -> Self {
        let mut all = Self::new(class_count);
        for mut part in parts {
            debug_assert_eq!(part.class_count, class_count);
            all.classes.append(&mut part.classes);
            all.probabilities.append(&mut part.probabilities);
            all.rest.append(&mut part.rest);
        }
        all
    }

    /// The rows at these places, in their order.
    #[must_use]
    pub fn select(&self, rows: &[u32]) -> Self {
        let mut selected = Self::new(self.class_count);
        for &row in rows {
            let (classes, probabilities) = self.row(row as usize);
            selected.classes.extend_from_slice(classes);
            selected.probabilities.extend_from_slice(probabilities);
            selected.rest.push(self.rest[row as usize]);
        }
        selected
    }

    /// The weighted sum of several sets over the same rows and classes; weights sum to one.
    ///
    /// # Panics
    /// When there is no set, or they differ in rows or classes.
    pub fn mix(sets: &[(&Self, f32)]) -> Self {
        let (first, _) = sets.first().expect("at least one set");
        assert!(
            sets.iter()
                .all(|(set, _)| set.len() == first.len() && set.class_count == first.class_count)
        );
        let mut mixed = Self::new(first.class_count);
        let mut sums = vec![0f32; first.class_count];
        let mut seen = vec![false; first.class_count];
        let mut touched: Vec<u32> = Vec::new();
        for row in 0..first.len() {
            let (mut unkept, mut rest) = (0f32, 0f64);
            for (set, weight) in sets {
                let share = set.unkept_share(row);
                unkept += weight * share;
                rest += f64::from(weight * set.rest[row]);
                let (classes, probabilities) = set.row(row);
                for (&class, &probability) in classes.iter().zip(probabilities) {
                    sums[class as usize] += weight * (probability - share);
                    rest += f64::from(weight * probability);
                    if !std::mem::replace(&mut seen[class as usize], true) {
                        touched.push(class);
                    }
                }
            }
            let by_rank =
                |a: &u32, b: &u32| sums[*b as usize].total_cmp(&sums[*a as usize]).then(a.cmp(b));
            touched.sort_unstable_by(by_rank);
            for &class in &touched[..mixed.width] {
                let probability = sums[class as usize] + unkept;
                mixed.classes.push(class);
                mixed.probabilities.push(probability);
                rest -= f64::from(probability);
            }
            mixed.rest.push((rest as f32).max(0.0));
            for class in touched.drain(..) {
                sums[class as usize] = 0.0;
                seen[class as usize] = false;
            }
        }
        mixed
    }

    /// The rows with the probabilities of all classes changed by `change`, on all threads.
    #[must_use]
    pub fn map(&self, change: &(impl Fn(&mut [f32]) + Sync)) -> Self {
        let parts: Vec<Self> = (0..self.len().div_ceil(ROWS_PER_TASK))
            .into_par_iter()
            .map(|task| {
                let mut changed = Self::new(self.class_count);
                let mut probabilities = vec![0f32; self.class_count];
                for row in task * ROWS_PER_TASK..self.len().min((task + 1) * ROWS_PER_TASK) {
                    self.spread(row, &mut probabilities);
                    change(&mut probabilities);
                    changed.push(&probabilities);
                }
                changed
            })
            .collect();
        Self::concatenate(self.class_count, parts)
    }

    /// The classes of a row and their probabilities, likeliest first.
    pub fn row(&self, row: usize) -> (&[u32], &[f32]) {
        let range = row * self.width..(row + 1) * self.width;
        (&self.classes[range.clone()], &self.probabilities[range])
    }

    /// The likeliest class of a row.
    pub fn best(&self, row: usize) -> u32 {
        self.classes[row * self.width]
    }

    /// The probability of a class that was not kept: an equal part of what is left.
    pub fn unkept_share(&self, row: usize) -> f32 {
        let unkept = self.class_count - self.width;
        if unkept == 0 { 0.0 } else { self.rest[row] / unkept as f32 }
    }

    /// The probability of a class.
    pub fn probability(&self, row: usize, class: u32) -> f32 {
        let (classes, probabilities) = self.row(row);
        match classes.iter().position(|&kept| kept == class) {
            Some(place) => probabilities[place],
            None => self.unkept_share(row),
        }
    }

    /// Writes the probabilities of all classes.
    pub fn spread(&self, row: usize, out: &mut [f32]) {
        out.fill(self.unkept_share(row));
        let (classes, probabilities) = self.row(row);
        for (&class, &probability) in classes.iter().zip(probabilities) {
            out[class as usize] = probability;
        }
    }

    /// The classes kept for each row of a task with so many.
    pub const fn width_for(class_count: usize) -> usize {
        if class_count < KEPT_CLASSES { class_count } else { KEPT_CLASSES }
    }

    /// The memory that rows over `class_count` classes take, in bytes.
    pub const fn bytes_for(rows: usize, class_count: usize) -> usize {
        rows * (Self::width_for(class_count) * 8 + 4)
    }
}

/// The likeliest class of a distribution, the first among equals.
pub fn likeliest(distribution: &[f32]) -> u32 {
    let best = distribution.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    distribution.iter().position(|p| *p == best).unwrap_or(0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_classes_are_kept_and_the_rest_shared() {
        let mut rows = RankedRows::new(40);
        let probabilities: Vec<f32> = (0..40).map(|class| (class % 20) as f32 / 380.0).collect();
        rows.push(&probabilities);
        let (classes, kept) = rows.row(0);
        assert_eq!(classes[..4], [19, 39, 18, 38]);
        assert!(kept.is_sorted_by(|a, b| a >= b));
        let left: f32 = (0..4).map(|class| 2.0 * class as f32 / 380.0).sum();
        assert!((rows.unkept_share(0) * 8.0 - left).abs() < 1e-6);
        assert_eq!(rows.probability(0, 39), 19.0 / 380.0);
        let mut spread = vec![0.0; 40];
        rows.spread(0, &mut spread);
        assert!((spread.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    }

    #[test]
    fn few_classes_are_kept_whole() {
        let mut rows = RankedRows::new(2);
        rows.push(&[0.5, 0.5]);
        assert_eq!(rows.row(0), (&[0, 1][..], &[0.5, 0.5][..]));
        assert_eq!(rows.unkept_share(0), 0.0);
    }
}
