//! What a request asks of the mock, in its `x-mock-*` headers.

use http::HeaderMap;
use std::time::Duration;

/// What the answer contains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Scenario {
    #[default]
    Text,
    Thinking,
    ToolUse,
    Decoy,
}

/// After how much of the body the connection breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    Bytes(usize),
    Events(usize),
}

/// The headers, parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Script {
    pub(crate) input: Option<u64>,
    pub(crate) output: Option<u64>,
    pub(crate) cache_read: u64,
    pub(crate) cache_write_5m: u64,
    pub(crate) cache_write_1h: u64,
    pub(crate) reasoning: Option<u64>,
    pub(crate) web_searches: u64,
    pub(crate) model: Option<String>,
    pub(crate) tier: Option<String>,
    pub(crate) speed: Option<String>,
    pub(crate) geo: Option<String>,
    pub(crate) scenario: Scenario,
    pub(crate) omit_usage: bool,
    pub(crate) status: Option<u16>,
    pub(crate) retry_after: Option<u64>,
    pub(crate) error_event: Option<usize>,
    pub(crate) delay: Duration,
    pub(crate) event_delay: Duration,
    pub(crate) until_release: bool,
    pub(crate) events: Option<usize>,
    pub(crate) chunk_bytes: Option<usize>,
    pub(crate) cut: Option<Cut>,
    pub(crate) gzip: bool,
    pub(crate) hold: bool,
}

const PREFIX: &str = "x-mock-";

impl Script {
    /// The script of these headers, over defaults.
    ///
    /// # Errors
    /// A sentence that names the header.
    pub(crate) fn parse(headers: &HeaderMap, defaults: &[(String, String)]) -> Result<Self, String> {
        let mut script = Self::default();
        for (name, value) in defaults {
            script.set(name, value)?;
        }
        for (name, value) in headers.iter().filter(|(name, _)| name.as_str().starts_with(PREFIX)) {
            let value = value.to_str().map_err(|_| format!("{name}: not text"))?;
            script.set(name.as_str(), value)?;
        }
        Ok(script)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let text = || Some(value.to_owned());
        let millis = || number(name, value).map(Duration::from_millis);
        match name.strip_prefix(PREFIX).unwrap_or(name) {
            "input" => self.input = Some(number(name, value)?),
            "output" => self.output = Some(number(name, value)?),
            "cache-read" => self.cache_read = number(name, value)?,
            "cache-write-5m" => self.cache_write_5m = number(name, value)?,
            "cache-write-1h" => self.cache_write_1h = number(name, value)?,
            "reasoning" => self.reasoning = Some(number(name, value)?),
            "web-searches" => self.web_searches = number(name, value)?,
            "model" => self.model = text(),
            "tier" => self.tier = text(),
            "speed" => self.speed = text(),
            "geo" => self.geo = text(),
            "scenario" => self.scenario = scenario(name, value)?,
            "omit-usage" => self.omit_usage = flag(name, value)?,
            "status" => self.status = Some(status(name, value)?),
            "retry-after" => self.retry_after = Some(number(name, value)?),
            "error-event" => self.error_event = Some(size(name, value)?),
            "delay-ms" => self.delay = millis()?,
            "event-delay-ms" => self.event_delay = millis()?,
            "until-release" => self.until_release = flag(name, value)?,
            "events" => self.events = Some(size(name, value)?),
            "chunk-bytes" => self.chunk_bytes = Some(size(name, value)?.max(1)),
            "cut" => self.cut = Some(cut(name, value)?),
            "encoding" if value == "gzip" => self.gzip = true,
            "encoding" => return Err(format!("{name}: only gzip")),
            "hold" => self.hold = flag(name, value)?,
            _ => return Err(format!("{name}: no such header")),
        }
        Ok(())
    }
}

fn number(name: &str, value: &str) -> Result<u64, String> {
    value.parse().map_err(|_| format!("{name}: not a whole number"))
}

fn size(name: &str, value: &str) -> Result<usize, String> {
    value.parse().map_err(|_| format!("{name}: not a whole number"))
}

fn flag(name: &str, value: &str) -> Result<bool, String> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("{name}: neither true nor false")),
    }
}

fn status(name: &str, value: &str) -> Result<u16, String> {
    match value.parse() {
        Ok(status @ 400..=599) => Ok(status),
        _ => Err(format!("{name}: not an error status")),
    }
}

fn scenario(name: &str, value: &str) -> Result<Scenario, String> {
    match value {
        "text" => Ok(Scenario::Text),
        "thinking" => Ok(Scenario::Thinking),
        "tool_use" => Ok(Scenario::ToolUse),
        "decoy" => Ok(Scenario::Decoy),
        _ => Err(format!("{name}: no such scenario")),
    }
}

fn cut(name: &str, value: &str) -> Result<Cut, String> {
    match value.split_once(':') {
        None => size(name, value).map(Cut::Bytes),
        Some(("bytes", count)) => size(name, count).map(Cut::Bytes),
        Some(("events", count)) => size(name, count).map(Cut::Events),
        Some(_) => Err(format!("{name}: neither bytes nor events")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn parse(pairs: &[(&'static str, &'static str)]) -> Result<Script, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        Script::parse(&headers, &[("x-mock-output".to_owned(), "7".to_owned())])
    }

    #[test]
    fn headers_go_over_defaults() {
        assert_eq!(parse(&[]).unwrap().output, Some(7));
        assert_eq!(parse(&[("x-mock-output", "9")]).unwrap().output, Some(9));
        assert_eq!(parse(&[("x-mock-cut", "12")]).unwrap().cut, Some(Cut::Bytes(12)));
        assert_eq!(parse(&[("x-mock-cut", "events:2")]).unwrap().cut, Some(Cut::Events(2)));
        assert_eq!(parse(&[("x-mock-scenario", "decoy")]).unwrap().scenario, Scenario::Decoy);
        assert_eq!(parse(&[("x-other", "9")]).unwrap(), parse(&[]).unwrap());
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let table = [
            ("x-mock-input", "-1"),
            ("x-mock-outputs", "1"),
            ("x-mock-status", "200"),
            ("x-mock-cut", "lines:2"),
            ("x-mock-hold", "yes"),
            ("x-mock-scenario", "poem"),
            ("x-mock-encoding", "br"),
        ];
        for (name, value) in table {
            assert!(parse(&[(name, value)]).unwrap_err().starts_with(name), "{name}");
        }
    }
}
