//! The ledger's Admin service, as the operator speaks it.
//!
//! A connection is made anew whenever the operator's certificate is, and the stream of changes is taken up again where it broke off.

use crate::authority::Own;
use crate::plan::MANAGED_BY;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tollgate_proto::v1;
use tollgate_proto::v1::admin_client::AdminClient;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};
use zeroize::Zeroizing;

/// The name that the ledger's certificate always has, whatever the address it is reached by.
const LEDGER_NAME: &str = "tollgate-ledger";
/// A ledger that is there answers at once.
pub(super) const CONNECT_MAX: Duration = Duration::from_secs(5);
/// A thousand accounts in one transaction, on a slow disk.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// A connection whose other side vanished is noticed within a minute, although it may be silent for days.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Between two attempts at the stream of changes: the first, and the longest.
const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// What opens the ledger's door: the operator's certificate, its key, and the authorities that the ledger's certificate may come from.
/// All PEM.
#[derive(Clone)]
pub struct Pass {
    /// The certificate.
    pub certificate: Vec<u8>,
    /// Its key.
    pub key: Zeroizing<Vec<u8>>,
    /// One or more authorities.
    pub authorities: Vec<u8>,
}

impl Pass {
    /// The operator's own certificate, once it has one.
    pub fn of(own: &Own) -> Option<Self> {
        let pair = own.operator.pair.as_ref()?;
        Some(Self {
            certificate: pair.certificate().into(),
            key: pair.key().as_bytes().to_vec().into(),
            authorities: own.operator.authorities.clone().into(),
        })
    }

    /// How a connection is made by it.
    pub(super) fn tls(&self) -> ClientTlsConfig {
        trusting(&self.authorities).identity(Identity::from_pem(&self.certificate, &*self.key))
    }
}

/// The ledger is known by these authorities.
pub(super) fn trusting(authorities: &[u8]) -> ClientTlsConfig {
    ClientTlsConfig::new().domain_name(LEDGER_NAME).ca_certificate(Certificate::from_pem(authorities))
}

impl std::fmt::Debug for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pass(..)")
    }
}

/// Why nothing was asked or nothing was heard.
#[derive(Debug, thiserror::Error)]
pub enum Away {
    /// The address or the certificate is of no use.
    #[error("the ledger cannot be called: {0}")]
    Unusable(#[from] tonic::transport::Error),
    /// What the ledger, or the way to it, answered.
    #[error("the ledger answers {:?}: {}", .0.code(), .0.message())]
    Status(Box<Status>),
}

impl From<Status> for Away {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

impl Away {
    /// The ledger's sentence, where it would say the same however often it was asked: it is there, and does not take the message,
    /// because that is too large, or says what an older ledger does not know.
    pub(super) fn refusal(&self) -> Option<&str> {
        use Code::{InvalidArgument, OutOfRange, Unimplemented};
        match self {
            Self::Status(status) if matches!(status.code(), InvalidArgument | OutOfRange | Unimplemented) => {
                Some(status.message())
            }
            _ => None,
        }
    }
}

type Client = AdminClient<Channel>;

/// The way to the ledger: one connection, until the operator has a new certificate.
#[derive(Clone, Debug)]
pub struct Ledger {
    address: String,
    pass: watch::Receiver<Pass>,
    connection: Arc<Mutex<Option<Connection>>>,
}

/// A connection, and whether the certificate that it was made by is still the newest.
#[derive(Debug)]
struct Connection {
    channel: Channel,
    pass: watch::Receiver<Pass>,
}

impl Ledger {
    /// A ledger at `address`, a URL. Nothing is called yet.
    #[must_use]
    pub fn new(address: String, pass: watch::Receiver<Pass>) -> Self {
        Self { address, pass, connection: Arc::default() }
    }

    fn client(&self) -> Result<Client, Away> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever gives out certificates is gone only when everything ends.
        let known = connection.take().filter(|known| !known.pass.has_changed().unwrap_or(false));
        let known = known.map_or_else(|| self.connect(), Ok)?;
        Ok(AdminClient::new(connection.insert(known).channel.clone()))
    }

    fn connect(&self) -> Result<Connection, Away> {
        let mut pass = self.pass.clone();
        let newest = pass.borrow_and_update();
        let tls = newest.tls();
        drop(newest);
        let channel = Endpoint::from_shared(self.address.clone())?
            .connect_timeout(CONNECT_MAX)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .tls_config(tls)?
            .connect_lazy();
        Ok(Connection { channel, pass })
    }

