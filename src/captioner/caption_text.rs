//! What is made of a caption's text where it is written out: in training sets, prompts and alternative texts.

use anyhow::{Result, ensure};

/// Text around a caption, and its form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaptionText {
    prepend: String,
    append: String,
    lowercase: bool,
    max_chars: Option<usize>,
}

impl CaptionText {
    /// Text before and after every caption, as it is given; captions in lower case; and the most characters that all of it
    /// may have.
    ///
    /// # Errors
    /// When the text around captions leaves no room for any.
    pub fn new(
        prepend: impl Into<String>,
        append: impl Into<String>,
        lowercase: bool,
        max_chars: Option<usize>,
    ) -> Result<Self> {
        let (prepend, append) = (prepend.into(), append.into());
        let around = prepend.chars().count() + append.chars().count();
        if let Some(most) = max_chars {
            ensure!(
                most > around,
                "at most {most} characters are wanted, and the text around the caption has {around}: allow more"
            );
        }
        Ok(Self {
            prepend,
            append,
            lowercase,
            max_chars: max_chars.map(|most| most - around),
        })
    }

    /// A caption as it is to be written: in lower case, cut after a word, with the text around it.
    pub fn of(&self, caption: &str) -> String {
        let lowercase;
        let mut text = caption;
        if self.lowercase {
            lowercase = caption.to_lowercase();
            text = &lowercase;
        }
        if let Some(most) = self.max_chars {
            text = cut(text, most);
        }
        [&self.prepend, text, &self.append].concat()
    }
}

/// At most so many characters, whole words as long as the first fits.
fn cut(text: &str, most: usize) -> &str {
    let Some((end, next)) = text.char_indices().nth(most) else {
        return text;
    };
    let kept = &text[..end];
    let whole = match next.is_whitespace() {
        true => kept,
        false => kept.trim_end_matches(|c: char| !c.is_whitespace()),
    };
    match whole.trim() {
        "" => kept.trim_end(),
        _ => whole.trim_end(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caption_is_cut_after_a_word() {
        for (most, expected) in [
            (40, "A naïve red circle."),
            (19, "A naïve red circle."),
            (18, "A naïve red"),
            (11, "A naïve red"),
            (10, "A naïve"),
            (8, "A naïve"),
            (2, "A"),
            (1, "A"),
        ] {
            assert_eq!(cut("A naïve red circle.", most), expected, "{most}");
        }
        assert_eq!(cut("naïveté alone", 4), "naïv", "no word fits");
    }

    #[test]
    fn text_stands_around_it_and_counts() {
        let text = CaptionText::new("photo: ", "!", true, Some(20)).unwrap();
        assert_eq!(text.of("A Red Circle Here"), "photo: a red circle!");
        assert_eq!(CaptionText::default().of("A Red one."), "A Red one.");
        let error = CaptionText::new("photo: ", "", false, Some(7)).unwrap_err();
        assert!(error.to_string().contains("7 characters"), "{error}");
    }
}
