//! Ranks, percentiles, and a small linear fit.

pub use pollux_mapper::evaluate::{mean, spearman};

/// The value that this part of an ascending list is below.
pub fn percentile(ascending: &[f64], part: f64) -> f64 {
    let at = (part * ascending.len() as f64).ceil() as usize;
    ascending.get(at.saturating_sub(1).min(ascending.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

/// Part of an ascending list that is at most a limit.
pub fn share_below(ascending: &[f64], limit: f64) -> f64 {
    ascending.partition_point(|value| *value <= limit) as f64 / ascending.len().max(1) as f64
}

/// Weights w that make x w near y: least squares with a penalty on the weights (ridge), by elimination.
pub fn ridge(rows: &[Vec<f64>], targets: &[f64], penalty: f64) -> Vec<f64> {
    let n = rows.first().map_or(0, Vec::len);
    let mut system = vec![vec![0.0; n + 1]; n];
    for (row, target) in rows.iter().zip(targets) {
        for i in 0..n {
            (0..n).for_each(|j| system[i][j] += row[i] * row[j]);
            system[i][n] += row[i] * target;
        }
    }
    (0..n).for_each(|i| system[i][i] += penalty);
    for i in 0..n {
        let pivot = (i..n).max_by(|a, b| system[*a][i].abs().total_cmp(&system[*b][i].abs())).unwrap_or(i);
        system.swap(i, pivot);
        let own = system[i].clone();
        for row in system.iter_mut().skip(i + 1) {
            let factor = row[i] / own[i];
            (i..=n).for_each(|j| row[j] -= factor * own[j]);
        }
    }
    let mut weights = vec![0.0; n];
    for i in (0..n).rev() {
        let known: f64 = (i + 1..n).map(|j| system[i][j] * weights[j]).sum();
        weights[i] = (system[i][n] - known) / system[i][i];
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_and_shares() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(
            (percentile(&values, 0.1), percentile(&values, 1.0), share_below(&values, 3.0)),
            (10.0, 100.0, 0.03)
        );
    }

    #[test]
    fn ranks_correlate_whatever_the_scale() {
        assert_eq!(spearman(&[(1.0, 10.0), (2.0, 1000.0), (3.0, 1001.0)]), Some(1.0));
        assert_eq!(spearman(&[(1.0, 3.0), (2.0, 2.0), (3.0, 1.0)]), Some(-1.0));
        assert_eq!(spearman(&[(1.0, 3.0), (1.0, 2.0)]), None);
    }

    #[test]
    fn a_linear_law_is_found() {
        let rows: Vec<Vec<f64>> = (0..20).map(|n| vec![1.0, f64::from(n), f64::from(n * n % 7)]).collect();
        let targets: Vec<f64> = rows.iter().map(|row| 3.0 - 2.0 * row[1] + 0.5 * row[2]).collect();
        let weights = ridge(&rows, &targets, 1e-9);
        assert!(weights.iter().zip([3.0, -2.0, 0.5]).all(|(w, e)| (w - e).abs() < 1e-5), "{weights:?}");
    }
}
