//! Memory for what is large and stays.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use bytemuck::Pod;
use memmap2::MmapMut;

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
