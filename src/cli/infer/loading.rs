//! Pictures are opened while others are captioned.

use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver};

use clipcap::clip::Preprocessing;
use clipcap::inputs::{Input, InputError};
use image::RgbImage;

use super::output::{Wanted, Wish};
use crate::cli::common::open_crops;

/// Some pictures in the order they were named.
pub struct Batch {
    pub items: Vec<Item>,
    /// Pictures passed over because they have their captions.
    pub kept: usize,
}

/// A picture as CLIP looks at it, or why there is none.
pub enum Item {
    Picture {
        input: Input,
        /// The file of its own that its captions go to.
        target: Option<PathBuf>,
        crop: RgbImage,
    },
    Failed {
        name: PathBuf,
        reason: String,
    },
}

impl Batch {
    pub fn crops(&self) -> impl Iterator<Item = &RgbImage> {
        self.items.iter().filter_map(|item| match item {
            Item::Picture { crop, .. } => Some(crop),
            Item::Failed { .. } => None,
        })
    }
}

/// Opens the pictures on a thread of its own, one batch ahead of whoever receives them.
pub fn start(
    inputs: impl Iterator<Item = Result<Input, InputError>> + Send + 'static,
    mut wanted: Wanted,
    preprocessing: Preprocessing,
    batch_size: usize,
) -> Receiver<Batch> {
    let (sender, receiver) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let mut inputs = inputs.peekable();
        while inputs.peek().is_some() {
            let batch = next_batch(&mut inputs, &mut wanted, &preprocessing, batch_size);
            if sender.send(batch).is_err() {
                // The receiver gave up.
                return;
            }
        }
    });
    receiver
}

/// What is known of a name before its file is opened.
enum Named {
    Open(Input, Option<PathBuf>),
    Failed(PathBuf, String),
}

/// A batch ends early after as many failures or kept pictures as it has room for, so that progress goes on.
fn next_batch(
    inputs: &mut impl Iterator<Item = Result<Input, InputError>>,
    wanted: &mut Wanted,
    preprocessing: &Preprocessing,
    batch_size: usize,
) -> Batch {
    let (mut named, mut kept) = (Vec::new(), 0);
    for input in inputs.by_ref() {
        match input.map(|input| (wanted.wish(&input), input)) {
            Ok((Wish::Caption(target), input)) => named.push(Named::Open(input, target)),
            Ok((Wish::Keep, _)) => kept += 1,
            Ok((Wish::Refuse(reason), input)) => named.push(Named::Failed(input.path, reason)),
            Err(error) => named.push(Named::Failed(error.path().to_path_buf(), error.to_string())),
        }
        if named.len() == batch_size || kept == 64 * batch_size {
            break;
        }
    }
    Batch {
        items: open(named, preprocessing),
        kept,
    }
}

fn open(named: Vec<Named>, preprocessing: &Preprocessing) -> Vec<Item> {
    let paths: Vec<PathBuf> = named
        .iter()
        .filter_map(|named| match named {
            Named::Open(input, _) => Some(input.path.clone()),
            Named::Failed(..) => None,
        })
        .collect();
    let mut crops = open_crops(&paths, preprocessing).into_iter();
    let opened = |named| match named {
        Named::Failed(name, reason) => Some(Item::Failed { name, reason }),
        Named::Open(input, target) => Some(match crops.next()? {
            Ok(crop) => Item::Picture {
                input,
                target,
                crop,
            },
            Err(error) => Item::Failed {
                name: input.path,
                reason: error.to_string(),
            },
        }),
    };
    named.into_iter().filter_map(opened).collect()
}
