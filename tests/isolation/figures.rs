//! Figures from samples: quantiles, windows, histograms.

/// The value below which this share of the samples lies; 0 without samples.
pub fn quantile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).copied().unwrap_or(0.0)
}

/// The most events within any window of this length, wherever it begins.
pub fn most_within(sorted: &[f64], window: f64) -> usize {
    let mut first = 0;
    let mut most = 0;
    for (last, at) in sorted.iter().enumerate() {
        while at - sorted[first] >= window {
            first += 1;
        }
        most = most.max(last + 1 - first);
    }
    most
}

/// Counts in slots of this width; what lies outside is not counted.
pub fn histogram(times: &[f64], from: f64, width: f64, slots: usize) -> Vec<usize> {
    let mut counts = vec![0; slots];
    for time in times {
        let slot = ((time - from) / width).floor();
        if let Some(count) = (slot >= 0.0).then(|| counts.get_mut(slot as usize)).flatten() {
            *count += 1;
        }
    }
    counts
}

pub fn geometric_mean(ratios: &[f64]) -> f64 {
    let logs: f64 = ratios.iter().map(|ratio| ratio.ln()).sum();
    (logs / ratios.len().max(1) as f64).exp()
}

/// Two standard errors of the geometric mean of so many ratios, as a factor: how far from 1 the mean lies by chance alone,
/// 19 times out of 20. `null` are ratios of which nobody expects anything but 1.
pub fn noise(null: &[f64], ratios: usize) -> f64 {
    let squares: f64 = null.iter().map(|ratio| ratio.ln().powi(2)).sum();
    let deviation = (squares / null.len().max(1) as f64).sqrt();
    (2.0 * deviation / (ratios.max(1) as f64).sqrt()).exp()
}

/// At most so many points, of which each stands for the largest of those around it.
pub fn thinned(points: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    let each = points.len().div_ceil(most).max(1);
    let largest = |chunk: &[(f64, f64)]| chunk.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1));
    points.chunks(each).filter_map(largest).collect()
}
