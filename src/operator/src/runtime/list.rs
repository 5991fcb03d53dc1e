//! Every account that the ledger has, asked for once.

use super::ledger::{Away, CONNECT_MAX, Pass, soon, trusting};
use tollgate_domain::time::Timestamp;
use tollgate_proto::v1;
use tollgate_proto::v1::admin_client::AdminClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Endpoint;
use tonic::{Request, Status};
use zeroize::Zeroizing;

/// Accounts that are asked for at once.
const ACCOUNTS_AT_ONCE: u32 = 200;

/// What opens the ledger's door.
pub enum Door {
    /// The operator's own certificate.
    Certificate(Pass),
    /// The master key, and the authorities that the ledger's certificate may come from, where it has one.
    MasterKey(Zeroizing<String>, Option<Vec<u8>>),
}

/// What there was.
#[derive(Clone, Debug)]
pub struct Books {
    /// Every account, in the order of their making.
    pub accounts: Vec<v1::ListedAccount>,
    /// When they were asked for.
    pub at: Timestamp,
}

/// Asks the ledger at `address`, a URL, for every account.
///
/// # Errors
/// [`Away`], also where the books were restored meanwhile: ask again.
pub async fn list(address: String, door: Door) -> Result<Books, Away> {
    let endpoint = Endpoint::from_shared(address)?.connect_timeout(CONNECT_MAX);
    let (endpoint, authorization) = match door {
        Door::Certificate(pass) => (endpoint.tls_config(pass.tls())?, None),
        Door::MasterKey(key, authorities) => {
            let endpoint = match authorities {
                Some(authorities) => endpoint.tls_config(trusting(&authorities))?,
                None => endpoint,
            };
            (endpoint, Some(bearer(&key)?))
        }
    };
    let mut client = AdminClient::new(endpoint.connect().await?);
    let at = super::now();
    let mut accounts = Vec::new();
    let mut cursor = Vec::new();
    loop {
        let mut request: Request<v1::ListRequest> =
            soon(v1::ListRequest { cursor, at_most: ACCOUNTS_AT_ONCE });
        if let Some(authorization) = &authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        let answer = client.list(request).await?.into_inner();
        accounts.extend(answer.accounts);
        cursor = answer.cursor;
        if cursor.is_empty() {
            return Ok(Books { accounts, at });
        }
    }
}

fn bearer(key: &str) -> Result<MetadataValue<Ascii>, Away> {
    let text = Zeroizing::new(format!("Bearer {key}"));
    let mut value: MetadataValue<Ascii> =
        text.parse().map_err(|_| Status::invalid_argument("the master key holds what no header can hold"))?;
    value.set_sensitive(true);
    Ok(value)
}
