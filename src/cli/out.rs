//! Standard output and standard error. Results go to the first, where a failure to write is an error; everything else goes to
//! the second, where it is not: a run must not end because nobody is left to read how it goes.

use std::fmt::{self, Display};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::OnceLock;

use anyhow::{Context, Result};
use clipcap::trainer::dashboard::is_dumb;
use indicatif::{ProgressState, ProgressStyle};

/// Whether standard output was a terminal when the program began. One that is closed says no more that it is one.
static WAS_TERMINAL: OnceLock<bool> = OnceLock::new();

/// What a failed write to standard output is, when whoever read it has gone: no failure, but the end of the work.
#[derive(Debug)]
struct OutputClosed;

impl Display for OutputClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody reads the output any more")
    }
}

impl std::error::Error for OutputClosed {}

/// To be called first.
pub fn start() {
    WAS_TERMINAL.get_or_init(|| io::stdout().is_terminal());
}

/// A line on standard error; whether it can be written does not matter.
pub fn note(line: impl Display) {
    let mut line = format!("{line}\n");
    // Names of files and runs may hold what commands a terminal.
    let commands = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if line.contains(commands) {
        let escaped = |c: char| match commands(c) {
            true => c.escape_default().to_string(),
            false => c.to_string(),
        };
        line = line.chars().map(escaped).collect();
    }
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

/// An error as one line on standard error.
pub fn error(error: impl Display) {
    note(format_args!("error: {}", one_line(&error.to_string())));
}

/// A text without what would break a line or command a terminal, as names of files may.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for (index, part) in text.split(['\n', '\r']).map(str::trim_end).enumerate() {
        if index > 0 && !part.trim().is_empty() {
            line.push(' ');
        }
        for c in part.chars() {
            match c {
                '\t' => line.push(' '),
                c if c.is_control() => line.extend(c.escape_default()),
                c => line.push(c),
            }
        }
    }
    line
}

/// A line on standard output.
///
/// # Errors
/// When it cannot be written; see [`is_closed`].
pub fn line(line: impl Display) -> Result<()> {
    text(&format!("{line}\n"))
}

/// Lines on standard output, at once.
///
/// # Errors
/// When they cannot be written; see [`is_closed`].
pub fn text(text: &str) -> Result<()> {
    written(Stdout.write_all(text.as_bytes()))
}

/// What came of writing to standard output, once the last of it has left.
///
/// # Errors
/// When it could not be written; see [`is_closed`].
pub fn written(result: io::Result<()>) -> Result<()> {
    result
        .and_then(|()| Stdout.flush())
        .map_err(mark_closed)
        .context("writing to standard output")
}

/// Standard output, as a writer whose errors [`is_closed`] knows. Flush it at the end.
#[derive(Clone, Copy, Debug)]
pub struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stdout().write(bytes).map_err(mark_closed)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush().map_err(mark_closed)
    }
}

fn mark_closed(error: io::Error) -> io::Error {
    let hung_up = error.raw_os_error() == hang_up() && WAS_TERMINAL.get() == Some(&true);
    match error.kind() {
        ErrorKind::BrokenPipe => io::Error::new(ErrorKind::BrokenPipe, OutputClosed),
        _ if hung_up => io::Error::new(ErrorKind::BrokenPipe, OutputClosed),
        _ => error,
    }
}

/// What writing to a terminal that was closed fails with.
#[cfg(unix)]
fn hang_up() -> Option<i32> {
    Some(rustix::io::Errno::IO.raw_os_error())
}

#[cfg(not(unix))]
fn hang_up() -> Option<i32> {
    None
}

/// Whether an error says that whoever read standard output has gone, as `head` does when it has enough: the program then ends
/// quietly and well, as `cat` does.
pub fn is_closed(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let inner = cause
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        inner.is_some_and(|inner| inner.is::<OutputClosed>())
    })
}

/// Whether a bar that moves can be shown on standard error.
pub fn shows_bars() -> bool {
    io::stderr().is_terminal() && !is_dumb()
}

/// A bar of this template, in which `{rate}` is images a second.
pub fn bar_style(template: &str) -> ProgressStyle {
    let rate = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        // A failed write shows as a missing number, and is no reason to stop.
        let _ = write!(out, "{:.1} images/s", state.per_sec());
    };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key("rate", rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_told_from_other_failures_through_any_context() {
        let told = |kind: ErrorKind| {
            let written: io::Result<()> = Err(mark_closed(kind.into()));
            is_closed(&written.context("writing").context("more").unwrap_err())
        };
        assert!(told(ErrorKind::BrokenPipe));
        assert!(!told(ErrorKind::StorageFull));
        let elsewhere = anyhow::Error::from(io::Error::from(ErrorKind::BrokenPipe));
        assert!(!is_closed(&elsewhere), "a connection's, say");
    }

    #[test]
    fn an_error_is_one_line_that_commands_no_terminal() {
        assert_eq!(one_line("a\n  b\r\nc\u{1b}[2J\td"), "a   b c\\u{1b}[2J d");
    }
}
