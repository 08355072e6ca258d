//! Accuracy by level of the tree.

use corral_taxonomy::{ClassIndex, Taxonomy};
use serde::{Deserialize, Serialize};

use super::{Answers, RankedRows};
use crate::targets::Targets;

/// Accuracy when only the classes with `depth` above them matter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LevelScore {
    /// Classes above those of the level: 0 at the top.
    pub depth: usize,
    /// Classes told apart at this level.
    pub classes: usize,
    pub accuracy: f64,
}

/// For each level of a tree, the node every class of a model belongs to.
#[derive(Clone, Debug)]
pub struct Levels {
    /// `nodes[depth][class]`: a number of the class's ancestor at that depth, or of the class
    /// itself where it lies higher.
    nodes: Vec<Vec<u32>>,
    /// By depth and node, how many classes of the model belong to it.
    sizes: Vec<Vec<u32>>,
    /// The depth of each class.
    depths: Vec<usize>,
}

impl Levels {
    /// The levels of a model whose classes are `classes` of a taxonomy; `None` when all lie at the top.
    pub fn of(taxonomy: &Taxonomy, classes: &[ClassIndex]) -> Option<Self> {
        let deepest = classes.iter().map(|&class| taxonomy.depth(class)).max().unwrap_or(0);
        if deepest == 0 {
            return None;
        }
        let (mut nodes, mut sizes) = (Vec::new(), Vec::new());
        for depth in 0..=deepest {
            let ancestors: Vec<ClassIndex> = classes
                .iter()
                .map(|&class| taxonomy.ancestor_at(class, depth).unwrap_or(class))
                .collect();
            let mut distinct = ancestors.clone();
            distinct.sort_unstable();
            distinct.dedup();
            let number =
                |ancestor: &ClassIndex| distinct.partition_point(|other| other < ancestor) as u32;
            let numbers: Vec<u32> = ancestors.iter().map(number).collect();
            let mut size = vec![0u32; distinct.len()];
            numbers.iter().for_each(|&node| size[node as usize] += 1);
            nodes.push(numbers);
            sizes.push(size);
        }
        let depths = classes.iter().map(|&class| taxonomy.depth(class)).collect();
        Some(Self { nodes, sizes, depths })
    }

    /// By level, the top first: the number of each class's node.
    pub fn nodes(&self) -> impl Iterator<Item = &[u32]> {
        self.nodes.iter().map(Vec::as_slice)
    }

    /// The accuracy at each level, of the node whose classes' probabilities sum highest.
    pub(super) fn scores(
        &self,
        ranked: &RankedRows,
        rows: &[u32],
        answers: Answers<'_>,
    ) -> Vec<LevelScore> {
        (0..self.nodes.len())
            .map(|depth| {
                let nodes = &self.nodes[depth];
                let count = self.sizes[depth].len();
                let mut sums = vec![0f32; count];
                let (mut hits, mut total) = (0f64, 0f64);
                for (at, &row) in rows.iter().enumerate() {
                    let best = self.likeliest(depth, ranked, at, &mut sums);
                    let is_below = |class: u32| nodes[class as usize] as usize == best;
                    let weight = answers.weight(row as usize);
                    hits += weight * answers.targets.worth(row as usize, is_below);
                    total += weight;
                }
                let accuracy = hits / total.max(f64::MIN_POSITIVE);
                LevelScore { depth, classes: count, accuracy }
            })
            .collect()
    }

    /// The node at a depth whose classes' probabilities sum highest; `sums` gets those of all.
    fn likeliest(&self, depth: usize, ranked: &RankedRows, at: usize, sums: &mut [f32]) -> usize {
        let nodes = &self.nodes[depth];
        let unkept = ranked.unkept_share(at);
        for (sum, &size) in sums.iter_mut().zip(&self.sizes[depth]) {
            *sum = size as f32 * unkept;
        }
        let (classes, probabilities) = ranked.row(at);
        for (&class, &probability) in classes.iter().zip(probabilities) {
            sums[nodes[class as usize] as usize] += probability - unkept;
        }
        let mut best = 0;
        for node in 1..sums.len() {
            if sums[node] > sums[best] {
                best = node;
            }
        }
        best
    }

    /// What answers are worth that back off to a parent until they are at least so probable,
    /// as [`corral_classifier::PredictOptions::back_off`] does: by depth of the answer, how
    /// many rows get one there, and how many of those are right.
    pub fn back_off(
        &self,
        ranked: &RankedRows,
        targets: &Targets,
        least: f32,
    ) -> Vec<(usize, usize)> {
        let mut counts = vec![(0, 0); self.nodes.len()];
        let mut sums: Vec<Vec<f32>> =
            self.sizes.iter().map(|sizes| vec![0f32; sizes.len()]).collect();
        for row in 0..ranked.len() {
            let (classes, probabilities) = ranked.row(row);
            let (first, probability) = (classes[0], probabilities[0]);
            let mut count = |depth: usize, is_right: bool| {
                counts[depth].0 += 1;
                counts[depth].1 += usize::from(is_right);
            };
            if probability >= least {
                let is_right = targets.right(row).any(|class| class == first);
                count(self.depths[first as usize], is_right);
                continue;
            }
            for depth in (0..self.nodes.len()).rev() {
                let best = self.likeliest(depth, ranked, row, &mut sums[depth]);
                if sums[depth][best] >= least {
                    let nodes = &self.nodes[depth];
                    let mut right = targets.right(row);
                    count(depth, right.any(|class| nodes[class as usize] as usize == best));
                    break;
                }
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corral_taxonomy::{ParseOptions, parse};

    #[test]
    fn unsure_rows_are_answered_higher_up() {
        let tree = "id,name,parent\na,A,\nb,B,\na1,A1,a\na2,A2,a\nb1,B1,b\nb2,B2,b\n";
        let taxonomy = parse("tree.csv", tree.as_bytes(), &ParseOptions::default()).unwrap();
        let class = |id: &str| {
            (0..taxonomy.len() as ClassIndex).find(|&at| taxonomy.class(at).id == id).unwrap()
        };
        let levels = Levels::of(&taxonomy, &["a1", "a2", "b1", "b2"].map(class)).unwrap();
        let (mut ranked, mut targets) = (RankedRows::new(4), Targets::new());
        for (probabilities, right) in [
            ([0.9, 0.05, 0.03, 0.02], 0),
            ([0.9, 0.05, 0.03, 0.02], 1),
            ([0.5, 0.4, 0.05, 0.05], 1),
            ([0.1, 0.1, 0.4, 0.4], 0),
            ([0.3, 0.2, 0.3, 0.2], 0),
        ] {
            ranked.push(&probabilities);
            targets.push(&mut [(right, 1.0)]);
        }
        assert_eq!(levels.back_off(&ranked, &targets, 0.8), [(2, 1), (2, 1)]);
        assert_eq!(levels.back_off(&ranked, &targets, 0.5), [(2, 1), (3, 1)]);
        assert_eq!(levels.back_off(&ranked, &targets, 0.95), [(2, 2), (0, 0)]);
        assert_eq!(levels.back_off(&ranked, &targets, 0.0), [(0, 0), (5, 2)]);
    }
}
