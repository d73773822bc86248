//! MinIO as a fixture: an S3 store that can be killed and started again on the same data.

use std::path::{Path, PathBuf};

use whimbrel_fleet::HostPort;
use whimbrel_runtime::Clock;

use crate::server::{self, Running, Server, ServerError};

/// Names the server's binary.
pub const BINARY: &str = "WHIMBREL_MINIO";

const USER: &str = "whimbrel";
const PASSWORD: &str = "whimbrel-secret";
const BUCKET: &str = "whimbrel";

/// An S3 store on loopback with one bucket; it ends when this is dropped.
#[derive(Debug)]
pub struct Minio {
    server: Server,
    running: Option<Running>,
}

impl Minio {
    /// Starts the binary that [`BINARY`] names; `None` when it names none.
    pub async fn start(folder: &Path, clock: &Clock) -> Option<Result<Self, ServerError>> {
        let program = server::named_by(BINARY)?;
        Some(Self::run(program, folder, clock).await)
    }

    async fn run(program: PathBuf, folder: &Path, clock: &Clock) -> Result<Self, ServerError> {
        let fail = |source| ServerError::Spawn {
            program: program.clone(),
            source,
        };
        let data = folder.join("minio");
        // MinIO takes the folders that it finds as buckets.
        std::fs::create_dir_all(data.join(BUCKET)).map_err(fail)?;
        let at = server::free_port().map_err(fail)?;
        let arguments = [
            "server",
            "--quiet",
            "--address",
            &at.to_string(),
            &data.display().to_string(),
        ]
        .map(str::to_owned)
        .to_vec();
        let environment = vec![
            ("MINIO_ROOT_USER", USER.to_owned()),
            ("MINIO_ROOT_PASSWORD", PASSWORD.to_owned()),
            ("MINIO_CI_CD", "1".to_owned()),
            ("MINIO_BROWSER", "off".to_owned()),
        ];
        let server = Server {
            program,
            arguments,
            environment,
            log: folder.join("minio.log"),
            at,
            ready: "/minio/health/ready",
        };
        let running = Some(server.start(clock).await?);
        Ok(Self { server, running })
    }

    /// SIGKILL. The address refuses connections until [`Self::again`].
    pub fn kill(&mut self) {
        self.running = None;
    }

    /// Starts it on the same address and data.
    pub async fn again(&mut self, clock: &Clock) -> Result<(), ServerError> {
        self.running = Some(self.server.start(clock).await?);
        Ok(())
    }

    /// For `--bucket`, as a client reaches the store at `at`.
    pub fn bucket_at(&self, at: &HostPort) -> String {
        format!("s3://{BUCKET}/fleet?endpoint=http://{at}&region=us-east-1")
    }

    pub fn bucket(&self) -> String {
        self.bucket_at(&self.server.at)
    }

    /// What clients must have in their environment.
    pub fn credentials(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ACCESS_KEY_ID", USER.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", PASSWORD.to_owned()),
        ]
    }
}
