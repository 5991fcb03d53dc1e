//! Answers and refusals, in the words of each provider.

use crate::tokens::Tokens;
use bytes::Bytes;
use serde_json::{Value, json};

/// Whose words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Anthropic,
    OpenAi,
    Google,
}

/// What goes back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) content: Content,
    pub(crate) tokens: Option<Tokens>,
}

/// Its body.
#[derive(Debug)]
pub(crate) enum Content {
    Json(Vec<u8>),
    Events(Vec<Bytes>),
}

/// A request that is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) message: String,
    /// OpenAI's `code`, where it has one beyond the status's own.
    pub(crate) code: Option<&'static str>,
    /// The field at fault, OpenAI's `param`.
    pub(crate) param: Option<String>,
    pub(crate) retry_after: Option<u64>,
}

impl Refusal {
    pub(crate) fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), code: None, param: None, retry_after: None }
    }

    pub(crate) fn code(self, code: &'static str) -> Self {
        Self { code: Some(code), ..self }
    }

    pub(crate) fn param(self, param: &str) -> Self {
        Self { param: Some(param.to_owned()), ..self }
    }

    /// The refusal as the provider words it.
    pub(crate) fn answer(&self, dialect: Dialect) -> Answer {
        let body = match dialect {
            Dialect::Anthropic => self.anthropic(),
            Dialect::OpenAi => self.openai(),
            // Google wraps errors of its OpenAI-compatible endpoint in a list.
            Dialect::Google => json!([self.google()]),
        };
        let retry_after = self.retry_after.map(|seconds| ("retry-after", seconds.to_string()));
        let headers = retry_after.into_iter().collect();
        Answer {
            status: self.status,
            headers,
            content: Content::Json(body.to_string().into_bytes()),
            tokens: None,
        }
    }

    pub(crate) fn anthropic(&self) -> Value {
        let kind = match self.status {
            401 => "authentication_error",
            402 => "billing_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            504 => "timeout_error",
            529 => "overloaded_error",
            500.. => "api_error",
            _ => "invalid_request_error",
        };
        json!({"type": "error", "error": {"type": kind, "message": self.message}, "request_id": "req_mock"})
    }

    pub(crate) fn openai(&self) -> Value {
        let (kind, code) = match self.status {
            401 => ("invalid_request_error", Some("invalid_api_key")),
            403 => ("invalid_request_error", Some("unsupported_country_region_territory")),
            429 => ("requests", Some("rate_limit_exceeded")),
            500.. => ("server_error", None),
            _ => ("invalid_request_error", None),
        };
        let code = self.code.or(code);
        json!({"error": {"message": self.message, "type": kind, "param": self.param, "code": code}})
    }

    fn google(&self) -> Value {
        let status = match self.status {
            401 => "UNAUTHENTICATED",
            403 => "PERMISSION_DENIED",
            404 => "NOT_FOUND",
            429 => "RESOURCE_EXHAUSTED",
            503 => "UNAVAILABLE",
            500.. => "INTERNAL",
            _ => "INVALID_ARGUMENT",
        };
        json!({"error": {"code": self.status, "message": self.message, "status": status}})
    }
}

/// What the providers say with the errors that a script asks for.
pub(crate) fn scripted_message(status: u16) -> &'static str {
    match status {
        401 => "invalid x-api-key",
        403 => "Your API key does not have permission to use the specified resource.",
        404 => "Not found",
        413 => "Request exceeds the maximum size",
        429 => "This request would exceed your rate limit. Please try again later.",
        529 => "Overloaded",
        503 => "The engine is currently overloaded, please try again later",
        500.. => "Internal server error",
        _ => "The request was not valid",
    }
}

/// Server-sent events being written.
#[derive(Debug, Default)]
pub(crate) struct Events(Vec<Bytes>);

impl Events {
    /// An event with a name, as Anthropic and the Responses API send them.
    pub(crate) fn named(&mut self, name: &str, data: &Value) {
        self.0.push(format!("event: {name}\ndata: {data}\n\n").into());
    }

    /// An event of data alone.
    pub(crate) fn data(&mut self, data: &Value) {
        self.0.push(format!("data: {data}\n\n").into());
    }

    /// The end of OpenAI's older streams.
    pub(crate) fn done(&mut self) {
        self.0.push(Bytes::from_static(b"data: [DONE]\n\n"));
    }

    /// Ends after so many events, with an error.
    pub(crate) fn fail_after(mut self, count: Option<usize>, error: impl FnOnce(&mut Self)) -> Vec<Bytes> {
        if let Some(count) = count {
            self.0.truncate(count);
            error(&mut self);
        }
        self.0
    }
}
