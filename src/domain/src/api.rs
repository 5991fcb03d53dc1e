//! The provider APIs that Tollgate speaks, told apart by the shape of their bodies and errors.

use std::fmt;

/// An API that is metered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Api {
    /// Anthropic's `POST /v1/messages`.
    Messages,
    /// OpenAI's `POST /v1/chat/completions`, which Anthropic and Google serve too.
    ChatCompletions,
    /// OpenAI's `POST /v1/responses`.
    Responses,
    /// OpenAI's `POST /v1/embeddings`.
    Embeddings,
    /// OpenAI's `POST /v1/completions`.
    Completions,
}

/// Whose shape answers and errors have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `{"type":"error","error":{"type":...,"message":...}}`
    Anthropic,
    /// `{"error":{"message":...,"type":...,"param":...,"code":...}}`
    OpenAi,
}

impl Api {
    /// Every API.
    pub const ALL: [Self; 5] =
        [Self::Messages, Self::ChatCompletions, Self::Responses, Self::Embeddings, Self::Completions];

    /// The word for it in the journal; LiteLLM's `call_type` follows it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::ChatCompletions => "chat_completions",
            Self::Responses => "responses",
            Self::Embeddings => "embeddings",
            Self::Completions => "completions",
        }
    }

    /// The shape of its answers and errors.
    pub const fn shape(self) -> Shape {
        match self {
            Self::Messages => Shape::Anthropic,
            Self::ChatCompletions | Self::Responses | Self::Embeddings | Self::Completions => Shape::OpenAi,
        }
    }
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
