//! Memory for what is large and stays.

use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use bytemuck::Pod;
use memmap2::{Mmap, MmapMut};

/// Zeros to be filled and then used for long, in large pages where the system gives them on request (Linux): they are there
/// sooner, and what is in them is found faster.
#[derive(Debug)]
pub struct Large<T> {
    /// `None` for no bytes, or when the system gave none this way.
    map: Option<MmapMut>,
    otherwise: Vec<T>,
    values: PhantomData<T>,
}

impl<T: Pod> Large<T> {
    /// So many zeros.
    pub fn zeros(count: usize) -> Self {
        let map = (count > 0)
            .then(|| MmapMut::map_anon(count * size_of::<T>()).ok())
            .flatten();
        #[cfg(target_os = "linux")]
        if let Some(map) = &map {
            // Small pages do too.
            let _ = map.advise(memmap2::Advice::HugePage);
        }
        let otherwise = match map {
            Some(_) => Vec::new(),
            None => vec![T::zeroed(); count],
        };
        Self {
            map,
            otherwise,
            values: PhantomData,
        }
    }
}

impl<T: Pod> Deref for Large<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.map {
            Some(map) => bytemuck::cast_slice(map),
            None => &self.otherwise,
        }
    }
}

impl<T: Pod> DerefMut for Large<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match &mut self.map {
            Some(map) => bytemuck::cast_slice_mut(map),
            None => &mut self.otherwise,
        }
    }
}

/// A file's float32 values (little endian), which the system reads when they are looked at and may drop again: a file larger
/// than memory can be mapped. It must not be changed or cut short while it is: write files whole, under another name, and
/// rename them.
#[derive(Debug)]
pub struct MappedFloats {
    /// `None` for no values, which cannot be mapped.
    map: Option<Mmap>,
}

impl MappedFloats {
    /// Maps a whole file.
    ///
    /// # Errors
    /// When the system refuses, or the file does not hold whole values.
    pub fn open(file: &File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        if !length.is_multiple_of(size_of::<f32>() as u64) {
            let reason = format!("{length} bytes are no whole float32 values");
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        if length == 0 {
            return Ok(Self { map: None });
        }
        // SAFETY: every pattern of bits is a float32, and nobody writes here through this map. Whoever changes the file all
        // the same changes values that nothing relies on; who cuts it short ends the program by a signal.
        let map = unsafe { Mmap::map(file)? };
        Ok(Self { map: Some(map) })
    }
}

impl Deref for MappedFloats {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &self.map {
            // Maps begin at pages, and hold whole values.
            Some(map) => bytemuck::cast_slice(map),
            None => &[],
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use crate::x86::prefetch;

/// Where processors have no instruction for it that is known here.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub(crate) fn prefetch<T>(_: &T) {}

/// Has the program keep the memory it frees, for what it needs next, where the system's allocator can be told (glibc): networks
/// need the same large blocks again and again, and would otherwise get them emptied page by page each time. For programs that
/// run one, before it is loaded: many small blocks on many threads, as in scoring, are served more slowly.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn keep_freed_memory() {
    const MOST: i32 = 32 * 1024 * 1024;
    // SAFETY: these set numbers that the allocator reads; what it refuses stays as it was.
    unsafe {
        // Blocks up to the most that is allowed come from the heap, and the heap is not given back.
        libc::mallopt(libc::M_MMAP_THRESHOLD, MOST);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
        libc::mallopt(libc::M_TOP_PAD, MOST / 2);
        // One heap: what a thread freed serves the others.
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn keep_freed_memory() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_file_has_the_values_that_were_written() {
        let folder = std::env::temp_dir().join(format!("mapped-floats-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("values");
        for count in [0_u16, 1, 5000] {
            let values: Vec<f32> = (0..count).map(|i| f32::from(i) - 0.5).collect();
            let bytes: Vec<u8> = values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            std::fs::write(&path, bytes).unwrap();
            let mapped = MappedFloats::open(&File::open(&path).unwrap()).unwrap();
            assert_eq!(*mapped, values);
        }
        std::fs::write(&path, [0; 7]).unwrap();
        let error = MappedFloats::open(&File::open(&path).unwrap()).unwrap_err();
        assert!(error.to_string().contains("7 bytes"), "{error}");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn zeros_are_as_many_as_asked_for_and_can_be_written() {
        for count in [0, 1, 1000, 3_000_001] {
            let mut data = Large::<u16>::zeros(count);
            assert_eq!(data.len(), count);
            assert!(data.iter().all(|&x| x == 0));
            data.iter_mut()
                .zip(0..)
                .for_each(|(x, i): (_, u32)| *x = i as u16);
            assert!(data.iter().zip(0..).all(|(&x, i): (_, u32)| x == i as u16));
        }
    }
}
