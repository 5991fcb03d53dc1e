//! Settings from the environment, parsed once through an injected look-up; an error names the variable.

use crate::provider::{Provider, Url};
use std::path::PathBuf;

/// Everything that can be set.
#[derive(Debug)]
pub(crate) struct Settings {
    /// `TOLLGATE_PORT`: where everything is served, on loopback.
    pub(crate) port: u16,
    /// `TOLLGATE_DATA`: where everything is kept.
    pub(crate) data: PathBuf,
    /// `TOLLGATE_MASTER_KEY`: opens the admin API.
    pub(crate) master_key: String,
    /// The master key is the well-known default.
    pub(crate) default_master_key: bool,
    /// Where the ledger and the mock provider are.
    pub(crate) binaries: PathBuf,
    /// The filter.
    pub(crate) filter: PathBuf,
    /// Envoy.
    pub(crate) envoy: PathBuf,
    /// Envoy's configuration, as the project ships it.
    pub(crate) envoy_config: PathBuf,
    /// What the environment says of each provider.
    pub(crate) providers: Vec<(Provider, Given)>,
    /// `TOLLGATE_FILTER_SETTINGS`: a JSON object of settings of the filter that differ from their defaults.
    pub(crate) filter_settings: serde_json::Map<String, serde_json::Value>,
    /// `TOLLGATE_CONCURRENCY`: Envoy's workers; by default as many as there are cores.
    pub(crate) concurrency: Option<u16>,
    /// `TOLLGATE_DRAIN_SECONDS`: how long streams may take to end once it is told to stop.
    pub(crate) drain_s: u64,
    /// `TOLLGATE_PRICE_BOOK`: another price book than the built-in one.
    pub(crate) price_book: Option<PathBuf>,
    /// `SSL_CERT_FILE`: the certificate authorities by which providers are believed; by default the system's.
    pub(crate) authorities: Option<PathBuf>,
    /// `TOLLGATE_DATABASE_URL`: the PostgreSQL database that holds the books; by default they are a file in `data`.
    pub(crate) database_url: Option<String>,
    /// `TOLLGATE_OBSERVE`: limits count and refuse nothing.
    pub(crate) observe: bool,
}

/// What the environment says of a provider.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Given {
    /// Its key.
    pub(crate) key: Option<String>,
    /// Another address than its own.
    pub(crate) url: Option<Url>,
}

/// A variable that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable} {why}")]
pub(crate) struct SettingError {
    variable: String,
    why: String,
}

fn wrong(variable: &str, why: impl Into<String>) -> SettingError {
    SettingError { variable: variable.to_owned(), why: why.into() }
}

type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The master key where none is set: good enough on loopback, and known to everybody.
const DEFAULT_MASTER_KEY: &str = "sk-master";

impl Settings {
    /// Reads the settings. An empty variable counts as unset.
    pub(crate) fn parse(lookup: Lookup<'_>) -> Result<Self, SettingError> {
        let get = |name: &str| lookup(name).filter(|value| !value.trim().is_empty());
        let required = |name: &str| {
            get(name).map(PathBuf::from).ok_or_else(|| wrong(name, "is not set; `make run` sets it"))
        };
        let master_key = get("TOLLGATE_MASTER_KEY");
        Ok(Self {
            port: number(&get, "TOLLGATE_PORT")?.unwrap_or(4000),
            data: get("TOLLGATE_DATA").unwrap_or_else(|| ".tollgate".to_owned()).into(),
            default_master_key: master_key.is_none(),
            master_key: master_key.unwrap_or_else(|| DEFAULT_MASTER_KEY.to_owned()),
            binaries: required("TOLLGATE_BIN_DIR")?,
            filter: required("TOLLGATE_FILTER")?,
            envoy: required("TOLLGATE_ENVOY")?,
            envoy_config: required("TOLLGATE_ENVOY_CONFIG")?,
            providers: Provider::ALL
                .into_iter()
                .map(|provider| Ok((provider, given(&get, provider)?)))
                .collect::<Result<_, SettingError>>()?,
            filter_settings: object(&get, "TOLLGATE_FILTER_SETTINGS")?,
            concurrency: number(&get, "TOLLGATE_CONCURRENCY")?,
            drain_s: number(&get, "TOLLGATE_DRAIN_SECONDS")?.unwrap_or(60),
            price_book: get("TOLLGATE_PRICE_BOOK").map(PathBuf::from),
            authorities: get("SSL_CERT_FILE").map(PathBuf::from),
            database_url: get("TOLLGATE_DATABASE_URL"),
            observe: flag(&get, "TOLLGATE_OBSERVE")?,
        })
    }
}

