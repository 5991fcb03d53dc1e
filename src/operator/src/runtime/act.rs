//! Carries out what a plan asks for. There is no judgement here: every action is one or two calls, and what they answer is a change
//! of the snapshot.

use super::ledger::{Away, Ledger};
use super::mirror::{Change, Versioned};
use super::publish::Publisher;
use super::watch::Seen;
use crate::plan::{
    Account, Action, IssueKey, KeySecret, Kind, ObjectName, ObjectRef, PriceFault, Refusal, SecretContent,
    Status, WireError,
};
use crate::resources::{Budget, FINALIZER, Organization, PriceBook, Team, User, VirtualKey};
use futures_util::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;
use std::sync::Arc;
use tollgate_domain::account::AccountName;
use tollgate_domain::ids::KeyDigest;
use tollgate_domain::key::{VirtualKey as Key, masked};
use tollgate_domain::price::{BookError, Overlay};
use tollgate_proto::v1;

/// Who wrote a field, to the API server.
const FIELD_MANAGER: &str = "tollgate-operator";
/// Accounts in one message: far below its 4 MiB, whatever they hold.
const ACCOUNTS_MAX: usize = 50;
/// Calls to the API server at once.
const CALLS_MAX: usize = 16;
/// What the API server answers, however often it is asked, where it does not take an object: because of a quota, a policy, a name, a
/// namespace that ends, or somebody's webhook, of which many say 400.
const NOT_TAKEN: [u16; 4] = [400, 403, 413, 422];

/// Why an action was not carried out, or not to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The API server refused, or was not there.
    #[error("{0}")]
    Api(Box<kube::Error>),
    /// The ledger was not there.
    #[error("{0}")]
    Ledger(#[from] Away),
    /// The ledger did not say what became of an account.
    #[error("the ledger's answer does not fit its question")]
    Answer,
    /// The system has no random bytes.
    #[error("no random bytes: {0}")]
    Random(getrandom::Error),
}

impl Failure {
    /// The API server would say the same however often it was asked.
    pub(super) fn is_for_good(&self) -> bool {
        match self {
            // That nothing is there is said of the namespace, by whoever makes things in it.
            Self::Api(error) => {
                matches!(&**error, kube::Error::Api(status) if status.code == 404 || NOT_TAKEN.contains(&status.code))
            }
            _ => false,
        }
    }
}

impl From<BookError> for Failure {
    fn from(_: BookError) -> Self {
        Self::Answer
    }
}

impl From<WireError> for Failure {
    fn from(_: WireError) -> Self {
        Self::Answer
    }
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        Self::Api(Box::new(error))
    }
}

/// What came of an action.
#[derive(Debug)]
pub(super) enum Effect {
    /// An object is now so.
    Change(Change),
    /// The ledger said this about an account that it was asked for.
    Answer(Box<Account>, Result<u64, Refusal>),
    /// An account is deleted.
    Deleted(AccountName),
    /// The ledger would not delete an account.
    NotDeleted(AccountName, Refusal),
    /// The ledger said this about the prices that it was asked for.
    Prices(Box<Overlay>, Result<(), Vec<PriceFault>>),
    /// A Secret of somebody else is in the way.
    Conflict(ObjectName),
    /// The API server does not take a Secret, and says why.
    SecretRefused(ObjectName, String),
}

/// What an action led to, and why it went no further.
pub(super) type Outcome = (Vec<Effect>, Option<(String, Failure)>);

/// The hands of the operator.
#[derive(Clone)]
pub(super) struct Actor {
    client: Client,
    ledger: Ledger,
    publisher: Publisher,
}

impl Actor {
    /// Works on a cluster and a ledger, as `instance`.
    #[must_use]
    pub(super) fn new(client: Client, ledger: Ledger, instance: String) -> Self {
        let publisher = Publisher::new(client.clone(), instance);
        Self { client, ledger, publisher }
    }

