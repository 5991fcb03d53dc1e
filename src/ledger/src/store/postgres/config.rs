//! Where the database is and how to reach it: libpq's connection strings, with an encryption that is never given up silently.

use super::tls::{Roots, Trust};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];

/// For each address; several hosts are tried in turn, and a hold waits 2 s.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// A database whose machine is gone is noticed after `KEEPALIVE_IDLE` + 3 x `KEEPALIVE_INTERVAL`, not after two hours.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);
const KEEPALIVE_RETRIES: u32 = 3;

/// What was sent and is not confirmed for this long ends the connection.
const UNCONFIRMED_MAX: Duration = Duration::from_secs(10);

/// What is assumed where the connection string says nothing, by tokio-postgres and the system.
const KEEPALIVE_IDLE_OF_OTHERS: Duration = Duration::from_secs(2 * 60 * 60);

/// Why a connection string is not accepted. Never repeats what may hold a password.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Neither a URL nor settings.
    #[error(
        "not a connection string of PostgreSQL: postgres://USER@HOST/DATABASE or host=HOST user=USER dbname=DATABASE; \
         reserved characters of a user or password are percent-encoded in a URL"
    )]
    Shape,
    /// A setting that has no meaning here.
    #[error("the connection string sets {0}, which is not supported here")]
    Unsupported(String),
    /// No such mode.
    #[error("sslmode is one of disable, prefer, require, verify-ca, verify-full")]
    Mode,
    /// Without an authority of one's own, anybody's certificate would do.
    #[error(
        "sslmode=verify-ca needs an sslrootcert; with the authorities of the system, only verify-full means something"
    )]
    Anybody,
    /// What tokio-postgres finds.
    #[error("the connection string: {0}")]
    Invalid(String),
    /// Neither TCP nor a socket.
    #[error("the connection string names no host")]
    Nowhere,
}

/// Where the database is, how to log in, and whom to trust.
///
/// - `sslmode=disable` does not encrypt. Elsewhere than on this machine, nothing but this turns encryption off.
/// - `prefer`, the default on this machine, encrypts if the server can. For any other host it counts as `require`.
/// - `require`, the default for any other host, encrypts, and verifies the server only if there is an `sslrootcert`, as libpq
///   does: without one, who sits in between can read along.
/// - `verify-ca` verifies that the certificate comes from `sslrootcert`, `verify-full` also that it is of this host; there,
///   without `sslrootcert` or with `sslrootcert=system`, the authorities of the system count.
///
/// Sockets of this machine are not encrypted. Where there are several hosts, the first that may be written to is taken.
#[derive(Clone)]
pub struct Config {
    pub(super) postgres: tokio_postgres::Config,
    pub(super) trust: Trust,
}

impl FromStr for Config {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let (rest, wanted) = take_out_ours(text)?;
        let mut postgres: tokio_postgres::Config = rest.parse().map_err(invalid)?;
        if postgres.get_hosts().is_empty() && postgres.get_hostaddrs().is_empty() {
            return Err(ConfigError::Nowhere);
        }
        let (mode, trust) = wanted.decide(&postgres)?;
        postgres.ssl_mode(mode).target_session_attrs(TargetSessionAttrs::ReadWrite);
        bound_waiting(&mut postgres);
        if postgres.get_application_name().is_none() {
            postgres.application_name("tollgate-ledger");
        }
        Ok(Self { postgres, trust })
    }
}

impl Config {
    /// Whether the way to the database leaves this machine and nobody verifies who answers: worth a warning.
    pub fn is_unverified(&self) -> bool {
        is_remote(&self.postgres) && matches!(self.trust, Trust::Anybody)
    }
}

/// The place alone: neither the password nor options.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.postgres.get_hosts().iter().map(|host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        });
        let mut places: Vec<String> = names.collect();
        if places.is_empty() {
            places = self.postgres.get_hostaddrs().iter().map(ToString::to_string).collect();
        }
        write!(f, "{}", places.join(","))?;
        if let Some(name) = self.postgres.get_dbname() {
            write!(f, "/{name}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Config({self})")
    }
}

