//! `POST /set-aside?topic=NAME&partition=NUMBER` plans; with `&apply=HASH` it does what was planned.

use axum::{
    Json, Router,
    extract::RawQuery,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};

use super::SetAsideError;
use crate::serve::{Seen, Served, opened};

pub(crate) fn route(served: Seen) -> Router {
    let handler = move |RawQuery(query): RawQuery| {
        let served = opened(&served);
        async move {
            match served {
                Ok(served) => answer(&served, &query.unwrap_or_default()).await,
                Err(refused) => refused.into_response(),
            }
        }
    };
    Router::new().route("/set-aside", post(handler))
}

/// What is asked for.
#[derive(Debug, Default)]
struct Wish {
    topic: String,
    partition: i32,
    apply: Option<String>,
}

impl Wish {
    fn parse(query: &str) -> Result<Self, String> {
        let mut wish = Self {
            partition: -1,
            ..Self::default()
        };
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "topic" => wish.topic = value.into_owned(),
                "partition" => {
                    let number = value.parse().ok().filter(|n: &i32| *n >= 0);
                    wish.partition =
                        number.ok_or_else(|| format!("partition `{value}` is no number"))?;
                }
                "apply" => wish.apply = Some(value.into_owned()),
                other => {
                    return Err(format!(
                        "`{other}` is not known; `topic`, `partition` and `apply` are"
                    ));
                }
            }
        }
        if wish.topic.is_empty() || wish.partition < 0 {
            return Err("`topic` and `partition` are needed".to_owned());
        }
        Ok(wish)
    }
}

async fn answer(served: &Served, query: &str) -> Response {
    let wish = match Wish::parse(query) {
        Ok(wish) => wish,
        Err(why) => return (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response(),
    };
    let apply = wish.apply.as_deref();
    match served
        .set_aside
        .run(&wish.topic, wish.partition, apply)
        .await
    {
        Ok(plan) => Json(plan).into_response(),
        Err(error) => (status_of(&error), format!("{error}\n")).into_response(),
    }
}

fn status_of(error: &SetAsideError) -> StatusCode {
    match error {
        // Another daemon may have it.
        SetAsideError::Unknown { .. } | SetAsideError::Elsewhere(_) => StatusCode::NOT_FOUND,
        SetAsideError::Same(_)
        | SetAsideError::NotLater { .. }
        | SetAsideError::Hole { .. }
        | SetAsideError::Drifted(_) => StatusCode::CONFLICT,
        SetAsideError::Broker(_) | SetAsideError::Run(_) | SetAsideError::Commit(_) => {
            StatusCode::BAD_GATEWAY
        }
    }
}
