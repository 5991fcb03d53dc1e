//! What a gateway is told: one YAML document, judged before anything starts. An unknown or missing setting is named.

use crate::provider::{Provider, Url};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// A gateway.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) mode: Mode,
    /// Envoy's workers. Its own default is the machine's cores, of which a container has a part.
    pub(crate) concurrency: u16,
    pub(crate) drain: Drain,
}

/// What the gateway is for.
#[derive(Debug)]
pub(crate) enum Mode {
    /// For everybody: each request brings its virtual key.
    Ingress { listener: Listener, admin: Option<Admin>, metering: Metering },
    /// In an agent's pod, with the filter.
    Direct { virtual_key: PathBuf, metering: Metering },
    /// In an agent's pod: it says who asks, and the ingress decides.
    Identity { virtual_key: PathBuf, upstream: Upstream },
}

/// What the filter needs.
#[derive(Debug)]
pub(crate) struct Metering {
    pub(crate) ledger: Ledger,
    pub(crate) providers: BTreeMap<Provider, ProviderSettings>,
    pub(crate) authorities: Option<PathBuf>,
    pub(crate) filter: Map<String, Value>,
}

/// Where the ledger is.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Ledger {
    pub(crate) address: Address,
    /// The folder of the certificate that the ledger knows this gateway by, and of the authorities that it is known by.
    pub(crate) tls: Option<PathBuf>,
}

/// Where the ingress listens.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Listener {
    #[serde(default = "everywhere")]
    pub(crate) address: String,
    /// The folder of its certificate.
    pub(crate) tls: Option<PathBuf>,
}

fn everywhere() -> String {
    "0.0.0.0".to_owned()
}

impl Default for Listener {
    fn default() -> Self {
        Self { address: everywhere(), tls: None }
    }
}

/// The admin API on the same port.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Admin {
    pub(crate) address: Address,
    /// The file of the authorities that it is known by.
    pub(crate) ca: Option<PathBuf>,
}

/// The ingress, to a sidecar.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Upstream {
    pub(crate) url: Url,
    /// The file of the authorities that it is known by.
    pub(crate) ca: PathBuf,
}

/// A provider.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ProviderSettings {
    /// The file of its credential.
    pub(crate) key: PathBuf,
    /// Another address than its own.
    pub(crate) url: Option<Url>,
}

/// A host and a port.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parsed = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        match parsed {
            Some((host, port)) if !host.is_empty() => Ok(Self { host: host.to_owned(), port }),
            _ => Err(format!("{text:?} is no host and port")),
        }
    }
}

/// How it stops.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drain {
    /// For how long it goes on as if nothing were, until nobody is sent here any more.
    pub(crate) endpoints: Duration,
    /// How long streams may take to end.
    pub(crate) streams: Duration,
}

