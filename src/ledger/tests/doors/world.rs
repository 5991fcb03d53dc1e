//! A ledger with TLS on both doors, keys of two namespaces and of nobody, and its clients.

use crate::authority::{Authority, Leaf};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tollgate_domain::account::AccountKind;
use tollgate_domain::ids::KeyDigest;
use tollgate_domain::price::PriceBook;
use tollgate_ledger::door::Door;
use tollgate_ledger::master::MasterKey;
use tollgate_ledger::server::{self, Listeners, ServeError};
use tollgate_ledger::store::{
    AccountName, AccountSpec, BooksStore, Credential, DesiredAccount, DesiredCredential, Found, Manager,
    NewAccount, Operated, Settings, Store, sqlite,
};
use tollgate_ledger::tls::{Callers, Tls, TlsFiles};
use tollgate_proto::v1;
use tollgate_proto::v1::ledger_client::LedgerClient;
use tonic::Status;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

const BOOK: &str = r#"{"format": "tollgate-price-book/1", "models": [{"name": "m", "provider": "openai", "mode": "chat",
    "context_window": 1000, "max_output": 100, "rates": [{"tier": "standard", "above": 0, "input": "1", "output": "2"}]}]}"#;

pub(crate) const MASTER: &str = "sk-master";

/// Digests of keys: of namespace `payments`, of namespace `search`, of the HTTP API, of a manager that is no cluster, of nobody.
pub(crate) const PAYMENTS: u8 = 1;
pub(crate) const SEARCH: u8 = 2;
pub(crate) const PLAIN: u8 = 3;
pub(crate) const OTHERS: u8 = 4;
pub(crate) const NOBODY: u8 = 9;

pub(crate) struct World {
    pub(crate) authority: Authority,
    pub(crate) store: Arc<BooksStore>,
    pub(crate) grpc: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) metrics: SocketAddr,
    pub(crate) folder: TempDir,
    next: AtomicU64,
    _stop: oneshot::Sender<()>,
    _served: JoinHandle<Result<(), ServeError>>,
}

impl World {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let book = Arc::new(PriceBook::parse(BOOK).unwrap());
        let (store, _) = sqlite::open(folder.path().join("ledger.db"), Settings::new(book)).unwrap();
        let store = Arc::new(store);
        make_keys(&store).await;
        let authority = Authority::new("authority");
        mount(folder.path(), &authority.leaf("ledger"), &authority.certificate);
        let mounted = |name: &str| folder.path().join("tls").join(name);
        let files = TlsFiles {
            certificate: mounted("tls.crt"),
            key: mounted("tls.key"),
            client_authorities: mounted("ca.crt"),
        };
        let tls = Arc::new(Tls::open(files).unwrap());
        let [grpc, admin, metrics] = [listener().await, listener().await, listener().await]
            .map(|listener| (listener.local_addr().unwrap(), listener));
        let listeners = Listeners {
            grpc: Door::tls(grpc.1, tls.clone(), Callers::Certified),
            admin: Door::tls(admin.1, tls, Callers::Anyone),
            metrics: Some(metrics.1),
        };
        let (stop, stopped) = oneshot::channel();
        let shutdown = async { stopped.await.unwrap_or_default() };
        let master = MasterKey::new(MASTER.as_bytes());
        let served = tokio::spawn(server::run(listeners, store.clone(), master, shutdown));
        Self {
            authority,
            store,
            grpc: grpc.0,
            admin: admin.0,
            metrics: metrics.0,
            folder,
            next: AtomicU64::new(1),
            _stop: stop,
            _served: served,
        }
    }

    /// An id that no hold has.
    pub(crate) fn id(&self) -> [u8; 16] {
        u128::from(self.next.fetch_add(1, Ordering::SeqCst)).to_be_bytes()
    }

    pub(crate) fn gateway(&self) -> Leaf {
        self.authority.leaf("gateway")
    }

    /// A channel that trusts the ledger's authority and shows a certificate, perhaps; made when it is first used.
    pub(crate) fn channel(&self, to: SocketAddr, leaf: Option<&Leaf>) -> Channel {
        channel(to, leaf, &self.authority.certificate).connect_lazy()
    }

    pub(crate) fn client(&self, leaf: Option<&Leaf>) -> LedgerClient<Channel> {
        LedgerClient::new(self.channel(self.grpc, leaf))
    }

    /// What an ask for a hold looks like from somebody who knows the key's policy.
    pub(crate) async fn ask(&self, id: [u8; 16], key: u8) -> v1::HoldRequest {
        let policy_version = match self.store.lookup(KeyDigest::new([key; 32]), Vec::new()).await.unwrap() {
            Found::Known { policy, .. } => policy.unwrap().version,
            Found::Unknown => vec![7],
        };
        v1::HoldRequest {
            hold_id: id.to_vec(),
            key_digest: vec![key; 32],
            policy_version,
            model: "m".into(),
            provider: v1::Provider::Openai.into(),
            api: v1::Api::ChatCompletions.into(),
            bounds: Some(v1::Bounds { input: 1, input_per_call: 1, ..v1::Bounds::default() }),
            ..v1::HoldRequest::default()
        }
    }

    /// A hold that the gateway has made.
    pub(crate) async fn held(&self, key: u8) -> [u8; 16] {
        let id = self.id();
        let ask = self.ask(id, key).await;
        let verdict = self.client(Some(&self.gateway())).hold(ask).await.unwrap().into_inner().verdict;
        assert!(matches!(verdict, Some(v1::hold_response::Verdict::Held(_))), "{verdict:?}");
        id
    }

    /// An answer of the HTTP API: its status; `None` where TLS was refused.
    pub(crate) async fn http(&self, leaf: Option<&Leaf>, path: &str, key: Option<&str>) -> Option<u16> {
        let stream = connect(self.admin, leaf, &self.authority.certificate).await.ok()?;
        answer(stream, path, key).await.ok().map(|(status, _)| status)
    }
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

