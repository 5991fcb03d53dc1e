//! The filter's settings: parsed once, so that what runs is valid. An error names the setting, and the filter refuses to
//! start.

use serde::Deserialize;
use std::collections::BTreeMap;
use tollgate_domain::catalogue::Provider;

/// The longest name of the ledger's cluster: beyond it the message in which Envoy is told is no text any more.
pub const CLUSTER_BYTES_MAX: usize = 117;

/// Settings that hold for the life of a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Envoy's cluster of the ledger; it must speak HTTP/2.
    pub ledger_cluster: String,
    /// How long one call to the ledger may take.
    pub ledger_timeout_ms: u64,
    /// For how long a request waits for a ledger that is away, before it is refused.
    pub ledger_wait_ms: i64,
    /// Providers that have an upstream.
    pub providers: Vec<Provider>,
    /// The service tier that a provider gives this installation's credential where a request names none; else the standard one.
    pub service_tiers: BTreeMap<Provider, String>,
    /// The largest body of a request.
    pub body_bytes_max: u64,
    /// Bodies of one key, and of one worker, that may wait for a decision at the same time.
    pub buffered_bytes_per_key_max: u64,
    /// The same for all keys of one worker.
    pub buffered_bytes_max: u64,
    /// How many requests may be open or unreported at the same time, over all workers.
    pub slots: u32,
    /// How often reports are sent.
    pub tick_ms: u64,
    /// How often an open request gives a sign of life.
    pub heartbeat_ms: i64,
    /// For tests only: a request with this header takes the VM down.
    pub test_crash_header: Option<String>,
}

/// Why the settings are no settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not JSON, or a setting of a wrong type or an unknown name; the text says which.
    #[error("the filter's configuration cannot be read: {0}")]
    Format(#[from] serde_json::Error),
    /// A setting outside of its bounds.
    #[error("{setting} must be {bounds}")]
    Bounds {
        /// Which.
        setting: &'static str,
        /// What it may be.
        bounds: &'static str,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default = "ledger_cluster")]
    ledger_cluster: String,
    /// A hold takes a commit, so milliseconds; a ledger that needs two seconds is not there.
    #[serde(default = "default::<2_000>")]
    ledger_timeout_ms: u64,
    /// A restart takes about a second; a person at an agent does not notice three.
    #[serde(default = "default::<3_000>")]
    ledger_wait_ms: u64,
    providers: Vec<Provider>,
    #[serde(default)]
    service_tiers: BTreeMap<Provider, String>,
    /// Anthropic takes 32 MB.
    #[serde(default = "default::<33_554_432>")]
    body_bytes_max: u64,
    #[serde(default = "default::<134_217_728>")]
    buffered_bytes_per_key_max: u64,
    #[serde(default = "default::<268_435_456>")]
    buffered_bytes_max: u64,
    /// Some hundred bytes each, allocated once.
    #[serde(default = "default::<8_192>")]
    slots: u64,
    /// Reports are off the path of requests; this is how late a balance may be.
    #[serde(default = "default::<20>")]
    tick_ms: u64,
    /// A hold expires fifteen minutes after its last sign of life.
    #[serde(default = "default::<60_000>")]
    heartbeat_ms: u64,
    test_crash_header: Option<String>,
}

fn ledger_cluster() -> String {
    "ledger".to_owned()
}

const fn default<const N: u64>() -> u64 {
    N
}

impl Config {
    /// Reads the plugin's configuration.
    ///
    /// # Errors
    /// [`ConfigError`] names the setting.
    pub fn parse(json: &[u8]) -> Result<Self, ConfigError> {
        let file: File = serde_json::from_slice(json)?;
        let within = |setting, value: u64, min: u64, max: u64, bounds| {
            if (min..=max).contains(&value) {
                Ok(value)
            } else {
                Err(ConfigError::Bounds { setting, bounds })
            }
        };
        if !(1..=CLUSTER_BYTES_MAX).contains(&file.ledger_cluster.len()) || !file.ledger_cluster.is_ascii() {
            let bounds = "a name in ASCII of at most 117 bytes";
            return Err(ConfigError::Bounds { setting: "ledger_cluster", bounds });
        }
        if file.providers.is_empty() {
            return Err(ConfigError::Bounds { setting: "providers", bounds: "at least one" });
        }
        let wait = within("ledger_wait_ms", file.ledger_wait_ms, 0, 60_000, "at most 60000")?;
        let heartbeat = within("heartbeat_ms", file.heartbeat_ms, 100, 300_000, "between 100 and 300000")?;
        let slots = within("slots", file.slots, 1, 1 << 20, "between 1 and 1048576")?;
        Ok(Self {
            ledger_cluster: file.ledger_cluster,
            ledger_timeout_ms: within(
                "ledger_timeout_ms",
                file.ledger_timeout_ms,
                1,
                60_000,
                "between 1 and 60000",
            )?,
            ledger_wait_ms: i64::try_from(wait).unwrap_or(i64::MAX),
            providers: file.providers,
            service_tiers: file.service_tiers,
            body_bytes_max: within(
                "body_bytes_max",
                file.body_bytes_max,
                1,
                1 << 30,
                "between 1 and 1073741824",
            )?,
            buffered_bytes_per_key_max: file.buffered_bytes_per_key_max,
            buffered_bytes_max: file.buffered_bytes_max,
            slots: u32::try_from(slots).unwrap_or(u32::MAX),
            tick_ms: within("tick_ms", file.tick_ms, 1, 1_000, "between 1 and 1000")?,
            heartbeat_ms: i64::try_from(heartbeat).unwrap_or(i64::MAX),
            test_crash_header: file.test_crash_header,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_defaults_and_bounds() {
        let config = Config::parse(br#"{"providers":["anthropic"]}"#).unwrap();
        assert_eq!(config.ledger_cluster, "ledger");
        assert_eq!(config.ledger_timeout_ms, 2_000);
        assert_eq!(config.body_bytes_max, 32 << 20);
        assert_eq!(config.test_crash_header, None);
    }

    #[test]
    fn an_error_names_the_setting() {
        let table = [
            (r#"{"providers":[]}"#, "providers"),
            (r#"{}"#, "providers"),
            (r#"{"providers":["azure"]}"#, "azure"),
            (r#"{"providers":["openai"],"ledger_cluster":""}"#, "ledger_cluster"),
            (r#"{"providers":["openai"],"ledger_cluster":"lédger"}"#, "ledger_cluster"),
            (r#"{"providers":["openai"],"ledger_timeout_ms":0}"#, "ledger_timeout_ms"),
            (r#"{"providers":["openai"],"ledger_wait_ms":60001}"#, "ledger_wait_ms"),
            (r#"{"providers":["openai"],"heartbeat_ms":1}"#, "heartbeat_ms"),
            (r#"{"providers":["openai"],"slots":0}"#, "slots"),
            (r#"{"providers":["openai"],"tick_ms":0}"#, "tick_ms"),
            (r#"{"providers":["openai"],"body_bytes_max":0}"#, "body_bytes_max"),
            (r#"{"providers":["openai"],"service_tiers":{"azure":"priority"}}"#, "azure"),
            (r#"{"providers":["openai"],"colour":"red"}"#, "colour"),
            ("", "configuration"),
        ];
        for (json, name) in table {
            let error = Config::parse(json.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(name), "{json}: {error}");
        }
    }
}