/// Why the settings are none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error("the settings cannot be read: {0}")]
    Yaml(#[from] serde_yaml_ng::Error),
    #[error("{0} is missing: the mode {1} needs it")]
    Missing(&'static str, &'static str),
    #[error("{0} is nothing that the mode {1} has")]
    Foreign(&'static str, &'static str),
    #[error("{0} must be {1}")]
    Bounds(&'static str, &'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Ingress,
    Direct,
    Identity,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Direct => "direct",
            Self::Identity => "identity",
        }
    }

    /// Endpoints take seconds to follow; nobody is sent to a sidecar but the agent beside it, which has ended by then.
    const fn endpoints_s(self) -> u64 {
        match self {
            Self::Ingress => 5,
            Self::Direct | Self::Identity => 0,
        }
    }

    /// An answer may stream for ten minutes.
    const fn streams_s(self) -> u64 {
        match self {
            Self::Ingress => 600,
            Self::Direct | Self::Identity => 60,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    mode: Kind,
    ledger: Option<Ledger>,
    listener: Option<Listener>,
    admin: Option<Admin>,
    upstream: Option<Upstream>,
    virtual_key: Option<PathBuf>,
    providers: Option<BTreeMap<Provider, ProviderSettings>>,
    authorities: Option<PathBuf>,
    filter: Option<Map<String, Value>>,
    concurrency: Option<u16>,
    #[serde(default)]
    drain: DrainFile,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DrainFile {
    endpoints_seconds: Option<u64>,
    streams_seconds: Option<u64>,
}

impl Settings {
    /// Reads the settings.
    pub(crate) fn parse(yaml: &str) -> Result<Self, SettingsError> {
        let mut file: File = serde_yaml_ng::from_str(yaml)?;
        let kind = file.mode;
        let concurrency = file.concurrency.unwrap_or(1);
        if concurrency == 0 {
            return Err(SettingsError::Bounds("concurrency", "at least 1"));
        }
        let drain = Drain {
            endpoints: Duration::from_secs(file.drain.endpoints_seconds.unwrap_or(kind.endpoints_s())),
            streams: Duration::from_secs(file.drain.streams_seconds.unwrap_or(kind.streams_s())),
        };
        let mode = match kind {
            Kind::Ingress => Mode::Ingress {
                listener: file.listener.take().unwrap_or_default(),
                admin: file.admin.take(),
                metering: file.metering()?,
            },
            // A sidecar is known by its certificate alone.
            Kind::Direct if file.ledger.as_ref().is_some_and(|ledger| ledger.tls.is_none()) => {
                return Err(SettingsError::Missing("ledger.tls", kind.as_str()));
            }
            Kind::Direct => Mode::Direct { virtual_key: file.virtual_key()?, metering: file.metering()? },
            Kind::Identity => Mode::Identity { virtual_key: file.virtual_key()?, upstream: file.upstream()? },
        };
        file.is_used_up()?;
        Ok(Self { mode, concurrency, drain })
    }
}

impl File {
    fn virtual_key(&mut self) -> Result<PathBuf, SettingsError> {
        self.virtual_key.take().ok_or(SettingsError::Missing("virtualKey", self.mode.as_str()))
    }

    fn upstream(&mut self) -> Result<Upstream, SettingsError> {
        let missing = SettingsError::Missing("upstream", self.mode.as_str());
        let upstream = self.upstream.take().ok_or(missing)?;
        // The virtual key goes over this line.
        if !upstream.url.tls {
            return Err(SettingsError::Bounds("upstream.url", "https"));
        }
        if !upstream.url.path.is_empty() {
            return Err(SettingsError::Bounds("upstream.url", "without a path"));
        }
        Ok(upstream)
    }

    fn metering(&mut self) -> Result<Metering, SettingsError> {
        let providers = self.providers.take().unwrap_or_default();
        if providers.is_empty() {
            return Err(SettingsError::Missing("providers", self.mode.as_str()));
        }
        Ok(Metering {
            ledger: self.ledger.take().ok_or(SettingsError::Missing("ledger", self.mode.as_str()))?,
            providers,
            authorities: self.authorities.take(),
            filter: self.filter.take().unwrap_or_default(),
        })
    }

    /// What no mode has taken was meant for another one: better an error than a setting that does nothing.
    fn is_used_up(&self) -> Result<(), SettingsError> {
        let left = [
            ("ledger", self.ledger.is_some()),
            ("listener", self.listener.is_some()),
            ("admin", self.admin.is_some()),
            ("upstream", self.upstream.is_some()),
            ("virtualKey", self.virtual_key.is_some()),
            ("providers", self.providers.is_some()),
            ("authorities", self.authorities.is_some()),
            ("filter", self.filter.is_some()),
        ];
        match left.into_iter().find(|(_, left)| *left) {
            Some((name, _)) => Err(SettingsError::Foreign(name, self.mode.as_str())),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEDGER: &str = "ledger: {address: 'l:4001'}";
    const CERTIFIED: &str = "ledger: {address: 'l:4001', tls: /own}";
    const PROVIDERS: &str = "providers: {openai: {key: /k}}";
    const UPSTREAM: &str = "upstream: {url: 'https://t:4000', ca: /ca.crt}";

    #[test]
    fn each_mode_has_its_settings() {
        let ingress = Settings::parse(&format!("mode: ingress\n{LEDGER}\n{PROVIDERS}\n")).unwrap();
        assert!(
            matches!(&ingress.mode, Mode::Ingress { listener, admin: None, .. } if listener.address == "0.0.0.0")
        );
        assert_eq!((ingress.concurrency, ingress.drain.endpoints.as_secs()), (1, 5));
        assert_eq!(ingress.drain.streams.as_secs(), 600);
        let direct =
            Settings::parse(&format!("mode: direct\nvirtualKey: /v\n{CERTIFIED}\n{PROVIDERS}\n")).unwrap();
        assert!(
            matches!(&direct.mode, Mode::Direct { metering, .. } if metering.ledger.address.port == 4001)
        );
        let identity = Settings::parse(&format!("mode: identity\nvirtualKey: /v\n{UPSTREAM}\n")).unwrap();
        assert!(matches!(&identity.mode, Mode::Identity { upstream, .. } if upstream.url.host == "t"));
        assert_eq!(identity.drain.endpoints.as_secs(), 0);
    }

    #[test]
    fn an_error_names_the_setting() {
        let table = [
            (format!("mode: elsewhere\n{LEDGER}\n"), "elsewhere"),
            (format!("mode: ingress\n{LEDGER}\n{PROVIDERS}\ncolour: red\n"), "colour"),
            (format!("mode: ingress\n{PROVIDERS}\n"), "ledger"),
            (format!("mode: ingress\n{LEDGER}\n"), "providers"),
            (format!("mode: ingress\n{LEDGER}\nproviders: {{azure: {{key: /k}}}}\n"), "azure"),
            (format!("mode: ingress\n{LEDGER}\nproviders: {{openai: {{url: 'http://x'}}}}\n"), "key"),
            (
                format!("mode: ingress\n{LEDGER}\nproviders: {{openai: {{key: /k, url: 'ftp://x'}}}}\n"),
                "ftp://x",
            ),
            (format!("mode: ingress\nledger: {{address: nowhere}}\n{PROVIDERS}\n"), "nowhere"),
            (format!("mode: ingress\nvirtualKey: /v\n{LEDGER}\n{PROVIDERS}\n"), "virtualKey"),
            (format!("mode: ingress\nconcurrency: 0\n{LEDGER}\n{PROVIDERS}\n"), "concurrency"),
            (format!("mode: direct\n{CERTIFIED}\n{PROVIDERS}\n"), "virtualKey"),
            (format!("mode: direct\nvirtualKey: /v\n{LEDGER}\n{PROVIDERS}\n"), "ledger.tls"),
            (format!("mode: direct\nvirtualKey: /v\nlistener: {{}}\n{CERTIFIED}\n{PROVIDERS}\n"), "listener"),
            (format!("mode: identity\nvirtualKey: /v\n{UPSTREAM}\n{PROVIDERS}\n"), "providers"),
            ("mode: identity\nvirtualKey: /v\n".to_owned(), "upstream"),
            (
                "mode: identity\nvirtualKey: /v\nupstream: {url: 'http://t', ca: /c}\n".to_owned(),
                "upstream.url",
            ),
            (
                "mode: identity\nvirtualKey: /v\nupstream: {url: 'https://t/x', ca: /c}\n".to_owned(),
                "upstream.url",
            ),
        ];
        for (yaml, name) in table {
            let error = Settings::parse(&yaml).unwrap_err().to_string();
            assert!(error.contains(name), "{yaml}: {error}");
        }
    }
}
