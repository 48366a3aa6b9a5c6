//! A model as the service asks it.

use anyhow::{Result, bail};
use image::RgbImage;

use super::captions::Captions;
use super::settings::{Choices, Decode, Limits, at_most};
use crate::captioner::{Caption, Captioner, Search, spellings};
use crate::decode::{DecodeConfig, Sampling, Strategy};
use crate::explain::{ExplainOptions, Explanation};
use crate::models::clip::Preprocessing;
use crate::tokenizer::Tokenizer;

/// Forbidden words of a request.
const MOST_BAD_WORDS: usize = 100;

/// How a request's search is done where the request names another than the service's own.
#[derive(Clone, Debug)]
pub struct Searches {
    /// A beam search.
    pub beam: Strategy,
    /// How tokens are drawn; the number of captions is the request's.
    pub sampling: Sampling,
    /// Captions sampled an image, of which the best are given.
    pub best_of: Option<usize>,
}

impl Default for Searches {
    fn default() -> Self {
        Self {
            beam: Strategy::Beam { beam_size: 5 },
            sampling: Sampling::default(),
            best_of: None,
        }
    }
}

/// A captioner, its settings, and how far requests may change them.
#[derive(Debug)]
pub struct Model {
    preprocessing: Preprocessing,
    tokenizer: Tokenizer,
    /// Tokens that fit the language model after the prefix.
    room: usize,
    /// What is done where a request does not choose.
    own: Search,
    searches: Searches,
    limits: Limits,
    captioner: Captioner,
}

impl Model {
    /// A model whose captions are as `own` says, where a request does not choose.
    pub fn new(captioner: Captioner, own: Search, searches: Searches, limits: Limits) -> Self {
        Self {
            preprocessing: captioner.encoder.preprocessing().clone(),
            tokenizer: captioner.decoder.tokenizer.clone(),
            room: captioner.decoder.longest_caption(),
            own,
            searches,
            limits,
            captioner,
        }
    }

    /// The search, and how many captions of it are given.
    fn strategy(&self, choices: &Choices) -> Result<(Strategy, usize)> {
        let own = match self.own.decode.strategy {
            Strategy::Greedy => Decode::Greedy,
            Strategy::Beam { .. } | Strategy::HfBeam(_) => Decode::Beam,
            Strategy::Sample(_) => Decode::Sample,
        };
        let decode = choices.decode.unwrap_or(own);
        needs(choices, decode)?;
        let asked = choices.num_captions;
        match decode {
            Decode::Greedy => match asked {
                Some(count) if count > 1 => bail!(
                    "num_captions is {count}: it needs decode beam or sample, greedy finds one caption"
                ),
                _ => Ok((Strategy::Greedy, 1)),
            },
            Decode::Beam => {
                let beam = match own {
                    Decode::Beam => &self.own.decode.strategy,
                    Decode::Greedy | Decode::Sample => &self.searches.beam,
                };
                let beam_size = choices.beam_size.unwrap_or(beam.found());
                let count = asked.unwrap_or(self.own.num_captions.min(beam_size));
                if count > beam_size {
                    bail!(
                        "num_captions is {count}: it needs a beam_size of at least as many (it is {beam_size})"
                    );
                }
                Ok((beam.clone().with_beam_size(beam_size), count))
            }
            Decode::Sample => {
                let count = asked.unwrap_or(self.own.num_captions);
                Ok((self.sampling(choices, count), count))
            }
        }
    }

    fn sampling(&self, choices: &Choices, count: usize) -> Strategy {
        let own = &self.searches.sampling;
        let drawn = self
            .searches
            .best_of
            .map_or(count, |drawn| drawn.max(count));
        Strategy::Sample(Sampling {
            temperature: choices.temperature.unwrap_or(own.temperature),
            top_k: choices.top_k.or(own.top_k),
            top_p: choices.top_p.or(own.top_p),
            min_p: choices.min_p.or(own.min_p),
            seed: choices.seed.unwrap_or(own.seed),
            num_captions: drawn,
            ..own.clone()
        })
    }

    /// The service's own forbidden words and the request's.
    fn bad_words(&self, choices: &Choices) -> Result<Vec<Vec<u32>>> {
        let mut words = self.own.decode.bad_words.clone();
        if let Some(more) = &choices.bad_words {
            at_most("the number of bad_words", more.0.len(), MOST_BAD_WORDS)?;
            for word in &more.0 {
                at_most("the length of a bad word in bytes", word.len(), 128)?;
            }
            words.extend(spellings(&self.tokenizer, &more.0)?);
        }
        Ok(words)
    }

