//! What this build is.

use std::sync::OnceLock;

use clipcap::device;
use cpu_kernels::simd::Isa;

/// Version, commit, backends and instruction set, a line each.
pub fn long() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let build = if cfg!(debug_assertions) {
            ", a development build"
        } else {
            ""
        };
        format!(
            "{}\ncommit: {}{build}\nsystem: {} {}\nbackends: {}\nCPU kernels: {}",
            env!("CARGO_PKG_VERSION"),
            env!("CLIPCAP_COMMIT"),
            std::env::consts::OS,
            std::env::consts::ARCH,
            device::compiled()[1..].join(", "),
            Isa::best().name(),
        )
    })
}
