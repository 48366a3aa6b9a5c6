//! An HTML page of an evaluation that needs nothing but itself.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

use super::chart;
use super::read::EvaluatedImage;
use super::score::Evaluation;
use crate::files;
use crate::html::{self, escape};
use crate::images::{self, thumbnail};
use caption_metrics::bootstrap::choose;
use caption_metrics::diversity::Lengths;

/// Images shown of each kind.
const SHOWN: usize = 9;
/// The longer side of an embedded image.
const IMAGE_SIDE: u32 = 360;
/// The score that images are ordered by.
const ORDERED_BY: &str = "CIDEr";

/// How pages of scores look.
pub(crate) const STYLE: &str = include_str!("report.css");

/// Makes the address of an image's thumbnail; none where it cannot be opened.
pub(crate) type Thumbnail<'a> = &'a dyn Fn(&EvaluatedImage) -> Result<Option<String>>;

/// What the page says about where it is from.
pub struct ReportHead<'a> {
    pub title: &'a str,
    /// The files that were scored.
    pub subtitle: &'a str,
    /// The folder of the images, to show them.
    pub image_folder: Option<&'a Path>,
    pub seed: u64,
}

/// Writes the page. Images that cannot be opened are left out.
pub fn write(path: &Path, evaluation: &Evaluation, head: &ReportHead) -> Result<()> {
    let page = page(evaluation, head)?;
    files::write_atomic(path, |writer| writer.write_all(page.as_bytes()))
}

fn page(evaluation: &Evaluation, head: &ReportHead) -> Result<String> {
    let per_image: Vec<Vec<f64>> = (0..evaluation.images.len())
        .map(|image| evaluation.per_image(image))
        .collect();
    let order = order(evaluation);
    let thumbnail = |image: &EvaluatedImage| match (head.image_folder, &image.file_name) {
        (Some(folder), Some(name)) => data_uri(&folder.join(name)),
        _ => Ok(None),
    };
    let fill = [
        ("title", escape(head.title)),
        ("subtitle", escape(head.subtitle)),
        ("style", STYLE.to_string()),
        ("scores", scores(evaluation)),
        ("statistics", statistics(evaluation)),
        ("sections", sections(evaluation, head.seed, &thumbnail)?),
        ("data", data(evaluation, &per_image, order)?),
    ];
    html::fill(include_str!("report.html"), &fill)
}

/// The place of the score that images are ordered by.
fn order(evaluation: &Evaluation) -> usize {
    let names = evaluation.names();
    let place = names.iter().position(|&name| name == ORDERED_BY);
    place.unwrap_or(0)
}

/// A card for every score: value, interval, histogram of the images' values.
pub(crate) fn scores(evaluation: &Evaluation) -> String {
    let per_image: Vec<Vec<f64>> = (0..evaluation.images.len())
        .map(|image| evaluation.per_image(image))
        .collect();
    let mut cards = String::new();
    for (i, (name, value)) in evaluation
        .names()
        .iter()
        .zip(evaluation.overall())
        .enumerate()
    {
        let interval = evaluation
            .intervals
            .as_ref()
            .map_or_else(String::new, |intervals| {
                let (low, high) = (intervals[i].low, intervals[i].high);
                format!(
                    "{low:.3} to {high:.3} ({:.0}%)",
                    100.0 * evaluation.confidence
                )
            });
        let values: Vec<f64> = per_image.iter().map(|scores| scores[i]).collect();
        let top = match *name {
            "CIDEr" | "CLIPScore" | "RefCLIPScore" => None,
            _ => Some(1.0),
        };
        cards.push_str(&format!(
            "<div class=\"score\"><span class=\"soft\">{name}</span><b>{value:.4}</b><span class=\"soft\">{interval}</span>{}</div>\n",
            chart::histogram(&values, value, top)
        ));
    }
    cards
}

/// Counts and lengths of the captions, as a list of definitions.
pub(crate) fn statistics(evaluation: &Evaluation) -> String {
    let diversity = &evaluation.diversity;
    let lengths = |l: &Lengths| {
        format!(
            "{:.1} on average, ± {:.1}, {} to {}",
            l.mean, l.deviation, l.shortest, l.longest
        )
    };
    let distinct: Vec<String> = diversity
        .distinct
        .iter()
        .map(|share| format!("{share:.3}"))
        .collect();
    [
        ("Images", evaluation.images.len().to_string()),
        ("Words a caption", lengths(&diversity.length)),
        ("Words a reference", lengths(&diversity.reference_length)),
        ("Different words", diversity.vocabulary.to_string()),
        (
            "Different captions",
            format!("{:.1}%", 100.0 * diversity.different_captions),
        ),
        ("Different runs of 1 to 4 words", distinct.join(", ")),
    ]
    .map(|(name, value)| format!("<dt>{name}</dt><dd>{value}</dd>"))
    .concat()
}

