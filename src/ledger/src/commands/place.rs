//! Where the books are, as the command line and the environment say it.

use super::Failure;
use clap::Args;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use tollgate_ledger::store::Place;
use tollgate_ledger::store::postgres::Config;

const HEADING: &str = "Where the books are (exactly one)";

/// Exactly one of these.
#[derive(Args)]
pub(crate) struct PlaceArgs {
    /// A file of SQLite.
    #[arg(long, help_heading = HEADING, value_name = "FILE", env = "TOLLGATE_LEDGER_DB", hide_env_values = true)]
    db: Option<PathBuf>,
    /// A database of PostgreSQL: postgres://USER@HOST/DATABASE. Others on this machine can read a password on the command line:
    /// better from the environment or a file.
    #[arg(long, help_heading = HEADING, value_name = "URL", env = "TOLLGATE_LEDGER_DATABASE_URL", hide_env_values = true)]
    database_url: Option<Url>,
    /// A file with the URL in it, such as a mounted Secret.
    #[arg(long, help_heading = HEADING, value_name = "FILE", env = "TOLLGATE_LEDGER_DATABASE_URL_FILE", hide_env_values = true)]
    database_url_file: Option<PathBuf>,
}

/// May hold a password: any text is taken here, so that no message of the parser repeats it, and nothing prints it.
#[derive(Clone)]
pub(crate) struct Url(String);

impl FromStr for Url {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl PlaceArgs {
    /// The one place.
    pub(crate) fn place(&self) -> Result<Place, Failure> {
        match (self.file(), self.database()) {
            (Some(file), None) => Ok(file),
            (None, Some(database)) => database,
            (None, None) => {
                Err("say where the books are: --db FILE or --database-url URL (or TOLLGATE_LEDGER_DB or \
                                 TOLLGATE_LEDGER_DATABASE_URL)"
                    .into())
            }
            (Some(_), Some(_)) => {
                Err("two places are named: --db (or TOLLGATE_LEDGER_DB) and --database-url or \
                                       --database-url-file (or their variables); the books are in one"
                    .into())
            }
        }
    }

    /// The file, whether or not there is a database.
    pub(crate) fn file(&self) -> Option<Place> {
        self.db.clone().filter(|path| !path.as_os_str().is_empty()).map(Place::Sqlite)
    }

    /// The database, whether or not there is a file.
    pub(crate) fn database(&self) -> Option<Result<Place, Failure>> {
        let url = self.database_url.as_ref().filter(|url| !url.0.is_empty());
        let file = self.database_url_file.as_ref().filter(|path| !path.as_os_str().is_empty());
        match (url, file) {
            (None, None) => None,
            (Some(url), None) => Some(database(&url.0)),
            (None, Some(path)) => Some(read(path).and_then(|url| database(&url))),
            (Some(_), Some(_)) => Some(Err("--database-url and --database-url-file are both given".into())),
        }
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text.trim().to_owned())
}

fn database(url: &str) -> Result<Place, Failure> {
    let config: Config = url.parse()?;
    if config.is_unverified() {
        tracing::warn!(
            "nobody verifies that {config} is who it says: set sslmode=verify-full (and sslrootcert) in its URL"
        );
    }
    Ok(Place::Postgres(Box::new(config)))
}

/// A place in one word: `sqlite:FILE`, `postgres:URL` or the URL alone; or `sqlite` and `postgres`, with the place in `args`.
pub(crate) fn named(word: &str, args: &PlaceArgs) -> Result<Place, Failure> {
    let missing = |what: &str| -> Failure { format!("{what} is named without its place").into() };
    match word {
        "sqlite" => args.file().ok_or_else(|| missing("sqlite")),
        "postgres" => args.database().unwrap_or_else(|| Err(missing("postgres"))),
        _ if word.starts_with("postgres://") || word.starts_with("postgresql://") => database(word),
        _ => match word.split_once(':') {
            Some(("sqlite", file)) if !file.is_empty() => Ok(Place::Sqlite(file.into())),
            Some(("postgres", url)) => database(url),
            // What it is may be a password.
            _ => Err("a place is sqlite:FILE or postgres:URL".into()),
        },
    }
}

impl Url {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}
