//! The description of a tokenizer as the `tokenizers` crate reads it, and what must hold of one that is read.

use serde_json::{Value, json};

use super::{END_OF_TEXT, START_OF_TEXT, TokenizerKind};

/// Above every token id; the largest vocabularies have a quarter of a million entries.
const HIGHEST_ID: u64 = 1 << 24;

impl TokenizerKind {
    pub(super) fn model(self) -> &'static str {
        match self {
            Self::Gpt2 => "GPT-2",
            Self::Clip => "CLIP",
        }
    }

    pub(super) fn special_tokens(self) -> &'static [&'static str] {
        match self {
            Self::Gpt2 => &[END_OF_TEXT],
            Self::Clip => &[START_OF_TEXT, END_OF_TEXT],
        }
    }

    /// The pipeline around a BPE model, as transformers builds it (`convert_slow_tokenizer.py`, 4.57).
    pub(super) fn pipeline(self, vocab: &[(String, u32)], merges: &[(String, String)]) -> Value {
        let byte_level = |trim_offsets: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": trim_offsets, "use_regex": true});
        let (normalizer, pre_tokenizer, suffix) = match self {
            Self::Gpt2 => (Value::Null, byte_level(true), Value::Null),
            Self::Clip => (
                json!({"type": "Sequence", "normalizers": [
                    {"type": "NFC"},
                    {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
                    {"type": "Lowercase"},
                ]}),
                json!({"type": "Sequence", "pretokenizers": [
                    {"type": "Split", "behavior": "Removed", "invert": true, "pattern": {"Regex":
                        r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"}},
                    byte_level(true),
                ]}),
                Value::from("</w>"),
            ),
        };
        let added: Vec<Value> = vocab
            .iter()
            .filter(|(token, _)| self.special_tokens().contains(&token.as_str()))
            .map(|(token, id)| {
                json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                       "normalized": false, "special": true})
            })
            .collect();
        let vocab: serde_json::Map<String, Value> = vocab
            .iter()
            .map(|(token, id)| (token.clone(), (*id).into()))
            .collect();
        json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer,
            "post_processor": null,
            "decoder": byte_level(true),
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
                "end_of_word_suffix": suffix, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": vocab, "merges": merges,
            },
        })
    }
}

/// What is wrong with a pipeline that the crate would not notice.
pub(super) fn check(pipeline: &Value) -> Result<(), String> {
    check_ids(pipeline)?;
    check_merges(&pipeline["model"])
}

/// Ids must be within reason: the crate counts every number up to the highest.
fn check_ids(pipeline: &Value) -> Result<(), String> {
    let vocab = pipeline["model"]["vocab"].as_object();
    let vocab = vocab.into_iter().flatten();
    let added = pipeline["added_tokens"].as_array();
    let added = added.into_iter().flatten();
    let ids = vocab
        .map(|(_, id)| id)
        .chain(added.map(|token| &token["id"]));
    for id in ids {
        if id.as_u64().is_none_or(|id| id >= HIGHEST_ID) {
            return Err(format!("the id {id} is not a number below {HIGHEST_ID}"));
        }
    }
    Ok(())
}

/// Every merge must make a token of the vocabulary. The crate takes that for granted and panics where it is not so.
fn check_merges(model: &Value) -> Result<(), String> {
    let (Some(vocab), Some(merges)) = (model["vocab"].as_object(), model["merges"].as_array())
    else {
        return Ok(());
    };
    for merge in merges {
        let merged = match merge {
            Value::String(pair) => pair.replacen(' ', "", 1),
            pair => [&pair[0], &pair[1]]
                .map(|part| part.as_str().unwrap_or_default())
                .concat(),
        };
        if !vocab.contains_key(&merged) {
            return Err(format!(
                "the merge {merge} makes `{merged}`, which is not in the vocabulary"
            ));
        }
    }
    Ok(())
}

/// The bytes of a token of a byte-level vocabulary, which writes each byte as a character that can be seen; `None` of another
/// vocabulary's.
pub(super) fn token_bytes(token: &str) -> Option<Vec<u8>> {
    let seen = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    // The others are moved behind the first 256 characters, in their order.
    let moved: Vec<u8> = (0..=u8::MAX).filter(|byte| !seen(byte)).collect();
    let byte = |c: char| match u32::from(c).checked_sub(256) {
        None => u8::try_from(c).ok().filter(seen),
        Some(place) => moved.get(place as usize).copied(),
    };
    token.chars().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_back_as_bytes() {
        assert_eq!(token_bytes("Ġcafé"), Some(b" caf\xe9".to_vec()));
        assert_eq!(token_bytes("ðŁ"), Some(vec![0xf0, 0x9f]));
        assert_eq!(token_bytes("日"), None);
    }
}
