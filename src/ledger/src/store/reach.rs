//! Whose keys a caller of the store may speak of.

use crate::owner_scope::Namespace;

/// How far a caller's word goes. Beyond it every key looks unknown, and every hold somebody else's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reach {
    /// Every key: a gateway of the platform.
    Every,
    /// The keys that this namespace's own resources have made: a sidecar in one of its pods.
    Namespace(Namespace),
}

impl Reach {
    /// Whether a key is within it; `home` is the namespace that made the key, if one has.
    pub(super) fn covers(&self, home: Option<&Namespace>) -> bool {
        match self {
            Self::Every => true,
            Self::Namespace(own) => home == Some(own),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_reaches_its_own_keys() {
        let [payments, search] = ["payments", "search"].map(|name| name.parse::<Namespace>().unwrap());
        let own = Reach::Namespace(payments.clone());
        for (reach, home, covers) in [
            (&Reach::Every, None, true),
            (&Reach::Every, Some(&payments), true),
            (&own, Some(&payments), true),
            (&own, Some(&search), false),
            (&own, None, false),
        ] {
            assert_eq!(reach.covers(home), covers, "{reach:?} {home:?}");
        }
    }
}
