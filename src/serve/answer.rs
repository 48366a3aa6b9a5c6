//! Answers: JSON, or why there is none.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// Seconds after which a full service may be asked again.
const RETRY_AFTER_SECONDS: u16 = 1;

/// Why there is no answer, as the client is told.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    message: String,
}

/// The message of an answer that is a failure, for the log.
#[derive(Clone)]
pub(super) struct Message(pub String);

impl Failure {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    /// What was asked makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// What came is larger than allowed.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    }

    /// Status and message.
    pub fn into_parts(self) -> (StatusCode, String) {
        (self.status, self.message)
    }

    /// There is no room at the moment.
    pub fn full(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = json_response(self.status, &json!({ "error": self.message }));
        let headers = response.headers_mut();
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, RETRY_AFTER_SECONDS.into());
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response.extensions_mut().insert(Message(self.message));
        response
    }
}

/// A value as an answer, a line of its own.
pub(super) fn json_response(status: StatusCode, value: &Value) -> Response {
    text_response(
        status,
        "application/json; charset=utf-8",
        format!("{value}\n"),
    )
}

/// A text as an answer.
pub(super) fn text_response(status: StatusCode, kind: &'static str, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
