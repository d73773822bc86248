//! `POST /rebuild` plans; `POST /rebuild?apply=HASH` does what the plan with that hash says.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::RawQuery,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use tokio::sync::Semaphore;

use crate::serve::{Seen, Served, opened};

pub(crate) fn route(served: Seen) -> Router {
    let turn = Arc::new(Semaphore::new(1));
    let handler = move |RawQuery(query): RawQuery| {
        let (served, turn) = (opened(&served), Arc::clone(&turn));
        async move {
            match served {
                Ok(served) => answer(&served, &turn, &query.unwrap_or_default()).await,
                Err(refused) => refused.into_response(),
            }
        }
    };
    Router::new().route("/rebuild", post(handler))
}

async fn answer(served: &Served, turn: &Semaphore, query: &str) -> Response {
    let refused =
        |status: StatusCode, reason: &str| (status, format!("{reason}\n")).into_response();
    let Ok(_turn) = turn.try_acquire() else {
        return refused(
            StatusCode::TOO_MANY_REQUESTS,
            "another rebuild is under way",
        );
    };
    let plan = match query.strip_prefix("apply=") {
        Some(hash) => served.rebuilder.apply(hash).await,
        None if query.is_empty() => served.rebuilder.plan().await,
        None => return refused(StatusCode::BAD_REQUEST, "only `apply` is known"),
    };
    match plan {
        Ok(plan) => Json(plan).into_response(),
        Err(error) => refused(StatusCode::BAD_GATEWAY, &error.to_string()),
    }
}
