//! Verification by itself, again and again, and the list of what is quarantined brought into the bucket.

use std::time::Duration;

use whimbrel_runtime::Tasks;

use super::{Request, Verifier};

/// How often what readers found is written down.
const KEEP: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
pub struct Schedule {
    pub verifier: Verifier,
    /// Zero: never by itself.
    pub interval: Duration,
    pub request: Request,
    pub tasks: Tasks,
}

impl Schedule {
    /// Runs until shutdown. The first verification comes an interval after the start, so that a daemon that
    /// starts again and again does not read the bucket again and again.
    pub async fn run(self) {
        let (shutdown, clock) = (self.tasks.shutdown(), self.verifier.clock.clone());
        let mut begun_ms = clock.boot_ms();
        let interval_ms = u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX);
        let pause = if self.interval.is_zero() {
            KEEP
        } else {
            KEEP.min(self.interval)
        };
        while shutdown.unless(clock.sleep(pause)).await.is_some() {
            shutdown.unless(self.verifier.quarantine.keep()).await;
            let due = clock.boot_ms().saturating_sub(begun_ms) >= interval_ms;
            if !self.interval.is_zero() && due {
                begun_ms = clock.boot_ms();
                shutdown.unless(self.verify()).await;
            }
        }
    }

    async fn verify(&self) {
        let verifier = &self.verifier;
        // Somebody is at it by hand: that is as good.
        let Some(_turn) = verifier.proof.begin() else {
            return;
        };
        let report = verifier.run(&self.request).await;
        if report.ok {
            tracing::info!(
                objects = report.objects_checked,
                bytes = report.bytes,
                "the bucket was verified"
            );
        } else {
            tracing::error!(
                code = "WB-316",
                problems = report.problems_found,
                "verification found damage"
            );
        }
        verifier.proof.finished(&report, &verifier.clock);
    }
}
