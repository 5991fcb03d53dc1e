//! Keeps the Secrets as the [plan](super::plan()) says. The operator that leads writes; the others read what concerns themselves, as all
//! of them do where somebody else keeps the Secrets.
//!
//! Two that write at once do no harm: each write names the version that it is made from, and the later one fails and looks
//! again. A Secret that somebody else has made is never touched.

use super::leaf::{Leaf, Part};
use super::pair::MakeError;
use super::plan::{AuthorityStep, LeafStep, plan};
use super::secret::{AuthoritySecret, LeafSecret};
use crate::clock;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::watch;

/// On every Secret that the operator writes.
const LABEL: &str = "tollgate.dev/secret";
const LABEL_VALUE: &str = "certificate";
const TLS: &str = "kubernetes.io/tls";
/// The name of a sidecar's certificate in its namespace.
pub const SIDECAR_SECRET: &str = "tollgate-sidecar-tls";
/// The webhook in its configuration.
const WEBHOOK: &str = "inject.tollgate.dev";
/// How often it is looked after: what somebody deletes is back within a minute, and a renewal is days early.
const EVERY: Duration = Duration::from_secs(60);
/// After something failed.
const RETRY: Duration = Duration::from_secs(5);
/// How often in a row, before it is taken for a lasting state.
const RETRIES: u32 = 12;

