//! Processes that run beside a test.

use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::place::stderr;

/// Starts all with their output piped, then waits for all.
pub fn together(commands: Vec<Command>) -> Vec<Output> {
    let start = |mut command: Command| -> Child {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let children: Vec<Child> = commands.into_iter().map(start).collect();
    let end = |child: Child| child.wait_with_output().unwrap();
    children.into_iter().map(end).collect()
}

/// All ended with exit code 0.
pub fn all_succeed(outputs: &[Output]) {
    for output in outputs {
        assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
    }
}

/// Waits until something is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(120), "never: {what}");
        sleep(Duration::from_millis(20));
    }
}

/// Sends a signal, such as `-TERM`.
pub fn signal(child: &Child, signal: &str) {
    let status = Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status();
    assert!(status.unwrap().success());
}
