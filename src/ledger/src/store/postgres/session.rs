//! One connection to PostgreSQL, fit to hold money: what must be true of the server is checked, what must be true of the session
//! is set, anew for each connection.

use super::config::Config;
use super::error::{Failure, OpenError, Unfit, describe};
use super::tls;
use std::future::poll_fn;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_postgres::error::Severity;
use tokio_postgres::{AsyncMessage, Client, Connection, SimpleQueryMessage, Socket};

const VERSION_MIN: u32 = 140_000;

/// TLS and login included; tokio-postgres bounds only the first packet to each address.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// How long a session waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Serves requests: a hold waits 2 s, and whoever asks again must not find the last try still at work.
    Hurried,
    /// Migrates, verifies, copies: the work takes what it takes.
    Patient,
}

impl Patience {
    /// A statement, COMMIT included, which waits for the standbys.
    fn statement_ms(self) -> u32 {
        match self {
            Self::Hurried => 5_000,
            Self::Patient => 0,
        }
    }

    /// A row that another replica holds; its batch takes milliseconds.
    fn lock_ms(self) -> u32 {
        match self {
            Self::Hurried => 2_000,
            Self::Patient => 0,
        }
    }

    /// A transaction whose ledger stands still must not keep its rows from the others.
    fn idle_in_transaction_ms(self) -> u32 {
        match self {
            Self::Hurried => 5_000,
            Self::Patient => 3_600_000,
        }
    }

    /// Whether whole tables are read.
    fn scans(self) -> &'static str {
        match self {
            Self::Hurried => "off",
            Self::Patient => "on",
        }
    }

    /// For everything that was sent at once; longer than the server's own bound, for the server that no longer answers at all.
    pub(super) fn answer(self) -> Duration {
        match self {
            Self::Hurried => Duration::from_secs(8),
            Self::Patient => Duration::from_secs(24 * 3_600),
        }
    }
}

/// A connection that is open.
pub(super) struct Session {
    client: Client,
    is_warned: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Session {
    pub(super) async fn connect(config: &Config, patience: Patience) -> Result<Self, OpenError> {
        let open = async {
            let session = Self::reach(config).await?;
            session.check(config).await?;
            session.set(patience).await.map_err(|failure| unreachable(config, failure.error.why))?;
            session.keep_commits(config).await?;
            session.isolate(config).await?;
            Ok(session)
        };
        let late = |_| unreachable(config, format!("no answer for {CONNECT_MAX:?}"));
        tokio::time::timeout(CONNECT_MAX, open).await.map_err(late)?
    }

    async fn reach(config: &Config) -> Result<Self, OpenError> {
        let connector = tls::connector(&config.trust).map_err(|why| unfit(config, Unfit::Tls(why)))?;
        let (client, connection) = config
            .postgres
            .connect(connector)
            .await
            .map_err(|error| unreachable(config, describe(&error)))?;
        let is_warned = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(attend(connection, Arc::clone(&is_warned)));
        Ok(Self { client, is_warned, task })
    }

    async fn check(&self, config: &Config) -> Result<(), OpenError> {
        let asked = |failure: Failure| unreachable(config, failure.error.why);
        let version = self.value("SELECT version()").await.map_err(asked)?.unwrap_or_default();
        let number = self.value("SHOW server_version_num").await.map_err(asked)?;
        // CockroachDB and YugabyteDB call themselves by the version of PostgreSQL that they began with.
        let is_plain = version.starts_with("PostgreSQL ") && !version.contains("-YB-");
        let is_old =
            number.is_some_and(|number| number.parse::<u32>().is_ok_and(|number| number < VERSION_MIN));
        if is_plain && is_old {
            let number = version.split_whitespace().nth(1).unwrap_or_default();
            return Err(unfit(config, Unfit::Old(number.to_owned())));
        }
        if self.value("SELECT pg_is_in_recovery()").await.map_err(asked)?.as_deref() == Some("t") {
            return Err(unfit(config, Unfit::Standby));
        }
        for (setting, ask) in [("fsync", "SHOW fsync"), ("full_page_writes", "SHOW full_page_writes")] {
            if self.value(ask).await.map_err(asked)?.as_deref() == Some("off") {
                return Err(unfit(config, Unfit::Forgetful(setting)));
            }
        }
        Ok(())
    }

    async fn set(&self, patience: Patience) -> Result<(), Failure> {
        let settings = [
            ("statement_timeout", patience.statement_ms().to_string()),
            ("lock_timeout", patience.lock_ms().to_string()),
            ("idle_in_transaction_session_timeout", patience.idle_in_transaction_ms().to_string()),
            ("default_transaction_isolation", "'read committed'".to_owned()),
            // Every statement of the way of a request has an index. A plan that was made while a table was small would read all of
            // it, until the server counts the rows anew: a minute or more, in which the table has long grown.
            ("enable_seqscan", patience.scans().to_owned()),
        ];
        for (name, value) in settings {
            self.value(&format!("SET {name} = {value}")).await?;
        }
        Ok(())
    }

    /// `on` waits for the own disk and that of the synchronous standbys; only `remote_apply` waits for more.
    async fn keep_commits(&self, config: &Config) -> Result<(), OpenError> {
        let asked = |failure: Failure| unreachable(config, failure.error.why);
        let is_kept = |value: Option<&str>| matches!(value, None | Some("on" | "remote_apply"));
        let ask = "SHOW synchronous_commit";
        if is_kept(self.value(ask).await.map_err(asked)?.as_deref()) {
            return Ok(());
        }
        self.value("SET synchronous_commit = on").await.map_err(asked)?;
        if is_kept(self.value(ask).await.map_err(asked)?.as_deref()) {
            return Ok(());
        }
        Err(unfit(config, Unfit::Asynchronous))
    }

    /// In READ COMMITTED each statement sees what was committed before it, so that what is read after a lock is what the lock
    /// protects. Where a database makes SERIALIZABLE of it (CockroachDB does, until it is told not to), one of two that meet fails
    /// and is run again. In between, a stale row would be read without a word.
    async fn isolate(&self, config: &Config) -> Result<(), OpenError> {
        // YugabyteDB says what it makes of it in a setting of its own.
        let ask = "SELECT coalesce(current_setting('yb_effective_transaction_isolation_level', true),
                       current_setting('transaction_isolation'))";
        let found = self.value(ask).await.map_err(|failure| unreachable(config, failure.error.why))?;
        match found.filter(|level| !is_sound(level)) {
            Some(level) => Err(unfit(config, Unfit::Isolation(level))),
            None => Ok(()),
        }
    }

