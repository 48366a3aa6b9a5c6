//! Train, validation and test parts, by image.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::coco::ImageId;
use super::source::CaptionedImage;
use super::split_lists::SplitLists;

/// Shares of the images, in percent: `80/10/10`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SplitShares {
    train: u32,
    val: u32,
    test: u32,
}

/// One of the parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    Train,
    Val,
    Test,
}

/// How a data set is divided.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Split {
    /// As the data set says; where it says nothing, 80/10/10.
    #[default]
    Auto,
    /// As the data set says.
    InFile,
    /// By these shares, whatever the data set says.
    Shares(SplitShares),
    /// As files say that list the images of each part; see [`SplitLists`].
    Lists(SplitLists),
}

/// Indices into the list of images that was split; no index is in two parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splits {
    pub train: Vec<usize>,
    pub val: Vec<usize>,
    pub test: Vec<usize>,
}

impl Default for SplitShares {
    fn default() -> Self {
        Self {
            train: 80,
            val: 10,
            test: 10,
        }
    }
}

impl FromStr for SplitShares {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || {
            format!(
                "`{text}` is not a split: give three shares in percent that add up to 100, the first above 0, as in 80/10/10"
            )
        };
        let shares: Vec<u32> = text
            .split('/')
            .map(|share| share.trim().parse().map_err(|_| refuse()))
            .collect::<Result<_, _>>()?;
        match shares[..] {
            [train, val, test]
                if train > 0
                    && [val, test].iter().all(|&s| s <= 100)
                    && train <= 100
                    && train + val + test == 100 =>
            {
                Ok(Self { train, val, test })
            }
            _ => Err(refuse()),
        }
    }
}

impl fmt::Display for SplitShares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.train, self.val, self.test)
    }
}

impl TryFrom<String> for SplitShares {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<SplitShares> for String {
    fn from(shares: SplitShares) -> Self {
        shares.to_string()
    }
}

impl SplitShares {
    /// Deals the images out. Which part an image falls into depends on its id and the seed, not on its place in the
    /// list. A part whose share is not 0 gets at least one image when there are three or more.
    pub fn split(&self, ids: &[ImageId], seed: u64) -> Splits {
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_by_cached_key(|&i| (rank(seed, &ids[i]), i));
        let count = |share: u32| {
            let exact = (ids.len() as f64 * f64::from(share) / 100.0).round() as usize;
            if share > 0 && ids.len() >= 3 {
                exact.max(1)
            } else {
                exact
            }
        };
        let test = order.split_off(order.len() - count(self.test).min(order.len()));
        let val = order.split_off(order.len() - count(self.val).min(order.len()));
        Splits {
            train: order,
            val,
            test,
        }
    }
}

impl FromStr for Part {
    type Err = String;

    /// Karpathy's `restval`, the rest of COCO's validation images, is trained on as everybody does.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_lowercase().as_str() {
            "train" | "training" | "restval" => Ok(Self::Train),
            "val" | "valid" | "validation" | "dev" => Ok(Self::Val),
            "test" | "testing" => Ok(Self::Test),
            _ => Err(format!("`{text}` is not a part: train, val and test are")),
        }
    }
}

impl FromStr for Split {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "file" => Ok(Self::InFile),
            lists if lists.contains(',') => lists.parse().map(Self::Lists),
            shares => shares.parse().map(Self::Shares),
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::InFile => f.write_str("file"),
            Self::Shares(shares) => shares.fmt(f),
            Self::Lists(lists) => lists.fmt(f),
        }
    }
}

