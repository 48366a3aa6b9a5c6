//! Texts that are longer than CLIP reads.

use std::fmt;

use super::{Result, Tokenizer};

/// Characters of a long text that are shown.
const SHOWN: usize = 60;

/// How many texts CLIP reads the beginning of alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CutTexts {
    pub count: usize,
    /// Texts in all.
    pub total: usize,
    /// Tokens of a text that are read; start and end come on top.
    pub room: usize,
    /// The longest of those that are cut, and its tokens.
    pub longest: Option<(String, usize)>,
}

impl CutTexts {
    /// A line about them; `None` where none is cut.
    pub fn told(&self) -> Option<String> {
        (self.count > 0).then(|| self.to_string())
    }
}

impl fmt::Display for CutTexts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} texts are longer than the {} tokens that CLIP reads, and were cut",
            self.count, self.total, self.room
        )?;
        let Some((text, tokens)) = &self.longest else {
            return Ok(());
        };
        let text: Vec<&str> = text.split_whitespace().collect();
        let text = text.join(" ");
        let begin: String = text.chars().take(SHOWN).collect();
        let more = if begin.len() < text.len() { "..." } else { "" };
        write!(
            f,
            "; the longest has {tokens}: `{}{more}`",
            begin.escape_debug()
        )
    }
}

impl Tokenizer {
    /// How many of some texts [`Self::encode_clip`] cuts.
    ///
    /// # Errors
    /// When a text cannot be encoded.
    pub fn cut_texts<'a>(
        &self,
        texts: impl IntoIterator<Item = &'a str>,
        context_length: usize,
    ) -> Result<CutTexts> {
        let room = context_length.saturating_sub(2);
        let mut found = CutTexts {
            room,
            ..CutTexts::default()
        };
        for text in texts {
            found.total += 1;
            // No token is shorter than a byte.
            if text.len() <= room {
                continue;
            }
            let tokens = self.encode(text)?.len();
            if tokens <= room {
                continue;
            }
            found.count += 1;
            if found
                .longest
                .as_ref()
                .is_none_or(|(_, most)| tokens > *most)
            {
                found.longest = Some((text.to_string(), tokens));
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::TokenizerKind;

    #[test]
    fn texts_that_are_cut_are_counted_and_the_longest_is_named() {
        let texts = (0..20).map(|_| "a red circle.".to_string());
        let tokenizer = Tokenizer::train(TokenizerKind::Clip, texts, 530).unwrap();
        let long = "a red circle. ".repeat(30);
        let longer = format!("{long}\nq q q q");
        let all = ["a red circle.", &long, &longer, "a"];
        let cut = tokenizer.cut_texts(all, 16).unwrap();
        assert_eq!((cut.count, cut.total, cut.room), (2, 4, 14));
        let (text, tokens) = cut.longest.clone().unwrap();
        assert_eq!(text, longer);
        assert_eq!(tokens, tokenizer.encode(&longer).unwrap().len());
        let told = cut.told().unwrap();
        assert!(
            told.contains("2 of 4 texts") && told.contains("...`"),
            "{told}"
        );
        assert!(
            told.contains(&format!("the longest has {tokens}: `a red")),
            "{told}"
        );
        assert_eq!(tokenizer.cut_texts(["a"], 16).unwrap().told(), None);
    }
}
