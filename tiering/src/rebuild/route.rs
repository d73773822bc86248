//! `POST /rebuild` plans; `POST /rebuild?apply=HASH` does what the plan with that hash says.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::RawQuery,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use tokio::sync::{Semaphore, watch};

use crate::serve::Served;

pub(crate) fn route(served: watch::Receiver<Option<Arc<Served>>>) -> Router {
    let turn = Arc::new(Semaphore::new(1));
    let handler = move |RawQuery(query): RawQuery| {
        let (served, turn) = (served.borrow().clone(), Arc::clone(&turn));
        async move { answer(served, &turn, &query.unwrap_or_default()).await }
    };
    Router::new().route("/rebuild", post(handler))
}

async fn answer(served: Option<Arc<Served>>, turn: &Semaphore, query: &str) -> Response {
    let refused =
        |status: StatusCode, reason: &str| (status, format!("{reason}\n")).into_response();
    let Some(served) = served else {
        return refused(
            StatusCode::SERVICE_UNAVAILABLE,
            "the bucket is not open yet",
        );
    };
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
