//! FindCoordinator: which broker coordinates a group or a transactional id.
//!
//! That is the leader of its partition of `__consumer_offsets` or `__transaction_state`. Share groups have no
//! coordinator in this version.

use whimbrel_wire::{
    ErrorCode,
    messages::find_coordinator::{self, Request, Response},
};

use crate::group::{Coordinator, store::Directory};

/// From here on several keys are asked for at once.
const FIRST_VERSION_WITH_KEYS: i16 = 4;
/// `key_type` of a consumer group.
const GROUP: i8 = 0;
/// `key_type` of a transactional id.
const TRANSACTION: i8 = 1;

/// Answers once the leaders are known; on the first question ever this creates the topic.
pub async fn handle(
    coordinator: &Coordinator,
    directory: &dyn Directory,
    request: Request,
    version: i16,
) -> Response {
    let kind = request.key_type;
    if version >= FIRST_VERSION_WITH_KEYS {
        let mut coordinators = Vec::with_capacity(request.coordinator_keys.len());
        for key in request.coordinator_keys {
            coordinators.push(find(coordinator, directory, kind, key).await);
        }
        return Response {
            coordinators,
            ..Response::default()
        };
    }
    let found = find(coordinator, directory, kind, request.key).await;
    Response {
        error_code: found.error_code,
        error_message: found.error_message,
        node_id: found.node_id,
        host: found.host,
        port: found.port,
        ..Response::default()
    }
}

async fn find(
    coordinator: &Coordinator,
    directory: &dyn Directory,
    kind: i8,
    key: String,
) -> find_coordinator::Coordinator {
    let found = match kind {
        GROUP => {
            directory
                .offsets_leader(coordinator.partition_of(&key))
                .await
        }
        TRANSACTION if key.is_empty() => Err(ErrorCode::INVALID_REQUEST),
        TRANSACTION => directory.transactions_leader(&key).await,
        _ => Err(ErrorCode::INVALID_REQUEST),
    };
    match found {
        Ok(endpoint) => find_coordinator::Coordinator {
            key,
            node_id: endpoint.node_id,
            host: endpoint.host,
            port: endpoint.port,
            error_code: ErrorCode::NONE,
            error_message: None,
        },
        Err(error_code) => find_coordinator::Coordinator {
            key,
            node_id: -1,
            host: String::new(),
            port: -1,
            error_code,
            error_message: Some(error_code.name().to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::group::{store::Endpoint, testing::Fixture};

    struct Odd;

    #[async_trait]
    impl Directory for Odd {
        async fn offsets_leader(&self, partition: i32) -> Result<Endpoint, ErrorCode> {
            let endpoint = Endpoint {
                node_id: partition,
                host: "h".into(),
                port: 1,
            };
            if partition == 49 {
                Err(ErrorCode::COORDINATOR_NOT_AVAILABLE)
            } else {
                Ok(endpoint)
            }
        }

        async fn transactions_leader(&self, _: &str) -> Result<Endpoint, ErrorCode> {
            Ok(Endpoint {
                node_id: 77,
                ..Endpoint::default()
            })
        }
    }

    #[tokio::test]
    async fn a_group_is_where_its_partition_is_led() {
        let fixture = Fixture::following();
        let partition = fixture.coordinator.partition_of("g");
        let one = handle(
            &fixture.coordinator,
            &Odd,
            Request {
                key: "g".into(),
                ..Request::default()
            },
            2,
        )
        .await;
        assert_eq!((one.error_code, one.node_id), (ErrorCode::NONE, partition));
        let request = Request {
            coordinator_keys: vec!["g".into(), "h".into()],
            ..Request::default()
        };
        let many = handle(&fixture.coordinator, &Odd, request, 4).await;
        assert_eq!(
            (many.coordinators.len(), many.coordinators[0].node_id),
            (2, partition)
        );
    }

    #[tokio::test]
    async fn what_has_no_coordinator_here_is_an_error() {
        let fixture = Fixture::following();
        let ask = async |key: &str, key_type| {
            let request = Request {
                key: key.into(),
                key_type,
                ..Request::default()
            };
            handle(&fixture.coordinator, &Odd, request, 3)
                .await
                .error_code
        };
        assert_eq!(ask("x", TRANSACTION).await, ErrorCode::NONE);
        assert_eq!(ask("", TRANSACTION).await, ErrorCode::INVALID_REQUEST);
        assert_eq!(ask("x", 2).await, ErrorCode::INVALID_REQUEST);
    }
}
