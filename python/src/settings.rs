//! What a search is asked for: Python's keyword arguments, of which those that are `None` were not given.

use clipcap::captioner::Rerank;
use clipcap::decode::{EarlyStopping, HfBeams, Sampling};
use clipcap::{CaptionOptions, Strategy};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::refused;

/// What only a beam search has.
const OF_BEAMS: [&str; 4] = [
    "beam_rule",
    "early_stopping",
    "beam_groups",
    "diversity_penalty",
];
/// What only sampling has; any of them asks for it.
const OF_SAMPLING: [&str; 9] = [
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
    "seed",
    "best_of",
];

/// Keyword arguments by their names.
pub struct Settings<'a, 'py>(pub &'a Bound<'py, PyDict>);

impl Settings<'_, '_> {
    /// All of them.
    ///
    /// # Errors
    /// When one is of another type than it should be, or makes no sense beside the others.
    pub fn options(&self) -> PyResult<CaptionOptions> {
        let num_captions = self.count("num_captions")?.unwrap_or(1);
        let mut options = CaptionOptions::new(self.strategy(num_captions)?)
            .num_captions(num_captions)
            .min_length(self.count("min_length")?.unwrap_or(0))
            .length_penalty(self.number("length_penalty")?.unwrap_or(1.0))
            .no_repeat_ngram(self.count("no_repeat_ngram")?.unwrap_or(0))
            .repetition_penalty(self.number("repetition_penalty")?.unwrap_or(1.0))
            .bad_words(self.texts("bad_words")?)
            .stop(self.texts("stop")?)
            .prompt(self.text("prompt")?.unwrap_or_default())
            .rerank(self.rerank()?);
        if let Some(length) = self.count("max_length")? {
            options = options.max_length(length);
        }
        Ok(options)
    }

    fn strategy(&self, num_captions: usize) -> PyResult<Strategy> {
        let sampling = self.first_given(&OF_SAMPLING)?;
        match (self.count("beams")?, sampling) {
            (Some(_), Some(name)) => Err(refused(&format!(
                "{name} draws captions and beams searches for them: give one of both"
            ))),
            (Some(beams), None) => self.beams(beams, num_captions),
            (None, sampling) => {
                if let Some(name) = self.first_given(&OF_BEAMS)? {
                    return Err(refused(&format!("{name} needs beams: give beams=5, say")));
                }
                match sampling {
                    Some(_) => self.sampling(num_captions),
                    None if num_captions > 1 => Err(refused(&format!(
                        "num_captions is {num_captions}, and without beams or sampling one caption is found: give \
                         beams={num_captions}, or temperature=1.0 to draw them"
                    ))),
                    None => Ok(Strategy::Greedy),
                }
            }
        }
    }

    fn beams(&self, beam_size: usize, num_captions: usize) -> PyResult<Strategy> {
        // Without any beam the search itself says what is wrong.
        if num_captions > beam_size && beam_size > 0 {
            return Err(refused(&format!(
                "num_captions is {num_captions} and beams {beam_size}: give at least as many beams"
            )));
        }
        let of_hf = ["early_stopping", "beam_groups", "diversity_penalty"];
        match self.text("beam_rule")?.as_deref() {
            Some("hf") => {}
            Some("clipcap") | None => {
                return match self.first_given(&of_hf)? {
                    Some(name) => Err(refused(&format!("{name} needs beam_rule=\"hf\""))),
                    None => Ok(Strategy::Beam { beam_size }),
                };
            }
            Some(_) => return Err(self.wrong("beam_rule", "\"clipcap\" or \"hf\"")),
        }
        let groups = self.count("beam_groups")?.unwrap_or(1);
        let penalty = self.number("diversity_penalty")?;
        Ok(Strategy::HfBeam(HfBeams {
            beam_size,
            early_stopping: self.early_stopping()?,
            groups,
            diversity_penalty: penalty.unwrap_or(if groups > 1 { 1.0 } else { 0.0 }),
        }))
    }

    fn early_stopping(&self) -> PyResult<EarlyStopping> {
        let Some(value) = self.get("early_stopping")? else {
            return Ok(EarlyStopping::default());
        };
        if let Ok(stops) = value.extract::<bool>() {
            return Ok(match stops {
                true => EarlyStopping::Always,
                false => EarlyStopping::Estimate,
            });
        }
        match value.extract::<String>() {
            Ok(text) if text == "never" => Ok(EarlyStopping::Never),
            _ => Err(self.wrong("early_stopping", "True, False or \"never\"")),
        }
    }

    fn sampling(&self, num_captions: usize) -> PyResult<Strategy> {
        let drawn = self.count("best_of")?.unwrap_or(num_captions);
        if drawn < num_captions {
            return Err(refused(&format!(
                "best_of is {drawn} and num_captions {num_captions}: draw at least as many as are given"
            )));
        }
        Ok(Strategy::Sample(Sampling {
            temperature: self.number("temperature")?.unwrap_or(1.0),
            top_k: self.count("top_k")?,
            top_p: self.number("top_p")?,
            min_p: self.number("min_p")?,
            typical_p: self.number("typical_p")?,
            epsilon_cutoff: self.number("epsilon_cutoff")?,
            eta_cutoff: self.number("eta_cutoff")?,
            seed: self
                .of("seed", "a whole number of at least 0")?
                .unwrap_or(0),
            num_captions: drawn,
        }))
    }

    fn rerank(&self) -> PyResult<Rerank> {
        match self.text("rerank")?.as_deref() {
            None | Some("score") => Ok(Rerank::Score),
            Some("clip") => Ok(Rerank::Clip),
            Some("consensus") => Ok(Rerank::Consensus),
            Some(_) => Err(self.wrong("rerank", "\"score\", \"clip\" or \"consensus\"")),
        }
    }

    fn first_given(&self, names: &[&'static str]) -> PyResult<Option<&'static str>> {
        for name in names {
            if self.get(name)?.is_some() {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    fn get(&self, name: &str) -> PyResult<Option<Bound<'_, PyAny>>> {
        Ok(self.0.get_item(name)?.filter(|value| !value.is_none()))
    }

    fn count(&self, name: &str) -> PyResult<Option<usize>> {
        self.of(name, "a whole number of at least 0")
    }

    fn number(&self, name: &str) -> PyResult<Option<f32>> {
        self.of(name, "a number")
    }

    fn text(&self, name: &str) -> PyResult<Option<String>> {
        self.of(name, "a string")
    }

    /// Several strings; one alone would be taken for its letters.
    fn texts(&self, name: &str) -> PyResult<Vec<String>> {
        if self
            .get(name)?
            .is_some_and(|value| value.extract::<String>().is_ok())
        {
            return Err(self.wrong(name, "a list of strings"));
        }
        Ok(self.of(name, "a list of strings")?.unwrap_or_default())
    }

    fn of<T: for<'a, 'py> FromPyObject<'a, 'py>>(
        &self,
        name: &str,
        kind: &str,
    ) -> PyResult<Option<T>> {
        let Some(value) = self.get(name)? else {
            return Ok(None);
        };
        value
            .extract()
            .map(Some)
            .map_err(|_| self.wrong(name, kind))
    }

    /// A value that is not what it should be.
    fn wrong(&self, name: &str, kind: &str) -> PyErr {
        let value = self.get(name).ok().flatten();
        let shown = value.and_then(|value| value.repr().ok());
        let shown = shown.map_or(String::from("something else"), |text| text.to_string());
        refused(&format!("{name} is {shown}: give {kind}"))
    }
}
