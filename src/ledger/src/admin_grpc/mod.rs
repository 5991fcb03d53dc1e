//! The gRPC service that an operator speaks to: accounts as they should be go in, how they stand comes out. It works on the same store
//! as the HTTP API, and stands beside it on the admin port.

mod list;
mod prices;
mod read;
mod stream;
mod write;

use crate::door::Peer;
use crate::master::MasterKey;
use crate::permits;
use crate::server::MESSAGE_BYTES_MAX;
use crate::store::{DesiredAccount, Manager, Operated, Refused, StoreError};
use axum::Router;
use axum::extract::ConnectInfo;
use futures_util::future::join_all;
use read::Fault;
use std::sync::Arc;
use stream::ChangesStream;
use tokio::sync::watch;
use tollgate_proto::v1;
use tollgate_proto::v1::admin_server::{Admin, AdminServer};
use tonic::metadata::MetadataMap;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status};

/// Accounts of one message at most.
const ACCOUNTS_MAX: usize = 1_000;
/// Crossings in one answer, unless told, and at most.
const CROSSINGS_DEFAULT: u32 = 100;
const CROSSINGS_MAX: u32 = 1_000;

/// The service's routes, for the listener of the admin API. Streams end when `stopped` says so.
pub fn routes<S: Operated>(store: Arc<S>, master: MasterKey, stopped: watch::Receiver<bool>) -> Router {
    let service =
        AdminServer::new(AdminService { store, stopped }).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let guarded = InterceptedService::new(service, move |request: Request<()>| authorized(&master, request));
    Router::new().route_service("/tollgate.ledger.v1.Admin/{rpc}", guarded)
}

/// By the operator's certificate, or by the master key. One wording for every key that does not open the door, so that guessing
/// learns nothing.
fn authorized(master: &MasterKey, request: Request<()>) -> Result<Request<()>, Status> {
    let peer = request.extensions().get::<ConnectInfo<Peer>>().map(|ConnectInfo(peer)| peer);
    permits::administers(peer, is_master(master, request.metadata()))?;
    Ok(request)
}

/// Every line that is there must hold the key.
fn is_master(master: &MasterKey, metadata: &MetadataMap) -> bool {
    let mut lines = metadata.get_all("authorization").iter().peekable();
    let matches = |value: &[u8]| match value.trim_ascii().split_at_checked(7) {
        Some((scheme, secret)) => {
            scheme.eq_ignore_ascii_case(b"bearer ") && master.matches(secret.trim_ascii())
        }
        None => false,
    };
    lines.peek().is_some() && lines.all(|value| matches(value.as_bytes()))
}

struct AdminService<S> {
    store: Arc<S>,
    stopped: watch::Receiver<bool>,
}

#[tonic::async_trait]
impl<S: Operated> Admin for AdminService<S> {
    async fn apply(&self, request: Request<v1::ApplyRequest>) -> Result<Response<v1::ApplyResponse>, Status> {
        use v1::apply_outcome::Outcome;
        let v1::ApplyRequest { managed_by, accounts } = request.into_inner();
        let managed_by = manager(managed_by)?;
        at_most(accounts.len())?;
        let read: Vec<Result<DesiredAccount, Fault>> =
            accounts.into_iter().map(|account| read::account(account, &managed_by)).collect();
        once_each(read.iter().map(|account| account.as_ref().ok().map(|account| &account.name)))?;
        let good = read.iter().filter_map(|account| account.as_ref().ok().cloned()).collect();
        let mut done = self.store.apply(good).await.map_err(|error| unavailable(&error))?.into_iter();
        let outcome = |account: Result<_, Fault>| match account {
            Err(fault) => Ok(Outcome::Refused(write::fault(fault))),
            Ok(_) => match done.next() {
                Some(Ok((applied, revision))) => Ok(Outcome::Applied(write::applied(applied, revision))),
                Some(Err(refused)) => Ok(Outcome::Refused(write::refused(refused)?)),
                None => Err(Status::internal("an account has no outcome")),
            },
        };
        let outcomes: Vec<_> = read.into_iter().map(outcome).collect::<Result<_, Status>>()?;
        let outcomes =
            outcomes.into_iter().map(|outcome| v1::ApplyOutcome { outcome: Some(outcome) }).collect();
        Ok(Response::new(v1::ApplyResponse { outcomes }))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let v1::DeleteRequest { managed_by, accounts } = request.into_inner();
        let managed_by = manager(managed_by)?;
        at_most(accounts.len())?;
        let outcomes = accounts.into_iter().map(|account| self.delete_one(account, &managed_by));
        let outcomes = join_all(outcomes).await.into_iter().collect::<Result<_, Status>>()?;
        Ok(Response::new(v1::DeleteResponse { outcomes }))
    }

