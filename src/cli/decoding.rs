//! How captions are searched and chosen, as flags.

use std::num::NonZeroUsize;

use anyhow::Result;
use clap::Args;
use clap::error::ErrorKind;
use clipcap::captioner::CaptionDecoder;
use clipcap::decode::{DecodeConfig, Strategy};
use clipcap::serve::Searches;

use super::common::usage;

#[derive(Args)]
#[command(next_help_heading = "Decoding")]
pub struct DecodeArgs {
    /// How tokens are chosen
    #[arg(long, value_enum, default_value = "greedy")]
    decode: DecodeArg,
    /// Beams, with --decode beam
    #[arg(long, value_name = "N", default_value_t = 5)]
    beam_size: usize,
    /// Longest caption in tokens, the prompt not counted [default: 67, or what fits the model]
    #[arg(long, value_name = "N")]
    max_length: Option<usize>,
    /// Captions an image, best first, with --decode beam or sample
    #[arg(long, value_name = "N", default_value = "1")]
    num_captions: NonZeroUsize,
    /// Captions drawn an image, of which the best --num-captions are given, with --decode sample [default: as many]
    #[arg(long, value_name = "N")]
    best_of: Option<usize>,
    /// What decides which captions are best
    #[arg(long, value_enum, default_value = "score")]
    rerank: Rerank,
    /// Rank by the sum of log-probabilities over length^P: 1 is ClipCap's mean, 0 the sum, more favors long captions
    #[arg(
        long,
        value_name = "P",
        default_value_t = 1.0,
        allow_negative_numbers = true
    )]
    length_penalty: f32,
    /// No sequence of N tokens twice in a caption; 0 allows all
    #[arg(long, value_name = "N", default_value_t = 0)]
    no_repeat_ngram: usize,
    /// End captions with this token instead of the model's own; may be given several times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Begin every caption with this text, without a space at its end
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    prompt: String,
    /// Divides the scores before sampling: below 1 likely tokens become likelier
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    temperature: f32,
    /// Sample from the K likeliest tokens only
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Sample from the likeliest tokens that together have probability P
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Seed of sampling
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum DecodeArg {
    /// The likeliest token each time
    Greedy,
    /// ClipCap's beam search
    Beam,
    /// Random tokens
    Sample,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Rerank {
    /// How likely the model finds them
    Score,
    /// How similar CLIP finds image and caption
    Clip,
}

impl DecodeArgs {
    /// The strategy. Flags that contradict each other end the program.
    pub fn strategy(&self) -> Strategy {
        let refuse = |message: &str| -> ! { usage(ErrorKind::ArgumentConflict, message) };
        if self.decode != DecodeArg::Sample && self.best_of.is_some() {
            refuse("--best-of needs --decode sample: a beam search gives its --beam-size best");
        }
        match self.decode {
            DecodeArg::Greedy if self.num_captions() != 1 => refuse(
                "--num-captions needs --decode beam or --decode sample: greedy finds one caption",
            ),
            DecodeArg::Greedy => Strategy::Greedy,
            DecodeArg::Beam if self.num_captions() > self.beam_size => refuse(&format!(
                "--num-captions {} needs a --beam-size of at least as many",
                self.num_captions
            )),
            DecodeArg::Beam => Strategy::Beam {
                beam_size: self.beam_size,
            },
            DecodeArg::Sample => Strategy::Sample {
                temperature: self.temperature,
                top_k: self.top_k,
                top_p: self.top_p,
                seed: self.seed,
                num_captions: self.drawn(),
            },
        }
    }

    fn drawn(&self) -> usize {
        match self.best_of {
            Some(drawn) if drawn < self.num_captions() => usage(
                ErrorKind::ArgumentConflict,
                &format!(
                    "--best-of {drawn} is less than --num-captions {}",
                    self.num_captions
                ),
            ),
            drawn => drawn.unwrap_or(self.num_captions()),
        }
    }

    /// Settings of the searches that these flags do not choose.
    pub fn searches(&self) -> Searches {
        Searches {
            beam_size: self.beam_size,
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            seed: self.seed,
            best_of: self.best_of,
        }
    }

    /// The whole configuration, for this model.
    pub fn config(&self, strategy: Strategy, reader: &CaptionDecoder) -> Result<DecodeConfig> {
        let mut config = reader.decode_config(strategy);
        config.prompt = reader.tokenizer.encode(&self.prompt)?;
        config.max_length = self.max_length.unwrap_or_else(|| {
            let room = reader.longest_caption();
            // At least 1, so that a prompt without room for a caption is refused by its length.
            config
                .max_length
                .min(room.saturating_sub(config.prompt.len()))
                .max(1)
        });
        config.length_penalty = self.length_penalty;
        config.no_repeat_ngram = self.no_repeat_ngram;
        if !self.stop.is_empty() {
            config.stop_tokens = self
                .stop
                .iter()
                .map(|text| reader.stop_token(text))
                .collect::<Result<_>>()?;
        }
        config.validate()?;
        Ok(config)
    }

    /// Captions given an image.
    pub fn num_captions(&self) -> usize {
        self.num_captions.get()
    }

    /// Whether CLIP puts them in order.
    pub fn rerank_by_clip(&self) -> bool {
        self.rerank == Rerank::Clip
    }
}
