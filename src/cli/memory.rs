//! What a captioner looks up in a datastore, as flags.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use clipcap::captioner::MemoryOptions;
use clipcap::captioner::model_folder::ModelFolder;
use clipcap::retrieve::TEMPERATURE;

use super::common::{refuse_idle, valid};
use super::complete;

#[derive(Args)]
pub struct MemoryArgs {
    /// Datastore of captions that `index` built [default: the model's own, if it was trained with one]
    #[arg(long, value_name = "DIR", add = complete::indexes())]
    index: Option<PathBuf>,
    /// Show GPT-2 the K captions of --index nearest to the image (SmallCap); 0 for none [default: as many as the model was
    /// trained with]
    #[arg(long, value_name = "K")]
    retrieve: Option<usize>,
    /// Caption the mean of the captions of --index, weighed by how near they are to the image, in its place (DeCap): for
    /// models that learned from captions
    #[arg(long)]
    project_memory: bool,
    /// What cosines are divided by before they become weights, with --project-memory
    #[arg(long, value_name = "T", default_value_t = TEMPERATURE, requires = "project_memory")]
    memory_temperature: f32,
}

impl MemoryArgs {
    /// Whether anything is asked of a datastore.
    pub fn is_given(&self) -> bool {
        self.options() != MemoryOptions::default()
    }

    /// The same, once it is sure that the flags have an effect. Values that make no sense, and flags without effect, end the
    /// program.
    ///
    /// # Errors
    /// When the model's folder cannot be read.
    pub fn options_for(&self, model: &Path) -> Result<MemoryOptions> {
        if self.index.is_some() && self.retrieve.is_none() && !self.project_memory {
            let folder = ModelFolder::open(model)?;
            let retrieves = folder.captioner_config()?.retrieve.is_some();
            refuse_idle(
                &[("--index", !retrieves)],
                "it goes with --retrieve or --project-memory, for this model was not trained to retrieve",
            );
        }
        Ok(self.options())
    }

    /// Ends the program where values make no sense, or flags have no effect, whatever the model.
    pub fn check(&self) {
        valid(self.options().validate());
        let retrieves = self.retrieve != Some(0) || self.project_memory;
        refuse_idle(
            &[("--index", self.index.is_some() && !retrieves)],
            "--retrieve 0 retrieves nothing",
        );
    }

    pub fn options(&self) -> MemoryOptions {
        MemoryOptions {
            index: self.index.clone(),
            retrieve: self.retrieve,
            project: self.project_memory.then_some(self.memory_temperature),
        }
    }
}
