//! `GET /move` says how far this daemon is; `POST /move?to=URL` plans, with `&apply=HASH` it orders what was planned,
//! and without `to` it looks for an order now. `POST /move?cancel` cancels; `POST /move?delete-old` says what a move has
//! left behind that can go, and with `&apply=HASH` it goes.

use axum::{
    Json, Router,
    extract::RawQuery,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;
use whimbrel_runtime::unit::Size;

use super::MoveError;
use crate::serve::{Seen, Served, opened};

pub(crate) fn route(served: Seen) -> Router {
    let shown = served.clone();
    let show = move || {
        let served = opened(&shown);
        async move { served.map(|served| Json(json!({"move": served.mover.json()}))) }
    };
    let order = move |RawQuery(query): RawQuery| {
        let served = opened(&served);
        async move {
            match served {
                Ok(served) => answer(&served, &query.unwrap_or_default()).await,
                Err(refused) => refused.into_response(),
            }
        }
    };
    Router::new().route("/move", get(show).post(order))
}

/// What is asked for.
#[derive(Debug, Default)]
struct Wish {
    to: Option<String>,
    apply: Option<String>,
    rate: Size,
    cancel: bool,
    delete_old: bool,
}

impl Wish {
    fn parse(query: &str) -> Result<Self, String> {
        let mut wish = Self::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "to" => wish.to = Some(value.into_owned()),
                "apply" => wish.apply = Some(value.into_owned()),
                "rate" => {
                    let rate = value.parse::<Size>();
                    wish.rate = rate.map_err(|e| format!("rate `{value}`: {e}"))?;
                }
                "cancel" => wish.cancel = true,
                "delete-old" => wish.delete_old = true,
                other => {
                    return Err(format!(
                        "`{other}` is not known; `to`, `apply`, `rate`, `cancel` and `delete-old` are"
                    ));
                }
            }
        }
        Ok(wish)
    }
}

async fn answer(served: &Served, query: &str) -> Response {
    let mover = &served.mover;
    let wish = match Wish::parse(query) {
        Ok(wish) => wish,
        Err(reason) => return (StatusCode::BAD_REQUEST, format!("{reason}\n")).into_response(),
    };
    if wish.cancel {
        return match mover.cancel().await {
            Ok(id) => Json(json!({"cancelled": id})).into_response(),
            Err(error) => refused(&error).into_response(),
        };
    }
    if wish.delete_old {
        let apply = wish.apply.as_deref();
        return match mover.delete_old(&served.verifier, apply).await {
            Ok(report) => Json(report).into_response(),
            Err(error) => refused(&error).into_response(),
        };
    }
    let Some(to) = wish.to else {
        mover.wake.notify_one();
        return Json(json!({"move": mover.json()})).into_response();
    };
    let plan = match wish.apply {
        Some(hash) => mover.order(&to, &hash, wish.rate.0).await,
        None => mover.plan(&to).await,
    };
    match plan {
        Ok(plan) => Json(plan).into_response(),
        Err(error) => refused(&error).into_response(),
    }
}

fn refused(error: &MoveError) -> (StatusCode, String) {
    let status = match error {
        MoveError::Refused(_) | MoveError::Cancelled | MoveError::Location(_) => {
            StatusCode::CONFLICT
        }
        _ => StatusCode::BAD_GATEWAY,
    };
    (status, format!("{error}\n"))
}