/// The best, the worst and some random images.
pub(crate) fn sections(evaluation: &Evaluation, seed: u64, thumbnail: Thumbnail) -> Result<String> {
    let order = order(evaluation);
    let per_image: Vec<Vec<f64>> = (0..evaluation.images.len())
        .map(|image| evaluation.per_image(image))
        .collect();
    let mut ranked: Vec<usize> = (0..per_image.len()).collect();
    ranked.sort_by(|&a, &b| {
        per_image[b][order]
            .total_cmp(&per_image[a][order])
            .then(a.cmp(&b))
    });
    let worst: Vec<usize> = ranked.iter().rev().take(SHOWN).copied().collect();
    ranked.truncate(SHOWN);
    let random = choose(per_image.len(), SHOWN, seed);
    let mut html = String::new();
    for (id, title, images) in [
        ("best", "Best", ranked),
        ("worst", "Worst", worst),
        ("random", "Random", random),
    ] {
        html.push_str(&format!(
            "<h2>{title}</h2>\n<section class=\"cards\" id=\"{id}\">\n"
        ));
        for image in images {
            html.push_str(&card(evaluation, image, &per_image[image], thumbnail)?);
        }
        html.push_str("</section>\n");
    }
    Ok(html)
}

fn card(
    evaluation: &Evaluation,
    image: usize,
    scores: &[f64],
    thumbnail: Thumbnail,
) -> Result<String> {
    let shown = &evaluation.images[image];
    let image = thumbnail(shown)?.map_or_else(String::new, |uri| {
        format!(
            "<img src=\"{uri}\" alt=\"Image {}\" loading=\"lazy\">",
            escape(&shown.id)
        )
    });
    let references: String = (shown.sample.references.iter())
        .map(|reference| format!("<li>{}</li>", escape(reference)))
        .collect();
    let numbers: Vec<String> = (evaluation.names().iter().zip(scores))
        .filter(|(name, _)| !matches!(**name, "Bleu_2" | "Bleu_3"))
        .map(|(name, score)| format!("{name} {score:.3}"))
        .collect();
    Ok(format!(
        "<article class=\"card\">{image}<p class=\"caption\">{}</p><ul>{references}</ul><p class=\"numbers\">{} · {}</p></article>\n",
        escape(&shown.sample.candidate),
        escape(&shown.id),
        numbers.join(" · ")
    ))
}

/// A small JPEG as an address of its own; none where the image cannot be opened.
fn data_uri(path: &Path) -> Result<Option<String>> {
    let Ok(image) = images::open(path) else {
        return Ok(None);
    };
    let uri = thumbnail::data_uri(image, IMAGE_SIDE)
        .with_context(|| format!("cannot make a small image of {}", path.display()))?;
    Ok(Some(uri))
}

/// What the page's script reads.
fn data(evaluation: &Evaluation, per_image: &[Vec<f64>], order: usize) -> Result<String> {
    let round = |score: &f64| (score * 1e4).round() / 1e4;
    let rows: Vec<_> = (evaluation.images.iter().zip(per_image))
        .map(|(image, scores)| {
            json!({
                "id": image.id,
                "caption": image.sample.candidate,
                "references": image.sample.references,
                "scores": scores.iter().map(round).collect::<Vec<_>>(),
            })
        })
        .collect();
    let data = json!({"names": evaluation.names(), "sort": order + 2, "rows": rows});
    // Within a script element only this can be mistaken for an end.
    Ok(serde_json::to_string(&data)?.replace('<', "\\u003c"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::read::EvaluatedImage;
    use crate::evaluate::score::{ScoreOptions, score};
    use caption_metrics::Sample;

    #[test]
    fn what_a_caption_says_cannot_become_a_part_of_the_page() {
        let evil = "</script><script>alert(1)</script> & \"quotes\" {{data}}";
        let image = |id: &str, candidate: &str| EvaluatedImage {
            id: id.into(),
            file_name: Some("missing.jpg".into()),
            sample: Sample {
                candidate: candidate.into(),
                references: vec!["a dog".into(), evil.into()],
            },
        };
        let images = vec![image("<1>", evil), image("2", "a dog")];
        let evaluation = score(images, &ScoreOptions::default(), Vec::new()).unwrap();
        let head = ReportHead {
            title: "<b>",
            subtitle: "a & b",
            image_folder: Some(Path::new("nowhere")),
            seed: 1,
        };
        let page = page(&evaluation, &head).unwrap();
        assert!(!page.contains("<script>alert"));
        assert_eq!(page.matches("</script>").count(), 2);
        assert_eq!(page.matches("<article").count(), 6);
        assert!(page.contains("&lt;b&gt;") && page.contains("a &amp; b") && !page.contains("<img"));
    }
}
