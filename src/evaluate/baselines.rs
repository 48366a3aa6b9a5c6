//! Captions that ask no captioner, to be beaten: the most frequent training caption, one drawn at random, and that of the
//! nearest training image by its pixels.

mod nearest;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use caption_metrics::Sample;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::model::Part;
use super::read::EvaluatedImage;
use super::score::Evaluation;
use super::table::{Style, render};
use crate::data::source::CaptionedImage;
use crate::data::split::Split;
use crate::data::{split_lists, unreadable};

/// What is captioned, and from what.
pub struct BaselineConfig<'a> {
    /// A data set in any of the formats of [`crate::data::source`], and the folders of its images.
    pub data: &'a Path,
    pub image_folders: &'a [PathBuf],
    /// [`Part::Val`] or [`Part::Test`]: the training part is what is learned from.
    pub part: Part,
    pub split: &'a Split,
    pub split_seed: u64,
    /// Of the captions that are drawn.
    pub seed: u64,
}

/// What captions the part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Baseline {
    /// The training caption that stands there most often, upper and lower case being one, for every image.
    MostFrequent,
    /// For each image a training caption drawn at random.
    Random,
    /// The first caption of the training image whose pixels are nearest, by the principal components of both.
    NearestImage,
}

/// The captions of one baseline.
#[derive(Clone, Debug)]
pub struct BaselineCaptions {
    pub baseline: Baseline,
    /// How they were come by, in words.
    pub about: String,
    /// The part's images, each with its caption and references; the same for every baseline.
    pub images: Vec<EvaluatedImage>,
}

/// What the baselines say of a part.
#[derive(Clone, Debug)]
pub struct Baselines {
    /// Images that were learned from.
    pub train_images: usize,
    pub captions: Vec<BaselineCaptions>,
}

impl Baseline {
    /// As tables call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::MostFrequent => "most frequent training caption",
            Self::Random => "random training caption",
            Self::NearestImage => "caption of the nearest image",
        }
    }
}

/// Captions a part of a data set by every baseline. Where its images are not at hand, none of them is near another.
///
/// # Errors
/// When the data cannot be read, the part is what is learned from or empty, nothing is to learn from, or too many images
/// cannot be read; others are named and left out.
pub fn caption(config: &BaselineConfig, report: &dyn Fn(&str)) -> Result<Baselines> {
    let found = split_lists::load(config.data, config.image_folders, config.split, report)?;
    let parts =
        (config.split.split(&found.images, config.split_seed)).map_err(|error| anyhow!(error))?;
    let mut part = match config.part {
        Part::Val => parts.val,
        Part::Test => parts.test,
        part @ (Part::Train | Part::All) => bail!(
            "the baselines are made of the training part, so that the {part} part tells nothing of them: score test or val"
        ),
    };
    part.sort_unstable();
    let choose = |places: &[usize]| -> Vec<&CaptionedImage> {
        places.iter().map(|&place| &found.images[place]).collect()
    };
    let (mut train, mut part) = (choose(&parts.train), choose(&part));
    let data = config.data.display();
    ensure!(!train.is_empty(), "the training part of {data} is empty");
    ensure!(
        !part.is_empty(),
        "the {} part of {data} is empty",
        config.part
    );
    let nearest = match train
        .iter()
        .chain(&part)
        .all(|image| image.source.is_some())
    {
        false => {
            report(&format!("{data} names no images: none can be the nearest"));
            None
        }
        true => Some(find_nearest(&mut train, &mut part, config, report)?),
    };
    let mut captions = vec![
        most_frequent(&train, &part)?,
        random(&train, &part, config.seed)?,
    ];
    captions.extend(nearest.map(|nearest| of_nearest(&train, &part, &nearest)));
    Ok(Baselines {
        train_images: train.len(),
        captions,
    })
}

