//! The loss that CLIP is trained with.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};

use crate::nn::normalize;

/// Largest factor on the similarities that CLIP allows (section 2.5 of the paper).
pub const CLIP_MAX_FACTOR: f64 = 100.0;

/// Symmetric cross-entropy over the batch: each image must find its own sentence, and each sentence its image.
///
/// # Shapes
/// - `image`, `text`: `[B, projection_dim]`, not normalized; row `i` of one belongs to row `i` of the other
/// - `logit_scale`: `[1]`, the logarithm of the factor on the cosine similarities, held at `max_factor`; returns `[1]`
pub fn contrastive_loss(
    image: Tensor<2>,
    text: Tensor<2>,
    logit_scale: Tensor<1>,
    max_factor: f64,
) -> Tensor<1> {
    let scale = logit_scale
        .clamp_max(max_factor.ln())
        .exp()
        .unsqueeze::<2>(); // [1, 1]
    let similarity = normalize(image).matmul(normalize(text).transpose()); // [B, B]
    let logits = similarity * scale;
    (diagonal_cross_entropy(logits.clone()) + diagonal_cross_entropy(logits.transpose())) * 0.5
}

/// Mean negative log-probability of each row's own column. `[B, B] -> [1]`
fn diagonal_cross_entropy(logits: Tensor<2>) -> Tensor<1> {
    let [b, _] = logits.dims();
    let own = Tensor::<1, Int>::arange(0..b as i64, &logits.device()).reshape([b, 1]);
    log_softmax(logits, 1).gather(1, own).mean().neg()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn loss(image: [[f32; 2]; 2], text: [[f32; 2]; 2], logit_scale: f32) -> f32 {
        let device = Device::flex();
        contrastive_loss(
            Tensor::from_floats(image, &device),
            Tensor::from_floats(text, &device),
            Tensor::from_floats([logit_scale], &device),
            CLIP_MAX_FACTOR,
        )
        .into_scalar()
    }

    #[test]
    fn equal_embeddings_cost_the_logarithm_of_the_batch() {
        let same = [[1.0, 2.0], [1.0, 2.0]];
        assert!((loss(same, same, 0.0) - 2.0_f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn the_factor_is_held_at_one_hundred() {
        let (image, text) = ([[1.0, 0.0], [0.6, 0.8]], [[0.8, 0.6], [0.6, 0.8]]);
        assert_eq!(loss(image, text, 100_f32.ln()), loss(image, text, 9.0));
    }

    #[test]
    fn matching_pairs_cost_less_than_swapped_ones() {
        let (a, b) = ([[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]);
        assert!(loss(a, a, 2.0) < 0.01 && loss(a, b, 2.0) > 2.0);
    }
}