    /// Makes accounts what they should be. One outcome for each, in order.
    ///
    /// # Errors
    /// [`Away`]: some may have been applied.
    pub async fn apply(&self, accounts: Vec<v1::DesiredAccount>) -> Result<Vec<v1::ApplyOutcome>, Away> {
        let request = v1::ApplyRequest { managed_by: MANAGED_BY.to_owned(), accounts };
        Ok(self.client()?.apply(soon(request)).await?.into_inner().outcomes)
    }

    /// Deletes accounts. One outcome for each, in order.
    ///
    /// # Errors
    /// [`Away`]: some may have been deleted.
    pub async fn delete(&self, accounts: Vec<v1::DeletedAccount>) -> Result<Vec<v1::DeleteOutcome>, Away> {
        let request = v1::DeleteRequest { managed_by: MANAGED_BY.to_owned(), accounts };
        Ok(self.client()?.delete(soon(request)).await?.into_inner().outcomes)
    }

    /// Lets prices count, all of `overlay`, as the word of `scope`. Gives what the ledger says of it.
    ///
    /// # Errors
    /// [`Away`]: they may count.
    pub async fn set_prices(
        &self,
        scope: String,
        overlay: String,
    ) -> Result<Option<v1::set_prices_response::Outcome>, Away> {
        let request = v1::SetPricesRequest { managed_by: MANAGED_BY.to_owned(), owner_scope: scope, overlay };
        Ok(self.client()?.set_prices(soon(request)).await?.into_inner().outcome)
    }

    /// Tells `told` of everything that changes, from the very beginning, until nobody listens any more.
    pub async fn follow(self, told: mpsc::Sender<News>) {
        let mut cursor = Vec::new();
        let mut pause = RETRY_MIN;
        loop {
            let known = cursor.clone();
            let Err(away) = self.listen(&mut cursor, &told).await else { return };
            if told.send(News::Away(away.to_string())).await.is_err() {
                return;
            }
            // It was heard in between, so this is a new trouble, not the old one.
            pause = if cursor == known { (pause * 2).min(RETRY_MAX) } else { RETRY_MIN };
            tokio::time::sleep(pause).await;
        }
    }

    /// One stream of changes, to its end, which is always a trouble; `Ok`: nobody listens any more.
    async fn listen(&self, cursor: &mut Vec<u8>, told: &mpsc::Sender<News>) -> Result<(), Away> {
        let mut pass = self.pass.clone();
        pass.mark_unchanged();
        let request = v1::ChangesRequest { cursor: cursor.clone() };
        let mut changes = self.client()?.changes(request).await?.into_inner();
        loop {
            let heard = tokio::select! {
                heard = changes.message() => heard?,
                // An old certificate may have lost its authority: ask with the new one.
                changed = pass.changed() => {
                    if changed.is_err() { return Ok(()); }
                    return Err(Status::cancelled("the operator has a new certificate").into());
                }
            };
            let Some(heard) = heard else {
                return Err(Status::unavailable("the ledger ended the stream of changes").into());
            };
            cursor.clone_from(&heard.cursor);
            if told.send(News::Heard(Box::new(heard))).await.is_err() {
                return Ok(());
            }
        }
    }
}

/// A request that is answered soon, or given up.
pub(super) fn soon<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(ANSWER_MAX);
    request
}

/// What the ledger tells by itself.
#[derive(Debug)]
pub enum News {
    /// Accounts have changed.
    Heard(Box<v1::ChangesResponse>),
    /// It cannot be heard, and why.
    Away(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_ledger_will_never_take_is_a_refusal_and_no_absence() {
        let table = [
            (
                Status::invalid_argument("overlay: unknown field `next`"),
                Some("overlay: unknown field `next`"),
            ),
            // So tonic refuses a message beyond the server's limit.
            (
                Status::out_of_range("decoded message length too large"),
                Some("decoded message length too large"),
            ),
            (Status::unimplemented("no SetPrices"), Some("no SetPrices")),
            (Status::unavailable("gone"), None),
            (Status::deadline_exceeded("slow"), None),
            (Status::permission_denied("no"), None),
            (Status::internal("fault"), None),
        ];
        for (status, refusal) in table {
            assert_eq!(Away::from(status.clone()).refusal(), refusal, "{status}");
        }
    }
}
