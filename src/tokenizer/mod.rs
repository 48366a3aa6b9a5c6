//! The vocabularies of GPT-2 and CLIP, through the `tokenizers` crate.
//!
//! Both are byte-level BPE. GPT-2's keeps the text as it is and marks the space before a word; CLIP's lower-cases,
//! collapses white space and marks the end of a word.

mod cut;
mod learn;
mod pipeline;

use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde_json::Value;

use crate::files;
use crate::guard::guarded;
use crate::path_text;

pub use cut::CutTexts;

/// GPT-2's end of text, which also ends CLIP's sentences.
pub const END_OF_TEXT: &str = "<|endoftext|>";
/// What CLIP's sentences begin with.
pub const START_OF_TEXT: &str = "<|startoftext|>";

/// What ends a text in the vocabularies of GPT-2s for other languages.
const OTHER_ENDS: [&str; 5] = ["<|end_of_text|>", "</s>", "<eos>", "[SEP]", "<pad>"];

/// Which of the two text models a vocabulary is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenizerKind {
    Gpt2,
    Clip,
}

/// Text to token ids and back.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    end_of_text: u32,
    /// CLIP only.
    start_of_text: Option<u32>,
}

/// Why a vocabulary could not be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    #[error(
        "{0} has neither tokenizer.json nor vocab.json with merges.txt: copy one of them from where the model came from"
    )]
    NotFound(PathBuf),
    #[error("cannot read {0}: {1}")]
    Unreadable(PathBuf, String),
    #[error("{0} has no token {1}, so it is not the vocabulary of {2}")]
    NoSpecialToken(PathBuf, &'static str, &'static str),
    #[error("the text cannot be encoded: {0}")]
    Encode(String),
    #[error("the tokens cannot be decoded: {0}")]
    Decode(String),
    #[error(
        "a vocabulary of {0} entries is too small: {1} are needed for single bytes and special tokens"
    )]
    TooSmall(usize, usize),
}

impl TokenizerError {
    /// Whether there is no vocabulary at all, rather than a wrong one.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::NotFound(_))
    }
}

type Result<T> = std::result::Result<T, TokenizerError>;

impl Tokenizer {
    /// Reads a folder's `tokenizer.json`, or else its `vocab.json` and `merges.txt`.
    pub fn load(folder: &Path, kind: TokenizerKind) -> Result<Self> {
        let whole = folder.join("tokenizer.json");
        if whole.is_file() {
            return Self::from_file(&whole, kind);
        }
        let (vocab, merges) = (folder.join("vocab.json"), folder.join("merges.txt"));
        if vocab.is_file() && merges.is_file() {
            return Self::from_vocab_and_merges(&vocab, &merges, kind);
        }
        Err(TokenizerError::NotFound(folder.to_path_buf()))
    }

    /// Reads a `tokenizer.json`.
    pub fn from_file(path: &Path, kind: TokenizerKind) -> Result<Self> {
        let unreadable = |error: String| TokenizerError::Unreadable(path.to_path_buf(), error);
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
        let pipeline: Value =
            files::parse_json(&text).map_err(|error| unreadable(error.to_string()))?;
        Self::from_pipeline(&pipeline, kind, path)
    }