/// What tokio-postgres does not know, or knows less well.
#[derive(Default)]
struct Wanted {
    mode: Option<String>,
    roots: Option<String>,
}

impl Wanted {
    /// Takes the setting if it is one of these.
    fn take(&mut self, name: &str, value: &str) -> Result<bool, ConfigError> {
        match name {
            "sslmode" => self.mode = Some(value.to_owned()),
            "sslrootcert" => self.roots = Some(value.to_owned()),
            // What libpq knows and nothing here does; silently ignored, each would promise what is not kept.
            "sslcert" | "sslkey" | "sslcrl" | "sslpassword" | "sslnegotiation" | "requiressl"
            | "passfile" | "service" => return Err(ConfigError::Unsupported(name.to_owned())),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn decide(self, postgres: &tokio_postgres::Config) -> Result<(SslMode, Trust), ConfigError> {
        let is_system = self.roots.as_deref() == Some("system");
        let authority = self.roots.filter(|_| !is_system).map(|path| Roots::File(PathBuf::from(path)));
        // A certificate that is given is used, as libpq does.
        let chain = || authority.clone().map_or(Trust::Anybody, Trust::Chain);
        let (mode, trust) = match self.mode.as_deref() {
            Some("disable") => (SslMode::Disable, Trust::Anybody),
            None | Some("prefer") if !is_remote(postgres) => (SslMode::Prefer, chain()),
            None | Some("prefer" | "require") if !is_system => (SslMode::Require, chain()),
            Some("verify-ca") if authority.is_some() => (SslMode::Require, chain()),
            Some("verify-ca") => return Err(ConfigError::Anybody),
            Some("verify-full") => (SslMode::Require, Trust::Host(authority.unwrap_or(Roots::System))),
            // As in libpq: the authorities of the system sign for anybody, so that only the name says something.
            None | Some("prefer" | "require") => (SslMode::Require, Trust::Host(Roots::System)),
            Some(_) => return Err(ConfigError::Mode),
        };
        let sockets_only = postgres.get_hostaddrs().is_empty()
            && postgres.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
        Ok((if sockets_only { SslMode::Disable } else { mode }, trust))
    }
}

/// Whether any of the hosts is another machine.
fn is_remote(postgres: &tokio_postgres::Config) -> bool {
    let addresses = postgres.get_hostaddrs();
    if !addresses.is_empty() {
        return addresses.iter().any(|address| !address.is_loopback());
    }
    postgres.get_hosts().iter().any(|host| match host {
        Host::Unix(_) => false,
        Host::Tcp(name) if name == "localhost" => false,
        Host::Tcp(name) => !name.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback()),
    })
}

fn bound_waiting(postgres: &mut tokio_postgres::Config) {
    if postgres.get_connect_timeout().is_none() {
        postgres.connect_timeout(CONNECT_MAX);
    }
    if postgres.get_tcp_user_timeout().is_none() {
        postgres.tcp_user_timeout(UNCONFIRMED_MAX);
    }
    if postgres.get_keepalives_idle() == KEEPALIVE_IDLE_OF_OTHERS {
        postgres.keepalives_idle(KEEPALIVE_IDLE);
    }
    if postgres.get_keepalives_interval().is_none() {
        postgres.keepalives_interval(KEEPALIVE_INTERVAL);
    }
    if postgres.get_keepalives_retries().is_none() {
        postgres.keepalives_retries(KEEPALIVE_RETRIES);
    }
}

fn invalid(error: tokio_postgres::Error) -> ConfigError {
    let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
    ConfigError::Invalid(why)
}

/// The connection string without the settings that are decided here.
fn take_out_ours(text: &str) -> Result<(String, Wanted), ConfigError> {
    let mut wanted = Wanted::default();
    let is_url = SCHEMES.iter().any(|scheme| text.starts_with(scheme));
    let rest = if is_url { of_url(text, &mut wanted)? } else { of_settings(text, &mut wanted)? };
    Ok((rest, wanted))
}

fn of_url(text: &str, wanted: &mut Wanted) -> Result<String, ConfigError> {
    let (place, query) = text.split_once('?').unwrap_or((text, ""));
    // A bare `?` in a password; tokio-postgres would take what follows for something else than it was meant.
    if query.contains('@') {
        return Err(ConfigError::Shape);
    }
    let mut kept = Vec::new();
    for setting in query.split('&').filter(|setting| !setting.is_empty()) {
        let (name, value) = setting.split_once('=').ok_or(ConfigError::Shape)?;
        if !wanted.take(&decoded(name)?, &decoded(value)?)? {
            kept.push(setting);
        }
    }
    let mark = if kept.is_empty() { "" } else { "?" };
    Ok(format!("{place}{mark}{}", kept.join("&")))
}

fn decoded(text: &str) -> Result<String, ConfigError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit =
            || rest.next().and_then(|digit| char::from(digit).to_digit(16)).ok_or(ConfigError::Shape);
        let value = digit()? << 4 | digit()?;
        bytes.push(u8::try_from(value).map_err(|_| ConfigError::Shape)?);
    }
    String::from_utf8(bytes).map_err(|_| ConfigError::Shape)
}