impl TryFrom<String> for Split {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Split> for String {
    fn from(split: Split) -> Self {
        split.to_string()
    }
}

impl Split {
    /// Deals the images out; those of lists must have been [marked](SplitLists::mark).
    ///
    /// # Errors
    /// When the data set is to say which image is in which part, and for some it does not.
    pub fn split(&self, images: &[CaptionedImage], seed: u64) -> Result<Splits, String> {
        let in_file = images.iter().any(|image| image.part.is_some());
        match self {
            Self::Shares(shares) => Ok(shares.split(&ids(images), seed)),
            Self::Auto if !in_file => Ok(SplitShares::default().split(&ids(images), seed)),
            Self::Auto | Self::InFile | Self::Lists(_) => in_parts(images),
        }
    }
}

impl Split {
    /// How [`Split::split`] deals these images out, in words.
    pub fn describe(&self, images: &[CaptionedImage], seed: u64) -> String {
        let shares = match self {
            Self::Shares(shares) => *shares,
            Self::Auto if images.iter().all(|image| image.part.is_none()) => SplitShares::default(),
            Self::Auto | Self::InFile => return "as the data says".to_string(),
            Self::Lists(_) => return "as the lists say".to_string(),
        };
        format!("{shares} by seed {seed}")
    }
}

/// What images are dealt out by.
pub fn ids(images: &[CaptionedImage]) -> Vec<ImageId> {
    images.iter().map(|image| image.id.clone()).collect()
}

fn in_parts(images: &[CaptionedImage]) -> Result<Splits, String> {
    let mut splits = Splits {
        train: Vec::new(),
        val: Vec::new(),
        test: Vec::new(),
    };
    for (index, image) in images.iter().enumerate() {
        let part = image.part.ok_or_else(|| {
            format!(
                "the data does not say which part image {} is in: give shares, as in 80/10/10",
                image.file_name
            )
        })?;
        match part {
            Part::Train => splits.train.push(index),
            Part::Val => splits.val.push(index),
            Part::Test => splits.test.push(index),
        }
    }
    Ok(splits)
}

fn rank(seed: u64, id: &ImageId) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(id.to_string());
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(count: u64) -> Vec<ImageId> {
        (0..count).map(ImageId::Number).collect()
    }

    fn split(text: &str, ids: &[ImageId], seed: u64) -> Splits {
        text.parse::<SplitShares>().unwrap().split(ids, seed)
    }

    #[test]
    fn every_image_is_in_one_part_and_the_shares_hold() {
        let splits = split("80/10/10", &ids(1000), 1);
        assert_eq!(
            [splits.train.len(), splits.val.len(), splits.test.len()],
            [800, 100, 100]
        );
        let mut all = [splits.train, splits.val, splits.test].concat();
        all.sort_unstable();
        assert_eq!(all, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn an_image_stays_in_its_part_when_the_list_is_reordered() {
        let forward = ids(50);
        let backward: Vec<ImageId> = forward.iter().rev().cloned().collect();
        let named = |ids: &[ImageId], part: Vec<usize>| {
            let mut names: Vec<ImageId> = part.into_iter().map(|i| ids[i].clone()).collect();
            names.sort();
            names
        };
        let a = split("60/20/20", &forward, 5);
        let b = split("60/20/20", &backward, 5);
        assert_eq!(named(&forward, a.test.clone()), named(&backward, b.test));
        assert_ne!(
            a.test,
            split("60/20/20", &forward, 6).test,
            "another seed, another split"
        );
    }

    #[test]
    fn few_images_still_fill_every_part_that_has_a_share() {
        let splits = split("80/10/10", &ids(3), 1);
        assert_eq!(
            [splits.train.len(), splits.val.len(), splits.test.len()],
            [1, 1, 1]
        );
        let splits = split("100/0/0", &ids(3), 1);
        assert_eq!(
            [splits.train.len(), splits.val.len(), splits.test.len()],
            [3, 0, 0]
        );
    }

    #[test]
    fn shares_that_make_no_sense_are_refused_by_name() {
        for text in ["80/10", "80/10/20", "a/b/c", "0/50/50", "-80/90/90", ""] {
            let error = text.parse::<SplitShares>().unwrap_err();
            assert!(
                error.contains(&format!("`{text}`")) && error.contains("80/10/10"),
                "{error}"
            );
        }
    }
}