/// Takes images that cannot be read out of both parts and gives, for each image that is left of `part`, the place in
/// `train` of the nearest.
fn find_nearest(
    train: &mut Vec<&CaptionedImage>,
    part: &mut Vec<&CaptionedImage>,
    config: &BaselineConfig,
    report: &dyn Fn(&str),
) -> Result<Vec<usize>> {
    let total = train.len() + part.len();
    let mut unread = Vec::new();
    let known = nearest::read(train, &mut unread);
    let asked = nearest::read(part, &mut unread);
    unreadable::check(&unread, total, config.data.display(), report)?;
    nearest::nearest(&known, &asked, config.seed)
}

fn beside(part: &[&CaptionedImage], caption: impl FnMut(usize) -> String) -> Vec<EvaluatedImage> {
    let captions = (0..part.len()).map(caption);
    let evaluated = |(image, candidate): (&&CaptionedImage, String)| EvaluatedImage {
        id: image.id.to_string(),
        file_name: Some(image.file_name.clone()),
        sample: Sample {
            candidate,
            references: image.captions.clone(),
        },
    };
    part.iter().zip(captions).map(evaluated).collect()
}

fn most_frequent(train: &[&CaptionedImage], part: &[&CaptionedImage]) -> Result<BaselineCaptions> {
    // Caption, how often it was met, and when first.
    let mut met: HashMap<String, (usize, usize, &str)> = HashMap::new();
    let captions = train.iter().flat_map(|image| &image.captions);
    for (place, caption) in captions.enumerate() {
        let entry = met.entry(caption.to_lowercase());
        entry.or_insert((0, place, caption)).0 += 1;
    }
    let (count, _, caption) = (met.into_values())
        .max_by_key(|&(count, place, _)| (count, std::cmp::Reverse(place)))
        .context("the training images have no caption")?;
    let times = match count {
        1 => "like every other once".to_string(),
        count => format!("{count} times"),
    };
    Ok(BaselineCaptions {
        baseline: Baseline::MostFrequent,
        about: format!("`{caption}`, which is there {times}"),
        images: beside(part, |_| caption.to_string()),
    })
}

fn random(
    train: &[&CaptionedImage],
    part: &[&CaptionedImage],
    seed: u64,
) -> Result<BaselineCaptions> {
    let captions: Vec<&String> = train.iter().flat_map(|image| &image.captions).collect();
    ensure!(!captions.is_empty(), "the training images have no caption");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    Ok(BaselineCaptions {
        baseline: Baseline::Random,
        about: format!("one of {} for each image, by seed {seed}", captions.len()),
        images: beside(part, |_| {
            captions[random.random_range(0..captions.len())].clone()
        }),
    })
}

fn of_nearest(
    train: &[&CaptionedImage],
    part: &[&CaptionedImage],
    nearest: &[usize],
) -> BaselineCaptions {
    BaselineCaptions {
        baseline: Baseline::NearestImage,
        about: format!(
            "the first caption of the nearest of {} images by {} principal components of {side} x {side} pixels",
            train.len(),
            nearest::components(train.len()),
            side = nearest::SIDE
        ),
        images: beside(part, |place| train[nearest[place]].captions[0].clone()),
    }
}

/// Something that captioned the part, with its scores.
#[derive(Clone, Copy, Serialize)]
pub struct Row<'a> {
    pub name: &'a str,
    /// How it came by its captions.
    pub about: &'a str,
    pub scores: &'a Evaluation,
}

/// Scores that the table leaves to JSON.
const LEFT_TO_JSON: [&str; 2] = ["Bleu_2", "Bleu_3"];