    fn from_vocab_and_merges(
        vocab_path: &Path,
        merges_path: &Path,
        kind: TokenizerKind,
    ) -> Result<Self> {
        let unreadable =
            |path: &Path, error: String| TokenizerError::Unreadable(path.to_path_buf(), error);
        let vocab: serde_json::Map<String, Value> = files::read_json(vocab_path)
            .map_err(|error| unreadable(vocab_path, format!("{error:#}")))?;
        let vocab = vocab
            .into_iter()
            .map(
                |(token, id)| match id.as_u64().and_then(|id| u32::try_from(id).ok()) {
                    Some(id) => Ok((token, id)),
                    None => Err(unreadable(
                        vocab_path,
                        format!("the id of `{token}` is {id}"),
                    )),
                },
            )
            .collect::<Result<Vec<_>>>()?;
        let text = std::fs::read_to_string(merges_path)
            .map_err(|error| unreadable(merges_path, error.to_string()))?;
        let merges = text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.starts_with("#version") && !line.trim().is_empty())
            .map(|(number, line)| match line.split_once(' ') {
                Some((left, right)) => Ok((left.to_string(), right.trim_end().to_string())),
                None => Err(unreadable(
                    merges_path,
                    format!("line {} is not a pair", number + 1),
                )),
            })
            .collect::<Result<Vec<_>>>()?;
        Self::from_pipeline(&kind.pipeline(&vocab, &merges), kind, vocab_path)
    }

    fn from_pipeline(pipeline: &Value, kind: TokenizerKind, source: &Path) -> Result<Self> {
        let unreadable = |error: String| TokenizerError::Unreadable(source.to_path_buf(), error);
        pipeline::check(pipeline).map_err(unreadable)?;
        let text = pipeline.to_string();
        let inner = guarded(|| tokenizers::Tokenizer::from_str(&text))
            .map_err(|panic| unreadable(panic.to_string()))?
            .map_err(|error| unreadable(error.to_string()))?;
        Self::new(inner, kind, source)
    }

    fn new(inner: tokenizers::Tokenizer, kind: TokenizerKind, source: &Path) -> Result<Self> {
        let special = |token: &'static str| {
            inner.token_to_id(token).ok_or_else(|| {
                TokenizerError::NoSpecialToken(source.to_path_buf(), token, kind.model())
            })
        };
        let other_end = (OTHER_ENDS.iter())
            .filter(|_| kind == TokenizerKind::Gpt2)
            .find_map(|end| inner.token_to_id(end));
        let end_of_text = special(END_OF_TEXT).or_else(|error| other_end.ok_or(error))?;
        let start_of_text = match kind {
            TokenizerKind::Gpt2 => None,
            TokenizerKind::Clip => Some(special(START_OF_TEXT)?),
        };
        Ok(Self {
            inner,
            end_of_text,
            start_of_text,
        })
    }

    /// Token ids, without special tokens.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|error| TokenizerError::Encode(error.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Start, the text's tokens, end; cut to `context_length` with the end kept. CLIP only: another vocabulary has no
    /// start, and begins with the text.
    pub fn encode_clip(&self, text: &str, context_length: usize) -> Result<Vec<u32>> {
        let mut ids: Vec<u32> = self.start_of_text.into_iter().collect();
        ids.extend(self.encode(text)?);
        ids.truncate(context_length.saturating_sub(1));
        ids.push(self.end_of_text);
        Ok(ids)
    }

    /// The text of token ids, special tokens left out.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.inner
            .decode(ids, true)
            .map_err(|error| TokenizerError::Decode(error.to_string()))
    }

    /// The text of token ids, special tokens written out.
    pub fn decode_all(&self, ids: &[u32]) -> Result<String> {
        self.inner
            .decode(ids, false)
            .map_err(|error| TokenizerError::Decode(error.to_string()))
    }

    /// The text of one token, as far as its bytes are whole characters; others are written `\xff` and the like.
    pub fn token_text(&self, id: u32) -> Result<String> {
        let text = self.decode_all(&[id])?;
        if !text.contains(char::REPLACEMENT_CHARACTER) {
            return Ok(text);
        }
        let bytes = (self.inner.id_to_token(id)).and_then(|token| pipeline::token_bytes(&token));
        Ok(bytes.map_or(text, |bytes| path_text::bytes(&bytes)))
    }

    /// Number of entries, special tokens included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The id of the token that ends a text.
    pub fn end_of_text(&self) -> u32 {
        self.end_of_text
    }

    /// Writes a `tokenizer.json`.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        let text = self
            .inner
            .to_string(false)
            .map_err(|error| anyhow::anyhow!("{error}"))?;
        files::write_atomic(path, |writer| writer.write_all(text.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn texts() -> impl Iterator<Item = String> + Send {
        [
            "A red circle above a blue star.",
            "Two red circles and nothing else.",
            "A large blue star.",
        ]
        .into_iter()
        .cycle()
        .take(60)
        .map(String::from)
    }

    #[test]
    fn any_text_comes_back_from_gpt2_tokens() {
        let tokenizer = Tokenizer::train(TokenizerKind::Gpt2, texts(), 320).unwrap();
        for text in [
            "A red circle.",
            "  two  spaces ",
            "naïve 犬 🚀 don't",
            "\n\ttab",
            "",
            "!",
        ] {
            let ids = tokenizer.encode(text).unwrap();
            assert_eq!(tokenizer.decode(&ids).unwrap(), text);
        }
        assert!(
            tokenizer.encode("A red circle above").unwrap().len() <= 4,
            "frequent words are single tokens"
        );
        assert_eq!(tokenizer.end_of_text() as usize, tokenizer.vocab_size() - 1);
    }

    #[test]
    fn clip_lower_cases_marks_the_ends_and_keeps_the_end_when_cutting() {
        let tokenizer = Tokenizer::train(TokenizerKind::Clip, texts(), 560).unwrap();
        let ids = tokenizer.encode_clip("A  RED circle", 20).unwrap();
        assert_eq!(ids, tokenizer.encode_clip("a red\ncircle ", 20).unwrap());
        let end = tokenizer.end_of_text();
        assert_eq!((ids[0], *ids.last().unwrap()), (end - 1, end));
        assert!(ids.iter().all(|&id| id <= end), "the end is the highest id");
        let cut = tokenizer
            .encode_clip("a red circle above a blue star", 4)
            .unwrap();
        assert_eq!((cut.len(), cut[3]), (4, end));
        // Every byte can end a word.
        assert_eq!(
            tokenizer
                .decode(&tokenizer.encode("xyzq 7 é").unwrap())
                .unwrap()
                .replace("</w>", " ")
                .trim(),
            "xyzq 7 é"
        );
    }

    #[test]
    fn vocabularies_of_other_languages_end_a_text_in_their_own_way() {
        let pipeline = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
            "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": null, "decoder": null,
            "model": {"type": "WordLevel", "unk_token": "[UNK]", "vocab": {"[UNK]": 0, "[SEP]": 1, "犬": 2, "。": 3}},
        });
        let load = |kind| Tokenizer::from_pipeline(&pipeline, kind, Path::new("tokenizer.json"));
        let tokenizer = load(TokenizerKind::Gpt2).unwrap();
        assert_eq!(tokenizer.end_of_text(), 1);
        assert_eq!(tokenizer.encode("犬 。").unwrap(), [2, 3]);
        let error = load(TokenizerKind::Clip).unwrap_err();
        assert!(
            !error.is_absence() && error.to_string().contains("CLIP"),
            "{error}"
        );
    }

    #[test]
    fn a_saved_vocabulary_is_the_same_and_learning_repeats_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        let a = Tokenizer::train(TokenizerKind::Gpt2, texts(), 300).unwrap();
        a.save(&path).unwrap();
        let b = Tokenizer::load(folder.path(), TokenizerKind::Gpt2).unwrap();
        let c = Tokenizer::train(TokenizerKind::Gpt2, texts(), 300).unwrap();
        let text = "Two large blue circles.";
        assert_eq!(a.encode(text).unwrap(), b.encode(text).unwrap());
        assert_eq!(a.encode(text).unwrap(), c.encode(text).unwrap());
    }

    #[test]
    fn folders_and_files_that_are_no_vocabulary_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let load = || {
            Tokenizer::load(folder.path(), TokenizerKind::Gpt2)
                .unwrap_err()
                .to_string()
        };
        assert!(load().contains("neither tokenizer.json"), "{}", load());
        std::fs::write(folder.path().join("vocab.json"), r#"{"a": 0, "b": 1}"#).unwrap();
        std::fs::write(folder.path().join("merges.txt"), "#version: 0.2\na b\n").unwrap();
        assert!(load().contains("vocab.json"), "{}", load());
        std::fs::write(
            folder.path().join("vocab.json"),
            r#"{"a": 4294967295, "<|endoftext|>": 0}"#,
        )
        .unwrap();
        std::fs::write(folder.path().join("merges.txt"), "").unwrap();
        assert!(load().contains("4294967295"), "{}", load());
        std::fs::write(folder.path().join("tokenizer.json"), "{").unwrap();
        assert!(load().contains("tokenizer.json"), "{}", load());
        assert!(matches!(
            Tokenizer::train(TokenizerKind::Clip, texts(), 300),
            Err(TokenizerError::TooSmall(300, 514))
        ));
    }
}
