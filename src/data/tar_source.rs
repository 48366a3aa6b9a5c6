//! The bytes of a tar file on their way to its reader, which takes names of any length into memory: names that are longer than
//! any file's are cut here, whatever their length, and noted.
//!
//! It follows the file from header to header: a header of 512 bytes, whose data is as long as it says, or as an extended header
//! before it (PAX) says, and is filled up to whole blocks of 512 bytes.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use tar::{GnuExtSparseHeader, Header, PaxExtensions};

/// Bytes of a name, or of another extended header, that are read: no file system has longer names, and PAX headers are some
/// hundred bytes.
pub const MOST_NAME: u64 = 64 << 10;

const BLOCK: u64 = 512;
/// Bytes that are kept of a longer name.
const KEPT: usize = 100;

/// What the source tells of the bytes that were read so far.
#[derive(Debug, Default)]
pub struct Notes {
    /// Bytes of the tar file that the reader did not get.
    pub dropped: Cell<u64>,
    /// The length of a name that was cut, of the member that comes next.
    pub long_name: Cell<Option<u64>>,
}

/// A tar file's bytes, with names cut.
pub struct TarSource<R> {
    inner: R,
    state: State,
    /// What the PAX header before the next header says its data's length is.
    pax_size: Option<u64>,
    notes: Rc<Notes>,
}

enum State {
    Header,
    /// Bytes to be given before anything else, and what follows them.
    Given {
        bytes: Vec<u8>,
        at: usize,
        then: Box<State>,
    },
    /// Bytes of data before the next header.
    Data(u64),
    /// Behind the end, or no tar file: as it is.
    Rest,
}

impl State {
    fn given(bytes: Vec<u8>, then: State) -> Self {
        Self::Given {
            bytes,
            at: 0,
            then: Box::new(then),
        }
    }
}

impl<R: Read> TarSource<R> {
    pub fn new(inner: R, notes: Rc<Notes>) -> Self {
        Self {
            inner,
            state: State::Header,
            pax_size: None,
            notes,
        }
    }

    /// Reads a header, and decides what is given of it and its data.
    fn header(&mut self) -> io::Result<State> {
        loop {
            let mut bytes = self.take(BLOCK)?;
            let is_whole = bytes.len() as u64 == BLOCK && bytes.iter().any(|&byte| byte != 0);
            let header = is_whole.then(|| Header::from_byte_slice(&bytes).clone());
            let size = header.as_ref().and_then(|header| header.entry_size().ok());
            let (Some(header), Some(size)) = (header, size) else {
                return Ok(State::given(bytes, State::Rest));
            };
            let kind = header.entry_type();
            let is_name = kind.is_gnu_longname() || kind.is_gnu_longlink();
            let is_pax = kind.is_pax_local_extensions() || kind.is_pax_global_extensions();
            if !is_name && !is_pax {
                let size = self.pax_size.take().unwrap_or(size);
                self.sparse(&header, &mut bytes)?;
                return Ok(State::given(bytes, State::Data(padded(size))));
            }
            if size <= MOST_NAME {
                let data = self.take(padded(size))?;
                if kind.is_pax_local_extensions() {
                    self.pax_size = pax_size(&data[..data.len().min(size as usize)]);
                }
                bytes.extend(data);
                return Ok(State::given(bytes, State::Header));
            }
            self.notes.long_name.set(Some(size));
            if is_name {
                return self.cut(header, size);
            }
            self.skip(padded(size))?;
            self.note_dropped(BLOCK + padded(size));
        }
    }

    /// A header of a name, whose data is yet to be read, with the beginning of the name.
    fn cut(&mut self, mut header: Header, size: u64) -> io::Result<State> {
        let mut name = self.take(BLOCK)?;
        name.truncate(KEPT);
        name.resize(BLOCK as usize, 0);
        self.skip(padded(size) - BLOCK)?;
        self.note_dropped(padded(size) - BLOCK);
        header.set_size(KEPT as u64);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend(name);
        Ok(State::given(bytes, State::Header))
    }

    /// Takes the headers that follow a sparse file's own.
    fn sparse(&mut self, header: &Header, bytes: &mut Vec<u8>) -> io::Result<()> {
        let mut more = header.entry_type().is_gnu_sparse()
            && header.as_gnu().is_some_and(|gnu| gnu.is_extended());
        while more {
            let block = self.take(BLOCK)?;
            let mut extended = GnuExtSparseHeader::new();
            more = block.len() as u64 == BLOCK;
            if more {
                extended.as_mut_bytes().copy_from_slice(&block);
                more = extended.is_extended();
            }
            bytes.extend(block);
        }
        Ok(())
    }

    fn note_dropped(&self, bytes: u64) {
        self.notes.dropped.set(self.notes.dropped.get() + bytes);
    }

