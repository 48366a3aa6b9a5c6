//! Event files for TensorBoard: the numbers of `metrics.jsonl` as it reads them, in `events.out.tfevents.*` of a run's
//! folder.
//!
//! A file is a row of records as TensorFlow frames them (its `record_writer.cc`): the length, a checksum of it, an event, a
//! checksum of that; the checksums are CRC-32C, masked. An event is a Protocol Buffers message (`event.proto`,
//! `summary.proto`).

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use burn::train::logger::MetricLogger;
use burn::train::metric::store::{EpochSummary, MetricsUpdate, Split};
use burn::train::metric::{MetricDefinition, MetricId, NumericEntry};

/// What the first event of a file says.
const VERSION: &[u8] = b"brain.Event:2";
/// Added to a rotated checksum, so that none of data with checksums in it is like its own.
const MASK: u32 = 0xa282_ead8;
/// Time after which what was written can be seen.
const FLUSH: Duration = Duration::from_secs(2);

/// Fields of the messages, by their numbers.
mod field {
    pub const WALL_TIME: u32 = 1;
    pub const STEP: u32 = 2;
    pub const FILE_VERSION: u32 = 3;
    pub const SUMMARY: u32 = 5;
    pub const SESSION_LOG: u32 = 7;
    pub const SUMMARY_VALUE: u32 = 1;
    pub const VALUE_TAG: u32 = 1;
    pub const VALUE_SIMPLE: u32 = 2;
    pub const SESSION_STATUS: u32 = 1;
}

/// `SessionLog.START`: steps from here on that earlier files have too were run again.
const SESSION_START: u64 = 1;

/// A Protocol Buffers message as it is put together.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// A field's number with how its value is written: 0 a number, 1 eight bytes, 2 bytes with their length, 5 four bytes.
    fn key(&mut self, field: u32, kind: u32) {
        self.varint(u64::from(field << 3 | kind));
    }

    fn number(mut self, field: u32, value: u64) -> Self {
        self.key(field, 0);
        self.varint(value);
        self
    }

    fn double(mut self, field: u32, value: f64) -> Self {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn float(mut self, field: u32, value: f32) -> Self {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn bytes(mut self, field: u32, value: &[u8]) -> Self {
        self.key(field, 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }
}

/// An event at a step, now.
fn event(step: usize) -> Message {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Message::default()
        .double(field::WALL_TIME, now.unwrap_or_default().as_secs_f64())
        .number(field::STEP, step as u64)
}

fn scalar(step: usize, tag: &str, value: f64) -> Message {
    let value = Message::default()
        .bytes(field::VALUE_TAG, tag.as_bytes())
        .float(field::VALUE_SIMPLE, value as f32);
    let summary = Message::default().bytes(field::SUMMARY_VALUE, &value.0);
    event(step).bytes(field::SUMMARY, &summary.0)
}

fn masked_checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(MASK)
}

fn write_record(writer: &mut impl Write, event: &Message) -> std::io::Result<()> {
    let length = (event.0.len() as u64).to_le_bytes();
    writer.write_all(&length)?;
    writer.write_all(&masked_checksum(&length).to_le_bytes())?;
    writer.write_all(&event.0)?;
    writer.write_all(&masked_checksum(&event.0).to_le_bytes())
}

/// Writes training metrics at each step and validation metrics at the end of each epoch.
pub struct TensorBoardLogger {
    file: BufWriter<File>,
    flushed: Instant,
    names: HashMap<MetricId, String>,
    /// Batches an epoch.
    batches: usize,
    /// Batches of this epoch so far.
    step: usize,
}

impl TensorBoardLogger {
    /// Begins a file of its own, which takes the place of what others have of the epochs after `last`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(run: &Path, batches: usize, last: usize) -> Result<Self> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let path = run.join(format!(
            "events.out.tfevents.{}.clipcap.{}.0",
            now.unwrap_or_default().as_secs(),
            std::process::id()
        ));
        let begin = || -> std::io::Result<BufWriter<File>> {
            let mut file = BufWriter::new(File::create(&path)?);
            write_record(&mut file, &event(0).bytes(field::FILE_VERSION, VERSION))?;
            if last > 0 {
                let start = Message::default().number(field::SESSION_STATUS, SESSION_START);
                let first = last * batches + 1;
                write_record(&mut file, &event(first).bytes(field::SESSION_LOG, &start.0))?;
            }
            file.flush()?;
            Ok(file)
        };
        let file = begin().with_context(|| {
            format!(
                "cannot write {}: check permissions and free space",
                path.display()
            )
        })?;
        Ok(Self {
            file,
            flushed: Instant::now(),
            names: HashMap::new(),
            batches,
            step: 0,
        })
    }

    /// A number that cannot be written ends nothing: what fails the run is its checkpoint.
    fn write(&mut self, step: usize, tag: &str, value: f64) {
        let _ = write_record(&mut self.file, &scalar(step, tag, value));
        if self.flushed.elapsed() >= FLUSH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let _ = self.file.flush();
        self.flushed = Instant::now();
    }
}

impl MetricLogger for TensorBoardLogger {
    fn log(&mut self, update: MetricsUpdate, epoch: usize, split: &Split) {
        self.step += 1;
        let end = epoch * self.batches;
        for numeric in &update.entries_numeric {
            let Some(name) = self.names.get(&numeric.entry.metric_id) else {
                continue;
            };
            let (step, part, value) = match (&numeric.numeric_entry, split) {
                (Some(NumericEntry::Final(value)), Split::Valid) => (end, "validation", *value),
                (Some(NumericEntry::Final(_)) | None, _) => continue,
                (Some(entry), Split::Train) => {
                    (end - self.batches + self.step, "train", entry.current())
                }
                _ => continue,
            };
            let tag = format!("{name}/{part}");
            self.write(step, &tag, value);
        }
    }

    /// Nothing: who chooses epochs asks the history.
    fn read_numeric(&mut self, _: &str, _: usize, _: &Split) -> Result<Vec<NumericEntry>, String> {
        Ok(Vec::new())
    }

    fn log_metric_definition(&mut self, definition: MetricDefinition) {
        self.names
            .insert(definition.metric_id.clone(), definition.name.to_string());
    }

    fn log_epoch_summary(&mut self, _: EpochSummary) {
        self.step = 0;
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_masked_as_tensorflow_does() {
        // The check value of CRC-32C.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(masked_checksum(b""), MASK);
        // Of the length of the first event, 24 bytes, with which TensorFlow's files begin.
        assert_eq!(masked_checksum(&24_u64.to_le_bytes()), 0x224b_7fa3);
    }

    #[test]
    fn a_scalar_is_the_message_that_event_proto_says() {
        let bytes = scalar(300, "Loss/train", 0.5).0;
        // Field 1, a double; field 2, 300 as a varint; field 5, 18 bytes of a summary.
        assert_eq!(bytes[0], 0x09);
        assert_eq!(bytes[9..12], [0x10, 0xac, 0x02]);
        let summary = [
            &[0x2a, 19, 0x0a, 17, 0x0a, 10][..],
            b"Loss/train",
            &[0x15, 0, 0, 0, 0x3f],
        ];
        assert_eq!(bytes[12..], summary.concat());
    }
}
