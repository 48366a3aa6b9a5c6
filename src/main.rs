#![recursion_limit = "256"]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    clipcap::kernels::memory::keep_freed_memory();
    cli::run()
}
