//! Which run's model is taken when none is named.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{BEST, Catalog};
use crate::train::status::RunStatus;

/// The last run that finished, and those that came after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LatestRun {
    /// The model of the run that finished last.
    pub model: Option<PathBuf>,
    /// Runs with a model that were written to later but did not finish, the latest first.
    pub passed_over: Vec<PassedOver>,
}

/// A run that did not finish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    pub run: PathBuf,
    pub status: Option<RunStatus>,
    /// Why its status cannot be read.
    pub problem: Option<String>,
}

impl PassedOver {
    /// Why it was passed over, in words.
    pub fn why(&self) -> String {
        match &self.problem {
            Some(problem) => format!("is damaged ({problem})"),
            None => RunStatus::describe(self.status).into(),
        }
    }
}

impl Catalog {
    /// The last run that finished.
    pub fn latest_run(&self) -> LatestRun {
        let entries = fs::read_dir(&self.artifacts).into_iter().flatten();
        let mut runs: Vec<(SystemTime, PathBuf)> = entries
            .filter_map(|entry| {
                let run = entry.ok()?.path();
                Some((written(&run)?, run))
            })
            .collect();
        runs.sort();
        let mut latest = LatestRun::default();
        for (_, run) in runs.into_iter().rev() {
            let (status, problem) = match RunStatus::read(&run) {
                Ok(status) => (status, None),
                Err(error) => (None, Some(format!("{error:#}"))),
            };
            if status == Some(RunStatus::Finished) {
                latest.model = Some(run.join(BEST));
                break;
            }
            latest.passed_over.push(PassedOver {
                run,
                status,
                problem,
            });
        }
        latest
    }
}

/// When a run's model was written; `None` for what has no whole one.
fn written(run: &Path) -> Option<SystemTime> {
    let model = run.join(BEST);
    // Written last, so its presence says that the model is whole.
    let config = fs::metadata(model.join("config.json")).ok()?;
    let captions = model.join("mapper.bpk").is_file();
    captions.then_some(config.modified().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_finished_run_is_taken_and_later_ones_are_named() {
        let artifacts = tempfile::tempdir().unwrap();
        let catalog = Catalog {
            models: "model".into(),
            artifacts: artifacts.path().to_path_buf(),
            home: None,
        };
        assert_eq!(catalog.latest_run(), LatestRun::default());
        let write = |name: &str, hour: u64, status: Option<RunStatus>| {
            let run = artifacts.path().join(name);
            let best = run.join(BEST);
            fs::create_dir_all(&best).unwrap();
            fs::write(best.join("mapper.bpk"), "").unwrap();
            let config = fs::File::create(best.join("config.json")).unwrap();
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(3600 * hour);
            config.set_modified(time).unwrap();
            if let Some(status) = status {
                status.write(&run).unwrap();
            }
            run
        };
        write("old", 1, Some(RunStatus::Finished));
        let finished = write("z", 2, Some(RunStatus::Finished));
        let stopped = write("b", 4, Some(RunStatus::Interrupted));
        let diverged = write("a", 3, Some(RunStatus::Diverged));
        fs::create_dir(artifacts.path().join("begun")).unwrap();
        let latest = catalog.latest_run();
        assert_eq!(latest.model, Some(finished.join(BEST)));
        let names: Vec<_> = latest.passed_over.iter().map(|over| &over.run).collect();
        assert_eq!(names, [&stopped, &diverged]);
        fs::write(stopped.join("status.json"), "{").unwrap();
        let damaged = catalog.latest_run().passed_over.remove(0);
        assert_eq!(damaged.run, stopped);
        assert!(damaged.why().contains("status.json"), "{}", damaged.why());
        RunStatus::Finished.write(&stopped).unwrap();
        assert_eq!(catalog.latest_run().model, Some(stopped.join(BEST)));
    }
}