    /// The first value of the first row; `None` also where the server has no such setting or function.
    async fn value(&self, sql: &str) -> Result<Option<String>, Failure> {
        let messages = match self.client.simple_query(sql).await {
            Ok(messages) => messages,
            Err(error) if error.code().is_some_and(|code| is_unknown(code.code())) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Ok(messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        }))
    }

    /// Commits; a warning says that it was not what was asked for: no standby has confirmed it, or there was no transaction.
    pub(super) async fn commit(&self) -> Result<(), Failure> {
        self.is_warned.store(false, Ordering::Release);
        self.client.batch_execute("COMMIT").await?;
        // A warning comes before the answer, and is attended to before the answer is handed on.
        if self.is_warned.load(Ordering::Acquire) {
            return Err(Failure::lost("the server warned while it committed"));
        }
        Ok(())
    }

    /// Ends without a word: a server that does not answer would not read it.
    pub(super) fn abandon(self) {
        self.task.abort();
    }
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

fn unreachable(config: &Config, why: String) -> OpenError {
    OpenError::Unreachable { place: config.to_string(), why }
}

fn unfit(config: &Config, fault: Unfit) -> OpenError {
    OpenError::Unfit { place: config.to_string(), fault }
}

/// Whether what is read after a lock is never older than the lock, or the transaction fails.
pub(super) fn is_sound(isolation: &str) -> bool {
    ["read committed", "serializable"].iter().any(|sound| isolation.eq_ignore_ascii_case(sound))
}

/// No such parameter, no such function, not implemented.
fn is_unknown(code: &str) -> bool {
    matches!(code, "42704" | "42883" | "0A000")
}

/// Moves what is sent and answered, until one side is gone.
async fn attend<T>(mut connection: Connection<Socket, T>, is_warned: Arc<AtomicBool>)
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
        match message {
            Ok(AsyncMessage::Notice(notice)) if notice.parsed_severity() == Some(Severity::Warning) => {
                is_warned.store(true, Ordering::Release);
                tracing::warn!(code = notice.code().code(), "PostgreSQL warns: {}", notice.message());
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!("the connection to PostgreSQL ends: {}", describe(&error));
                return;
            }
        }
    }
}
