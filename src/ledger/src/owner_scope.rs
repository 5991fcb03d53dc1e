//! Whose an account is, in the words of the cluster that manages it: the form of `owner_scope` where `managed_by` is
//! `kubernetes`. A sidecar may spend only what is its namespace's, so the form is read and never guessed.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use tollgate_domain::ids::Tag;

/// Who manages the accounts whose owner scope has this form.
pub const KUBERNETES: &str = "kubernetes";
/// The kind of resource that keys are made from.
const VIRTUAL_KEY: &str = "VirtualKey";
/// The kind of those whose account is a tag's, which no single resource stands for: in place of a namespace stands the cluster.
const TAG: &str = "Tag";
/// Bytes of a namespace's name, and of a resource's: what Kubernetes takes.
const LABEL_BYTES_MAX: usize = 63;
const NAME_BYTES_MAX: usize = 253;

/// The name of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Namespace(Arc<str>);

/// A namespace of a cluster: of the clusters that share a ledger, each may have one of the same name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClusterNamespace {
    cluster: String,
    namespace: Namespace,
}

/// A text that is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(&'static str);

/// `KIND NAMESPACE/NAME`, such as `VirtualKey payments/alice`. Where the account has not the cluster's own id, because it was adopted, the
/// cluster is named, too: `VirtualKey payments/alice@kubernetes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerScope {
    kind: String,
    namespace: Namespace,
    name: String,
    cluster: Option<String>,
}

impl OwnerScope {
    /// The namespace whose own key this is.
    pub fn of_key(&self) -> Option<&Namespace> {
        (self.kind == VIRTUAL_KEY).then_some(&self.namespace)
    }

    /// The namespace whose own key this is, and of which cluster: where the scope names none, the id of the account does,
    /// CLUSTER/NAMESPACE/NAME.
    pub fn home_of_key(&self, id: &str) -> Option<ClusterNamespace> {
        let namespace = self.of_key()?.clone();
        let in_cluster = format!("/{namespace}/{}", self.name);
        let cluster = self.cluster.as_deref().or_else(|| id.strip_suffix(&in_cluster))?;
        is_cluster(cluster).then(|| ClusterNamespace { cluster: cluster.to_owned(), namespace })
    }
}

impl FromStr for OwnerScope {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let malformed = Malformed("must be KIND NAMESPACE/NAME, such as VirtualKey payments/alice");
        let (kind, place) = text.split_once(' ').ok_or(malformed)?;
        let (namespace, name) = place.split_once('/').ok_or(malformed)?;
        let (name, cluster) = name_of(kind, name).filter(|_| is_kind(kind)).ok_or(malformed)?;
        Ok(Self {
            kind: kind.to_owned(),
            namespace: namespace.parse().map_err(|_| malformed)?,
            name: name.to_owned(),
            cluster: cluster.map(ToOwned::to_owned),
        })
    }
}

impl ClusterNamespace {
    /// The name of the namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }
}

impl FromStr for ClusterNamespace {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let malformed = Malformed("must be CLUSTER/NAMESPACE, such as kubernetes/payments");
        let (cluster, namespace) =
            text.split_once('/').filter(|(cluster, _)| is_cluster(cluster)).ok_or(malformed)?;
        Ok(Self { cluster: cluster.to_owned(), namespace: namespace.parse().map_err(|_| malformed)? })
    }
}

impl fmt::Display for ClusterNamespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.cluster, self.namespace)
    }
}