fn of_settings(text: &str, wanted: &mut Wanted) -> Result<String, ConfigError> {
    let mut kept = String::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or(ConfigError::Shape)?;
        let name = name.trim_end();
        // An error names the setting; what is not one may be a password.
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
            return Err(ConfigError::Shape);
        }
        let (value, after) = setting_value(after.trim_start())?;
        if !wanted.take(name, &value)? {
            let quoted = value.replace('\\', "\\\\").replace('\'', "\\'");
            kept.push_str(&format!("{name}='{quoted}' "));
        }
        rest = after.trim_start();
    }
    Ok(kept)
}

/// The value at the start of the text, and what follows it. Quoted or up to the next space; a backslash frees what it precedes.
fn setting_value(text: &str) -> Result<(String, &str), ConfigError> {
    let is_quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut chars = text.char_indices().skip(usize::from(is_quoted));
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' => value.extend(chars.next().map(|(_, freed)| freed)),
            '\'' if is_quoted => return Ok((value, &text[at + 1..])),
            _ if !is_quoted && char.is_whitespace() => return Ok((value, &text[at..])),
            _ => value.push(char),
        }
    }
    if is_quoted { Err(ConfigError::Shape) } else { Ok((value, "")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Config {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn encryption_is_given_up_elsewhere_only_where_the_string_says_so() {
        let file = || Roots::File(PathBuf::from("/ca.pem"));
        let cases = [
            ("postgres://u@db", SslMode::Require, Trust::Anybody),
            ("postgres://u@db?sslmode=prefer", SslMode::Require, Trust::Anybody),
            ("postgres://u@db?sslmode=disable", SslMode::Disable, Trust::Anybody),
            ("postgres://u@db?sslmode=require", SslMode::Require, Trust::Anybody),
            ("postgres://u@db?sslmode=require&sslrootcert=/ca.pem", SslMode::Require, Trust::Chain(file())),
            ("postgres://u@db?sslrootcert=%2Fca.pem", SslMode::Require, Trust::Chain(file())),
            ("postgres://u@db?sslmode=verify-ca&sslrootcert=/ca.pem", SslMode::Require, Trust::Chain(file())),
            (
                "postgres://u@db?sslmode=verify-full&sslrootcert=/ca.pem",
                SslMode::Require,
                Trust::Host(file()),
            ),
            ("postgres://u@db?sslmode=verify-full", SslMode::Require, Trust::Host(Roots::System)),
            ("postgres://u@db?sslrootcert=system", SslMode::Require, Trust::Host(Roots::System)),
            ("postgres://u@localhost", SslMode::Prefer, Trust::Anybody),
            ("postgres://u@127.0.0.1?sslmode=prefer", SslMode::Prefer, Trust::Anybody),
            ("postgres://u@[::1]", SslMode::Prefer, Trust::Anybody),
            ("postgres://u@localhost,db", SslMode::Require, Trust::Anybody),
            ("postgres://u@10.0.0.1", SslMode::Require, Trust::Anybody),
            ("postgres://u@localhost?hostaddr=10.0.0.1", SslMode::Require, Trust::Anybody),
            ("postgres://u@db?hostaddr=127.0.0.1", SslMode::Prefer, Trust::Anybody),
            ("postgres://u@%2Frun%2Fpostgresql/t?sslmode=require", SslMode::Disable, Trust::Anybody),
            ("host=db sslmode = 'verify-full' user=u", SslMode::Require, Trust::Host(Roots::System)),
        ];
        for (text, mode, trust) in cases {
            let config = parsed(text);
            assert_eq!((config.postgres.get_ssl_mode(), config.trust), (mode, trust), "{text}");
        }
    }

    #[test]
    fn a_database_is_always_one_that_can_be_written_to_and_waiting_is_bounded() {
        let config = parsed("postgres://u@a:1,b:2/t?target_session_attrs=any").postgres;
        assert_eq!(config.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
        assert_eq!(config.get_ports(), [1, 2]);
        assert_eq!(config.get_connect_timeout(), Some(&CONNECT_MAX));
        assert_eq!(config.get_keepalives_idle(), KEEPALIVE_IDLE);
        assert_eq!(config.get_application_name(), Some("tollgate-ledger"));
        let own = parsed("postgres://u@a?connect_timeout=9&keepalives_idle=7&application_name=x").postgres;
        assert_eq!(own.get_connect_timeout(), Some(&Duration::from_secs(9)));
        assert_eq!(own.get_keepalives_idle(), Duration::from_secs(7));
        assert_eq!(own.get_application_name(), Some("x"));
    }

    #[test]
    fn settings_with_quotes_and_spaces_reach_tokio_postgres_as_they_were() {
        let config = parsed(r"host=db password = 'a \'b\\ c' user=o\'x sslmode=disable dbname=t ").postgres;
        assert_eq!(config.get_password(), Some(br"a 'b\ c".as_slice()));
        assert_eq!(config.get_user(), Some("o'x"));
        assert_eq!(config.get_dbname(), Some("t"));
    }

    #[test]
    fn neither_text_nor_error_repeats_a_password() {
        for text in ["postgres://u:s3cret@db/t", "host=db user=u password=s3cret dbname=t"] {
            let config = parsed(text);
            assert_eq!(format!("{config} {config:?}"), "db/t Config(db/t)");
        }
        let wrong = [
            ("postgresql//u:s3cret@db/t?x=y", ConfigError::Shape),
            ("s3cret", ConfigError::Shape),
            ("postgres://u:s3cret?@db", ConfigError::Shape),
            ("postgres://u@db?sslmode", ConfigError::Shape),
            ("postgres://u@db?sslrootcert=%zz", ConfigError::Shape),
            ("host=db password='s3cret", ConfigError::Shape),
            ("postgres://u:s3cret@db?sslmode=allow", ConfigError::Mode),
            ("postgres://u:s3cret@db?sslmode=verify-ca", ConfigError::Anybody),
            ("postgres://u:s3cret@db?sslkey=k", ConfigError::Unsupported("sslkey".into())),
            ("postgres://u:s3cret@db?colour=red", ConfigError::Invalid("unknown option `colour`".into())),
            ("postgres://u:s3cret@db:x", ConfigError::Invalid("invalid value for option `port`".into())),
            ("user=u password=s3cret", ConfigError::Nowhere),
        ];
        for (text, error) in wrong {
            let found = text.parse::<Config>().unwrap_err();
            assert!(!found.to_string().contains("s3cret"), "{found}");
            assert_eq!(found, error, "{text}");
        }
    }
}
