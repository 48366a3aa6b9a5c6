//! Models named on the command line: a path, a name, or one to be fetched first.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Once;

use anyhow::{Context, Result, bail};
use clap::Args;
use clipcap::catalog::{self, Catalog, Missing};
use clipcap::hub::Named;
use clipcap::sample_model;

use super::{fetch, out};

/// Fetches a model that is not here yet.
#[derive(Args, Clone, Copy, Default)]
pub struct FetchArg {
    /// Download a model that --model names and that is not here yet, into the user's folder, without asking
    #[arg(long, requires = "model")]
    fetch: bool,
}

/// Where models are looked for. Says, once, what is wrong with the user's folder.
fn catalog() -> Catalog {
    static TOLD: Once = Once::new();
    TOLD.call_once(|| {
        if let Some(problem) = catalog::unusable_home() {
            out::note(problem);
        }
    });
    Catalog::default()
}

/// Why there is no folder for the user's models.
pub fn no_home() -> String {
    let none = "there is no folder for the user's models: set CLIPCAP_HOME to one";
    catalog::unusable_home().unwrap_or_else(|| none.into())
}

/// The folder of a named model, of any kind.
///
/// # Errors
/// When there is none; the message says what to do.
pub fn folder(name: &Path) -> Result<PathBuf> {
    Ok(look_up(&catalog(), name)?)
}

fn look_up(catalog: &Catalog, name: &Path) -> Result<PathBuf, Missing> {
    if name == Path::new(sample_model::NAME) {
        tell_homeless(catalog);
    }
    catalog.find(name)
}

/// Says where the sample model goes, when it cannot go where it should.
fn tell_homeless(catalog: &Catalog) {
    if catalog::unusable_home().is_none()
        && let Some(problem) = catalog.homeless_sample()
    {
        out::note(problem);
    }
}

/// The folder of a named model that captions. One that is on the Hub is fetched if `--fetch` says so, or whoever sits at
/// the terminal.
///
/// # Errors
/// When there is none; the message says what to do.
pub fn captioner(name: &Path, fetch: FetchArg) -> Result<PathBuf> {
    let catalog = catalog();
    match look_up(&catalog, name) {
        Err(Missing::CanFetch(name, Named::Set(_))) => fetched(&catalog, &name, fetch),
        Err(Missing::CanFetch(name, Named::Repo(id))) => bail!(
            "{name} is not here, and `fetch` gets CLIPs and GPT-2s by id, which do not caption alone: train a captioner with `clipcap fetch openai/clip-vit-base-patch32 gpt2 --output model/base` and `clipcap train --model model/base`, or convert {id} with `clipcap convert`"
        ),
        found => Ok(found?),
    }
}

fn fetched(catalog: &Catalog, name: &str, fetch: FetchArg) -> Result<PathBuf> {
    let home = (catalog.home.clone()).with_context(no_home)?;
    let output = home.join(name);
    if !fetch.fetch && !asked(name, &output)? {
        bail!(
            "{name} is not here yet: get it with `clipcap fetch {name}`, or add --fetch to this command"
        );
    }
    fetch::fetch_model(name, &output)?;
    Ok(output)
}

/// Whether somebody at the terminal wants it.
fn asked(name: &str, output: &Path) -> Result<bool> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(false);
    }
    let size = (Catalog::default().list().into_iter())
        .find(|listed| listed.name == name && listed.path.is_none())
        .map_or(String::new(), |listed| {
            format!(
                " ({}, {})",
                super::models::size(listed.bytes),
                listed.license
            )
        });
    let mut stderr = io::stderr().lock();
    let _ = write!(
        stderr,
        "{name} is not here yet. Download it from the Hugging Face Hub{size} to {}? [y/N] ",
        output.display()
    );
    let _ = stderr.flush();
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// The model when none is named: of the last run that finished, else the sample. Says which.
///
/// # Errors
/// When the sample model cannot be unpacked.
pub fn default_captioner() -> Result<PathBuf> {
    let latest = catalog().latest_run();
    let (model, which) = match latest.model {
        Some(model) => (model, "the last run that finished"),
        None => (
            sample()?,
            "the sample model, which knows images of shapes alone: `clipcap models` lists others",
        ),
    };
    out::note(format_args!("model: {} ({which})", model.display()));
    if let Some(passed_over) = latest.passed_over.first() {
        let run = passed_over.run.display();
        out::note(format_args!(
            "{run} {}: --model {run} takes it all the same",
            passed_over.why()
        ));
    }
    Ok(model)
}

/// The folder of a model that settings name: as it is, or where it was unpacked or is called so here, when they were
/// written elsewhere. One that is not here stays as it is, for whoever opens it to say so.
///
/// # Errors
/// When the sample model cannot be unpacked.
pub fn again(model: &Path) -> Result<PathBuf> {
    if model.is_dir() {
        return Ok(model.to_path_buf());
    }
    if sample_model::is_name(model) {
        return sample();
    }
    Ok(folder(model).unwrap_or_else(|_| model.to_path_buf()))
}

/// The sample model's folder.
///
/// # Errors
/// When it cannot be unpacked.
pub fn sample() -> Result<PathBuf> {
    let catalog = catalog();
    tell_homeless(&catalog);
    catalog.sample()
}
