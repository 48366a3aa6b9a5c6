//! How a shard went: the file beside its records.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::records::{Content, Record};
use super::samples::Others;

/// Whether a shard has its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Every image has a record.
    Finished,
    /// There are no records, for the reason that is told.
    Failed,
}

/// How a shard went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// The shard's path, as it was named.
    pub shard: String,
    pub status: Status,
    /// Why it failed, on one line that names the shard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Images found, those with an error among them.
    pub images: u64,
    /// Images that have no caption or embedding, by what is wrong with them.
    pub errors: BTreeMap<String, u64>,
    /// Samples that have no image.
    pub without_image: u64,
    /// Members that are neither an image nor a text.
    pub other_members: u64,
    /// Lines or rows written.
    pub records: u64,
    /// Time from opening the shard to the last record, in seconds.
    pub seconds: f64,
}

impl Stats {
    pub(super) fn new(shard: String) -> Self {
        Self {
            shard,
            status: Status::Failed,
            reason: None,
            images: 0,
            errors: BTreeMap::new(),
            without_image: 0,
            other_members: 0,
            records: 0,
            seconds: 0.0,
        }
    }

    pub(super) fn count(&mut self, records: &[Record]) {
        self.records += records.len() as u64;
        for record in records {
            match &record.content {
                Content::Caption { rank: 1.., .. } => {}
                Content::Caption { .. } | Content::Embedding(_) => self.images += 1,
                Content::Error(refused) => {
                    self.images += 1;
                    *self.errors.entry(refused.kind.into()).or_default() += 1;
                }
            }
        }
    }

    pub(super) fn count_others(&mut self, others: Others) {
        self.without_image = others.without_image;
        self.other_members = others.members;
    }

    /// Images that have an error.
    pub fn failed_images(&self) -> u64 {
        self.errors.values().sum()
    }
}
