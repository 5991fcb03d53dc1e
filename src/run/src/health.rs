//! `health`: what a probe runs inside a pod whose gateway listens on loopback alone, where the kubelet cannot ask.

use crate::http;
use clap::{Args, ValueEnum};
use std::io;

#[derive(Args)]
pub(crate) struct Health {
    /// What is asked.
    question: Question,
    /// The port of the gateway's `--metrics`.
    #[arg(long, default_value_t = 4003)]
    port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Question {
    /// Whether it serves.
    Ready,
    /// Whether Envoy answers at all.
    Live,
}

/// Why a probe fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HealthError {
    #[error("the gateway does not answer: {0}")]
    Away(#[from] io::Error),
    #[error("{0}")]
    Unwell(String),
}

/// Asks once.
pub(crate) async fn run(health: &Health) -> Result<(), HealthError> {
    let path = match health.question {
        Question::Ready => "/ready",
        Question::Live => "/live",
    };
    let (status, text) = http::to_port(health.port, http::request("GET", path)?).await?;
    if status == 200 {
        Ok(())
    } else {
        Err(HealthError::Unwell(String::from_utf8_lossy(&text).trim().to_owned()))
    }
}