    /// So many bytes, or those that there are.
    fn take(&mut self, count: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        (&mut self.inner).take(count).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn skip(&mut self, count: u64) -> io::Result<()> {
        io::copy(&mut (&mut self.inner).take(count), &mut io::sink()).map(drop)
    }
}

impl<R: Read> Read for TarSource<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        loop {
            match &mut self.state {
                State::Header => self.state = self.header()?,
                State::Given { bytes, at, then } => {
                    let count = into.len().min(bytes.len() - *at);
                    into[..count].copy_from_slice(&bytes[*at..*at + count]);
                    *at += count;
                    if *at == bytes.len() {
                        self.state = std::mem::replace(then, State::Rest);
                    }
                    return Ok(count);
                }
                State::Data(0) => self.state = State::Header,
                State::Data(left) => {
                    let most = usize::try_from(*left).unwrap_or(usize::MAX).min(into.len());
                    let count = self.inner.read(&mut into[..most])?;
                    *left -= count as u64;
                    return Ok(count);
                }
                State::Rest => return self.inner.read(into),
            }
        }
    }
}

/// A length in whole blocks.
fn padded(size: u64) -> u64 {
    size.div_ceil(BLOCK).saturating_mul(BLOCK)
}

/// What a PAX header says the length of the next member's data is.
fn pax_size(data: &[u8]) -> Option<u64> {
    let mut found = PaxExtensions::new(data).flatten();
    let size = found.find(|extension| extension.key_bytes() == b"size")?;
    size.value().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tar file of one member with a name and another behind it.
    fn archive(name: &str, link: bool) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut add = |name: &str| {
            let mut header = Header::new_gnu();
            header.set_size(3);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, &b"abc"[..]).unwrap();
        };
        add(name);
        add("behind.png");
        if link {
            let mut header = Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, "link.png", name).unwrap();
        }
        builder.into_inner().unwrap()
    }

    /// Name, place of the content and the length of a name that was cut, of each member.
    fn members(bytes: &[u8]) -> Vec<(String, u64, Option<u64>)> {
        let notes = Rc::new(Notes::default());
        let mut archive = tar::Archive::new(TarSource::new(bytes, notes.clone()));
        let entries = archive.entries().unwrap();
        let member = |entry: io::Result<tar::Entry<_>>| {
            let mut entry = entry.unwrap();
            let place = entry.raw_file_position() + notes.dropped.get();
            let long_name = notes.long_name.take();
            let name = entry.path().unwrap().display().to_string();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            if !content.is_empty() {
                assert_eq!(bytes[place as usize..][..3], content[..], "{name}");
            }
            (name, place, long_name)
        };
        entries.map(member).collect()
    }

    #[test]
    fn names_are_cut_where_they_are_too_long_and_the_rest_is_read() {
        let long = "n".repeat(300_000);
        for (name, is_cut) in [("a.png", false), (&long[..5000], false), (&long, true)] {
            let bytes = archive(name, true);
            let found = members(&bytes);
            let names: Vec<&str> = found.iter().map(|(name, ..)| name.as_str()).collect();
            assert_eq!(names[1..], ["behind.png", "link.png"]);
            match is_cut {
                true => assert_eq!(names[0], "n".repeat(KEPT)),
                false => assert_eq!(names[0], name),
            }
            let lengths: Vec<bool> = found.iter().map(|(.., long)| long.is_some()).collect();
            assert_eq!(lengths, [is_cut, false, is_cut]);
        }
    }

    #[test]
    fn large_extended_headers_are_passed_over_and_sizes_in_small_ones_are_heeded() {
        let mut builder = tar::Builder::new(Vec::new());
        let large = vec![b'x'; 200_000];
        let pax = [("comment", &large[..])];
        builder.append_pax_extensions(pax).unwrap();
        let mut header = Header::new_ustar();
        header.set_size(3);
        header.set_cksum();
        header.set_path("first.png").unwrap();
        header.set_cksum();
        builder.append(&header, &b"abc"[..]).unwrap();
        builder
            .append_pax_extensions([("size", &b"3"[..])])
            .unwrap();
        // The header itself says nothing of the size.
        let mut bytes = builder.into_inner().unwrap();
        bytes.truncate(bytes.len() - 1024);
        header.set_path("second.png").unwrap();
        header.set_size(0);
        header.set_cksum();
        bytes.extend(header.as_bytes());
        let mut content = b"abc".to_vec();
        content.resize(512, 0);
        bytes.extend(content);
        bytes.extend([0; 1024]);
        let found = members(&bytes);
        let names: Vec<(&str, bool)> = (found.iter())
            .map(|(name, _, long)| (name.as_str(), long.is_some()))
            .collect();
        assert_eq!(names, [("first.png", true), ("second.png", false)]);
    }

    #[test]
    fn what_is_no_tar_file_or_ends_early_is_given_as_it_is() {
        let whole = archive("a.png", false);
        let random: Vec<u8> = (0..5000_u32).map(|i| (i * 7 % 251) as u8).collect();
        for bytes in [&whole[..], &whole[..600], &whole[..100], &random, &[]] {
            let mut given = Vec::new();
            let mut source = TarSource::new(bytes, Rc::default());
            source.read_to_end(&mut given).unwrap();
            assert!(given == bytes);
        }
    }
}
