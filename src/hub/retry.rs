//! Lost connections, taken up again.

use std::time::Duration;

use super::Watch;

/// Times a lost connection is taken up again.
const RETRIES: u32 = 4;

/// Repeats `attempt` after each lost connection, with a pause of `patience` that doubles each time. `lost` gives the
/// reason of an error that is one; other errors, and the last one, are returned.
pub(super) fn retrying<T, E>(
    patience: Duration,
    watch: &dyn Watch,
    name: &str,
    mut attempt: impl FnMut() -> Result<T, E>,
    lost: impl Fn(&E) -> Option<String>,
) -> Result<T, E> {
    let mut retries = 0;
    loop {
        let error = match attempt() {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        watch.end();
        let Some(reason) = lost(&error).filter(|_| retries < RETRIES) else {
            return Err(error);
        };
        watch.note(&format!(
            "{name}: the connection was lost: {reason}; trying again ({} of {RETRIES})",
            retries + 1
        ));
        std::thread::sleep(patience * 2_u32.pow(retries));
        retries += 1;
    }
}
