//! A penalty on tokens that a caption has already (Keskar et al. 2019, <https://arxiv.org/abs/1909.05858>), as Hugging
//! Face's `repetition_penalty`.

/// The distinct tokens of `prompt` and `tokens`, in order.
pub fn seen(prompt: &[u32], tokens: &[u32]) -> Vec<u32> {
    let mut seen = [prompt, tokens].concat();
    seen.sort_unstable();
    seen.dedup();
    seen
}

/// A score of a token that was seen: a logit, or a log-probability in beam searches.
pub fn penalized(score: f32, penalty: f32) -> f32 {
    if score < 0.0 {
        score * penalty
    } else {
        score / penalty
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn above_1_scores_fall_and_below_1_they_rise() {
        for score in [-2.0, -0.1, 0.3, 5.0] {
            assert!(penalized(score, 1.5) < score);
            assert!(penalized(score, 0.5) > score);
            assert_eq!(penalized(score, 1.0), score);
        }
        assert_eq!(seen(&[3, 1], &[2, 1, 3]), [1, 2, 3]);
    }
}
