//! How captions are searched and chosen, as flags.

use std::num::NonZeroUsize;

use clap::Args;
use clap::error::ErrorKind;
use clipcap::captioner::CaptionOptions;
use clipcap::decode::Strategy;
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
    fn strategy(&self) -> Strategy {
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

    /// All of it as options. Flags that contradict each other end the program.
    pub fn options(&self) -> CaptionOptions {
        let options = CaptionOptions::new(self.strategy())
            .num_captions(self.num_captions())
            .length_penalty(self.length_penalty)
            .no_repeat_ngram(self.no_repeat_ngram)
            .stop(self.stop.iter())
            .prompt(self.prompt.as_str())
            .rerank_by_clip(self.rerank == Rerank::Clip);
        match self.max_length {
            Some(length) => options.max_length(length),
            None => options,
        }
    }

    /// Captions given an image.
    fn num_captions(&self) -> usize {
        self.num_captions.get()
    }
}
