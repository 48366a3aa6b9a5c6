//! Being told to stop: by Ctrl-C, by `kill`, or by a terminal that is closed.

use anyhow::Result;
use burn::train::Interrupter;

/// Exit code of a run that was stopped.
pub const STOPPED: u8 = 130;

/// Ctrl-C, SIGTERM and SIGHUP end a run after the step under way, with what it has learned kept; a second Ctrl-C or SIGTERM
/// ends it at once. A signal that whoever started the program has it ignore, as `nohup` does, stays ignored.
pub fn interruptible() -> Result<Interrupter> {
    let interrupter = Interrupter::new();
    listen(interrupter.clone())?;
    Ok(interrupter)
}

#[cfg(unix)]
fn listen(interrupter: Interrupter) -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;
    let ignored = ignored_signals();
    let heeded = [SIGINT, SIGTERM, SIGHUP]
        .into_iter()
        .filter(|signal| ignored & (1 << (signal - 1)) == 0);
    let mut signals = Signals::new(heeded)?;
    std::thread::spawn(move || {
        let mut asked = false;
        for signal in signals.forever() {
            // A closed terminal may send SIGHUP more than once.
            let asks = signal != SIGHUP;
            if asks && asked {
                std::process::exit(STOPPED.into());
            }
            asked |= asks;
            interrupter.stop(Some(match signal {
                SIGINT => "Ctrl-C",
                SIGTERM => "SIGTERM",
                _ => "SIGHUP",
            }));
        }
    });
    Ok(())
}

#[cfg(not(unix))]
fn listen(interrupter: Interrupter) -> Result<()> {
    ctrlc::set_handler(move || {
        if interrupter.should_stop() {
            std::process::exit(STOPPED.into());
        }
        interrupter.stop(Some("Ctrl-C"));
    })?;
    Ok(())
}

/// The signals that the program was started with as ignored, a bit each; none where the system does not tell.
#[cfg(unix)]
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    parse_ignored(&status).unwrap_or(0)
}

#[cfg(unix)]
fn parse_ignored(status: &str) -> Option<u64> {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_off_the_systems_own_words() {
        let status = "Name:\tclipcap\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n";
        assert_eq!(parse_ignored(status), Some(0x1001));
        assert_eq!(parse_ignored("Name:\tclipcap\n"), None);
    }
}
