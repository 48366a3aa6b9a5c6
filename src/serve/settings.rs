//! What a request may choose about its captions.

use std::fmt::Display;
use std::str::FromStr;

use anyhow::{Context, Result, bail};

/// What a request chose; what it left out is as the service was started.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choices {
    /// How captions are searched.
    pub decode: Option<Decode>,
    /// Captions an image.
    pub num_captions: Option<usize>,
    /// Beams of a beam search.
    pub beam_size: Option<usize>,
    /// Longest caption in tokens, the prompt not counted.
    pub max_length: Option<usize>,
    /// Tokens before a stop token at least.
    pub min_length: Option<usize>,
    /// Above 1 tokens that the caption has already become less likely.
    pub repetition_penalty: Option<f32>,
    /// Words that no caption has, besides the service's own.
    pub bad_words: Option<Words>,
    /// Divides the logits before sampling.
    pub temperature: Option<f32>,
    /// Sample from so many of the likeliest tokens only.
    pub top_k: Option<usize>,
    /// Sample from the likeliest tokens that together have this probability.
    pub top_p: Option<f32>,
    /// Sample from tokens at least this many times as likely as the likeliest.
    pub min_p: Option<f32>,
    /// Seed of sampling.
    pub seed: Option<u64>,
    /// Text that captions begin with.
    pub prompt: Option<String>,
}

/// Words, given with commas between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words(pub Vec<String>);

impl FromStr for Words {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let words = text.split(',').map(|word| word.trim().to_string());
        let words: Vec<String> = words.filter(|word| !word.is_empty()).collect();
        match words.is_empty() {
            true => Err(()),
            false => Ok(Self(words)),
        }
    }
}

/// How captions are searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decode {
    /// The likeliest token each time.
    Greedy,
    /// ClipCap's beam search.
    Beam,
    /// Random tokens.
    Sample,
}

impl FromStr for Decode {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "greedy" => Ok(Self::Greedy),
            "beam" => Ok(Self::Beam),
            "sample" => Ok(Self::Sample),
            _ => Err(()),
        }
    }
}

/// How much a request may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Captions an image.
    pub num_captions: usize,
    /// Beams of a beam search.
    pub beam_size: usize,
    /// Longest caption in tokens.
    pub max_length: usize,
    /// Tokens of the prompt.
    pub prompt: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            num_captions: 10,
            beam_size: 10,
            max_length: 67,
            prompt: 32,
        }
    }
}

impl Choices {
    /// The names of the settings, as requests give them.
    pub const NAMES: [&str; 13] = [
        "decode",
        "num_captions",
        "beam_size",
        "max_length",
        "min_length",
        "repetition_penalty",
        "bad_words",
        "temperature",
        "top_k",
        "top_p",
        "min_p",
        "seed",
        "prompt",
    ];

    /// Whether a setting is called so.
    pub fn is_name(name: &str) -> bool {
        Self::NAMES.contains(&name)
    }

    /// Takes one setting, given as text.
    ///
    /// # Errors
    /// When there is none of this name, it was given before, or the text is no value of it.
    pub fn set(&mut self, name: &str, text: &str) -> Result<()> {
        const COUNT: &str = "a whole number of at least 1";
        match name {
            "decode" => put(&mut self.decode, name, text, "greedy, beam or sample"),
            "num_captions" => put(&mut self.num_captions, name, text, COUNT),
            "beam_size" => put(&mut self.beam_size, name, text, COUNT),
            "max_length" => put(&mut self.max_length, name, text, COUNT),
            "min_length" => put(
                &mut self.min_length,
                name,
                text,
                "a whole number of at least 0",
            ),
            "repetition_penalty" => {
                put(&mut self.repetition_penalty, name, text, "a number above 0")
            }
            "bad_words" => put(
                &mut self.bad_words,
                name,
                text,
                "words with commas between them",
            ),
            "min_p" => put(&mut self.min_p, name, text, "a number from 0 to 1"),
            "temperature" => put(&mut self.temperature, name, text, "a number above 0"),
            "top_k" => put(&mut self.top_k, name, text, COUNT),
            "top_p" => put(
                &mut self.top_p,
                name,
                text,
                "a number above 0 and at most 1",
            ),
            "seed" => put(&mut self.seed, name, text, "a whole number of at least 0"),
            "prompt" => put(&mut self.prompt, name, text, "a text"),
            _ => bail!(
                "there is no setting `{}`: {} are known",
                shown(name),
                Self::NAMES.join(", ")
            ),
        }?;
        self.check(name, text)
    }

