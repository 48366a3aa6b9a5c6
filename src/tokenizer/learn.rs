//! Vocabularies that are learned from texts.

use std::path::Path;
use std::str::FromStr;

use serde_json::Value;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::BpeTrainer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::{Result, Tokenizer, TokenizerError, TokenizerKind};

impl Tokenizer {
    /// Learns a vocabulary of `vocab_size` entries, the special tokens included. Every byte has an entry, so that any
    /// text can be encoded; the special tokens come last, as in the real vocabularies.
    pub fn train(
        kind: TokenizerKind,
        texts: impl Iterator<Item = String> + Send,
        vocab_size: usize,
    ) -> Result<Self> {
        let mut alphabet: Vec<String> = ByteLevel::alphabet()
            .into_iter()
            .map(String::from)
            .collect();
        alphabet.sort_unstable();
        if kind == TokenizerKind::Clip {
            let ends: Vec<String> = alphabet.iter().map(|byte| format!("{byte}</w>")).collect();
            alphabet.extend(ends);
        }
        let least = alphabet.len() + kind.special_tokens().len();
        let room = vocab_size
            .checked_sub(least)
            .ok_or(TokenizerError::TooSmall(vocab_size, least))?;
        let merges = learn_merges(kind, texts, alphabet.len() + room)?;
        let tokens = alphabet
            .into_iter()
            .chain(
                merges
                    .iter()
                    .take(room)
                    .map(|(left, right)| format!("{left}{right}")),
            )
            .chain(kind.special_tokens().iter().map(ToString::to_string));
        let vocab: Vec<(String, u32)> = tokens.zip(0..).collect();
        let merges = &merges[..room.min(merges.len())];
        Self::from_pipeline(
            &kind.pipeline(&vocab, merges),
            kind,
            Path::new("the learned vocabulary"),
        )
    }
}

/// The merges of a vocabulary of `size` single and merged tokens, most frequent first.
fn learn_merges(
    kind: TokenizerKind,
    texts: impl Iterator<Item = String> + Send,
    size: usize,
) -> Result<Vec<(String, String)>> {
    let failed = |error: String| TokenizerError::Encode(format!("learning a vocabulary: {error}"));
    let empty = kind.pipeline(&[], &[]);
    let mut learner = tokenizers::Tokenizer::from_str(&empty.to_string())
        .map_err(|error| failed(error.to_string()))?;
    let mut trainer = BpeTrainer::builder()
        .vocab_size(size)
        .min_frequency(2)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect());
    if kind == TokenizerKind::Clip {
        trainer = trainer.end_of_word_suffix("</w>".into());
    }
    learner
        .train(&mut TrainerWrapper::BpeTrainer(trainer.build()), texts)
        .map_err(|error| failed(error.to_string()))?;
    let text = learner
        .to_string(false)
        .map_err(|error| failed(error.to_string()))?;
    let learned: Value = serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
    serde_json::from_value(learned["model"]["merges"].clone())
        .map_err(|error| failed(error.to_string()))
}
