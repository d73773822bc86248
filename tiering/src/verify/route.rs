//! `POST /verify?..`: one verification at a time, answered with its report.

use axum::{
    Json, Router,
    extract::RawQuery,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};

use super::Request;
use crate::serve::{Seen, Served, opened};

pub(crate) fn route(served: Seen) -> Router {
    let handler = move |RawQuery(query): RawQuery| {
        let served = opened(&served);
        async move {
            let served = match served {
                Ok(served) => served,
                Err(refused) => return refused.into_response(),
            };
            match Request::parse(&query.unwrap_or_default()) {
                Ok(request) => answer(&served, &request).await,
                Err(reason) => refused(StatusCode::BAD_REQUEST, &reason),
            }
        }
    };
    Router::new().route("/verify", post(handler))
}

async fn answer(served: &Served, request: &Request) -> Response {
    let verifier = &served.verifier;
    let Some(_turn) = verifier.proof.begin() else {
        return refused(
            StatusCode::TOO_MANY_REQUESTS,
            "another verification is under way",
        );
    };
    let report = verifier.run(request).await;
    verifier.proof.finished(&report, &verifier.clock);
    Json(report).into_response()
}

fn refused(status: StatusCode, reason: &str) -> Response {
    (status, format!("{reason}\n")).into_response()
}
