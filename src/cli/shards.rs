//! Shards as inputs: flags, lines and exit codes that `infer` and `embed` share.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use clap::error::ErrorKind;
use clipcap::path_text::{self, one_line};
use clipcap::shards::{
    self, Format, Job, Outcome, Runner, Settings, ShardFile, Share, Stats, Status, Task,
};
use indicatif::ProgressBar;
use serde_json::json;

use super::common::usage;
use super::out;

/// Divides shards among processes.
#[derive(Args, Clone, Copy)]
pub struct ShareArg {
    /// Take every N-th of the shards, from the I-th, counted from 0: 0/4, 1/4, 2/4 and 3/4 for four processes
    #[arg(long = "shard", value_name = "I/N")]
    share: Option<Share>,
    /// Print the shards and their files as JSON Lines, and do nothing else
    #[arg(long)]
    list_shards: bool,
}

impl ShareArg {
    /// Ends the program where there are no shards to be divided.
    pub fn refuse(self) {
        if self.share.is_some() || self.list_shards {
            usage(
                ErrorKind::ArgumentConflict,
                "--shard and --list-shards are for shards (.tar, .tar.gz, .tar.zst), and none is named",
            );
        }
    }
}

/// The folder that records of shards go to, and how.
pub struct ShardOutput {
    folder: PathBuf,
    format: Format,
    overwrite: bool,
}

impl ShardOutput {
    /// Ends the program when no folder is named.
    pub fn new(folder: Option<&Path>, format: Format, overwrite: bool) -> Self {
        let Some(folder) = folder else {
            usage(
                ErrorKind::MissingRequiredArgument,
                "every shard gets a file of its own: give --output the folder for them",
            );
        };
        Self {
            folder: folder.to_path_buf(),
            format,
            overwrite,
        }
    }

    /// The shards of this process and their files; `None` when they were to be listed, and were. Clashing names are told
    /// whatever its share is.
    pub fn jobs(&self, found: Vec<ShardFile>, args: ShareArg) -> Result<Option<Vec<Job>>> {
        let jobs = shards::jobs(found, &self.folder, self.format)?;
        let jobs = match args.share {
            Some(share) => share.of(jobs),
            None => jobs,
        };
        if !args.list_shards {
            return Ok(Some(jobs));
        }
        for Job {
            shard,
            output,
            stats,
        } in &jobs
        {
            let [shard, output_path, stats] =
                [shard, output, stats].map(|path| path_text::text(path));
            out::line(
                json!({"shard": shard, "output": output_path, "stats": stats, "finished": output.exists()}),
            )?;
        }
        Ok(None)
    }

    /// Makes the records of all shards, and tells of each on standard error. The exit code is 1 when one of them has none in
    /// the end.
    pub fn run(
        &self,
        task: Task<'_>,
        settings: &Settings,
        jobs: &[Job],
        batch_size: usize,
    ) -> Result<ExitCode> {
        let format = self.format;
        let runner = Runner::new(
            task,
            &self.folder,
            settings,
            format,
            batch_size,
            self.overwrite,
        )?;
        let bar = bar(jobs.len());
        let (begun, mut total) = (Instant::now(), Total::default());
        for job in jobs {
            bar.set_message(one_line(&job.shard));
            let outcome = runner.run(job, &|images| bar.inc(images));
            bar.suspend(|| tell(job, &outcome));
            total.add(&outcome);
            bar.set_prefix(format!("{}/{}", total.shards(), jobs.len()));
        }
        bar.finish_and_clear();
        out::note(total.line(begun.elapsed().as_secs_f64()));
        Ok(match total.failed + total.taken {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        })
    }
}

/// Images and shards so far, where standard error is a terminal.
fn bar(shards: usize) -> ProgressBar {
    if !out::shows_bars() {
        return ProgressBar::hidden();
    }
    let template = "{spinner} {prefix} shards, {human_pos} images, {rate}, {wide_msg}";
    ProgressBar::new_spinner()
        .with_style(out::bar_style(template))
        .with_prefix(format!("0/{shards}"))
}

fn tell(job: &Job, outcome: &Outcome) {
    let shard = one_line(&job.shard);
    match outcome {
        Outcome::Skipped => {}
        Outcome::Taken(who) => out::error(format_args!(
            "{shard}: {who} is writing {}: run again when it has ended",
            one_line(&job.output)
        )),
        Outcome::Done(stats) => match &stats.reason {
            Some(reason) => out::error(reason),
            None => out::note(format_args!(
                "{shard}: {} in {:.1} s ({:.1} images/s)",
                counted(stats),
                stats.seconds,
                rate(stats.images, stats.seconds)
            )),
        },
    }
}

/// `100 images, 3 with errors (2 truncated, 1 damaged)`.
fn counted(stats: &Stats) -> String {
    let kinds: Vec<String> = (stats.errors.iter())
        .map(|(kind, count)| format!("{count} {}", kind.replace('_', " ")))
        .collect();
    match stats.failed_images() {
        0 => format!("{} images", stats.images),
        failed => format!(
            "{} images, {failed} with errors ({})",
            stats.images,
            kinds.join(", ")
        ),
    }
}

fn rate(images: u64, seconds: f64) -> f64 {
    match images {
        0 => 0.0,
        images => images as f64 / seconds.max(1e-9),
    }
}

/// What became of all shards.
#[derive(Default)]
struct Total {
    finished: usize,
    skipped: usize,
    taken: usize,
    failed: usize,
    images: u64,
    failed_images: u64,
}

impl Total {
    fn add(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Skipped => self.skipped += 1,
            Outcome::Taken(_) => self.taken += 1,
            Outcome::Done(stats) if stats.status == Status::Failed => self.failed += 1,
            Outcome::Done(stats) => {
                self.finished += 1;
                self.images += stats.images;
                self.failed_images += stats.failed_images();
            }
        }
    }

    fn shards(&self) -> usize {
        self.finished + self.skipped + self.taken + self.failed
    }

    fn line(&self, seconds: f64) -> String {
        let mut line = format!("{} shards: {} finished", self.shards(), self.finished);
        for (count, what) in [
            (self.skipped, "finished before"),
            (self.taken, "being written by another run"),
            (self.failed, "failed"),
        ] {
            if count > 0 {
                line += &format!(", {count} {what}");
            }
        }
        line += &format!("; {} images", self.images);
        if self.failed_images > 0 {
            line += &format!(", {} with errors", self.failed_images);
        }
        line + &format!(", {:.1} images/s", rate(self.images, seconds))
    }
}