/// What the installation says.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the release is called; the names of its Secrets begin with it.
    pub release: String,
    /// Where it is installed.
    pub namespace: String,
    /// Other names by which clients reach the ingress.
    pub gateway_names: Vec<String>,
    /// Namespaces whose sidecars speak to the ledger.
    pub direct_namespaces: Vec<String>,
    /// Whether there is a webhook.
    pub injects: bool,
    /// Whether the certificates are the operator's to make. Otherwise somebody else keeps the same Secrets, and the webhook's bundle; the
    /// operator writes none, and has no authority.
    pub keeps: bool,
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The API server says no, or nothing.
    #[error("{0}: {1}")]
    Kubernetes(String, #[source] Box<kube::Error>),
    /// Somebody else has a Secret of this name.
    #[error("the Secret {0} is not the operator's: it lacks the label {LABEL}")]
    NotOurs(String),
    /// A certificate cannot be made.
    #[error(transparent)]
    Make(#[from] MakeError),
}

/// The certificates that the operator itself shows.
#[derive(Clone, Debug, Default)]
pub struct Own {
    /// To the ledger.
    pub operator: LeafSecret,
    /// As the webhook.
    pub webhook: LeafSecret,
}

/// Where a certificate is kept.
#[derive(Clone, Debug)]
struct Place {
    namespace: String,
    name: String,
}

impl Settings {
    fn place(&self, part: &Part) -> Place {
        let own = |name: &str| Place {
            namespace: self.namespace.clone(),
            name: format!("{}-{name}-tls", self.release),
        };
        match part {
            Part::Ledger => own("ledger"),
            Part::Gateway => own("gateway"),
            Part::Operator => own("operator"),
            Part::Webhook => own("webhook"),
            Part::Namespace(namespace) => {
                Place { namespace: namespace.clone(), name: SIDECAR_SECRET.to_owned() }
            }
        }
    }

    /// Whether the operator has all that it shows.
    const fn is_whole(&self, own: &Own) -> bool {
        let operator = own.operator.pair.is_some() && !own.operator.authorities.is_empty();
        operator && (own.webhook.pair.is_some() || !self.injects)
    }

    /// Until the next look, after so many in a row that found too little. What the keeper itself lacks for long, but for what it shows the
    /// ledger, is in a Secret of somebody else's, which is not soon gone.
    const fn pause(&self, own: &Own, lacking: u32) -> Duration {
        let is_late = self.keeps && own.operator.pair.is_some() && lacking > RETRIES;
        if lacking == 0 || is_late { EVERY } else { RETRY }
    }

    /// Every certificate that is wanted. Where somebody else keeps them, the chart asks for the same.
    pub fn leaves(&self) -> Vec<Leaf> {
        let service = |name: &str| {
            let (release, namespace) = (&self.release, &self.namespace);
            let short = format!("{release}-{name}");
            let suffixes = ["", ".svc", ".svc.cluster.local"];
            let full = suffixes.iter().map(|suffix| format!("{short}.{namespace}{suffix}"));
            [short.clone()].into_iter().chain(full).collect::<Vec<_>>()
        };
        // By this name it is known whatever the release is called.
        let ledger = [service("ledger"), vec!["tollgate-ledger".to_owned()]].concat();
        let gateway = [service("gateway"), self.gateway_names.clone()].concat();
        let mut leaves = vec![
            Leaf { part: Part::Ledger, dns: ledger },
            Leaf { part: Part::Gateway, dns: gateway },
            Leaf { part: Part::Operator, dns: Vec::new() },
        ];
        if self.injects {
            leaves.push(Leaf { part: Part::Webhook, dns: service("webhook") });
        }
        let sidecars = self.direct_namespaces.iter();
        leaves.extend(sidecars.map(|name| Leaf { part: Part::Namespace(name.clone()), dns: Vec::new() }));
        leaves
    }
}

/// Looks after the certificates for ever. `leads` says whether this operator writes; `own` is told its own certificates.
pub async fn keep(
    client: Client,
    settings: Settings,
    mut leads: watch::Receiver<bool>,
    own: watch::Sender<Option<Own>>,
) {
    let keeper = Keeper { client, settings };
    let mut lacking = 0_u32;
    loop {
        let leading = *leads.borrow_and_update();
        if leading && keeper.settings.keeps {
            keeper.renew(clock::now()).await;
        }
        let wait = match keeper.own().await {
            Ok(read) => {
                lacking = if keeper.settings.is_whole(&read) { 0 } else { lacking.saturating_add(1) };
                if lacking > 0 && !keeper.settings.keeps {
                    tracing::warn!("the operator waits for certificates that somebody else keeps");
                }
                let pause = keeper.settings.pause(&read, lacking);
                publish(&own, read);
                pause
            }
            Err(error) => {
                tracing::warn!(%error, "the operator's own certificates were not read");
                RETRY
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            changed = leads.changed() => if changed.is_err() { return },
        }
    }
}

/// Tells only what is new.
fn publish(own: &watch::Sender<Option<Own>>, read: Own) {
    let text = |own: &Own| [own.operator.data(), own.webhook.data()];
    own.send_if_modified(|known| {
        let is_new = known.as_ref().map(text) != Some(text(&read));
        if is_new {
            *known = Some(read);
        }
        is_new
    });
}

/// The certificates that the operator shows, as they are now.
///
/// # Errors
/// [`KeepError`] where the API server does not give them.
pub async fn read_own(client: Client, settings: Settings) -> Result<Own, KeepError> {
    Keeper { client, settings }.own().await
}

struct Keeper {
    client: Client,
    settings: Settings,
}

impl Keeper {
    /// One round; what fails is said and tried again in the next one, and hinders nothing else.
    async fn renew(&self, now: Timestamp) {
        if let Err(error) = self.try_renew(now).await {
            tracing::warn!(%error, "certificates were not looked after");
        }
    }

    async fn try_renew(&self, now: Timestamp) -> Result<(), KeepError> {
        let place = Place {
            namespace: self.settings.namespace.clone(),
            name: format!("{}-ca", self.settings.release),
        };
        let present = self.get(&place).await?;
        let authority = present.as_ref().map(AuthoritySecret::of).unwrap_or_default();
        let mut leaves = Vec::new();
        for leaf in self.settings.leaves() {
            match self.get(&self.settings.place(&leaf.part)).await {
                Ok(secret) => leaves.push((leaf, secret)),
                Err(error) => tracing::warn!(%error, part = %leaf.part, "a certificate was not looked after"),
            }
        }
        let read = |(leaf, secret): &(Leaf, Option<Secret>)| {
            (leaf.clone(), secret.as_ref().map(LeafSecret::of).unwrap_or_default())
        };
        let wanted: Vec<_> = leaves.iter().map(read).collect();
        let plan = plan(authority, &wanted, now)?;
        if plan.authority != AuthorityStep::Keep {
            tracing::info!(step = ?plan.authority, "the authority");
            // First, because what is signed by an authority that is not kept is worth nothing.
            self.put(&place, present, plan.secret.data()).await?;
        }
        for (((leaf, present), (_, secret)), step) in wanted.iter().zip(leaves).zip(&plan.leaves) {
            let Some(next) = plan.carry_out(*step, leaf, present, now)? else { continue };
            if let LeafStep::Sign(why) = step {
                tracing::info!(part = %leaf.part, ?why, "a certificate was signed");
            }
            if let Err(error) = self.put(&self.settings.place(&leaf.part), secret, next.data()).await {
                tracing::warn!(%error, part = %leaf.part, "a certificate was not kept");
            }
        }
        if self.settings.injects {
            self.tell_api_server(&plan.secret.bundle.pem()).await?;
        }
        Ok(())
    }

    async fn own(&self) -> Result<Own, KeepError> {
        let read = async |part| {
            let secret = self.get(&self.settings.place(&part)).await?;
            Ok::<_, KeepError>(secret.as_ref().map(LeafSecret::of).unwrap_or_default())
        };
        let webhook = if self.settings.injects { read(Part::Webhook).await? } else { LeafSecret::default() };
        Ok(Own { operator: read(Part::Operator).await?, webhook })
    }

    fn secrets(&self, place: &Place) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &place.namespace)
    }

    async fn get(&self, place: &Place) -> Result<Option<Secret>, KeepError> {
        self.secrets(place).get_opt(&place.name).await.map_err(|error| place.failed(error))
    }

    /// Writes a Secret, from the version that was read.
    async fn put(
        &self,
        place: &Place,
        present: Option<Secret>,
        data: BTreeMap<String, Vec<u8>>,
    ) -> Result<(), KeepError> {
        let data = Some(data.into_iter().map(|(name, value)| (name, ByteString(value))).collect());
        let params = PostParams { field_manager: Some("tollgate-operator".into()), ..PostParams::default() };
        let written = match present {
            None => self.secrets(place).create(&params, &place.secret(data)).await,
            Some(secret) if is_ours(&secret) => {
                self.secrets(place).replace(&place.name, &params, &Secret { data, ..secret }).await
            }
            Some(_) => return Err(KeepError::NotOurs(place.to_string())),
        };
        written.map(drop).map_err(|error| place.failed(error))
    }

    /// The API server believes the webhook by this bundle.
    async fn tell_api_server(&self, bundle: &str) -> Result<(), KeepError> {
        let name = format!("{}-sidecar-injector", self.settings.release);
        let failed = |error| KeepError::Kubernetes(format!("webhook configuration {name}"), Box::new(error));
        let api: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let Some(present) = api.get_opt(&name).await.map_err(failed)? else { return Ok(()) };
        let ca_bundle = ByteString(bundle.as_bytes().to_vec());
        let webhooks = present.webhooks.unwrap_or_default();
        let is_told = |webhook: &&k8s_openapi::api::admissionregistration::v1::MutatingWebhook| {
            webhook.name == WEBHOOK && webhook.client_config.ca_bundle.as_ref() == Some(&ca_bundle)
        };
        if webhooks.iter().any(|webhook| is_told(&webhook)) {
            return Ok(());
        }
        let patch = json!({"webhooks": [{"name": WEBHOOK, "clientConfig": {"caBundle": ca_bundle}}]});
        let params =
            PatchParams { field_manager: Some("tollgate-operator".into()), ..PatchParams::default() };
        api.patch(&name, &params, &Patch::Strategic(patch)).await.map(drop).map_err(failed)
    }
}

