//! What several commands share.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use burn::tensor::Device;
use clap::Args;
use clap::error::ErrorKind;
use clipcap::data::split::Split;
use clipcap::device::{DeviceChoice, Devices};
use clipcap::files;
use clipcap::images;
use clipcap::inputs::Expansion;
use clipcap::trainer::dashboard::{LogFn, Ui};
use clipcap::trainer::run;
use cpu_kernels::memory::keep_freed_memory;
use cpu_kernels::simd::Isa;
use cpu_kernels::threads::pin_threads;
use time::OffsetDateTime;

use super::out;
pub use super::signals::{STOPPED, interruptible};
use super::values::values;

/// Where to compute.
#[derive(Args)]
pub struct DeviceArg {
    /// Device: auto (a GPU if there is one, else the CPU), cpu, wgpu, vulkan, metal, cuda or rocm; `:N` picks the N-th card
    #[arg(long, default_value = "auto", value_name = "NAME[:N]")]
    device: DeviceChoice,
}

impl DeviceArg {
    /// The device itself, for a network to be run on.
    pub fn resolve(&self) -> Result<Device> {
        prepare()?;
        Ok(self.device.resolve()?)
    }

    /// The device as the only one, or `several` where they are named.
    pub fn or_several(&self, several: &[DeviceChoice]) -> Result<Devices> {
        prepare()?;
        let one = std::slice::from_ref(&self.device);
        Ok(Devices::resolve(if several.is_empty() {
            one
        } else {
            several
        })?)
    }
}

/// Before a network is run: memory stays with the process, threads with their processors, and `CLIPCAP_SIMD` names what there is.
fn prepare() -> Result<()> {
    keep_freed_memory();
    pin_threads();
    Isa::chosen()?;
    Ok(())
}

/// What a run is called, and how and where it goes.
#[derive(Args)]
pub struct RunArgs {
    /// Name of the run's folder in artifacts/ [default: the command with the first free number, as in train-1]
    #[arg(long = "run", value_name = "NAME", value_parser = run_name)]
    pub name: Option<String>,
    /// How progress is shown
    #[arg(long, value_enum, default_value = "auto")]
    pub ui: UiArg,
    #[command(flatten)]
    pub device: DeviceArg,
}

values! {
    /// How progress is shown.
    pub UiArg for Ui {
        /// The dashboard in a terminal, plain lines elsewhere
        Auto,
        /// Dashboard
        Dashboard,
        /// One line every few seconds
        Plain,
        /// The same as JSON
        Json,
        /// Nothing
        Quiet,
    }
}

/// How images are found, and whether truncated ones are taken.
#[derive(Args)]
pub struct FoundArgs {
    /// Look into the subfolders of folders
    #[arg(long, short)]
    pub recursive: bool,
    /// Download images at http and https addresses
    #[arg(long)]
    allow_urls: bool,
    #[command(flatten)]
    pub truncated: TruncatedArg,
}

impl FoundArgs {
    /// Ends the program where a flag for finding images is given; `needed` says what it has an effect with.
    pub fn refuse_idle(&self, needed: &str) {
        let flags = [
            ("--recursive", self.recursive),
            ("--allow-urls", self.allow_urls),
        ];
        refuse_idle(&flags, needed);
    }

    /// How what the command line names becomes images.
    pub fn expansion(&self) -> Expansion {
        Expansion {
            recursive: self.recursive,
            allow_urls: self.allow_urls,
        }
    }
}

/// Progress lines go to standard error: standard output is for results.
pub fn report() -> LogFn {
    Arc::new(|line| out::note(format_args!("{line}")))
}