    /// Carries out actions. Those of the same sort run beside each other, since a plan puts what depends on each other into different
    /// sorts or, for accounts, into one list.
    pub(super) async fn carry_out(&self, actions: Vec<Action>) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(actions.len());
        let mut rest = actions.into_iter().peekable();
        while let Some(first) = rest.next() {
            let sort = std::mem::discriminant(&first);
            let mut alike = vec![first];
            while let Some(next) = rest.next_if(|next| std::mem::discriminant(next) == sort) {
                alike.push(next);
            }
            let calls = alike.into_iter().map(|action| self.carry_out_one(action));
            let mut done = futures_util::stream::iter(calls).buffer_unordered(CALLS_MAX);
            while let Some(outcome) = done.next().await {
                outcomes.push(outcome);
            }
        }
        outcomes
    }

    async fn carry_out_one(&self, action: Action) -> Outcome {
        let mut effects = Vec::new();
        let what = describe(&action);
        let failure = self.try_one(action, &mut effects).await.err().map(|failure| (what, failure));
        (effects, failure)
    }

    async fn try_one(&self, action: Action, effects: &mut Vec<Effect>) -> Result<(), Failure> {
        match action {
            Action::AddFinalizer(object) => self.set_finalizers(&object, json!([FINALIZER]), effects).await,
            Action::RemoveFinalizer(object) => self.set_finalizers(&object, json!([]), effects).await,
            Action::Apply(accounts) => self.apply(accounts, effects).await,
            Action::Delete(accounts) => self.delete(accounts, effects).await,
            Action::SetPrices { scope, overlay } => self.set_prices(scope, overlay, effects).await,
            Action::Issue(issue) => self.issue(*issue, effects).await,
            Action::Rewrite { key, secret, digest, content } => {
                self.rewrite(&key, &secret, &digest, &content, effects).await
            }
            Action::DeleteSecret { secret, uid } => self.delete_secret(&secret, uid).await,
            Action::SetStatus { object, status, events } => {
                let mut told = Ok(());
                for event in events {
                    if let Err(untaken) = self.publisher.publish(event).await {
                        told = Err(untaken);
                    }
                }
                // The status is more important than an event that never will be there.
                self.set_status(&object, &status, effects).await?;
                told
            }
        }
    }

    /// By server-side apply, with the uid, so that nothing is made and no other object of the name is touched.
    async fn set_finalizers(
        &self,
        object: &ObjectRef,
        finalizers: Value,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Failure> {
        let patch = json!({ "metadata": { "uid": object.uid, "finalizers": finalizers } });
        self.patch(object, patch, Part::Object, effects).await
    }

    async fn set_status(
        &self,
        object: &ObjectRef,
        status: &Status,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Failure> {
        let status = match status {
            Status::Account(status) => json!(status),
            Status::VirtualKey(status) => json!(status),
            Status::Budget(status) => json!(status),
            Status::PriceBook(status) => json!(status),
        };
        let patch = json!({ "metadata": { "uid": object.uid }, "status": status });
        self.patch(object, patch, Part::Status, effects).await
    }

    async fn patch(
        &self,
        object: &ObjectRef,
        patch: Value,
        part: Part,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Failure> {
        let change = match object.kind {
            Kind::Organization => {
                Change::Organizations(self.patch_kind::<Organization>(object, patch, part).await?)
            }
            Kind::Team => Change::Teams(self.patch_kind::<Team>(object, patch, part).await?),
            Kind::User => Change::Users(self.patch_kind::<User>(object, patch, part).await?),
            Kind::VirtualKey => {
                Change::VirtualKeys(self.patch_kind::<VirtualKey>(object, patch, part).await?)
            }
            Kind::Budget => Change::Budgets(self.patch_kind::<Budget>(object, patch, part).await?),
            Kind::PriceBook => Change::PriceBooks(self.patch_kind::<PriceBook>(object, patch, part).await?),
        };
        effects.push(Effect::Change(change));
        Ok(())
    }

    async fn patch_kind<K>(
        &self,
        object: &ObjectRef,
        mut patch: Value,
        part: Part,
    ) -> Result<Seen<Versioned<Arc<K>>>, Failure>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug,
    {
        let ObjectName { namespace, name } = &object.name;
        let api = Api::<K>::namespaced(self.client.clone(), namespace);
        patch["apiVersion"] = json!(K::api_version(&()));
        patch["kind"] = json!(K::kind(&()));
        let how = PatchParams::apply(FIELD_MANAGER).force();
        let patched = match part {
            Part::Object => api.patch(name, &how, &Patch::Apply(patch)).await?,
            Part::Status => api.patch_status(name, &how, &Patch::Apply(patch)).await?,
        };
        // Without its last finalizer an object that is being deleted is gone: what is answered is how it went.
        let gone = patched.meta().deletion_timestamp.is_some() && patched.finalizers().is_empty();
        let patched = Versioned::<()>::custom(patched);
        Ok(if gone { Seen::Gone(patched) } else { Seen::Is(patched) })
    }

    async fn apply(&self, accounts: Vec<Account>, effects: &mut Vec<Effect>) -> Result<(), Failure> {
        for accounts in accounts.chunks(ACCOUNTS_MAX) {
            let outcomes = self.ledger.apply(accounts.iter().map(v1::DesiredAccount::from).collect()).await?;
            if outcomes.len() != accounts.len() {
                return Err(Failure::Answer);
            }
            for (account, outcome) in accounts.iter().zip(outcomes) {
                use v1::apply_outcome::Outcome::{Applied, Refused};
                let answer = match outcome.outcome {
                    Some(Applied(applied)) => Ok(applied.revision),
                    Some(Refused(refused)) => Err(refused.try_into()?),
                    None => return Err(Failure::Answer),
                };
                effects.push(Effect::Answer(Box::new(account.clone()), answer));
            }
        }
        Ok(())
    }

    async fn delete(
        &self,
        accounts: Vec<(AccountName, String)>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Failure> {
        for accounts in accounts.chunks(ACCOUNTS_MAX) {
            let request = accounts.iter().map(|(name, owner_scope)| v1::DeletedAccount {
                name: Some(name.clone().into()),
                owner_scope: owner_scope.clone(),
            });
            let outcomes = self.ledger.delete(request.collect()).await?;
            if outcomes.len() != accounts.len() {
                return Err(Failure::Answer);
            }
            for ((name, _), outcome) in accounts.iter().zip(outcomes) {
                use v1::delete_outcome::Outcome::{Deleted, Refused};
                effects.push(match outcome.outcome {
                    Some(Deleted(_)) => Effect::Deleted(name.clone()),
                    Some(Refused(refused)) => Effect::NotDeleted(name.clone(), refused.try_into()?),
                    None => return Err(Failure::Answer),
                });
            }
        }
        Ok(())
    }

    async fn set_prices(
        &self,
        scope: String,
        overlay: Overlay,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Failure> {
        use v1::set_prices_response::Outcome::{Refused, Taken};
        let answer = match self.ledger.set_prices(scope, overlay.to_text()?).await {
            Ok(Some(Taken(_))) => Ok(()),
            Ok(Some(Refused(refused))) => {
                let faults = refused.faults.into_iter().map(PriceFault::try_from);
                Err(faults.collect::<Result<_, _>>()?)
            }
            Ok(None) => return Err(Failure::Answer),
            // Statuses say it, and it is asked again as seldom as what is refused otherwise.
            Err(away) => match away.refusal() {
                Some(said) => Err(vec![PriceFault::of_all(said)]),
                None => return Err(away.into()),
            },
        };
        effects.push(Effect::Prices(Box::new(overlay), answer));
        Ok(())
    }

    /// A new key. The ledger hears of it before anybody can read it, so no Secret ever holds a key that does not work yet; and not before
    /// it is known that the API server would take the Secret, or keys would follow each other that nobody gets to see.
    async fn issue(&self, issue: IssueKey, effects: &mut Vec<Effect>) -> Result<(), Failure> {
        let present = self.kept_from(&issue).await?;
        if !self.would_be_taken(&issue, present.as_ref(), effects).await? {
            return Ok(());
        }
        let key = random_key()?;
        let mut account = issue.account;
        account.credentials.push(crate::plan::Credential {
            digest: key.digest(),
            name: masked(key.expose()),
            expires_at: None,
        });
        self.apply(vec![account], effects).await?;
        if effects.iter().any(|effect| matches!(effect, Effect::Answer(_, Err(_)))) {
            return Ok(());
        }
        let secret = issue.content.secret(&issue.secret, &issue.key, key.expose(), present.as_ref());
        let written = match issue.secret_uid {
            Some(uid) => self.write_secret(secret, uid, effects).await,
            None => self.create_secret(&issue.secret, secret, effects).await,
        };
        refused(written, &issue.secret, key.expose(), effects).map(|_| ())
    }

    /// The Secret in whose place a new key comes, where entries of it stay.
    async fn kept_from(&self, issue: &IssueKey) -> Result<Option<Secret>, Failure> {
        if issue.secret_uid.is_none() || !issue.content.is_partial() {
            return Ok(None);
        }
        Ok(self.secrets(&issue.secret.namespace).get_opt(&issue.secret.name).await?)
    }

    /// Whether the API server would take the Secret of a new key. It is shown a key that nobody knows and that never works.
    async fn would_be_taken(
        &self,
        issue: &IssueKey,
        present: Option<&Secret>,
        effects: &mut Vec<Effect>,
    ) -> Result<bool, Failure> {
        let key = random_key()?;
        let secret = issue.content.secret(&issue.secret, &issue.key, key.expose(), present);
        match self.send_secret(secret, issue.secret_uid.clone(), true).await {
            Ok(_) => Ok(true),
            // Whose it is, is seen when it is written.
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(true),
            // A webhook of somebody's that cannot try: it will say when it is meant.
            Err(kube::Error::Api(status)) if status.code == 400 && status.message.contains("dry run") => {
                Ok(true)
            }
            Err(error) => refused(Err(error.into()), &issue.secret, key.expose(), effects),
        }
    }

    async fn rewrite(
        &self,
        key: &ObjectRef,
        name: &ObjectName,
        digest: &KeyDigest,
        content: &SecretContent,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Failure> {
        let Some(present) = self.secrets(&name.namespace).get_opt(&name.name).await? else { return Ok(()) };
        let Some(exposed) = KeySecret::expose(&present, *digest) else {
            effects.push(Effect::Change(Change::Secrets(Seen::Is(Versioned::<()>::secret(present)))));
            return Ok(());
        };
        let secret = content.secret(name, key, exposed, Some(&present));
        let written = self.write_secret(secret, present.uid().unwrap_or_default(), effects).await;
        refused(written, name, exposed, effects).map(|_| ())
    }

    fn secrets(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Writes a Secret: over the one of this uid and no other, or, without a uid, as one that is not there yet.
    async fn send_secret(
        &self,
        mut secret: Secret,
        uid: Option<String>,
        dry_run: bool,
    ) -> kube::Result<Secret> {
        let api = self.secrets(&secret.namespace().unwrap_or_default());
        if uid.is_none() {
            let how = PostParams { dry_run, field_manager: Some(FIELD_MANAGER.to_owned()) };
            return api.create(&how, &secret).await;
        }
        secret.metadata.uid = uid;
        let how = PatchParams { dry_run, ..PatchParams::apply(FIELD_MANAGER).force() };
        api.patch(&secret.name_any(), &how, &Patch::Apply(&secret)).await
    }

    async fn write_secret(
        &self,
        secret: Secret,
        uid: String,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Failure> {
        let written = self.send_secret(secret, Some(uid), false).await?;
        effects.push(Effect::Change(Change::Secrets(Seen::Is(Versioned::<()>::secret(written)))));
        Ok(())
    }

    /// A Secret that is not there yet. One that somebody else made meanwhile stays as it is.
    async fn create_secret(
        &self,
        name: &ObjectName,
        secret: Secret,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Failure> {
        match self.send_secret(secret, None, false).await {
            Ok(created) => {
                effects.push(Effect::Change(Change::Secrets(Seen::Is(Versioned::<()>::secret(created)))));
            }
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                let present = self.secrets(&name.namespace).get_opt(&name.name).await?;
                // It may be our own, made a moment ago and not yet on the list that the plan was made from.
                match present.map(Versioned::<()>::secret) {
                    Some(own) if own.object.owner_uid.is_some() => {
                        effects.push(Effect::Change(Change::Secrets(Seen::Is(own))));
                    }
                    _ => effects.push(Effect::Conflict(name.clone())),
                }
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Its watch tells when it is gone.
    async fn delete_secret(&self, name: &ObjectName, uid: String) -> Result<(), Failure> {
        let only = Preconditions { uid: Some(uid), resource_version: None };
        let how = DeleteParams { preconditions: Some(only), ..DeleteParams::default() };
        match self.secrets(&name.namespace).delete(&name.name, &how).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

fn random_key() -> Result<Key, Failure> {
    let mut entropy = zeroize::Zeroizing::new([0; 32]);
    getrandom::fill(entropy.as_mut()).map_err(Failure::Random)?;
    Ok(Key::from_entropy(*entropy))
}

/// Whether a Secret was written. What the API server will not take, however often it is asked, is told in the object's status: a quota, a
/// policy, a name. Whatever it says, policies may quote what they refuse.
fn refused(
    written: Result<(), Failure>,
    secret: &ObjectName,
    key: &str,
    effects: &mut Vec<Effect>,
) -> Result<bool, Failure> {
    let error = match written {
        Ok(()) => return Ok(true),
        Err(Failure::Api(error)) => error,
        Err(other) => return Err(other),
    };
    let kube::Error::Api(mut status) = *error else { return Err((*error).into()) };
    status.message = without_key(&status.message, key);
    if !NOT_TAKEN.contains(&status.code) {
        return Err(kube::Error::Api(status).into());
    }
    tracing::warn!(%secret, said = status.message, "the API server does not take a Secret");
    effects.push(Effect::SecretRefused(secret.clone(), status.message));
    Ok(false)
}

/// A text in which a key does not stand, neither as it is nor as Secrets hold it.
fn without_key(text: &str, key: &str) -> String {
    let encoded = json!(ByteString(key.as_bytes().to_vec()));
    let text = text.replace(key, &masked(key));
    encoded.as_str().map(|encoded| text.replace(encoded, "...")).unwrap_or(text)
}

/// Which part of an object is written.
#[derive(Clone, Copy)]
enum Part {
    Object,
    Status,
}

/// For the log: what, and of which object, and nothing of what is in it.
fn describe(action: &Action) -> String {
    match action {
        Action::AddFinalizer(object) => format!("the finalizer of {} {}", object.kind, object.name),
        Action::RemoveFinalizer(object) => format!("the end of {} {}", object.kind, object.name),
        Action::Apply(accounts) => format!("{} accounts", accounts.len()),
        Action::Delete(accounts) => format!("the deletion of {} accounts", accounts.len()),
        Action::SetPrices { overlay, .. } => format!("the prices of {} price books", overlay.sheets.len()),
        Action::Issue(issue) => format!("a key for VirtualKey {}", issue.key.name),
        Action::Rewrite { secret, .. } => format!("Secret {secret}"),
        Action::DeleteSecret { secret, .. } => format!("the deletion of Secret {secret}"),
        Action::SetStatus { object, .. } => format!("the status of {} {}", object.kind, object.name),
    }
}

#[cfg(test)]
mod tests {
    use super::super::ledger::Pass;
    use super::*;
    use crate::fake_api::{self, Asked};
    use crate::plan::{Event, EventType};
    use crate::resources::BudgetStatus;
    use http::Method;

    fn said(code: u16, message: &str) -> Result<(), Failure> {
        let status =
            kube::core::Status { code, message: message.to_owned(), ..kube::core::Status::default() };
        Err(kube::Error::Api(Box::new(status)).into())
    }

    /// An API server that answers whoever publishes an event by `code`.
    fn server(code: u16) -> (Client, Asked) {
        let metadata =
            json!({ "name": "alice", "namespace": "payments", "uid": "u-1", "resourceVersion": "2" });
        let target = json!({ "kind": "Team", "name": "t" });
        let budget = json!({ "metadata": metadata, "spec": { "targetRef": target, "limits": [] } });
        fake_api::serve(move |method, _, _| match *method {
            Method::POST => fake_api::refusal(code),
            _ => (200, budget.clone()),
        })
    }

    /// A ledger that nobody calls.
    fn no_ledger() -> Ledger {
        let pass = Pass { certificate: vec![], key: vec![].into(), authorities: vec![] };
        Ledger::new("https://ledger".to_owned(), tokio::sync::watch::channel(pass).1)
    }

    #[tokio::test]
    async fn a_status_is_written_after_its_events_whatever_becomes_of_them() {
        let name = ObjectName::new("payments", "alice");
        let object = ObjectRef { kind: Kind::Budget, name, uid: "u-1".to_owned() };
        // What may be taken later is no failure: it is tried on.
        for (code, is_whole) in [(403, false), (500, true)] {
            let event = |name: &str| Event {
                name: name.to_owned(),
                about: object.clone(),
                event_type: EventType::Warning,
                reason: "ThresholdCrossed",
                note: String::new(),
            };
            let (client, asked) = server(code);
            let actor = Actor::new(client, no_ledger(), "operator-0".to_owned());
            let action = Action::SetStatus {
                object: object.clone(),
                status: Status::Budget(BudgetStatus::default()),
                events: vec![event("one"), event("two")],
            };
            let [(effects, failure)] = &actor.carry_out(vec![action]).await[..] else { panic!("{code}") };
            let events = (Method::POST, "/apis/events.k8s.io/v1/namespaces/payments/events".to_owned());
            let status = "/apis/tollgate.dev/v1alpha1/namespaces/payments/budgets/alice/status";
            let status = (Method::PATCH, status.to_owned());
            assert_eq!(*asked.borrow(), [events.clone(), events, status], "{code}");
            assert_eq!((effects.len(), failure.is_none()), (1, is_whole), "{code}: {failure:?}");
        }
    }

    #[test]
    fn a_refusal_is_told_without_the_key() {
        let key = Key::from_entropy([7; 32]);
        let encoded = json!(ByteString(key.expose().as_bytes().to_vec()));
        let quoted = format!("no {} and no {}", key.expose(), encoded.as_str().unwrap());
        let name = ObjectName::new("payments", "alice");
        for (code, is_told) in [(403, true), (422, true), (500, false), (409, false)] {
            let mut effects = Vec::new();
            let said = match refused(said(code, &quoted), &name, key.expose(), &mut effects) {
                Ok(false) => match effects.as_slice() {
                    [Effect::SecretRefused(_, said)] => said.clone(),
                    other => panic!("{code}: {other:?}"),
                },
                Err(failure) => failure.to_string(),
                Ok(true) => panic!("{code}"),
            };
            assert_eq!(effects.len(), usize::from(is_told), "{code}");
            assert!(said.contains("no sk-...") && !said.contains(key.expose()), "{code}: {said}");
            assert!(!said.contains(encoded.as_str().unwrap()), "{code}: {said}");
        }
    }
}
