//! An ablation as a curve.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::{Ablation, Measured, Point};
use crate::files;

/// Pixels.
const SIZE: (u32, u32) = (720, 480);

/// Draws accuracy over the setting, on a logarithmic axis, into an SVG file. Every point has a value.
///
/// # Errors
/// When the file cannot be written.
pub fn draw(ablation: Ablation, points: &[Point], path: &Path) -> Result<()> {
    let mut svg = String::new();
    render(ablation, points, &mut svg).map_err(|error| anyhow!("drawing the curve: {error}"))?;
    files::write_atomic(path, |writer| writer.write_all(svg.as_bytes()))
}

fn render(
    ablation: Ablation,
    points: &[Point],
    svg: &mut String,
) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let values = || points.iter().filter_map(|point| point.value);
    let (low, high) = values().fold((f64::MAX, f64::MIN), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .margin(16)
        .x_label_area_size(40)
        .y_label_area_size(50)
        .build_cartesian_2d((low..high).log_scale(), 0.0..100.0)?;
    chart
        .configure_mesh()
        .x_desc(ablation.to_string())
        .y_desc("accuracy, %")
        .draw()?;
    type Pick = fn(&Point) -> Measured;
    let curves: [(&str, Pick, RGBColor); 2] = [
        ("linear", |point| point.linear, RGBColor(57, 106, 177)),
        ("kNN", |point| point.knn, RGBColor(204, 37, 41)),
    ];
    for (name, pick, color) in curves {
        let line = points
            .iter()
            .filter_map(|point| Some((point.value?, 100.0 * pick(point).accuracy)));
        chart
            .draw_series(LineSeries::new(line, color.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .border_style(BLACK.mix(0.3))
        .background_style(WHITE)
        .draw()?;
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::markdown;
    use super::*;

    #[test]
    fn a_curve_is_drawn_for_numbers() {
        let measured = Measured {
            accuracy: 0.5,
            low: 0.4,
            high: 0.6,
        };
        let point = |value: f64| Point {
            setting: value.to_string(),
            value: Some(value),
            seconds: 1.0,
            linear: measured,
            knn: measured,
        };
        let points = [point(0.1), point(1.0)];
        let mut svg = String::new();
        render(Ablation::Temperature, &points, &mut svg).unwrap();
        assert!(svg.contains("<svg") && svg.contains("temperature"));
        let text = markdown(Ablation::Temperature, &points);
        assert!(text.contains("| 0.1 | 50.0 (40.0 to 60.0) |"), "{text}");
    }
}