fn is_ours(secret: &Secret) -> bool {
    secret.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(LABEL))
}

/// What is in a Secret.
fn contents(secret: &Secret) -> BTreeMap<String, Vec<u8>> {
    let data = secret.data.iter().flatten();
    data.map(|(name, value)| (name.clone(), value.0.clone())).collect()
}

impl AuthoritySecret {
    fn of(secret: &Secret) -> Self {
        Self::read(&contents(secret))
    }
}

impl LeafSecret {
    fn of(secret: &Secret) -> Self {
        Self::read(&contents(secret))
    }
}

impl Place {
    fn secret(&self, data: Option<BTreeMap<String, ByteString>>) -> Secret {
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let labels = [label(LABEL, LABEL_VALUE), label("app.kubernetes.io/managed-by", "tollgate-operator")];
        Secret {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(self.namespace.clone()),
                labels: Some(labels.into()),
                ..ObjectMeta::default()
            },
            type_: Some(TLS.to_owned()),
            data,
            ..Secret::default()
        }
    }

    fn failed(&self, error: kube::Error) -> KeepError {
        KeepError::Kubernetes(format!("Secret {self}"), Box::new(error))
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::Pair;
    use crate::fake_api::{self, Asked};
    use http::Method;
    use serde_json::Value;

    fn settings(keeps: bool) -> Settings {
        Settings {
            release: "tollgate".into(),
            namespace: "tollgate".into(),
            gateway_names: vec!["tollgate.example.com".into()],
            direct_namespaces: vec!["research".into(), "n".repeat(63)],
            injects: true,
            keeps,
        }
    }

    /// An API server with these Secrets, which takes nothing, and what it was asked.
    fn server(secrets: Vec<Secret>) -> (Client, Asked) {
        fake_api::serve(move |method, path, _| {
            let found = secrets.iter().find(|secret| {
                let name = secret.metadata.name.as_deref().unwrap_or_default();
                *method == Method::GET && path.ends_with(&format!("/secrets/{name}"))
            });
            found.map_or_else(|| fake_api::refusal(404), |secret| (200, json!(secret)))
        })
    }

    /// A Secret as cert-manager leaves it: without a label of ours.
    fn given(part: &Part) -> Secret {
        let authority = Pair::authority(clock::now()).unwrap();
        let leaf = Leaf { part: part.clone(), dns: vec![] };
        let pair = Some(authority.sign(&leaf, clock::now()).unwrap());
        let data = LeafSecret { pair, authorities: authority.certificate().to_owned() }.data();
        let place = settings(false).place(part);
        let data = data.into_iter().map(|(name, value)| (name, ByteString(value))).collect();
        let mut secret = place.secret(Some(data));
        secret.metadata.labels = None;
        secret
    }

    /// What an operator that leads asks in its first round, and what it tells of itself.
    async fn first_round(keeps: bool, secrets: Vec<Secret>) -> (Vec<(Method, String)>, Own) {
        let (client, asked) = server(secrets);
        let (_leads, leading) = watch::channel(true);
        let (told, mut own) = watch::channel(None);
        let own = tokio::select! {
            () = keep(client, settings(keeps), leading, told) => None,
            own = own.wait_for(Option::is_some) => own.unwrap().clone(),
        };
        let asked = asked.borrow().clone();
        (asked, own.unwrap())
    }

    #[tokio::test]
    async fn who_keeps_no_certificates_writes_none_and_reads_its_own() {
        let secrets = vec![given(&Part::Operator), given(&Part::Webhook)];
        let (asked, own) = first_round(false, secrets.clone()).await;
        assert!(settings(false).is_whole(&own));
        let place = "/api/v1/namespaces/tollgate/secrets/tollgate";
        let get = |part: &str| (Method::GET, format!("{place}-{part}-tls"));
        assert_eq!(asked, [get("webhook"), get("operator")]);
        let (asked, _) = first_round(true, secrets).await;
        assert!(asked.contains(&(Method::POST, "/api/v1/namespaces/tollgate/secrets".to_owned())));
    }

    #[test]
    fn the_operator_waits_for_all_that_it_shows() {
        let read = |part: &Part| LeafSecret::of(&given(part));
        let whole = Own { operator: read(&Part::Operator), webhook: read(&Part::Webhook) };
        assert!(settings(false).is_whole(&whole));
        let mut trusting = whole.clone();
        trusting.operator.authorities.clear();
        assert!(!settings(false).is_whole(&trusting), "nobody to believe");
        let plain = Own { webhook: LeafSecret::default(), ..whole };
        assert!(!settings(false).is_whole(&plain));
        // Of its own it makes what is missing; what it cannot make, is somebody else's, and stays so.
        let long = RETRIES + 1;
        for (keeps, own, lacking, pause) in [
            (true, &plain, RETRIES, RETRY),
            (true, &plain, long, EVERY),
            (false, &plain, long, RETRY),
            (true, &Own::default(), long, RETRY),
        ] {
            assert_eq!(settings(keeps).pause(own, lacking), pause, "{keeps} {lacking}");
        }
        let without = Settings { injects: false, ..settings(false) };
        assert_eq!((without.is_whole(&plain), without.pause(&plain, 0)), (true, EVERY));
    }

    /// The chart asks cert-manager for these, and its test compares. After a change that is meant: `TOLLGATE_BLESS=1`.
    #[test]
    fn the_certificates_are_as_they_were_published() {
        // Of two names, so that none can stand for the other.
        let settings = Settings { release: "books".into(), namespace: "platform".into(), ..settings(true) };
        let usage = |does: bool, usage| does.then_some(usage);
        let each = settings.leaves().into_iter().map(|leaf| {
            let Place { namespace, name } = settings.place(&leaf.part);
            let usages = [
                usage(true, "digital signature"),
                usage(leaf.part.serves(), "server auth"),
                usage(leaf.part.calls(), "client auth"),
            ];
            json!({
                "namespace": namespace,
                "secretName": name,
                "commonName": leaf.part.common_name(),
                "uris": Vec::from_iter(leaf.part.uri()),
                "dnsNames": std::collections::BTreeSet::from_iter(leaf.dns),
                "usages": usages.into_iter().flatten().collect::<Vec<_>>(),
            })
        });
        let made = format!("{:#}\n", Value::from_iter(each));
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/authority/golden/leaves.json");
        if std::env::var_os("TOLLGATE_BLESS").is_some() {
            std::fs::write(&path, &made).unwrap();
        }
        let published = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(made, published, "{} differs; TOLLGATE_BLESS=1 writes it anew", path.display());
    }
}
