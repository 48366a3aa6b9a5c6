//! An HTML page of an outcome that needs nothing but itself: accuracy, classes, confusion, and the embeddings as a map.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;

use super::{EmbeddedSet, Outcome};
use crate::files;
use crate::html::{escape, fill};
use crate::models::pca::Pca;

/// Sides of the map.
const WIDTH: f32 = 900.0;
const HEIGHT: f32 = 620.0;
const MARGIN: f32 = 12.0;
/// Points in the map at most.
const POINTS: usize = 3000;
/// Radius of a point.
const POINT: f32 = 3.0;

/// What the page says about where it is from.
pub struct ReportHead<'a> {
    pub encoder: &'a str,
    pub data: &'a str,
}

/// Writes the page.
///
/// # Errors
/// When it cannot be written, or there are too few test images for a map.
pub fn write(path: &Path, set: &EmbeddedSet, outcome: &Outcome, head: &ReportHead) -> Result<()> {
    let page = page(set, outcome, head)?;
    files::write_atomic(path, |writer| writer.write_all(page.as_bytes()))
}

fn page(set: &EmbeddedSet, outcome: &Outcome, head: &ReportHead) -> Result<String> {
    let interval = outcome.interval.map_or_else(String::new, |interval| {
        format!(
            "{:.1}% to {:.1}% (95%)",
            100.0 * interval.low,
            100.0 * interval.high
        )
    });
    fill(
        include_str!("report.html"),
        &[
            (
                "title",
                escape(&format!("{} on {}", head.encoder, head.data)),
            ),
            ("protocol", outcome.protocol.name().to_string()),
            ("settings", escape(&outcome.settings)),
            ("accuracy", format!("{:.1}%", 100.0 * outcome.accuracy)),
            ("interval", interval),
            ("images", outcome.labels.len().to_string()),
            ("map", map(set, outcome)?),
            ("legend", legend(&set.classes)),
            ("classes", classes(outcome)),
            ("confusion", confusion(outcome)),
        ],
    )
}

/// Names of colors that classes may begin with, as CSS has them.
const COLORS: [&str; 8] = [
    "red", "green", "blue", "yellow", "orange", "purple", "pink", "brown",
];

/// A color for a class: the one that it is named after, or one as far from its neighbors' as can be.
fn color(classes: &[String], class: usize) -> String {
    let word = classes[class].split(' ').next().unwrap_or_default();
    if COLORS.contains(&word) {
        return word.to_string();
    }
    let hue = 360.0 * class as f64 / classes.len() as f64;
    let lightness = if class.is_multiple_of(2) { 45 } else { 60 };
    format!("hsl({hue:.0} 75% {lightness}%)")
}

/// The test embeddings along the two directions in which they differ most.
fn map(set: &EmbeddedSet, outcome: &Outcome) -> Result<String> {
    let rows = set.test.rows.clone();
    let places: Vec<f32> = (Pca::fit(rows.clone(), 2, 1)?.project(rows).into_data())
        .iter::<f32>()
        .collect();
    let (points, _) = places.as_chunks::<2>();
    let range = |axis: usize| {
        let values = points.iter().map(|point| point[axis]);
        let (low, high) = values.fold((f32::MAX, f32::MIN), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        (low, (high - low).max(f32::MIN_POSITIVE))
    };
    let ranges = [range(0), range(1)];
    let place = |point: &[f32; 2], axis: usize, size: f32| {
        let (low, length) = ranges[axis];
        MARGIN + (point[axis] - low) / length * (size - 2.0 * MARGIN)
    };
    let mut svg = format!("<svg class=\"map\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">");
    for (i, point) in points.iter().enumerate().take(POINTS) {
        let (is, said) = (outcome.labels[i], outcome.predictions[i]);
        let right = if is == said { "" } else { " class=\"wrong\"" };
        let _ = write!(
            svg,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"{POINT}\" fill=\"{}\"{right}><title>{}, said to be {}</title></circle>",
            place(point, 0, WIDTH),
            HEIGHT - place(point, 1, HEIGHT),
            color(&set.classes, is),
            escape(&set.classes[is]),
            escape(&set.classes[said]),
        );
    }
    svg.push_str("</svg>");
    Ok(svg)
}

fn legend(classes: &[String]) -> String {
    let entry = |(class, name): (usize, &String)| {
        format!(
            "<span><i style=\"background: {}\"></i>{}</span>",
            color(classes, class),
            escape(name)
        )
    };
    classes.iter().enumerate().map(entry).collect()
}

fn classes(outcome: &Outcome) -> String {
    let row = |class: &super::ClassScore| {
        format!(
            "<tr><td>{}</td><td>{}</td><td>{:.1}%</td><td>{:.1}%</td><td>{:.1}%</td></tr>\n",
            escape(&class.name),
            class.images,
            100.0 * class.recall,
            100.0 * class.precision,
            100.0 * class.f1
        )
    };
    outcome.classes.iter().map(row).collect()
}

/// A row for what images are, a column for what they were said to be.
fn confusion(outcome: &Outcome) -> String {
    let mut html = String::from("<thead><tr><th></th>");
    for class in &outcome.classes {
        let _ = write!(html, "<th><span>{}</span></th>", escape(&class.name));
    }
    html.push_str("</tr></thead><tbody>");
    for (class, row) in outcome.classes.iter().zip(&outcome.confusion) {
        let _ = write!(html, "<tr><th>{}</th>", escape(&class.name));
        for &count in row {
            let share = count as f64 / class.images.max(1) as f64;
            let shown = match count {
                0 => String::new(),
                count => count.to_string(),
            };
            let _ = write!(html, "<td style=\"--share: {share:.3}\">{shown}</td>");
        }
        html.push_str("</tr>");
    }
    html.push_str("</tbody>");
    html
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{Embedded, Protocol};
    use burn::tensor::{Device, Tensor};

    #[test]
    fn a_page_shows_every_image_and_class_and_lets_no_name_into_its_code() {
        let classes = vec!["<b>cat".to_string(), "dog & co".to_string()];
        let rows: Vec<[f32; 3]> = (0..5).map(|i| [i as f32, (i * i) as f32, 1.0]).collect();
        let rows = burn::tensor::TensorData::new(rows.concat(), [5, 3]);
        let part = Embedded {
            rows: Tensor::from_data(rows, &Device::flex()),
            labels: vec![0, 0, 1, 1, 1],
        };
        let outcome = Outcome::new(
            Protocol::Knn,
            "3 neighbors".into(),
            &classes,
            &part.labels,
            vec![0, 1, 1, 1, 1],
        );
        let set = EmbeddedSet {
            classes,
            train: part.clone(),
            test: part,
            folds: Vec::new(),
        };
        let head = ReportHead {
            encoder: "pixels",
            data: "<script>",
        };
        let page = page(&set, &outcome, &head).unwrap();
        assert_eq!(page.matches("<circle").count(), 5);
        assert_eq!(page.matches("class=\"wrong\"").count(), 1);
        assert!(page.contains("80.0%") && page.contains("&lt;b&gt;cat"));
        assert!(!page.contains("<b>cat") && !page.contains("<script>"));
    }
}
