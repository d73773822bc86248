//! `POST /verify?topic=NAME`: one audit at a time, answered with its report.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::RawQuery,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use tokio::sync::{Semaphore, watch};
use whimbrel_client::Client;
use whimbrel_fleet::{RegionName, View};

use crate::audit;

pub fn route(client: Client, region: RegionName, view: watch::Receiver<Arc<View>>) -> Router {
    // An audit reads whole topics on both sides: two at once would only take turns.
    let turn = Arc::new(Semaphore::new(1));
    let handler = move |RawQuery(query): RawQuery| {
        let (client, region) = (client.clone(), region.clone());
        let (view, turn) = (Arc::clone(&view.borrow()), Arc::clone(&turn));
        async move { answer(&client, &region, &view, &turn, query).await }
    };
    Router::new().route("/verify", post(handler))
}

async fn answer(
    client: &Client,
    region: &RegionName,
    view: &View,
    turn: &Semaphore,
    query: Option<String>,
) -> Response {
    let topic = topic(query.as_deref());
    if let Some(name) = topic.filter(|name| !view.topics.contains_key(*name)) {
        return (
            StatusCode::NOT_FOUND,
            format!("topic {name} is not in this fleet\n"),
        )
            .into_response();
    }
    let Ok(_turn) = turn.try_acquire() else {
        return (
            StatusCode::TOO_MANY_REQUESTS,
            "another audit is under way\n",
        )
            .into_response();
    };
    Json(audit::verify(client, view, region, topic).await).into_response()
}

/// Topic names need no escapes: letters, digits, dots, dashes and underscores.
fn topic(query: Option<&str>) -> Option<&str> {
    let mut pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .find(|(name, _)| *name == "topic")
        .map(|(_, value)| value)
        .filter(|value| !value.is_empty())
}