impl FromStr for Namespace {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        if text.len() > LABEL_BYTES_MAX || !is_label(text) {
            return Err(Malformed("is no name of a namespace"));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name, and the cluster where one is named.
fn name_of<'a>(kind: &str, text: &'a str) -> Option<(&'a str, Option<&'a str>)> {
    if kind == TAG {
        return text.parse::<Tag>().is_ok().then_some((text, None));
    }
    let (name, cluster) = text.split_once('@').map_or((text, None), |(name, cluster)| (name, Some(cluster)));
    let is_name = name.len() <= NAME_BYTES_MAX && name.split('.').all(is_label);
    (is_name && cluster.is_none_or(is_cluster)).then_some((name, cluster))
}

fn is_cluster(text: &str) -> bool {
    text.len() <= LABEL_BYTES_MAX && is_label(text)
}

fn is_kind(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_uppercase())
        && text.len() <= LABEL_BYTES_MAX
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Lower case letters, digits and hyphens, and no hyphen at either end.
fn is_label(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(is_inner) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_names_kind_namespace_and_name() {
        let long = |bytes: usize| "x".repeat(bytes);
        // (scope, the namespace whose key it is, if it is a scope at all)
        let table = [
            ("VirtualKey payments/alice".to_owned(), Some(Some("payments"))),
            ("VirtualKey pay-2/alice.laptop".into(), Some(Some("pay-2"))),
            ("Team payments/alice".into(), Some(None)),
            ("VirtualKey payments/alice@kubernetes".into(), Some(Some("payments"))),
            ("VirtualKey payments/alice@".into(), None),
            ("VirtualKey payments/alice@a@b".into(), None),
            ("VirtualKey payments/@kubernetes".into(), None),
            ("Tag kubernetes/project:Payments_2".into(), Some(None)),
            ("Tag kubernetes/no tag".into(), None),
            (format!("VirtualKey {}/x", long(63)), Some(Some("x".repeat(63).leak()))),
            (format!("VirtualKey {}/x", long(64)), None),
            (format!("VirtualKey ns/{}", long(254)), None),
            (String::new(), None),
            ("VirtualKey".into(), None),
            ("VirtualKey payments".into(), None),
            ("VirtualKey payments/".into(), None),
            ("VirtualKey /alice".into(), None),
            ("VirtualKey payments/alice/bob".into(), None),
            ("VirtualKey  payments/alice".into(), None),
            ("VirtualKey payments/alice ".into(), None),
            (" payments/alice".into(), None),
            ("virtualKey payments/alice".into(), None),
            ("VirtualKey Payments/alice".into(), None),
            ("VirtualKey -payments/alice".into(), None),
            ("VirtualKey payments-/alice".into(), None),
            ("VirtualKey pay.ments/alice".into(), None),
            ("VirtualKey payments/alice..bob".into(), None),
            ("VirtualKey payments/\u{e4}".into(), None),
        ];
        for (text, expected) in table {
            let scope = text.parse::<OwnerScope>().ok();
            let of_key = scope.as_ref().map(|scope| scope.of_key().map(ToString::to_string));
            assert_eq!(of_key, expected.map(|of| of.map(str::to_owned)), "{text:?}");
        }
    }

    #[test]
    fn a_key_is_at_home_in_a_namespace_of_one_cluster() {
        // (owner scope, id of the account, home)
        let table = [
            ("VirtualKey payments/alice", "kubernetes/payments/alice", Some("kubernetes/payments")),
            ("VirtualKey payments/alice", "other/payments/alice", Some("other/payments")),
            ("VirtualKey payments/alice@other", "kubernetes/payments/alice", Some("other/payments")),
            ("VirtualKey payments/alice@kubernetes", "key-1", Some("kubernetes/payments")),
            ("VirtualKey payments/alice", "key-1", None),
            ("VirtualKey payments/alice", "kubernetes/payments/bob", None),
            ("VirtualKey payments/alice", "a/b/payments/alice", None),
            ("VirtualKey payments/alice", "/payments/alice", None),
            ("Team payments/alice", "kubernetes/payments/alice", None),
        ];
        for (scope, id, home) in table {
            let found = scope.parse::<OwnerScope>().unwrap().home_of_key(id);
            assert_eq!(found, home.map(|home| home.parse().unwrap()), "{scope} {id}");
        }
    }
}