fn given(get: &dyn Fn(&str) -> Option<String>, provider: Provider) -> Result<Given, SettingError> {
    let key = get(provider.key_variable());
    if key.as_ref().is_some_and(|key| !key.bytes().all(|b| b.is_ascii_graphic())) {
        return Err(wrong(provider.key_variable(), "holds a character that no key has"));
    }
    let url = get(provider.url_variable());
    let url =
        url.map(|url| url.parse().map_err(|why: String| wrong(provider.url_variable(), why))).transpose()?;
    if url.is_some() && key.is_none() {
        return Err(wrong(provider.url_variable(), format!("needs {} beside it", provider.key_variable())));
    }
    Ok(Given { key, url })
}

fn number<T: std::str::FromStr>(
    get: &dyn Fn(&str) -> Option<String>,
    name: &str,
) -> Result<Option<T>, SettingError> {
    get(name)
        .map(|text| text.parse().map_err(|_| wrong(name, format!("is not a number that fits: {text:?}"))))
        .transpose()
}

fn flag(get: &dyn Fn(&str) -> Option<String>, name: &str) -> Result<bool, SettingError> {
    match get(name).as_deref() {
        None | Some("0" | "false") => Ok(false),
        Some("1" | "true") => Ok(true),
        Some(_) => Err(wrong(name, "must be 1 or 0")),
    }
}

fn object(
    get: &dyn Fn(&str) -> Option<String>,
    name: &str,
) -> Result<serde_json::Map<String, serde_json::Value>, SettingError> {
    let parsed = get(name).map(|text| serde_json::from_str(&text)).transpose();
    Ok(parsed.map_err(|error| wrong(name, format!("is not a JSON object: {error}")))?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Settings, SettingError> {
        let base = ["TOLLGATE_BIN_DIR", "TOLLGATE_FILTER", "TOLLGATE_ENVOY", "TOLLGATE_ENVOY_CONFIG"];
        Settings::parse(&|name| {
            let set = pairs.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned());
            set.or_else(|| base.contains(&name).then(|| "/x".to_owned()))
        })
    }

    #[test]
    fn what_is_not_set_has_a_default() {
        let settings = parse(&[("TOLLGATE_PORT", "")]).unwrap();
        assert_eq!((settings.port, settings.master_key.as_str()), (4000, "sk-master"));
        assert!(settings.default_master_key);
        assert!(settings.providers.iter().all(|(_, given)| *given == Given::default()));
    }

    #[test]
    fn an_error_names_the_variable() {
        let table = [
            ("TOLLGATE_PORT", "70000"),
            ("TOLLGATE_CONCURRENCY", "many"),
            ("TOLLGATE_DRAIN_SECONDS", "-1"),
            ("TOLLGATE_FILTER_SETTINGS", "[]"),
            ("TOLLGATE_OBSERVE", "perhaps"),
            ("TOLLGATE_BIN_DIR", " "),
            ("TOLLGATE_ANTHROPIC_URL", "http://127.0.0.1:1"),
            ("OPENAI_API_KEY", "a b"),
        ];
        for (name, value) in table {
            let error = parse(&[(name, value)]).unwrap_err();
            assert_eq!(error.variable, name, "{error}");
        }
        let error = parse(&[("ANTHROPIC_API_KEY", "k"), ("TOLLGATE_ANTHROPIC_URL", "ftp://x")]).unwrap_err();
        assert_eq!(error.variable, "TOLLGATE_ANTHROPIC_URL");
    }
}
