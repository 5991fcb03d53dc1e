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
}

impl OwnerScope {
    /// The namespace whose own key this is.
    pub fn of_key(&self) -> Option<&Namespace> {
        (self.kind == VIRTUAL_KEY).then_some(&self.namespace)
    }
}

impl FromStr for OwnerScope {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let malformed = Malformed("must be KIND NAMESPACE/NAME, such as VirtualKey payments/alice");
        let (kind, place) = text.split_once(' ').ok_or(malformed)?;
        let (namespace, name) = place.split_once('/').ok_or(malformed)?;
        if !is_kind(kind) || !is_name_of(kind, name) {
            return Err(malformed);
        }
        Ok(Self { kind: kind.to_owned(), namespace: namespace.parse().map_err(|_| malformed)? })
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

fn is_name_of(kind: &str, text: &str) -> bool {
    if kind == TAG {
        return text.parse::<Tag>().is_ok();
    }
    let (name, cluster) = text.split_once('@').map_or((text, None), |(name, cluster)| (name, Some(cluster)));
    let is_name = name.len() <= NAME_BYTES_MAX && name.split('.').all(is_label);
    is_name && cluster.is_none_or(|cluster| cluster.len() <= LABEL_BYTES_MAX && is_label(cluster))
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
}
