//! What a caller reads when something is wrong, in the envelope that LiteLLM's clients expect.

use crate::store::StoreError;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// An error answer.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    kind: &'static str,
    message: String,
    param: Option<String>,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into(), param: None }
    }

    fn about(self, param: &str) -> Self {
        Self { param: Some(param.to_owned()), ..self }
    }

    /// A field or parameter that is not what it should be; the message reads `{param} {why}`.
    pub(crate) fn field(param: &str, why: impl std::fmt::Display) -> Self {
        Self::bad(format!("{param} {why}")).about(param)
    }

    /// A request that cannot be understood.
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request_error", message)
    }

    /// A name that nothing has.
    pub(crate) fn not_found(param: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found_error", message).about(param)
    }

    /// A key that nobody has. The key itself is not repeated.
    pub(crate) fn no_such_key(param: &str) -> Self {
        Self::not_found(param, format!("{param} names no key"))
    }

    /// No route of this API.
    pub(crate) fn no_route() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found_error", "This method and path are not served here.")
    }

    /// A credential that does not open this door, `kind` as LiteLLM calls it.
    pub(crate) fn unauthorized(kind: &'static str, message: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, kind, message)
    }

    /// A known credential that asks for what is not its own.
    pub(crate) fn forbidden(message: &'static str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "auth_error", message)
    }

    /// A certificate that does not open this door.
    pub(crate) fn turned_away(refusal: &impl std::fmt::Display) -> Self {
        Self::new(StatusCode::FORBIDDEN, "auth_error", format!("Authentication Error, {refusal}."))
    }

    /// A body beyond the limit.
    pub(crate) fn too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "bad_request_error", "The body is larger than 1 MB.")
    }

    /// Something on this side failed; the caller learns only that.
    pub(crate) fn internal(why: impl std::fmt::Display) -> Self {
        tracing::error!(%why, "an admin request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_server_error", "The request failed here.")
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(why) => {
                tracing::warn!(%why, "the store is not available");
                let message = "The ledger's store is not available at the moment; try again later.";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "no_db_connection", message)
            }
            StoreError::Invalid(why) => Self::bad(why),
            error @ StoreError::NotFound(_) => {
                Self::new(StatusCode::NOT_FOUND, "not_found_error", error.to_string())
            }
            // LiteLLM answers 400, not 409, where a name is taken.
            StoreError::Conflict(why) => Self::bad(why),
            // It has nothing like this: the request is right, and the account stays as its manager has it.
            StoreError::Managed(why) => Self::new(StatusCode::CONFLICT, "conflict_error", why),
            StoreError::Foreign(why) => Self::bad(why).about("organization_id"),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let error = json!({
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.status.as_str(),
        });
        (self.status, Json(json!({ "error": error }))).into_response()
    }
}
