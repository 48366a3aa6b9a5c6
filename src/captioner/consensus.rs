//! The caption that an image's captions agree on: minimum Bayes risk with CIDEr-D as the gain.
//!
//! Sampling draws captions as likely as the model finds them, so that the mean over the others drawn estimates the expected
//! CIDEr-D of a caption. All n-grams weigh the same: an image's own captions are no corpus to count documents in.

use std::collections::HashMap;

use caption_metrics::{Corpus, Sample, cider};

use super::Caption;

/// Puts the captions of one image in the order of their mean CIDEr-D to the others, and notes it in them. Equals stay in
/// their order; a caption alone is left as it is.
pub fn rerank(captions: &mut [Caption]) {
    let texts: Vec<String> = (captions.iter())
        .map(|caption| caption.caption.clone())
        .collect();
    for (caption, score) in captions.iter_mut().zip(scores(&texts)) {
        caption.consensus = Some(score as f32);
    }
    captions.sort_by(|a, b| {
        b.consensus
            .partial_cmp(&a.consensus)
            .unwrap_or(std::cmp::Ordering::Equal)
    });
}

/// The mean CIDEr-D of each text to the others; none where there are no others.
pub fn scores(texts: &[String]) -> Vec<f64> {
    if texts.len() < 2 {
        return Vec::new();
    }
    let sample = |place: usize| Sample {
        candidate: texts[place].clone(),
        references: [&texts[..place], &texts[place + 1..]].concat(),
    };
    let samples: Vec<Sample> = (0..texts.len()).map(sample).collect();
    let corpus = Corpus::new(&samples);
    let alike = cider::Frequencies::from_table(&corpus, &HashMap::new(), 1.0);
    let scores = cider::score(&corpus, &alike);
    (0..texts.len())
        .map(|place| scores.per_image(place)[0])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| text.to_string()).collect()
    }

    #[test]
    fn the_caption_most_like_the_others_is_best() {
        let texts = texts(&[
            "A man on a horse.",
            "Two cats asleep.",
            "A man rides a brown horse.",
            "A man on a brown horse.",
        ]);
        let scores = scores(&texts);
        let best = (0..4).max_by(|&a, &b| scores[a].total_cmp(&scores[b]));
        assert_eq!(best, Some(3), "{scores:?}");
        assert!(scores[1] < 1e-9, "nothing in common: {scores:?}");
        let caption = |text: &String| Caption {
            caption: text.clone(),
            tokens: Vec::new(),
            log_prob: -1.0,
            score: -0.5,
            similarity: None,
            consensus: None,
        };
        let mut captions: Vec<Caption> = texts.iter().map(caption).collect();
        rerank(&mut captions);
        assert_eq!(captions[0].caption, texts[3]);
        assert_eq!(captions[3].caption, texts[1]);
        assert_eq!(captions[0].consensus, Some(scores[3] as f32));
    }

    #[test]
    fn equal_captions_agree_wholly_and_one_alone_with_none() {
        let both = scores(&texts(&["A red star here.", "A red star here."]));
        assert!(
            both.iter().all(|score| (score - 10.0).abs() < 1e-9),
            "{both:?}"
        );
        assert_eq!(scores(&texts(&["A star."])), [0.0; 0]);
    }
}