    async fn set_prices(
        &self,
        request: Request<v1::SetPricesRequest>,
    ) -> Result<Response<v1::SetPricesResponse>, Status> {
        Ok(Response::new(prices::set(&*self.store, request.into_inner()).await?))
    }

    type ChangesStream = ChangesStream;

    async fn changes(
        &self,
        request: Request<v1::ChangesRequest>,
    ) -> Result<Response<Self::ChangesStream>, Status> {
        let cursor = read::cursor(&request.into_inner().cursor).map_err(|fault| invalid(&fault))?;
        Ok(Response::new(stream::changes(self.store.clone(), cursor, self.stopped.clone())))
    }

    async fn crossings(
        &self,
        request: Request<v1::CrossingsRequest>,
    ) -> Result<Response<v1::CrossingsResponse>, Status> {
        let v1::CrossingsRequest { cursor, at_most } = request.into_inner();
        let at_most = match at_most {
            0 => CROSSINGS_DEFAULT,
            1..=CROSSINGS_MAX => at_most,
            _ => return Err(Status::invalid_argument("at_most is more than 1,000")),
        };
        let epoch = self.store.epoch();
        let known = read::numbered_cursor(&cursor).map_err(|fault| invalid(&fault))?;
        let after = known.filter(|(of, _)| *of == epoch).map_or(0, |(_, number)| number);
        let found = self.store.crossings(after, at_most.into()).await.map_err(|error| unavailable(&error))?;
        let last = found.last().map_or(after, |crossing| crossing.number);
        Ok(Response::new(v1::CrossingsResponse {
            crossings: found.into_iter().map(write::crossing).collect(),
            cursor: read::numbered_cursor_bytes(epoch, last),
            restarted: known.is_some_and(|(of, _)| of != epoch),
        }))
    }

    async fn list(&self, request: Request<v1::ListRequest>) -> Result<Response<v1::ListResponse>, Status> {
        Ok(Response::new(list::list(&*self.store, request.into_inner()).await?))
    }
}

impl<S: Operated> AdminService<S> {
    async fn delete_one(
        &self,
        account: v1::DeletedAccount,
        managed_by: &str,
    ) -> Result<v1::DeleteOutcome, Status> {
        use v1::delete_outcome::Outcome;
        let outcome = match read::deleted(account, managed_by) {
            Err(fault) => Outcome::Refused(write::fault(fault)),
            Ok((name, manager)) => match self.store.remove(name, manager).await {
                Ok(Ok(existed)) => Outcome::Deleted(write::deleted(existed)),
                Ok(Err(refused)) => Outcome::Refused(write::refused(refused)?),
                Err(error) => Outcome::Refused(refused_whole(error)?),
            },
        };
        Ok(v1::DeleteOutcome { outcome: Some(outcome) })
    }
}

/// What the store refuses without a word of the field.
fn refused_whole(error: StoreError) -> Result<v1::Refusal, Status> {
    write::refused(Refused { field: String::new(), error })
}

fn manager(name: String) -> Result<String, Status> {
    if name == Manager::API {
        return Err(Status::invalid_argument("managed_by stands for the HTTP API"));
    }
    read::required_text("managed_by", name).map_err(|fault| invalid(&fault))
}

fn at_most(accounts: usize) -> Result<(), Status> {
    if accounts > ACCOUNTS_MAX {
        return Err(Status::invalid_argument("accounts are more than 1,000"));
    }
    Ok(())
}

/// Two versions of one account in a message contradict each other.
fn once_each<'a, T: Ord + 'a>(names: impl Iterator<Item = Option<&'a T>>) -> Result<(), Status> {
    let mut known = std::collections::BTreeSet::new();
    for (index, name) in names.enumerate() {
        if name.is_some_and(|name| !known.insert(name)) {
            return Err(Status::invalid_argument(format!("accounts[{index}].name is there twice")));
        }
    }
    Ok(())
}

fn invalid(fault: &Fault) -> Status {
    Status::invalid_argument(fault.to_string())
}

fn unavailable(error: &StoreError) -> Status {
    tracing::warn!(%error, "an operator's message was not carried out");
    Status::unavailable("the ledger's store is not available at the moment")
}
