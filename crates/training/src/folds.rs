//! The folds of cross-validation.

use crate::random::Random;

/// Which fold each row is held out in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folds {
    pub count: usize,
    /// By row; [`ALWAYS_FITTED`] for rows that are in no fold.
    pub of_row: Vec<u8>,
}

/// The fold of a row that every fit uses and none is scored on, such as the text of a class's
/// description.
pub const ALWAYS_FITTED: u8 = u8::MAX;

/// The most folds: their numbers are bytes and a fold costs a fit of every trial.
pub const MAX_FOLDS: usize = 20;

impl Folds {
    /// Deals rows to `count` folds so that each holds its share of every class.
    ///
    /// Rows of one group (the same text) share a fold, so that no text is scored by a model
    /// that learnt it. A group counts as its first row's class. Classes are dealt one after
    /// the other, each going on at the fold where the one before stopped, so that folds differ
    /// by few rows also when classes are tiny.
    ///
    /// `groups[row]` numbers groups by first appearance; `classes[row]` is the class a row is
    /// stratified by, `None` for a row that is always fitted.
    pub fn stratified(groups: &[u32], classes: &[Option<u32>], count: usize, seed: u64) -> Self {
        debug_assert!((2..=MAX_FOLDS).contains(&count), "a number of folds was chosen");
        let group_count = groups.iter().max().map_or(0, |&last| last as usize + 1);
        let mut class_of_group: Vec<Option<u32>> = vec![None; group_count];
        for (&group, &class) in groups.iter().zip(classes) {
            let slot = &mut class_of_group[group as usize];
            *slot = slot.or(class);
        }
        let mut dealt: Vec<(u32, u32)> = class_of_group
            .iter()
            .enumerate()
            .filter_map(|(group, class)| class.map(|class| (class, group as u32)))
            .collect();
        dealt.sort_unstable();
        let mut fold_of_group = vec![ALWAYS_FITTED; group_count];
        let mut next = 0;
        for class in dealt.chunk_by_mut(|a, b| a.0 == b.0) {
            Random::new(seed, 0x0066_6f6c_6400 + u64::from(class[0].0)).shuffle(class);
            for &(_, group) in class.iter() {
                fold_of_group[group as usize] = next as u8;
                next = (next + 1) % count;
            }
        }
        let of_row = groups
            .iter()
            .zip(classes)
            .map(|(&group, class)| match class {
                Some(_) => fold_of_group[group as usize],
                None => ALWAYS_FITTED,
            })
            .collect();
        Self { count, of_row }
    }

    /// The rows fitted when `fold` is held out, and those held out.
    pub fn parts(&self, fold: usize) -> (Vec<u32>, Vec<u32>) {
        let mut fitted = Vec::with_capacity(self.of_row.len());
        let mut held_out = Vec::with_capacity(self.of_row.len() / self.count + 1);
        for (row, &of_row) in self.of_row.iter().enumerate() {
            let part = if usize::from(of_row) == fold { &mut held_out } else { &mut fitted };
            part.push(row as u32);
        }
        (fitted, held_out)
    }
}

/// Numbers rows by their text, white space and case aside: the same number, the same text.
/// Numbers follow first appearance.
pub fn groups_by_text(texts: &[&str]) -> Vec<u32> {
    let mut hashes: Vec<(blake3::Hash, u32)> = Vec::with_capacity(texts.len());
    let mut normal = String::new();
    for (row, text) in texts.iter().enumerate() {
        normalise(text, &mut normal);
        hashes.push((blake3::hash(normal.as_bytes()), row as u32));
    }
    hashes.sort_unstable_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()).then(a.1.cmp(&b.1)));
    let mut first_row = vec![0u32; texts.len()];
    for same in hashes.chunk_by(|a, b| a.0 == b.0) {
        for &(_, row) in same {
            first_row[row as usize] = same[0].1;
        }
    }
    let mut number_of_first = vec![0u32; texts.len()];
    let mut next = 0;
    (0..texts.len())
        .map(|row| {
            let first = first_row[row] as usize;
            if first == row {
                number_of_first[row] = next;
                next += 1;
            }
            number_of_first[first]
        })
        .collect()
}

/// Lower case, one space between words.
fn normalise(text: &str, out: &mut String) {
    out.clear();
    for word in text.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.extend(word.chars().flat_map(char::to_lowercase));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_is_one_group_whatever_its_spaces_and_case() {
        let texts = ["Where is it?", "other", " where  IS it? ", "", "other", "  "];
        assert_eq!(groups_by_text(&texts), [0, 1, 0, 2, 1, 2]);
    }

    #[test]
    fn folds_hold_their_share_of_each_class_and_whole_groups() {
        let mut random = Random::new(3, 0);
        for seed in 0..50 {
            let rows = 1 + random.below(400);
            let class_count = 1 + random.below(12);
            let count = 2 + random.below(6);
            let groups: Vec<u32> = {
                let mut next = 0;
                (0..rows)
                    .map(|_| {
                        if next == 0 || random.below(4) > 0 {
                            next += 1;
                            next - 1
                        } else {
                            random.below(next as usize) as u32
                        }
                    })
                    .collect()
            };
            // Rows of one text have one class here, so that shares can be checked exactly.
            let class_of = |group: u32| (group as usize * 7 % class_count) as u32;
            let classes: Vec<Option<u32>> = groups.iter().map(|&g| Some(class_of(g))).collect();
            let folds = Folds::stratified(&groups, &classes, count, seed);
            assert_eq!(folds, Folds::stratified(&groups, &classes, count, seed));
            let group_count = *groups.iter().max().unwrap() as usize + 1;
            let mut fold_of_group = vec![None; group_count];
            for (row, &fold) in folds.of_row.iter().enumerate() {
                assert!(usize::from(fold) < count, "seed {seed}");
                let known = fold_of_group[groups[row] as usize].get_or_insert(fold);
                assert_eq!(*known, fold, "a text in two folds, seed {seed}");
            }
            for class in 0..class_count as u32 {
                let mut of_fold = vec![0usize; count];
                for group in (0..group_count as u32).filter(|&group| class_of(group) == class) {
                    of_fold[usize::from(fold_of_group[group as usize].unwrap())] += 1;
                }
                let (least, most) = (of_fold.iter().min().unwrap(), of_fold.iter().max().unwrap());
                assert!(most - least <= 1, "class {class} is dealt {of_fold:?}, seed {seed}");
            }
            for fold in 0..count {
                let (fitted, held_out) = folds.parts(fold);
                assert_eq!(fitted.len() + held_out.len(), rows);
            }
        }
    }

    #[test]
    fn another_seed_deals_otherwise() {
        let groups: Vec<u32> = (0..100).collect();
        let classes = vec![Some(0); 100];
        let folds = |seed| Folds::stratified(&groups, &classes, 5, seed);
        assert_ne!(folds(1), folds(2));
    }
}
