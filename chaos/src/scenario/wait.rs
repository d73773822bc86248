//! Waiting for a condition, with a deadline and the last thing seen.

use std::time::Duration;

use whimbrel_runtime::Clock;

use super::ScenarioError;
use crate::workload::PATIENCE;

/// Asks again every 50 ms until `look` answers `Ok`; its `Err` says what was seen instead.
pub(super) async fn until<T>(
    clock: &Clock,
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> Result<T, ScenarioError> {
    let begun = clock.boot_ms();
    loop {
        let seen = match look().await {
            Ok(done) => return Ok(done),
            Err(seen) => seen,
        };
        if Duration::from_millis(clock.boot_ms().saturating_sub(begun)) > PATIENCE {
            return Err(ScenarioError::Waited {
                what: what.to_owned(),
                seconds: PATIENCE.as_secs(),
                seen,
            });
        }
        clock.sleep(Duration::from_millis(50)).await;
    }
}
