//! How sure a share of counted rows is.

use serde::{Deserialize, Serialize};

/// The quantile of the normal distribution for an interval that holds with 95 %.
const Z: f64 = 1.959_963_984_540_054;

/// A share and the range that it lies in with 95 %.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    pub hits: u64,
    pub rows: u64,
    pub share: f64,
    pub low: f64,
    pub high: f64,
}

/// Wilson's score interval; `None` of no rows.
pub fn wilson(hits: u64, rows: u64) -> Option<Interval> {
    if rows == 0 {
        return None;
    }
    let (n, share) = (rows as f64, hits as f64 / rows as f64);
    let spread = Z * Z / n;
    let middle = (share + spread / 2.0) / (1.0 + spread);
    let half = Z / (1.0 + spread) * (share * (1.0 - share) / n + spread / (4.0 * n)).sqrt();
    Some(Interval {
        hits,
        rows,
        share,
        low: (middle - half).max(0.0),
        high: (middle + half).min(1.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_those_of_the_textbook() {
        // statsmodels.stats.proportion.proportion_confint(8, 10, method="wilson")
        let found = wilson(8, 10).unwrap();
        assert!((found.low - 0.490_162_4).abs() < 1e-6, "{found:?}");
        assert!((found.high - 0.943_317_8).abs() < 1e-6, "{found:?}");
        assert_eq!(wilson(0, 0), None);
        let all = wilson(5, 5).unwrap();
        assert_eq!((all.share, all.high), (1.0, 1.0));
    }
}
