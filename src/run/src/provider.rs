//! Providers, and where their traffic goes.

use serde::Deserialize;
use std::fmt;
use std::str::FromStr;

/// A provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Provider {
    Anthropic,
    OpenAi,
    Gemini,
}

impl Provider {
    pub(crate) const ALL: [Self; 3] = [Self::Anthropic, Self::OpenAi, Self::Gemini];

    /// The word for it in the filter's settings.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::OpenAi => "openai",
            Self::Gemini => "gemini",
        }
    }

    pub(crate) const fn key_variable(self) -> &'static str {
        match self {
            Self::Anthropic => "ANTHROPIC_API_KEY",
            Self::OpenAi => "OPENAI_API_KEY",
            Self::Gemini => "GEMINI_API_KEY",
        }
    }

    pub(crate) const fn url_variable(self) -> &'static str {
        match self {
            Self::Anthropic => "TOLLGATE_ANTHROPIC_URL",
            Self::OpenAi => "TOLLGATE_OPENAI_URL",
            Self::Gemini => "TOLLGATE_GEMINI_URL",
        }
    }

    /// Envoy's clusters that lead to it.
    pub(crate) const fn clusters(self) -> &'static [&'static str] {
        match self {
            Self::Anthropic => &["anthropic", "anthropic-openai"],
            Self::OpenAi => &["openai"],
            Self::Gemini => &["gemini"],
        }
    }

    /// Its secrets in Envoy, as name and value.
    pub(crate) fn secrets(self, key: &str) -> Vec<(&'static str, String)> {
        let bearer = format!("Bearer {key}");
        match self {
            Self::Anthropic => vec![("anthropic", key.to_owned()), ("anthropic-bearer", bearer)],
            Self::OpenAi => vec![("openai-bearer", bearer)],
            Self::Gemini => vec![("gemini-bearer", bearer)],
        }
    }
}

/// An address of a provider: `http` or `https`, a host, a port, and perhaps the beginning of a path.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Url {
    pub(crate) tls: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Without a slash at its end; empty where there is none.
    pub(crate) path: String,
}

impl Url {
    /// What stands in the `host` header.
    pub(crate) fn authority(&self) -> String {
        let default = if self.tls { 443 } else { 80 };
        if self.port == default { self.host.clone() } else { format!("{}:{}", self.host, self.port) }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", if self.tls { "https" } else { "http" }, self.authority(), self.path)
    }
}

impl TryFrom<String> for Url {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map_err(|why| format!("{text} {why}"))
    }
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (tls, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err("must begin with http:// or https://".to_owned()),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| "has no valid port".to_owned())?),
            None => (authority, if tls { 443 } else { 80 }),
        };
        let is_host = |b: u8| b.is_ascii_alphanumeric() || b".-".contains(&b);
        if host.is_empty() || !host.bytes().all(is_host) {
            return Err("has no valid host".to_owned());
        }
        if path.contains(['?', '#']) {
            return Err("must have no query".to_owned());
        }
        // Base URLs are written with and without the version; paths bring it themselves.
        let path = path.trim_end_matches('/');
        let path = path.strip_suffix("/v1").unwrap_or(path);
        Ok(Self { tls, host: host.to_owned(), port, path: path.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        let table = [
            ("https://api.anthropic.com", Ok("https://api.anthropic.com")),
            ("https://api.openai.com/v1/", Ok("https://api.openai.com")),
            ("http://127.0.0.1:4010/x", Ok("http://127.0.0.1:4010/x")),
            ("https://h:444", Ok("https://h:444")),
            ("h", Err("must begin with http:// or https://")),
            ("http://", Err("has no valid host")),
            ("http://a b", Err("has no valid host")),
            ("http://a:x", Err("has no valid port")),
            ("http://a/?k=v", Err("must have no query")),
        ];
        for (text, expected) in table {
            let url = text.parse::<Url>().map(|url| url.to_string());
            assert_eq!(url.as_deref().map_err(String::as_str), expected, "{text}");
        }
    }
}
