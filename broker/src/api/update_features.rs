//! UpdateFeatures: there is none whose level could be changed.

use whimbrel_wire::{
    ErrorCode,
    messages::update_features::{Request, Response, UpdatableFeatureResult},
};

/// First version whose answer has one error for all.
const AS_ONE: i16 = 2;

pub fn handle(request: Request, version: i16) -> Response {
    let error_code = ErrorCode::INVALID_UPDATE_VERSION;
    let why = |feature: &str| {
        format!("the level of {feature:.64} cannot be changed: it goes with the release")
    };
    let first = request.feature_updates.first();
    let refusal = first.map(|update| why(&update.feature));
    let results = request
        .feature_updates
        .iter()
        .map(|update| UpdatableFeatureResult {
            error_code,
            error_message: Some(why(&update.feature)),
            feature: update.feature.clone(),
        });
    let results = results.collect();
    if version < AS_ONE || refusal.is_none() {
        return Response {
            error_message: None,
            results,
            ..Response::default()
        };
    }
    Response {
        error_code,
        error_message: refusal,
        ..Response::default()
    }
}
