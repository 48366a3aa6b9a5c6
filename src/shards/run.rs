//! One shard after the other.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};

use super::find::Job;
use super::loading::Loader;
use super::records::{Columns, Format, RecordFile};
use super::settings::Settings;
use super::stats::{Stats, Status};
use super::task::Task;
use crate::files::{self, AtomicFile, LockBeside};
use crate::path_text::one_line;

/// What became of a shard.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It was finished, or failed.
    Done(Stats),
    /// Its records are there.
    Skipped,
    /// Another process works on it: who.
    Taken(String),
}

/// Makes records of shards.
pub struct Runner<'a> {
    task: Task<'a>,
    columns: Columns,
    format: Format,
    batch_size: usize,
    overwrite: bool,
}

impl<'a> Runner<'a> {
    /// Begins in a folder for records, which is made if need be. `batch_size`: images captioned together. `overwrite`:
    /// finished shards are done again.
    ///
    /// # Errors
    /// When the folder holds records of other settings, or cannot be written.
    pub fn new(
        task: Task<'a>,
        output: &Path,
        settings: &Settings,
        format: Format,
        batch_size: usize,
        overwrite: bool,
    ) -> Result<Self> {
        files::create_dir(output)?;
        settings.claim(output)?;
        Ok(Self {
            columns: task.columns()?,
            task,
            format,
            batch_size,
            overwrite,
        })
    }

    /// Makes the records of one shard. Its file is there when that is done and not before; how it went is written beside it,
    /// and if it failed nothing else is. `progress` is told how many images are done since it was last told.
    pub fn run(&self, job: &Job, progress: &dyn Fn(u64)) -> Outcome {
        let mut stats = Stats::new(one_line(&job.shard));
        match self.try_run(job, &mut stats, progress) {
            Ok(Some(outcome)) => outcome,
            Ok(None) => Outcome::Done(stats),
            Err(error) => {
                stats.status = Status::Failed;
                stats.reason = Some(reason(job, &error));
                // It is told by the outcome too, so that a full disk hides nothing.
                let _ = files::write_json(&job.stats, &stats);
                Outcome::Done(stats)
            }
        }
    }

    fn try_run(
        &self,
        job: &Job,
        stats: &mut Stats,
        progress: &dyn Fn(u64),
    ) -> Result<Option<Outcome>> {
        let is_finished = || job.output.exists() && !self.overwrite;
        if is_finished() {
            return Ok(Some(Outcome::Skipped));
        }
        if let Some(folder) = job.output.parent() {
            files::create_dir(folder)?;
        }
        let lock = match LockBeside::try_take(&job.output)? {
            Ok(lock) => lock,
            Err(who) => return Ok(Some(Outcome::Taken(who))),
        };
        // Another process may have finished it just now.
        if is_finished() {
            return Ok(Some(Outcome::Skipped));
        }
        if self.overwrite {
            // Should it fail now, it has none.
            let _ = fs::remove_file(&job.output);
        }
        let begun = Instant::now();
        let file = AtomicFile::create(&job.output, lock.is_effective())?;
        let records = RecordFile::new(file, self.format, self.columns)?;
        let records = self.write(job, records, stats, progress)?;
        stats.seconds = begun.elapsed().as_secs_f64();
        stats.status = Status::Finished;
        // The records come last: where they are, all is.
        files::write_json(&job.stats, &stats)?;
        records.commit()?;
        Ok(None)
    }

    fn write(
        &self,
        job: &Job,
        mut file: RecordFile,
        stats: &mut Stats,
        progress: &dyn Fn(u64),
    ) -> Result<RecordFile> {
        let preprocessing = self.task.preprocessing().clone();
        let loader = Loader::start(job.shard.clone(), preprocessing, self.batch_size)?;
        while let Some(batch) = loader.next() {
            let count = batch.len() as u64;
            let records = self.task.records(batch)?;
            stats.count(&records);
            file.write(&records).with_context(|| {
                let output = one_line(&job.output);
                format!("cannot write {output}: check the folder's free space")
            })?;
            progress(count);
        }
        let others = loader
            .finish()
            .context("the shard cannot be read: download it again, or take it out")?;
        stats.count_others(others);
        Ok(file)
    }
}

/// Why a shard failed, on one line that begins with its name.
fn reason(job: &Job, error: &anyhow::Error) -> String {
    let text = format!("{}: {error:#}", one_line(&job.shard));
    let plain = |c: char| match c.is_control() {
        true => ' ',
        false => c,
    };
    text.chars().map(plain).collect()
}
