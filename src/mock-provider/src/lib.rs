//! A provider without a model: speaks the wire formats of Anthropic, OpenAI and Google on one port, so that Tollgate can
//! be run without keys and tested without a bill. It refuses what the real ones refuse, and shows what arrived.
//!
//! # Provider paths
//! `POST /v1/messages`, `/v1/messages/count_tokens` (Anthropic), `/v1/chat/completions` (OpenAI, or Anthropic's
//! OpenAI-compatible chat with an Anthropic credential or, where the keys do not tell, a `claude-*` model),
//! `/v1/responses`, `/v1/embeddings`, `/v1/completions` (OpenAI), `/v1beta/openai/chat/completions` and
//! `/v1beta/openai/embeddings` (Google). A key that starts `sk-tg-` is always refused: it is a virtual one.
//!
//! # What is answered
//! By default the answer follows from the request: input tokens are a quarter of the bytes of all strings in `messages`,
//! `system`, `tools`, `input`, `instructions` and `prompt`, rounded up, at least 1; output tokens are the smaller of the
//! requested maximum and 20. A token of output is about four bytes of text.
//!
//! OpenAI's answers name the service tier `flex` or `priority` where it was asked for, else `default`; Anthropic's and
//! Google's OpenAI-compatible chat name none.
//!
//! Request headers steer it. None has a prefix that a proxy strips; an unknown or malformed one is answered 400.
//!
//! | header | value |
//! |---|---|
//! | `x-mock-input` | input tokens outside the cache |
//! | `x-mock-cache-read`, `x-mock-cache-write-5m`, `x-mock-cache-write-1h` | cached input tokens, beside `x-mock-input`; OpenAI and Google answers contain them in their input count |
//! | `x-mock-output` | output tokens, reasoning included |
//! | `x-mock-reasoning` | output tokens that are reasoning |
//! | `x-mock-web-searches` | web searches that are counted |
//! | `x-mock-model`, `x-mock-tier`, `x-mock-speed`, `x-mock-geo` | names in the answer |
//! | `x-mock-scenario` | `text`, `thinking`, `tool_use`, or `decoy`: text and tool input full of false `usage` and `model` |
//! | `x-mock-omit-usage` | `true`: no usage anywhere |
//! | `x-mock-status` | an error of this status, in the provider's own shape |
//! | `x-mock-retry-after` | seconds in that error's `retry-after`; 429 and 529 have 2 by default |
//! | `x-mock-error-event` | streams: an error event after so many events, then the end |
//! | `x-mock-delay-ms` | wait before the headers |
//! | `x-mock-event-delay-ms` | wait before each event or chunk after the first |
//! | `x-mock-until-release` | `true`: such waits end with the next release |
//! | `x-mock-events` | number of text deltas, 20 at most by default |
//! | `x-mock-chunk-bytes` | split the body into chunks of so many bytes, each flushed |
//! | `x-mock-cut` | `bytes:N` (or `N`) or `events:N`: break the connection after so much of the body |
//! | `x-mock-encoding` | `gzip`: compress, if the request's `accept-encoding` allows it |
//! | `x-mock-hold` | `true`: withhold the answer until released |
//!
//! # Control
//! | path | |
//! |---|---|
//! | `GET /healthz` | 200 |
//! | `GET /mock/requests` | the last 20,000 requests, with headers, body (up to 64 KB), and how far the answer got |
//! | `DELETE /mock/requests` | forget them |
//! | `GET /mock/count` | how many arrived since the last `DELETE` |
//! | `GET /mock/held` | how many wait for a release |
//! | `POST /mock/release` | release those that wait, and let streams that waited for it come to their end |
//! | `PUT /mock/defaults` | a JSON object of the headers above, for requests that do not carry them; `{}` removes them |

mod answer;
mod anthropic;
mod check;
mod control;
mod gate;
mod gzip;
mod openai;
mod pace;
mod record;
mod script;
mod serve;
mod tokens;

pub use check::Keys;
pub use serve::{Mock, Options, router, serve};
