//! Scores as tables, for terminals and for Markdown.

use super::compare::Comparison;
use super::score::Evaluation;
use caption_metrics::diversity::Lengths;

/// How a table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Text,
    Markdown,
}

/// Scores with their intervals, then statistics of the captions.
pub fn scores(evaluation: &Evaluation, style: Style) -> String {
    let confidence = format!("{:.0}% interval", 100.0 * evaluation.confidence);
    let mut rows = vec![vec!["score".to_string(), "value".to_string(), confidence]];
    for (i, (name, value)) in evaluation
        .names()
        .iter()
        .zip(evaluation.overall())
        .enumerate()
    {
        let interval = (evaluation.intervals.as_ref())
            .map(|intervals| format!("{:.4} to {:.4}", intervals[i].low, intervals[i].high));
        rows.push(vec![
            name.to_string(),
            format!("{value:.4}"),
            interval.unwrap_or_default(),
        ]);
    }
    let diversity = &evaluation.diversity;
    let lengths = |l: &Lengths| {
        format!(
            "{:.2} ± {:.2} ({} to {})",
            l.mean, l.deviation, l.shortest, l.longest
        )
    };
    let distinct: Vec<String> = diversity
        .distinct
        .iter()
        .map(|d| format!("{d:.3}"))
        .collect();
    let percent = |share: f64| format!("{:.1}%", 100.0 * share);
    let mut statistics = vec![
        ("statistic", "value".to_string()),
        ("images", evaluation.images.len().to_string()),
        ("words a caption", lengths(&diversity.length)),
        ("words a reference", lengths(&diversity.reference_length)),
        ("vocabulary", diversity.vocabulary.to_string()),
        ("different captions", percent(diversity.different_captions)),
        ("distinct 1- to 4-grams", distinct.join(", ")),
    ];
    if let Some(scenes) = evaluation.scenes {
        statistics.push(("true captions", percent(scenes.true_captions)));
        statistics.push(("right main objects", percent(scenes.right_main_objects)));
    }
    let statistics: Vec<Vec<String>> = statistics
        .into_iter()
        .map(|(name, value)| vec![name.to_string(), value])
        .collect();
    format!("{}\n{}", render(&rows, style), render(&statistics, style))
}

/// Differences with their intervals and p values, then the images that moved most.
pub fn comparison(comparison: &Comparison, style: Style) -> String {
    let header = ["score", "A", "B", "B - A", "interval", "p"];
    let mut rows = vec![header.map(String::from).to_vec()];
    for difference in &comparison.differences {
        rows.push(vec![
            difference.name.to_string(),
            format!("{:.4}", difference.a),
            format!("{:.4}", difference.b),
            format!("{:+.4}", difference.difference),
            format!(
                "{:+.4} to {:+.4}",
                difference.interval.low, difference.interval.high
            ),
            format!("{:.4}", difference.p),
        ]);
    }
    let mut text = render(&rows, style);
    if comparison.moved.is_empty() {
        return text;
    }
    let mut rows = vec![
        ["image", "A", "B", "caption A", "caption B"]
            .map(String::from)
            .to_vec(),
    ];
    for moved in &comparison.moved {
        rows.push(vec![
            moved.id.clone(),
            format!("{:.3}", moved.a),
            format!("{:.3}", moved.b),
            one_line(&moved.caption_a),
            one_line(&moved.caption_b),
        ]);
    }
    text.push('\n');
    text.push_str(&render(&rows, style));
    text
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A table of cells; the first row is the header.
pub(crate) fn render(rows: &[Vec<String>], style: Style) -> String {
    let cell = |text: &str| match style {
        Style::Text => text.to_string(),
        Style::Markdown => text.replace('|', "\\|"),
    };
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|text| cell(text)).collect())
        .collect();
    let widths: Vec<usize> = (0..rows[0].len())
        .map(|column| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for (i, row) in rows.iter().enumerate() {
        let padded: Vec<String> = (row.iter().zip(&widths))
            .map(|(text, &width)| format!("{text:<width$}"))
            .collect();
        match style {
            Style::Text => text.push_str(padded.join("  ").trim_end()),
            Style::Markdown => text.push_str(&format!("| {} |", padded.join(" | "))),
        }
        text.push('\n');
        if i == 0 && style == Style::Markdown {
            let rules: Vec<String> = widths
                .iter()
                .map(|&width| "-".repeat(width.max(3)))
                .collect();
            text.push_str(&format!("| {} |\n", rules.join(" | ")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_markdown_table_has_a_rule_and_no_stray_bars() {
        let rows = [vec!["a".into(), "b".into()], vec!["x|y".into(), "1".into()]];
        assert_eq!(
            render(&rows, Style::Markdown),
            "| a    | b |\n| ---- | --- |\n| x\\|y | 1 |\n"
        );
        assert_eq!(render(&rows, Style::Text), "a    b\nx|y  1\n");
    }
}
