//! The admin API, call by call, over the embedded store: what scripts written for LiteLLM send, and what they get.

mod accounts;
mod api;
mod away;
mod keys;
mod limits;
mod managed;
mod refusals;
mod spend;
mod tags;
