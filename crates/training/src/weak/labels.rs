//! Distributions over all classes, kept as the few classes that matter.

use crate::targets::Targets;

/// Classes kept of a row's distribution.
const KEPT_CLASSES: usize = 4;
/// Classes less likely than this part of the likeliest one are not kept.
const LEAST_PART: f32 = 0.1;

/// Appends a distribution as a target, its likeliest classes alone, and says how likely the
/// likeliest is.
pub fn push_label(targets: &mut Targets, distribution: &[f32]) -> f32 {
    let mut likeliest: Vec<(u32, f32)> = Vec::with_capacity(KEPT_CLASSES + 1);
    for (class, &p) in distribution.iter().enumerate() {
        let place = likeliest.partition_point(|&(_, other)| other >= p);
        if place < KEPT_CLASSES {
            likeliest.insert(place, (class as u32, p));
            likeliest.truncate(KEPT_CLASSES);
        }
    }
    let confidence = likeliest[0].1;
    likeliest.retain(|(_, p)| *p >= LEAST_PART * confidence && *p > 0.0);
    let total: f32 = likeliest.iter().map(|(_, p)| p).sum();
    likeliest.iter_mut().for_each(|(_, p)| *p /= total);
    targets.push(&mut likeliest);
    confidence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_becomes_its_likeliest_classes() {
        let mut targets = Targets::new();
        let confidence = push_label(&mut targets, &[0.02, 0.5, 0.08, 0.02, 0.2, 0.09, 0.09]);
        assert_eq!(confidence, 0.5);
        let (classes, shares) = targets.row(0);
        assert_eq!(classes, [1, 4, 5, 6]);
        assert!((shares.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        push_label(&mut targets, &[0.01, 0.98, 0.01]);
        assert_eq!(targets.row(1), (&[1][..], &[1.0][..]));
    }
}