pub(crate) fn channel(to: SocketAddr, leaf: Option<&Leaf>, authority: &str) -> Endpoint {
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(authority))
        .domain_name("tollgate-ledger");
    let tls = match leaf {
        Some(leaf) => tls.identity(Identity::from_pem(&leaf.certificate, &leaf.key)),
        None => tls,
    };
    Endpoint::from_shared(format!("https://{to}")).unwrap().tls_config(tls).unwrap()
}

/// A connection with TLS, such as an HTTP client makes.
pub(crate) async fn connect(
    to: SocketAddr,
    leaf: Option<&Leaf>,
    authority: &str,
) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots);
    let config = match leaf {
        None => config.with_no_client_auth(),
        Some(Leaf { certificate, key }) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            config
                .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
                .unwrap()
        }
    };
    let name = ServerName::try_from("tollgate-ledger").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(to).await?).await
}

/// What a `GET` is answered: status and body.
pub(crate) async fn answer(
    mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin,
    path: &str,
    key: Option<&str>,
) -> io::Result<(u16, String)> {
    let key = key.map_or_else(String::new, |key| format!("authorization: Bearer {key}\r\n"));
    let head = format!("GET {path} HTTP/1.1\r\nhost: tollgate-ledger\r\n{key}connection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok((head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned()))
}

/// Puts certificates where a mounted Secret has them: in a folder of their own, behind links that are changed at once.
pub(crate) fn mount(folder: &Path, leaf: &Leaf, authorities: &str) {
    let version = tempfile::Builder::new().prefix("..").tempdir_in(folder).unwrap().keep();
    let texts = [("tls.crt", &*leaf.certificate), ("tls.key", &*leaf.key), ("ca.crt", authorities)];
    for (name, text) in texts {
        std::fs::write(version.join(name), text).unwrap();
    }
    let next = folder.join("next");
    std::os::unix::fs::symlink(&version, &next).unwrap();
    std::fs::rename(next, folder.join("tls")).unwrap();
}

/// Whether a call did not get as far as an answer.
pub(crate) fn is_cut_off(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

async fn make_keys(store: &BooksStore) {
    let of = |id: &str, manager: &str, digest: u8| DesiredAccount {
        name: AccountName { kind: AccountKind::Key, scope: String::new(), id: id.into() },
        manager: Manager { name: manager.into(), scope: format!("VirtualKey {id}") },
        adopt: false,
        spec: AccountSpec::default(),
        blocked: None,
        credentials: vec![DesiredCredential { credential: credential(digest), expires_at: None }],
    };
    let desired = vec![
        of("payments/alice", "kubernetes", PAYMENTS),
        of("search/bob", "kubernetes", SEARCH),
        of("payments/carol", "another", OTHERS),
    ];
    for applied in store.apply(desired).await.unwrap() {
        applied.unwrap();
    }
    let plain = NewAccount {
        kind: AccountKind::Key,
        id: "plain".into(),
        spec: AccountSpec::default(),
        credential: Some(credential(PLAIN)),
        created_by: "admin".into(),
    };
    store.create(plain).await.unwrap();
}

fn credential(digest: u8) -> Credential {
    Credential { digest: KeyDigest::new([digest; 32]), name: "sk-...".into() }
}