    /// The prompt as tokens, and the longest caption after it.
    fn lengths(&self, choices: &Choices) -> Result<(Vec<u32>, usize)> {
        let prompt = match &choices.prompt {
            None => self.own.decode.prompt.clone(),
            Some(text) => {
                // No token is longer than this, so that a long text is refused before it is cut
                // into tokens.
                const LONGEST_TOKEN: usize = 128;
                at_most(
                    "the length of prompt in bytes",
                    text.len(),
                    self.limits.prompt * LONGEST_TOKEN,
                )?;
                let prompt = self.tokenizer.encode(text)?;
                at_most(
                    "the length of prompt in tokens",
                    prompt.len(),
                    self.limits.prompt,
                )?;
                prompt
            }
        };
        let room = self.room.saturating_sub(prompt.len());
        if room == 0 {
            bail!(
                "the prompt is {} tokens, which leaves no room for a caption: shorten it",
                prompt.len()
            );
        }
        match choices.max_length {
            None => Ok((prompt, self.own.decode.max_length.min(room))),
            Some(length) => {
                at_most("max_length", length, self.limits.max_length.min(room))?;
                Ok((prompt, length))
            }
        }
    }
}

impl Captions for Model {
    fn crop(&self, image: &RgbImage) -> RgbImage {
        self.preprocessing.crop(image)
    }

    fn search(&self, choices: &Choices) -> Result<Search> {
        if let Some(count) = choices.num_captions {
            at_most("num_captions", count, self.limits.num_captions)?;
        }
        if let Some(size) = choices.beam_size {
            let limit = self.limits.beam_size.min(self.tokenizer.vocab_size());
            at_most("beam_size", size, limit)?;
        }
        let (strategy, num_captions) = self.strategy(choices)?;
        let (prompt, max_length) = self.lengths(choices)?;
        let mut stop_tokens = self.own.decode.stop_tokens.clone();
        let end = self.tokenizer.end_of_text();
        if choices.min_length.is_some_and(|length| length > 0) && !stop_tokens.contains(&end) {
            stop_tokens.push(end);
        }
        let decode = DecodeConfig {
            stop_tokens,
            strategy,
            prompt,
            max_length,
            min_length: (choices.min_length).unwrap_or(self.own.decode.min_length.min(max_length)),
            repetition_penalty: (choices.repetition_penalty)
                .unwrap_or(self.own.decode.repetition_penalty),
            bad_words: self.bad_words(choices)?,
            ..self.own.decode.clone()
        };
        decode.validate()?;
        Ok(Search {
            decode,
            num_captions,
            rerank: self.own.rerank,
        })
    }

    fn most_captions(&self) -> usize {
        self.limits.num_captions
    }

    fn caption(&self, crops: &[RgbImage], search: &Search) -> Result<Vec<Vec<Caption>>> {
        self.captioner.caption_crops(crops, search)
    }

    fn explains(&self) -> Result<()> {
        self.captioner.decoder.check_explained()
    }

    fn explain(
        &self,
        crop: &RgbImage,
        search: &Search,
        rank: usize,
    ) -> Result<Option<Explanation>> {
        let captions = self
            .captioner
            .caption_crops(std::slice::from_ref(crop), search)?;
        let chosen = captions.into_iter().flatten().nth(rank);
        let options = ExplainOptions::default();
        let explained = chosen.map(|caption| {
            self.captioner
                .explain_caption(crop, &caption, search, &options)
        });
        explained.transpose()
    }
}

/// Refuses settings of another search than the one that is done.
fn needs(choices: &Choices, decode: Decode) -> Result<()> {
    let of_sampling = [
        ("temperature", choices.temperature.is_some()),
        ("top_k", choices.top_k.is_some()),
        ("top_p", choices.top_p.is_some()),
        ("min_p", choices.min_p.is_some()),
        ("seed", choices.seed.is_some()),
    ];
    if decode != Decode::Beam && choices.beam_size.is_some() {
        bail!("beam_size needs decode beam");
    }
    match of_sampling.iter().find(|(_, given)| *given) {
        Some((name, _)) if decode != Decode::Sample => bail!("{name} needs decode sample"),
        _ => Ok(()),
    }
}