/// The scores of all beside each other, each with its interval: in text below it, in Markdown in brackets.
pub fn table(rows: &[Row], style: Style) -> String {
    let Some(first) = rows.first() else {
        return String::new();
    };
    let names = first.scores.names();
    let names = || names.iter().filter(|name| !LEFT_TO_JSON.contains(name));
    let mut cells = vec![vec!["captions".to_string()]];
    cells[0].extend(names().map(|name| name.to_string()));
    for row in rows {
        let (known, overall) = (row.scores.names(), row.scores.overall());
        let place = |name: &str| known.iter().position(|known| *known == name);
        let value = |name: &&str| place(name).map(|place| format!("{:.3}", overall[place]));
        let interval = |name: &&str| {
            let interval = row.scores.intervals.as_ref()?[place(name)?];
            Some(format!("{:.3} to {:.3}", interval.low, interval.high))
        };
        let mut line = vec![row.name.to_string()];
        match style {
            Style::Markdown => {
                line.extend(names().map(|name| match (value(name), interval(name)) {
                    (Some(value), Some(interval)) => format!("{value} ({interval})"),
                    (value, _) => value.unwrap_or_default(),
                }));
                cells.push(line);
            }
            Style::Text => {
                line.extend(names().map(|name| value(name).unwrap_or_default()));
                cells.push(line);
                if row.scores.intervals.is_some() {
                    let mut below = vec![String::new()];
                    below.extend(names().map(|name| interval(name).unwrap_or_default()));
                    cells.push(below);
                }
            }
        }
    }
    render(&cells, style)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::coco::ImageId;
    use crate::evaluate::score::{ScoreOptions, score};

    fn images(captions: &[&[&str]]) -> Vec<CaptionedImage> {
        let image = |(number, captions): (usize, &&[&str])| CaptionedImage {
            id: ImageId::Number(number as u64),
            file_name: format!("{number}.png"),
            source: None,
            captions: captions.iter().map(ToString::to_string).collect(),
            part: None,
        };
        captions.iter().enumerate().map(image).collect()
    }

    #[test]
    fn the_most_frequent_caption_is_counted_whatever_its_case_and_the_first_of_equals_is_taken() {
        let train = images(&[
            &["A cat.", "a dog."],
            &["A dog.", "Two."],
            &["Two.", "One."],
        ]);
        let part = images(&[&["x"], &["y"]]);
        let (train, part): (Vec<_>, Vec<_>) = (train.iter().collect(), part.iter().collect());
        let said = most_frequent(&train, &part).unwrap();
        assert!(
            said.images
                .iter()
                .all(|image| image.sample.candidate == "a dog.")
        );
        assert_eq!(said.about, "`a dog.`, which is there 2 times");
        assert_eq!(said.images[1].sample.references, ["y"]);
    }

    #[test]
    fn what_is_drawn_is_a_training_caption_and_comes_again_with_the_seed() {
        let train = images(&[&["a", "b"], &["c"]]);
        let part = images(&[&["x"][..]; 40]);
        let (train, part): (Vec<_>, Vec<_>) = (train.iter().collect(), part.iter().collect());
        let draw = |seed| -> Vec<String> {
            let said = random(&train, &part, seed).unwrap();
            said.images
                .into_iter()
                .map(|image| image.sample.candidate)
                .collect()
        };
        let different: std::collections::BTreeSet<String> = draw(1).into_iter().collect();
        assert_eq!(different.into_iter().collect::<String>(), "abc");
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn a_table_has_the_intervals_below_or_beside_the_scores() {
        let train = images(&[&["a dog runs"], &["a cat"]]);
        let train: Vec<_> = train.iter().collect();
        let said = beside(&train, |place| train[place].captions[0].clone());
        let scores = score(said, &ScoreOptions::default(), Vec::new()).unwrap();
        let row = Row {
            name: "itself",
            about: "",
            scores: &scores,
        };
        let text = table(&[row], Style::Text);
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.lines().next().unwrap().ends_with("CIDEr") && !text.contains("Bleu_2"));
        let markdown = table(&[row], Style::Markdown);
        assert!(
            markdown.contains("| 1.000 (1.000 to 1.000) |"),
            "{markdown}"
        );
        assert_eq!(markdown.lines().count(), 3);
    }
}