/// A run's name as an argument.
pub fn run_name(name: &str) -> std::result::Result<String, String> {
    match run::check_name(name) {
        Ok(()) => Ok(name.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// Ends the program as clap does for a wrong argument: message and the command's usage on standard error, exit code 2.
pub fn usage(kind: ErrorKind, message: &str) -> ! {
    let mut cli = super::command();
    let mut command = &mut cli;
    for word in std::env::args_os().skip(1) {
        let word = word.to_string_lossy();
        if command.find_subcommand(&*word).is_none() {
            break;
        }
        command = (command.find_subcommand_mut(&*word)).expect("it was just found");
    }
    command.error(kind, out::one_line(message)).exit()
}

/// What flags alone make, or the end of the program as by [`usage`]: values that no file and no machine makes right are wrong
/// usage. What files say goes another way: it ends with exit code 1.
pub fn valid<T>(made: Result<T>) -> T {
    made.unwrap_or_else(|error| usage(ErrorKind::ValueValidation, &format!("{error:#}")))
}

/// Checks that files can be written once the work for them is done, and says which will be replaced.
///
/// # Errors
/// When one cannot.
pub fn check_files<'a>(paths: impl IntoIterator<Item = Option<&'a Path>>) -> Result<()> {
    for path in paths.into_iter().flatten() {
        files::check_file(path)?;
        if path.exists() {
            out::note(format_args!(
                "{} is there already: it will be replaced",
                path.display()
            ));
        }
    }
    Ok(())
}

/// Ends the program where a flag is given that has no effect: one of `flags`, by its name and whether it is given.
/// `needed`: what it has an effect with.
pub fn refuse_idle(flags: &[(&str, bool)], needed: &str) {
    if let Some((flag, _)) = flags.iter().find(|(_, is_given)| *is_given) {
        usage(
            ErrorKind::ArgumentConflict,
            &format!("{flag} has no effect here: {needed}"),
        );
    }
}

/// Ends the program where a seed is given that images are dealt out by, and files say which part they are in.
pub fn refuse_split_seed(shares: &Split, is_given: bool) {
    let by_files = matches!(shares, Split::InFile | Split::Lists(_));
    refuse_idle(
        &[("--split-seed", is_given && by_files)],
        "files say which part each image is in",
    );
}

/// Keeps a table in a file.
#[derive(Args)]
pub struct MarkdownArg {
    /// Write the table to a file too, as Markdown under a comment with this command and the date
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

impl MarkdownArg {
    /// Checks that the file can be written, before there is a table.
    ///
    /// # Errors
    /// When it cannot.
    pub fn check(&self) -> Result<()> {
        check_files([self.markdown.as_deref()])
    }

    /// Whether there is to be a file.
    pub fn is_given(&self) -> bool {
        self.markdown.is_some()
    }

    /// Writes the table where it is asked for.
    pub fn write(&self, table: impl FnOnce() -> String) -> Result<()> {
        let Some(path) = &self.markdown else {
            return Ok(());
        };
        let date = OffsetDateTime::now_utc().date();
        let text = format!("<!-- {}, on {date} -->\n\n{}", command_line(), table());
        files::write_atomic(path, |writer| writer.write_all(text.as_bytes()))?;
        out::note(format_args!("table: {}", path.display()));
        Ok(())
    }
}

/// How the program was called, with quotes where a shell needs them.
fn command_line() -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./,=:+%@".contains(c);
    let quoted = |word: String| match !word.is_empty() && word.chars().all(plain) {
        true => word,
        // Nothing may end the comment that it stands in.
        false => format!("'{}'", word.replace('\'', "'\\''").replace("-->", "-- >")),
    };
    let words = std::env::args_os().skip(1);
    let words = words.map(|word| quoted(out::one_line(&word.to_string_lossy())));
    std::iter::once("clipcap".to_string())
        .chain(words)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Takes truncated images too.
#[derive(Args)]
pub struct TruncatedArg {
    /// Take truncated images as they are, with the missing part black or gray; without it they are refused
    #[arg(long)]
    allow_truncated: bool,
}

impl TruncatedArg {
    /// Makes it so for the whole program.
    pub fn apply(&self) {
        images::allow_truncated(self.allow_truncated);
    }
}
