//! Loss, CIDEr and learning rate of a run as an image.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use serde_json::Value;

use crate::files;

const WIDTH: u32 = 900;
/// Height of the losses' panel, and of each other one.
const HEIGHTS: (u32, u32) = (427, 213);
/// Points in a curve at most: an image has no more columns.
const POINTS: usize = 900;
const TRAIN: RGBColor = RGBColor(57, 106, 177);
const VALID: RGBColor = RGBColor(204, 37, 41);

/// Points of one curve: epochs gone, and the value.
type Curve = Vec<(f64, f64)>;

/// What `metrics.jsonl` says, as curves.
#[derive(Debug, Default, PartialEq)]
struct Curves {
    train_loss: Curve,
    valid_loss: Curve,
    /// Of validation captions, where there are any.
    cider: Curve,
    learning_rate: Curve,
}

/// Draws `metrics.jsonl` of a run's folder into its `curves.svg`.
///
/// # Errors
/// When the log cannot be read or the image cannot be written.
pub fn draw(run: &Path) -> Result<()> {
    let svg = svg(run)?;
    files::write_atomic(&run.join("curves.svg"), |writer| {
        writer.write_all(svg.as_bytes())
    })
}

/// `metrics.jsonl` of a run's folder as an SVG image.
///
/// # Errors
/// When the log cannot be read.
pub fn svg(run: &Path) -> Result<String> {
    let curves = read(&run.join("metrics.jsonl"))?;
    let mut svg = String::new();
    render(&curves, &mut svg).map_err(|error| anyhow!("drawing the curves: {error}"))?;
    Ok(svg)
}

fn read(path: &Path) -> Result<Curves> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut steps: Vec<(u64, u64, Value)> = Vec::new();
    let mut curves = Curves::default();
    for line in BufReader::new(file).lines() {
        let line = line.with_context(|| format!("cannot read {}", path.display()))?;
        let Ok(entry) = serde_json::from_str::<Value>(&line) else {
            continue;
        };
        let Some(epoch) = entry["epoch"].as_u64() else {
            continue;
        };
        match (entry["split"].as_str(), entry["step"].as_u64()) {
            (Some("train"), Some(step)) => steps.push((epoch, step, entry)),
            (Some("valid"), None) => {
                let point = |name| Some((epoch as f64, entry["mean"][name].as_f64()?));
                curves.valid_loss.extend(point("Loss"));
                curves.cider.extend(point("CIDEr"));
            }
            _ => {}
        }
    }
    let per_epoch = steps.iter().map(|(_, step, _)| *step).max().unwrap_or(1) as f64;
    for (epoch, step, entry) in &steps {
        let x = *epoch as f64 - 1.0 + *step as f64 / per_epoch;
        let add =
            |curve: &mut Curve, name: &str| curve.extend(entry[name].as_f64().map(|y| (x, y)));
        add(&mut curves.train_loss, "Loss");
        add(&mut curves.learning_rate, "Learning Rate");
    }
    curves.train_loss = thin(&curves.train_loss);
    curves.learning_rate = thin(&curves.learning_rate);
    Ok(curves)
}

/// Means of neighbors, so that there are at most `POINTS` left.
fn thin(curve: &Curve) -> Curve {
    let mean = |chunk: &[(f64, f64)]| {
        let count = chunk.len() as f64;
        let (x, y) = chunk
            .iter()
            .fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
        (x / count, y / count)
    };
    curve
        .chunks(curve.len().div_ceil(POINTS).max(1))
        .map(mean)
        .collect()
}

fn render(curves: &Curves, svg: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let losses = [
        ("train", &curves.train_loss, TRAIN),
        ("validation", &curves.valid_loss, VALID),
    ];
    let cider = [("CIDEr", &curves.cider, VALID)];
    let learning_rate = [("learning rate", &curves.learning_rate, TRAIN)];
    let mut panels = vec![("loss", &losses[..], HEIGHTS.0)];
    if !curves.cider.is_empty() {
        panels.push(("CIDEr of validation captions", &cider, HEIGHTS.1));
    }
    panels.push(("learning rate", &learning_rate, HEIGHTS.1));
    let height = panels.iter().map(|(_, _, height)| height).sum();
    let mut rest = SVGBackend::with_string(svg, (WIDTH, height)).into_drawing_area();
    rest.fill(&WHITE)?;
    for (caption, curves, height) in panels {
        let (upper, lower) = rest.split_vertically(height);
        panel(&upper, caption, curves)?;
        rest = lower;
    }
    rest.present()?;
    Ok(())
}

fn panel(
    area: &DrawingArea<SVGBackend, Shift>,
    caption: &str,
    curves: &[(&str, &Curve, RGBColor)],
) -> Result<(), Box<dyn std::error::Error>> {
    let points = || curves.iter().flat_map(|(_, curve, _)| curve.iter());
    let x_end = points().map(|point| point.0).fold(1.0, f64::max);
    let y_end = points()
        .map(|point| point.1)
        .filter(|y| y.is_finite())
        .fold(0.0, f64::max);
    let y_end = if y_end > 0.0 { 1.05 * y_end } else { 1.0 };
    let mut chart = ChartBuilder::on(area)
        .caption(caption, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(32)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..x_end, 0.0..y_end)?;
    let digits = if y_end < 0.1 { "e" } else { "" };
    chart
        .configure_mesh()
        .x_desc("epoch")
        .light_line_style(TRANSPARENT)
        .y_label_formatter(&|y| match digits {
            "e" => format!("{y:.1e}"),
            _ => format!("{y:.2}"),
        })
        .draw()?;
    for (name, curve, color) in curves {
        let color = *color;
        chart
            .draw_series(LineSeries::new(
                curve.iter().copied(),
                color.stroke_width(2),
            ))?
            .label(*name)
            .legend(move |(x, y)| {
                PathElement::new(vec![(x, y), (x + 18, y)], color.stroke_width(2))
            });
    }
    if curves.len() > 1 {
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.2))
            .draw()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_lie_between_epochs_and_long_runs_are_thinned() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let lines = [
            r#"{"epoch":1,"split":"train","step":1,"Loss":4.0,"Learning Rate":0.1}"#,
            r#"{"epoch":1,"split":"train","step":2,"Loss":2.0,"Learning Rate":0.2}"#,
            r#"{"epoch":1,"split":"valid","mean":{"CIDEr":0.5,"Loss":3.0}}"#,
            r#"{"epoch":2,"spl"#,
        ];
        std::fs::write(&path, lines.join("\n")).unwrap();
        let curves = read(&path).unwrap();
        assert_eq!(curves.train_loss, [(0.5, 4.0), (1.0, 2.0)]);
        assert_eq!(curves.valid_loss, [(1.0, 3.0)]);
        assert_eq!(curves.cider, [(1.0, 0.5)]);
        draw(folder.path()).unwrap();
        let svg = std::fs::read_to_string(folder.path().join("curves.svg")).unwrap();
        assert!(
            svg.starts_with("<svg")
                && svg.contains("CIDEr of validation")
                && svg.contains("learning rate")
        );
        let long: Curve = (0..10_000).map(|i| (f64::from(i), 1.0)).collect();
        assert!(thin(&long).len() <= POINTS);
    }
}
