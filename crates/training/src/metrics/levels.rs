//! Accuracy by level of the tree.

use corral_taxonomy::{ClassIndex, Taxonomy};
use serde::{Deserialize, Serialize};

use super::{Answers, RankedRows};

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
    counts: Vec<usize>,
}

impl Levels {
    /// The levels of a model whose classes are `classes` of a taxonomy; `None` when all lie at the top.
    pub fn of(taxonomy: &Taxonomy, classes: &[ClassIndex]) -> Option<Self> {
        let deepest = classes.iter().map(|&class| taxonomy.depth(class)).max().unwrap_or(0);
        if deepest == 0 {
            return None;
        }
        let (mut nodes, mut counts) = (Vec::new(), Vec::new());
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
            nodes.push(ancestors.iter().map(number).collect());
            counts.push(distinct.len());
        }
        Some(Self { nodes, counts })
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
        (self.nodes.iter().zip(&self.counts).enumerate())
            .map(|(depth, (nodes, &count))| {
                let mut sums = vec![0f32; count];
                let mut sizes = vec![0u32; count];
                nodes.iter().for_each(|&node| sizes[node as usize] += 1);
                let (mut hits, mut total) = (0f64, 0f64);
                for (at, &row) in rows.iter().enumerate() {
                    let unkept = ranked.unkept_share(at);
                    for (sum, &size) in sums.iter_mut().zip(&sizes) {
                        *sum = size as f32 * unkept;
                    }
                    let (classes, probabilities) = ranked.row(at);
                    for (&class, &probability) in classes.iter().zip(probabilities) {
                        sums[nodes[class as usize] as usize] += probability - unkept;
                    }
                    let mut best = 0;
                    for node in 1..count {
                        if sums[node] > sums[best] {
                            best = node;
                        }
                    }
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
}
