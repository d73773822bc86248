//! Filling an empty fleet from a bucket.

use whimbrel_fleet::{
    Restore,
    restore::{Description, Progress},
};

use super::{
    call::Again,
    client::ControllerClient,
    error::ControlError,
    security::{json, parse},
};
use crate::proto::controller as proto;

impl ControllerClient {
    /// Puts the description into a fleet that is empty. The same job and plan again are recognised, and take the work
    /// over where the address is another. `at_ms` is the controllers' to say.
    pub async fn begin_restore(
        &self,
        restore: &Restore,
        description: &Description,
    ) -> Result<u64, ControlError> {
        let request = proto::BeginRestoreRequest {
            restore: json("begin_restore", restore)?,
            description: json("begin_restore", description)?,
        };
        let calls = &self.inner.calls;
        let reply = calls.leader("begin_restore", Again::Repeat, |mut c| {
            let request = request.clone();
            async move { c.begin_restore(request).await }
        });
        Ok(reply.await?.version)
    }

    /// All groups are home. A repeated one changes nothing.
    pub async fn end_restore(&self, job: &str) -> Result<u64, ControlError> {
        let calls = &self.inner.calls;
        let reply = calls.leader("end_restore", Again::Repeat, |mut c| {
            let job = job.to_owned();
            async move { c.end_restore(proto::RestoreRequest { job }).await }
        });
        Ok(reply.await?.version)
    }

    /// No group is home. Not repeated after an unknown outcome: look at the progress then.
    pub async fn abandon_restore(&self, job: &str) -> Result<u64, ControlError> {
        let calls = &self.inner.calls;
        let reply = calls.leader("abandon_restore", Again::Never, |mut c| {
            let job = job.to_owned();
            async move { c.abandon_restore(proto::RestoreRequest { job }).await }
        });
        Ok(reply.await?.version)
    }

    pub async fn restore_progress(&self) -> Result<Progress, ControlError> {
        let calls = &self.inner.calls;
        let reply = calls.leader("restore_progress", Again::Repeat, |mut c| async move {
            c.restore_progress(proto::Empty {}).await
        });
        parse("restore_progress", &reply.await?.progress)
    }
}
