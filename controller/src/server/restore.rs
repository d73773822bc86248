//! Filling an empty fleet from a bucket, as requests.

use tonic::Status;
use whimbrel_fleet::restore::Progress;
use whimbrel_rpc::proto::controller as proto;
use whimbrel_runtime::random;

use super::{Server, answer, requests};
use crate::{
    codes,
    mover::restored,
    state::{BeginRestore, Command, Outcome, RestoreStep},
};

impl Server {
    pub(super) async fn begin(
        &self,
        request: &proto::BeginRestoreRequest,
    ) -> Result<proto::RestoreReply, Status> {
        self.check_set_up()?;
        let mut begin = BeginRestore {
            restore: requests::restore(&request.restore)?,
            description: requests::description(&request.description)?,
        };
        begin.restore.at_ms = self.mover.clock.wall_ms();
        self.answer(Command::Restore(RestoreStep::Begin(Box::new(begin))))
            .await
    }

    pub(super) async fn end(&self, job: String) -> Result<proto::RestoreReply, Status> {
        self.answer(Command::Restore(RestoreStep::End { job }))
            .await
    }

    pub(super) async fn abandon(&self, job: String) -> Result<proto::RestoreReply, Status> {
        let offsets_topic_id = random::uuid();
        self.answer(Command::Restore(RestoreStep::Abandon {
            job,
            offsets_topic_id,
        }))
        .await
    }

    async fn answer(&self, command: Command) -> Result<proto::RestoreReply, Status> {
        match self.propose(command).await? {
            (_, Outcome::Kafka { message, .. }) => {
                Err(answer::refused(codes::BAD_RESTORE, &message))
            }
            (version, _) => Ok(proto::RestoreReply { version }),
        }
    }

    pub(super) async fn progress(&self) -> Result<Progress, Status> {
        let state = self.confirm().await?;
        let reports = self.mover.positions.reports(&state.view);
        Ok(restored::progress(&state, &reports))
    }
}
