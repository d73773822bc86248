//! Waiting for a condition, with a deadline and the last thing seen.

use std::time::Duration;

use whimbrel_runtime::Clock;

use super::{PATIENCE, TourError};

/// Asks again every 20 ms until `look` answers `Ok`; its `Err` says what was seen instead.
pub(crate) async fn until<T>(
    clock: &Clock,
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> Result<T, TourError> {
    let begun = clock.boot_ms();
    loop {
        let seen = match look().await {
            Ok(done) => return Ok(done),
            Err(seen) => seen,
        };
        let waited = clock.boot_ms().saturating_sub(begun);
        if Duration::from_millis(waited) > PATIENCE {
            return Err(TourError::Waited {
                what: what.to_owned(),
                seconds: PATIENCE.as_secs(),
                seen,
            });
        }
        clock.sleep(Duration::from_millis(20)).await;
    }
}
