//! The threads that kernels run on: rayon's.

/// Runs `f` on one of the threads that share the work. Every kernel that is called from outside them wakes one and waits for it;
/// what calls many, one after the other, is woken for once this way.
pub fn on_pool<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    rayon::scope(|_| f())
}

/// Gives each thread of rayon's pool a processor of its own, where the system can be told (Linux), and there are as many threads
/// as processors that this process may use. Threads that wake up together otherwise begin on the same one, and it takes the
/// system's scheduler longer to part them than an image takes. For programs, once; a pool with another number of threads is left
/// alone.
#[cfg(target_os = "linux")]
pub fn pin_threads() {
    let Some(processors) = allowed_processors() else {
        return;
    };
    if processors.len() == rayon::current_num_threads() && processors.len() > 1 {
        // Where the system refuses, threads stay as they were.
        rayon::broadcast(|thread| pin_this_thread(processors[thread.index()]));
    }
}

#[cfg(not(target_os = "linux"))]
pub fn pin_threads() {}

/// The processors that this thread may run on.
#[cfg(target_os = "linux")]
fn allowed_processors() -> Option<Vec<usize>> {
    // SAFETY: a set of bits, for which zeros are a value; the system writes as many bytes as it is told there are.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        let told = libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set);
        (told == 0).then_some(set)?
    };
    let most = 8 * size_of::<libc::cpu_set_t>();
    // SAFETY: the bit is within the set.
    let allowed = |&processor: &usize| unsafe { libc::CPU_ISSET(processor, &set) };
    Some((0..most).filter(allowed).collect())
}

/// Whether the system did so.
#[cfg(target_os = "linux")]
fn pin_this_thread(processor: usize) -> bool {
    // SAFETY: as above; the bit is one that was set there.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(processor, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) == 0
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn every_thread_of_the_pool_has_a_processor_of_its_own() {
        let all = allowed_processors().unwrap();
        let first = all[0];
        // There is nothing to be tested where the system does not let threads choose.
        let may_pin = std::thread::spawn(move || pin_this_thread(first)).join();
        if !may_pin.unwrap() {
            return;
        }
        pin_threads();
        let mut pinned = rayon::broadcast(|_| allowed_processors().unwrap());
        if rayon::current_num_threads() == all.len() && all.len() > 1 {
            assert!(pinned.iter().all(|own| own.len() == 1));
            pinned.sort();
            assert_eq!(pinned.concat(), all);
        }
        assert_eq!(allowed_processors().unwrap(), all, "the caller is free");
    }

    #[test]
    fn work_on_the_pool_gives_its_value() {
        assert!(on_pool(rayon::current_thread_index).is_some());
    }
}
