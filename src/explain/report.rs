//! An HTML page of explanations that needs nothing but itself.

use std::path::Path;

use anyhow::{Context, Result};
use image::RgbImage;
use serde::Serialize;

use super::Explanation;
use crate::files;
use crate::html::{self, escape};
use crate::images::thumbnail;

/// The script that draws an explanation into a page.
pub(crate) const SCRIPT: &str = include_str!("explained.js");
/// How what it draws looks.
pub(crate) const STYLE: &str = include_str!("explained.css");

/// Longer side of an embedded image in pixels.
const IMAGE_SIDE: u32 = 448;
/// Digits after the point of what the page draws with: relative to the largest of its kind.
const STEPS: f32 = 1e4;

/// An explained image.
#[derive(Clone, Debug, Serialize)]
pub struct Explained {
    /// What the image is called.
    pub image: String,
    #[serde(flatten)]
    pub explanation: Explanation,
}

/// What the page's script reads.
#[derive(Serialize)]
struct Drawn {
    #[serde(flatten)]
    explained: Explained,
    /// The square that the encoder looked at, as an address.
    seen: String,
    /// Of each token the largest of its cells as they were, without signs.
    largest: Vec<f32>,
}

/// The images of a page, put into it one by one.
#[derive(Debug, Default)]
pub struct Report {
    items: Vec<String>,
}

impl Report {
    /// Adds an image. `crop`: what the encoder saw of it.
    ///
    /// # Errors
    /// When the crop has no pixels.
    pub fn add(&mut self, explained: &Explained, crop: &RgbImage) -> Result<()> {
        // Within a script element only this can be mistaken for an end.
        let json = drawn(explained, crop)?.replace('<', "\\u003c");
        self.items.push(json);
        Ok(())
    }

    /// Writes the page.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path, title: &str, subtitle: &str) -> Result<()> {
        let page = self.page(title, subtitle)?;
        files::write_atomic(path, |writer| writer.write_all(page.as_bytes()))
    }

    fn page(&self, title: &str, subtitle: &str) -> Result<String> {
        let fill = [
            ("title", escape(title)),
            ("subtitle", escape(subtitle)),
            ("style", STYLE.to_string()),
            ("script", SCRIPT.to_string()),
            ("data", format!("[{}]", self.items.join(",\n"))),
        ];
        html::fill(include_str!("report.html"), &fill)
    }
}

/// What the script draws of an image, as JSON: its explanation, with relevance by the largest of its kind and of few digits, and as
/// `seen` the square that the encoder looked at, as an address.
///
/// # Errors
/// When the crop has no pixels.
pub fn drawn(explained: &Explained, crop: &RgbImage) -> Result<String> {
    let seen = thumbnail::data_uri(crop.clone(), IMAGE_SIDE)
        .with_context(|| format!("cannot make a small image of {}", explained.image))?;
    Ok(serde_json::to_string(&Drawn {
        largest: (explained.explanation.tokens.iter())
            .map(|token| largest(&[&token.cells]))
            .collect(),
        explained: rounded(explained),
        seen,
    })?)
}

/// With maps of few digits, each by its largest value: a page draws no more of them.
fn rounded(explained: &Explained) -> Explained {
    let mut explained = explained.clone();
    for token in &mut explained.explanation.tokens {
        round(&mut [&mut token.cells]);
        // These two are compared with each other.
        round(&mut [&mut token.prefix, &mut token.words]);
        round(&mut [&mut token.embedding]);
    }
    explained
}

fn largest(together: &[&[f32]]) -> f32 {
    let values = together.iter().flat_map(|values| values.iter());
    values.fold(0.0, |largest, value| largest.max(value.abs()))
}

fn round(together: &mut [&mut Vec<f32>]) {
    let largest = largest(
        &together
            .iter()
            .map(|values| &values[..])
            .collect::<Vec<_>>(),
    );
    if largest > 0.0 {
        for value in together.iter_mut().flat_map(|values| values.iter_mut()) {
            *value = (*value / largest * STEPS).round() / STEPS;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::{Alternative, ExplainedToken, Method};

    #[test]
    fn what_a_token_says_cannot_become_a_part_of_the_page() {
        let evil = "</script><script>alert(1)</script>{{data}}";
        let token = ExplainedToken {
            id: 1,
            text: evil.into(),
            log_prob: -1.0,
            content: true,
            alternatives: vec![Alternative {
                id: 1,
                text: evil.into(),
                log_prob: -1.0,
            }],
            cells: vec![0.0, 2e-9, 1e-9, -1e-9],
            image_share: 1.0,
            prefix: vec![3.0],
            words: vec![1.0],
            embedding: Vec::new(),
        };
        let explained = Explained {
            image: evil.into(),
            explanation: Explanation {
                caption: evil.into(),
                log_prob: -1.0,
                method: Method::Occlusion,
                side: 2,
                prompt: vec![evil.into()],
                tokens: vec![token],
                prefix: Vec::new(),
            },
        };
        let mut report = Report::default();
        report.add(&explained, &RgbImage::new(8, 8)).unwrap();
        let page = report.page("<b>", "a & b").unwrap();
        assert!(!page.contains("<script>alert") && page.contains("&lt;b&gt;"));
        assert_eq!(page.matches("</script>").count(), 2);
        assert!(
            page.contains("[0.0,1.0,0.5,-0.5]"),
            "maps by their largest value"
        );
        assert!(page.contains("data:image/jpeg;base64,"));
        assert!(!page.contains("http://") && !page.contains("https://"));
    }
}
