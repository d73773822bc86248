//! Says who the client is before anything else is asked (KIP-152).

use bytes::Bytes;
use whimbrel_runtime::{Tasks, random};
use whimbrel_wire::{
    ApiKey, Request,
    messages::{sasl_authenticate, sasl_handshake},
};

use super::Inner;
use crate::{
    error::ClientError,
    sasl::{Credentials, Mechanism, Sasl, Scram, Tokens, UNDERSTOOD, message},
};

/// Kafka's mechanisms travel in requests from this version on; before it they were bare tokens.
const HANDSHAKE: i16 = 1;
/// Requests under way when a session is given up have this part of its time left.
const LEFT: u64 = 10;

impl Inner {
    /// When the session is to be given up, if it ends at all.
    pub(super) async fn log_in(
        &self,
        sasl: &Sasl,
        tasks: &Tasks,
    ) -> Result<Option<u64>, ClientError> {
        let begun_ms = self.clock.boot_ms();
        let asked = sasl_handshake::Request {
            mechanism: sasl.mechanism().to_owned(),
        };
        let offered: sasl_handshake::Response = self.ask(&asked, HANDSHAKE).await?;
        if offered.error_code.is_error() {
            return Err(self.refused(format!(
                "{} is not offered; offered: {}",
                sasl.mechanism(),
                offered.mechanisms.join(", ")
            )));
        }
        let lifetime_ms = match sasl {
            Sasl::Bearer(tokens) => self.bearer(tokens, tasks).await?,
            Sasl::Password(known) if known.mechanism == Mechanism::Plain => {
                self.token(known.plain()).await?.session_lifetime_ms
            }
            Sasl::Password(known) => self.scram(known, tasks).await?,
        };
        let lifetime_ms = u64::try_from(lifetime_ms).ok().filter(|ms| *ms > 0);
        Ok(lifetime_ms.map(|ms| begun_ms.saturating_add(ms - ms / LEFT)))
    }

    async fn bearer(&self, tokens: &Tokens, tasks: &Tasks) -> Result<i64, ClientError> {
        let tokens = tokens.clone();
        let token = tasks.blocking(move || tokens.read()).await;
        let token = token.map_err(|failed| self.refused(failed.to_string()))?;
        let answer = self.token(message(&token)).await?;
        if answer.auth_bytes.is_empty() {
            return Ok(answer.session_lifetime_ms);
        }
        // What is wrong, as JSON; the login has failed whatever is answered to that.
        let words = String::from_utf8_lossy(&answer.auth_bytes).into_owned();
        // An error in any case, and one that does not say why.
        let _refused = self.token(UNDERSTOOD.to_vec()).await;
        Err(self.refused(words))
    }

    async fn scram(&self, sasl: &Credentials, tasks: &Tasks) -> Result<i64, ClientError> {
        let nonce = random::uuid().simple().to_string();
        let (scram, first) =
            Scram::begin(sasl, &nonce).map_err(|failed| self.refused(failed.to_string()))?;
        let challenge = self.token(first).await?.auth_bytes;
        let password = sasl.password.clone();
        let proven = tasks.blocking(move || scram.prove(&password.0, &challenge));
        let (proven, proof) = proven
            .await
            .map_err(|failed| self.refused(failed.to_string()))?;
        let last = self.token(proof).await?;
        proven
            .check(&last.auth_bytes)
            .map_err(|failed| self.refused(failed.to_string()))?;
        Ok(last.session_lifetime_ms)
    }

    async fn token(&self, token: Vec<u8>) -> Result<sasl_authenticate::Response, ClientError> {
        let theirs = self.versions.get(&(ApiKey::SaslAuthenticate as i16));
        let most = theirs.map_or(0, |(_, most)| *most);
        let request = sasl_authenticate::Request {
            auth_bytes: Bytes::from(token),
        };
        let version = most.min(ApiKey::SaslAuthenticate.versions().1);
        let answer: sasl_authenticate::Response = self.ask(&request, version).await?;
        if answer.error_code.is_error() {
            let words = answer.error_message.unwrap_or_default();
            return Err(self.refused(format!("{}: {words}", answer.error_code)));
        }
        Ok(answer)
    }

    async fn ask<R: Request>(&self, request: &R, version: i16) -> Result<R::Response, ClientError> {
        let (_, input) = self.exchange(request, version).await?;
        self.decode(R::KEY, version, input)
    }

    fn refused(&self, reason: String) -> ClientError {
        ClientError::NotLetIn {
            endpoint: self.endpoint.clone(),
            reason,
        }
    }
}

#[cfg(test)]
mod tests;