    /// Refuses numbers that no search takes.
    fn check(&self, name: &str, text: &str) -> Result<()> {
        let fits = match name {
            "num_captions" => self.num_captions != Some(0),
            "beam_size" => self.beam_size != Some(0),
            "max_length" => self.max_length != Some(0),
            "top_k" => self.top_k != Some(0),
            "temperature" => self.temperature.is_none_or(|t| t > 0.0 && t.is_finite()),
            "repetition_penalty" => {
                (self.repetition_penalty).is_none_or(|p| p > 0.0 && p.is_finite())
            }
            "min_p" => self.min_p.is_none_or(|p| (0.0..=1.0).contains(&p)),
            "top_p" => self.top_p.is_none_or(|p| p > 0.0 && p <= 1.0),
            _ => true,
        };
        let wanted = match name {
            "temperature" | "repetition_penalty" => "a number above 0",
            "min_p" => "a number from 0 to 1",
            "top_p" => "a number above 0 and at most 1",
            _ => "a whole number of at least 1",
        };
        match fits {
            true => Ok(()),
            false => bail!("{name} is {}: give {wanted}", shown(text)),
        }
    }

    /// Takes the settings of a query, as in `num_captions=3&decode=beam`.
    ///
    /// # Errors
    /// As [`Choices::set`]'s.
    pub fn set_query(&mut self, query: &str) -> Result<()> {
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            self.set(&name, &value)?;
        }
        Ok(())
    }
}

fn put<T: FromStr>(place: &mut Option<T>, name: &str, text: &str, wanted: &str) -> Result<()> {
    if place.is_some() {
        bail!("{name} is given twice: give it once");
    }
    let value = text.parse().ok();
    *place = Some(value.with_context(|| format!("{name} is `{}`: give {wanted}", shown(text)))?);
    Ok(())
}

/// Refuses what is beyond a limit.
///
/// # Errors
/// When it is; the message names the setting and the limit.
pub(super) fn at_most<T: PartialOrd + Display>(name: &str, value: T, limit: T) -> Result<()> {
    if value > limit {
        bail!("{name} is {value}: this service allows at most {limit}");
    }
    Ok(())
}

/// The beginning of a text from outside, on one line.
pub(super) fn shown(text: &str) -> String {
    const LONGEST: usize = 100;
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut shown: String = text.chars().take(LONGEST).map(plain).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(query: &str) -> Result<Choices> {
        let mut choices = Choices::default();
        choices.set_query(query)?;
        Ok(choices)
    }

    #[test]
    fn a_query_sets_what_it_names() {
        let choices = set("decode=sample&temperature=0.5&top_p=0.9&prompt=A+photo%20of&seed=7");
        let expected = Choices {
            decode: Some(Decode::Sample),
            temperature: Some(0.5),
            top_p: Some(0.9),
            prompt: Some("A photo of".into()),
            seed: Some(7),
            ..Choices::default()
        };
        assert_eq!(choices.unwrap(), expected);
        assert_eq!(set("").unwrap(), Choices::default());
        for name in Choices::NAMES {
            assert!(Choices::is_name(name));
            let value = if name == "decode" { "beam" } else { "1" };
            assert_ne!(set(&format!("{name}={value}")).unwrap(), Choices::default());
        }
    }

    #[test]
    fn what_is_unknown_twice_or_no_value_is_refused_by_name() {
        for (query, parts) in [
            ("captions=3", &["`captions`", "num_captions"][..]),
            ("seed=1&seed=1", &["seed", "twice"]),
            ("num_captions=0", &["num_captions", "0", "at least 1"]),
            ("num_captions=-1", &["num_captions", "`-1`"]),
            ("beam_size=2.5", &["beam_size", "`2.5`"]),
            ("decode=best", &["decode", "`best`", "greedy"]),
            ("temperature=0", &["temperature", "above 0"]),
            ("temperature=NaN", &["temperature", "above 0"]),
            ("temperature=inf", &["temperature", "above 0"]),
            ("top_p=1.5", &["top_p", "at most 1"]),
            ("top_k=0", &["top_k", "at least 1"]),
            ("min_p=-1", &["min_p", "from 0 to 1"]),
            ("repetition_penalty=0", &["repetition_penalty", "above 0"]),
            ("bad_words=,", &["bad_words", "commas"]),
        ] {
            let error = set(query).unwrap_err().to_string();
            for part in parts {
                assert!(error.contains(part), "{query}: {error}");
            }
        }
    }

    #[test]
    fn a_text_from_outside_is_shown_on_one_short_line() {
        assert_eq!(shown("a\nb\u{1b}[1m"), "a b [1m");
        assert_eq!(shown(&"x".repeat(500)).len(), 103);
    }
}
