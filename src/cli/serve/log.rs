//! The log on standard error.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use clipcap::serve::{Entry, LogFn};

/// Lines that may wait where whoever reads them is slow.
const WAITING: usize = 4096;
/// How long the end of the program waits for the last lines.
const LAST_LINES: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
pub enum LogFormat {
    /// A line a request
    Text,
    /// A JSON object a request
    Json,
    /// Nothing
    None,
}

/// Writes log entries on a thread of its own, so that requests do not wait for whoever reads them.
pub struct Logger {
    writer: Option<Writer>,
}

struct Writer {
    log: LogFn,
    /// None ends the thread.
    lines: SyncSender<Option<String>>,
    ended: Receiver<()>,
}

impl Logger {
    pub fn start(format: LogFormat) -> Result<Self> {
        if format == LogFormat::None {
            return Ok(Self { writer: None });
        }
        let (lines, waiting) = mpsc::sync_channel(WAITING);
        let (at_end, ended) = mpsc::channel();
        let lost = Arc::new(AtomicUsize::new(0));
        let lost_lines = lost.clone();
        thread::Builder::new()
            .name("log".into())
            .spawn(move || {
                write(&waiting, &lost_lines);
                // Nobody waits for it where the program is ending anyway.
                let _ = at_end.send(());
            })
            .context("cannot start a thread")?;
        let to_writer = lines.clone();
        let log = Arc::new(move |entry: &Entry| send(&to_writer, &lost, format, entry));
        let writer = Some(Writer { log, lines, ended });
        Ok(Self { writer })
    }

    /// What takes entries.
    pub fn log_fn(&self) -> Option<LogFn> {
        self.writer.as_ref().map(|writer| writer.log.clone())
    }

    /// Waits until all is written, but not for long where nobody reads it.
    pub fn finish(self) {
        if let Some(writer) = self.writer {
            let _ = writer.lines.try_send(None);
            let _ = writer.ended.recv_timeout(LAST_LINES);
        }
    }
}

fn write(waiting: &Receiver<Option<String>>, lost: &AtomicUsize) {
    while let Ok(Some(text)) = waiting.recv() {
        line(&text);
        let lost = lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            line(&format!(
                "{lost} lines of the log were lost: they came faster than they were read"
            ));
        }
    }
}

fn send(lines: &SyncSender<Option<String>>, lost: &AtomicUsize, format: LogFormat, entry: &Entry) {
    let text = match format {
        LogFormat::Json => serde_json::to_string(entry).unwrap_or_default(),
        LogFormat::Text | LogFormat::None => entry.to_string(),
    };
    if lines.try_send(Some(text)).is_err() {
        lost.fetch_add(1, Ordering::Relaxed);
    }
}

/// A line on standard error, where it may go nowhere.
pub fn line(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
