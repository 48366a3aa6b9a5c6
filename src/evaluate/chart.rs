//! Histograms as SVG.

use std::fmt::Write;

const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 90.0;
/// Room for the numbers under the axis.
const FOOT: f64 = 16.0;
const BINS: usize = 30;

/// How values are spread, from 0 to `top` or the largest of them; `mean` is marked.
pub(super) fn histogram(values: &[f64], mean: f64, top: Option<f64>) -> String {
    let largest = values.iter().copied().fold(0.0, f64::max);
    let top = top.unwrap_or(largest).max(f64::MIN_POSITIVE);
    let mut bins = [0_usize; BINS];
    for value in values {
        let bin = (value / top * BINS as f64) as usize;
        bins[bin.min(BINS - 1)] += 1;
    }
    let tallest = bins.iter().copied().max().unwrap_or(0).max(1) as f64;
    let width = WIDTH / BINS as f64;
    let mut svg = format!(
        "<svg class=\"histogram\" viewBox=\"0 0 {WIDTH} {}\" role=\"img\">",
        HEIGHT + FOOT
    );
    for (i, &count) in bins.iter().enumerate() {
        let height = count as f64 / tallest * HEIGHT;
        let (low, high) = (
            top * i as f64 / BINS as f64,
            top * (i + 1) as f64 / BINS as f64,
        );
        let _ = write!(
            svg,
            "<rect x=\"{:.2}\" y=\"{:.2}\" width=\"{:.2}\" height=\"{height:.2}\"><title>{low:.3} to {high:.3}: {count}</title></rect>",
            i as f64 * width + 0.5,
            HEIGHT - height,
            width - 1.0
        );
    }
    let x = (mean / top).clamp(0.0, 1.0) * WIDTH;
    let end = if top >= 1.0 {
        format!("{top:.0}")
    } else {
        format!("{top:.2}")
    };
    let _ = write!(
        svg,
        "<line class=\"axis\" x1=\"0\" x2=\"{WIDTH}\" y1=\"{HEIGHT}\" y2=\"{HEIGHT}\"/><line class=\"mean\" x1=\"{x:.2}\" x2=\"{x:.2}\" y1=\"0\" y2=\"{HEIGHT}\"/>\
         <text x=\"0\" y=\"{foot}\">0</text><text x=\"{WIDTH}\" y=\"{foot}\" text-anchor=\"end\">{end}</text></svg>",
        foot = HEIGHT + FOOT - 3.0
    );
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_a_bar() {
        let svg = histogram(&[0.0, 0.5, 1.0, 2.0], 0.9, Some(1.0));
        let total: usize = (svg.split("</title>"))
            .filter_map(|part| part.rsplit(": ").next()?.parse::<usize>().ok())
            .sum();
        assert_eq!(total, 4);
        assert!(histogram(&[], 0.0, None).starts_with("<svg"));
    }
}
