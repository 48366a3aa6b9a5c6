//! How captions are searched and chosen, as flags.

use std::num::NonZeroUsize;

use clap::Args;
use clap::error::ErrorKind;
use clipcap::captioner::{self, CaptionOptions};
use clipcap::decode::{EarlyStopping, HfBeams, Sampling, Strategy};
use clipcap::serve::Searches;

use super::common::{refuse_idle, usage, valid};

/// Beams where --beam-size does not say it.
pub const BEAM_SIZE: usize = 5;

#[derive(Args)]
#[command(next_help_heading = "Decoding")]
pub struct DecodeArgs {
    /// How tokens are chosen
    #[arg(long, value_enum, default_value = "greedy")]
    decode: DecodeArg,
    /// Beams, with --decode beam [default: 5]
    #[arg(long, value_name = "N")]
    beam_size: Option<usize>,
    /// Whose beam search, with --decode beam [default: clipcap]
    #[arg(long, value_enum)]
    beam_rule: Option<BeamRule>,
    /// When beams end, once as many captions are finished as there are beams, with --beam-rule hf [default: false]
    #[arg(long, value_enum, value_name = "WHEN")]
    early_stopping: Option<EarlyStoppingArg>,
    /// Groups of beams that avoid each other's tokens (num_beam_groups), with --beam-rule hf; --beam-size counts all beams
    #[arg(long, value_name = "G")]
    beam_groups: Option<NonZeroUsize>,
    /// What a token loses for each beam of an earlier group that takes it at the same place, with --beam-groups
    /// [default: 1]
    #[arg(long, value_name = "P", requires = "beam_groups")]
    diversity_penalty: Option<f32>,
    /// Longest caption in tokens, the prompt not counted (max_new_tokens) [default: 67, or what fits the model]
    #[arg(long, value_name = "N")]
    max_length: Option<usize>,
    /// Tokens before a stop token at least, the prompt not counted (min_new_tokens)
    #[arg(long, value_name = "N", default_value_t = 0)]
    min_length: usize,
    /// Captions an image, best first, with --decode beam or sample
    #[arg(long, value_name = "N", default_value = "1")]
    num_captions: NonZeroUsize,
    /// Captions drawn an image, of which the best --num-captions are given, with --decode sample [default: as many]
    #[arg(long, value_name = "N")]
    best_of: Option<usize>,
    /// What decides which captions are best
    #[arg(long, value_enum, default_value = "score")]
    rerank: Rerank,
    /// Give the captions most like the others found (CIDEr-D), with --decode beam or sample: minimum Bayes risk
    #[arg(long, conflicts_with = "rerank")]
    consensus: bool,
    /// Rank by the sum of log-probabilities over length^P: 1 is ClipCap's mean, 0 the sum, more favors long captions
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    length_penalty: f32,
    /// No sequence of N tokens twice in a caption (no_repeat_ngram_size); 0 allows all
    #[arg(long, value_name = "N", default_value_t = 0)]
    no_repeat_ngram: usize,
    /// Above 1 tokens that the caption or its prompt has already become less likely
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    repetition_penalty: f32,
    /// Words that no caption has (bad_words_ids), capitalized or not, with commas between them; may be given several times
    #[arg(long, value_name = "TEXT", value_delimiter = ',')]
    bad_words: Vec<String>,
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
    /// Divides the scores before sampling: below 1 likely tokens become likelier [default: 1]
    #[arg(long, value_name = "T")]
    temperature: Option<f32>,
    /// Sample from the K likeliest tokens only
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Sample from the likeliest tokens that together have probability P
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Sample from tokens at least P times as likely as the likeliest only
    #[arg(long, value_name = "P")]
    min_p: Option<f32>,
    /// Sample from the tokens nearest to the expected information that together have probability P
    #[arg(long, value_name = "P")]
    typical_p: Option<f32>,
    /// Sample from tokens with at least probability P only
    #[arg(long, value_name = "P")]
    epsilon_cutoff: Option<f32>,
    /// The same with the lesser of P and sqrt(P) e^-entropy
    #[arg(long, value_name = "P")]
    eta_cutoff: Option<f32>,
    /// Seed of sampling [default: 0]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum DecodeArg {
    /// The likeliest token each time
    Greedy,
    /// Several captions side by side, by --beam-rule
    Beam,
    /// Random tokens
    Sample,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum BeamRule {
    /// ClipCap's: beams are compared by their means while they grow
    Clipcap,
    /// Hugging Face's: beams grow by their sums, and those that ended are compared
    Hf,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum EarlyStoppingArg {
    /// At once
    True,
    /// When the best beam is not better than the worst of them as it is
    False,
    /// When no beam can get better than the worst of them
    Never,
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
        if self.decode == DecodeArg::Greedy && self.consensus {
            refuse("--consensus needs --decode beam or --decode sample: greedy finds one caption");
        }
        match self.decode {
            DecodeArg::Greedy if self.num_captions() != 1 => refuse(
                "--num-captions needs --decode beam or --decode sample: greedy finds one caption",
            ),
            DecodeArg::Greedy => Strategy::Greedy,
            DecodeArg::Beam if self.num_captions() > self.beam_size() => refuse(&format!(
                "--num-captions {} needs a --beam-size of at least as many",
                self.num_captions
            )),
            DecodeArg::Beam => self.beam(),
            DecodeArg::Sample => Strategy::Sample(Sampling {
                num_captions: self.drawn(),
                ..self.sampling()
            }),
        }
    }

    /// Ends the program when a flag of another search than --decode's is given, which would have no effect.
    pub fn refuse_other_searches(&self) {
        let of_beams = [
            ("--beam-size", self.beam_size.is_some()),
            ("--beam-rule", self.beam_rule.is_some()),
            ("--early-stopping", self.early_stopping.is_some()),
            ("--beam-groups", self.beam_groups.is_some()),
        ];
        let of_sampling = [
            ("--best-of", self.best_of.is_some()),
            ("--temperature", self.temperature.is_some()),
            ("--top-k", self.top_k.is_some()),
            ("--top-p", self.top_p.is_some()),
            ("--min-p", self.min_p.is_some()),
            ("--typical-p", self.typical_p.is_some()),
            ("--epsilon-cutoff", self.epsilon_cutoff.is_some()),
            ("--eta-cutoff", self.eta_cutoff.is_some()),
            ("--seed", self.seed.is_some()),
        ];
        let beams = (DecodeArg::Beam, &of_beams[..], "beam");
        for (search, flags, name) in [beams, (DecodeArg::Sample, &of_sampling, "sample")] {
            if let Some((flag, _)) = flags.iter().find(|(_, given)| *given)
                && self.decode != search
            {
                let message = format!("{flag} needs --decode {name}");
                usage(ErrorKind::ArgumentConflict, &message);
            }
        }
    }

    /// Ends the program when a flag of any search is given, where nothing is searched for.
    pub fn refuse_search(&self, needed: &str) {
        let flags = [
            ("--decode", self.decode != DecodeArg::Greedy),
            ("--num-captions", self.num_captions() != 1),
            ("--rerank", self.rerank != Rerank::Score),
            ("--consensus", self.consensus),
            ("--max-length", self.max_length.is_some()),
            ("--min-length", self.min_length != 0),
            ("--length-penalty", self.length_penalty != 1.0),
            ("--no-repeat-ngram", self.no_repeat_ngram != 0),
            ("--repetition-penalty", self.repetition_penalty != 1.0),
            ("--bad-words", !self.bad_words.is_empty()),
        ];
        refuse_idle(&flags, needed);
    }

    fn beam_size(&self) -> usize {
        self.beam_size.unwrap_or(BEAM_SIZE)
    }

    fn beam(&self) -> Strategy {
        let beam_size = self.beam_size();
        if self.beam_rule.is_none_or(|rule| rule == BeamRule::Clipcap) {
            for (flag, given) in [
                ("--early-stopping", self.early_stopping.is_some()),
                ("--beam-groups", self.beam_groups.is_some()),
            ] {
                if given {
                    let message = format!("{flag} needs --beam-rule hf");
                    usage(ErrorKind::ArgumentConflict, &message);
                }
            }
            return Strategy::Beam { beam_size };
        }
        let groups = self.beam_groups.map_or(1, NonZeroUsize::get);
        Strategy::HfBeam(HfBeams {
            beam_size,
            early_stopping: match self.early_stopping {
                Some(EarlyStoppingArg::True) => EarlyStopping::Always,
                Some(EarlyStoppingArg::Never) => EarlyStopping::Never,
                Some(EarlyStoppingArg::False) | None => EarlyStopping::Estimate,
            },
            groups,
            diversity_penalty: match groups {
                1 => self.diversity_penalty.unwrap_or(0.0),
                _ => self.diversity_penalty.unwrap_or(1.0),
            },
        })
    }

    fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.temperature.unwrap_or(1.0),
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            typical_p: self.typical_p,
            epsilon_cutoff: self.epsilon_cutoff,
            eta_cutoff: self.eta_cutoff,
            seed: self.seed.unwrap_or(0),
            num_captions: 1,
        }
    }

    fn rerank(&self) -> captioner::Rerank {
        match self.rerank {
            _ if self.consensus => captioner::Rerank::Consensus,
            Rerank::Clip => captioner::Rerank::Clip,
            Rerank::Score => captioner::Rerank::Score,
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

    /// Settings of the searches that these flags do not choose, but requests may. Values that make no sense end the program.
    pub fn searches(&self) -> Searches {
        let searches = Searches {
            beam: self.beam(),
            sampling: self.sampling(),
            best_of: self.best_of,
        };
        valid(CaptionOptions::new(searches.beam.clone()).validate());
        let drawn = Strategy::Sample(searches.sampling.clone());
        valid(CaptionOptions::new(drawn).validate());
        searches
    }

    /// All of it as options. Flags that contradict each other, and values that make no sense, end the program.
    pub fn options(&self) -> CaptionOptions {
        let options = CaptionOptions::new(self.strategy())
            .num_captions(self.num_captions())
            .min_length(self.min_length)
            .length_penalty(self.length_penalty)
            .no_repeat_ngram(self.no_repeat_ngram)
            .repetition_penalty(self.repetition_penalty)
            .bad_words(self.bad_words.iter())
            .stop(self.stop.iter())
            .prompt(self.prompt.as_str())
            .rerank(self.rerank());
        let options = match self.max_length {
            Some(length) => options.max_length(length),
            None => options,
        };
        valid(options.validate());
        options
    }

    /// Captions given an image.
    fn num_captions(&self) -> usize {
        self.num_captions.get()
    }
}
