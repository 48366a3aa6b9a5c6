//! Tables of image and caption, and Flickr8k's and Flickr30k's token files.

use std::io::BufRead;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::collector::Collector;
use crate::data::text::cell::{CAPTION, Cell, Fields, IMAGE, IMAGE_ID, URL, shorten};
use crate::data::text::table::{Header, Row, open};
use crate::data::text::{Lines, check};

/// A header must name what an image is called, and what is said of it.
fn is_enough(header: &Header) -> bool {
    header.has(&CAPTION) && (header.has(&IMAGE) || header.has(&IMAGE_ID))
}

/// Whether a text begins with a header.
///
/// # Errors
/// When it cannot be read.
pub fn is_table(head: &[u8]) -> Result<bool> {
    Ok(open(head, is_enough)?.is_some())
}

/// # Errors
/// Always: it says what is wrong with a header.
pub fn refuse_header(first: &str) -> Result<()> {
    let has_urls = |header: &Header| header.has(&CAPTION) && header.has(&URL);
    if Header::read(first, has_urls).is_some() {
        bail!(
            "its images are on the web: download them (img2dataset does, and its shards are read), or add a column `image` with the names of files"
        );
    }
    bail!(
        "its first line names no image and caption columns: give it a header such as `image,caption`, not `{}`",
        shorten(first.trim_end())
    );
}

/// Reads a table whose first line is its header.
///
/// # Errors
/// When it cannot be read, or an image is in two parts.
pub fn read(reader: impl BufRead, folders: &[PathBuf], collector: &mut Collector) -> Result<()> {
    each_row(reader, |row| match row.fields {
        Ok(fields) => collector.add_row(&row.place, &fields, folders),
        Err(reason) => {
            collector.leave_out(&row.place, &reason);
            Ok(())
        }
    })
}

/// Hands on each row of a table.
///
/// # Errors
/// When it cannot be read, or `add` fails.
pub fn each_row(reader: impl BufRead, mut add: impl FnMut(Row) -> Result<()>) -> Result<()> {
    let mut rows = open(reader, is_enough)?.context("has no header")?;
    while let Some(row) = rows.next_row().context("cannot be read")? {
        add(row)?;
    }
    Ok(())
}

/// Whether a line is of a token file: `name.jpg#0<tab>caption`.
pub fn is_flickr_tokens(line: &str) -> bool {
    flickr_token(line).is_some()
}

fn flickr_token(line: &str) -> Option<(&str, &str)> {
    let (image, caption) = line.split_once('\t')?;
    let (name, number) = image.rsplit_once('#')?;
    number
        .trim()
        .chars()
        .all(|c| c.is_ascii_digit())
        .then_some((name, caption))
}

/// Reads `name.jpg#0<tab>caption` lines.
///
/// # Errors
/// When the file cannot be read.
pub fn read_flickr_tokens(
    reader: impl BufRead,
    folders: &[PathBuf],
    collector: &mut Collector,
) -> Result<()> {
    for (i, line) in Lines::new(reader).enumerate() {
        let line = line.context("cannot be read")?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let place = format!("line {}", i + 1);
        let token = check(&line).and_then(|line| {
            flickr_token(line)
                .ok_or_else(|| format!("is not `name.jpg#0<tab>caption`: `{}`", shorten(line)))
        });
        match token {
            Ok((name, caption)) => {
                let mut fields = Fields::default();
                fields.push(IMAGE[0], Cell::Text(name.to_string()));
                fields.push(CAPTION[0], Cell::Text(caption.to_string()));
                collector.add_row(&place, &fields, folders)?;
            }
            Err(reason) => collector.leave_out(&place, &reason),
        }
    }
    Ok(())
}
