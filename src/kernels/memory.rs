//! Memory for what is large and stays.

/// Asks the system for large pages, where it gives them on request (Linux): memory that was not written to yet is then there
/// sooner, and what is in it is found faster.
#[cfg(target_os = "linux")]
pub fn prefer_large_pages<T>(data: &mut [T]) {
    /// No processor's small pages are larger; the system takes whole ones only.
    const PAGE: usize = 64 * 1024;
    let all = data.as_mut_ptr_range();
    let start = all.start.addr().next_multiple_of(PAGE);
    let length = all.end.addr().saturating_sub(start) / PAGE * PAGE;
    if length == 0 {
        return;
    }
    let start = all.start.with_addr(start);
    // SAFETY: the range lies within `data`, and this advice changes nothing that is there. Should it be refused, all stays as
    // it was.
    unsafe { libc::madvise(start.cast(), length, libc::MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
pub fn prefer_large_pages<T>(_: &mut [T]) {}

/// Has the program keep the memory it frees, for what it needs next, where the system's allocator can be told (glibc): networks
/// need the same large blocks again and again, and would otherwise get them emptied page by page each time. For the start of a
/// program, while it has one thread.
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
    fn what_is_there_stays() {
        for length in [0, 1, 1000, 3_000_001] {
            let mut data: Vec<u8> = (0..length).map(|i: u32| i as u8).collect();
            prefer_large_pages(&mut data);
            assert!(data.iter().zip(0..).all(|(&x, i): (_, u32)| x == i as u8));
        }
    }
}
