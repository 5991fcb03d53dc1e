//! Who may do what at which door, by the certificate that was shown. One place, because it is what a stolen certificate is
//! worth.

use crate::door::Peer;
use crate::identity::Identity;
use crate::store::Reach;

/// Why somebody is turned away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Nobody knows who it is.
    #[error("{0}")]
    Unknown(String),
    /// It is known, and has no business here.
    #[error("{0} has no business here")]
    Forbidden(Identity),
}

impl Refusal {
    fn unknown(why: &str) -> Self {
        Self::Unknown(why.to_owned())
    }
}

impl From<Refusal> for tonic::Status {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unknown(_) => Self::unauthenticated(refusal.to_string()),
            Refusal::Forbidden(_) => Self::permission_denied(refusal.to_string()),
        }
    }
}

/// Whose keys a caller of `tollgate.ledger.v1.Ledger` may speak of. A peer that is missing is a fault of ours, and opens nothing.
pub(crate) fn reach(peer: Option<&Peer>) -> Result<Reach, Refusal> {
    match peer {
        Some(Peer::Unasked | Peer::Known(Identity::Gateway)) => Ok(Reach::Every),
        Some(Peer::Known(Identity::Namespace(name))) => Ok(Reach::Namespace(name.clone())),
        Some(Peer::Known(other)) => Err(Refusal::Forbidden(other.clone())),
        Some(Peer::Nameless(why)) => Err(Refusal::Unknown(why.to_string())),
        Some(Peer::Anonymous) | None => Err(Refusal::unknown("a certificate is wanted")),
    }
}

/// Whether somebody may speak to `tollgate.ledger.v1.Admin`: the operator by its certificate, others without any by the master
/// key. Whoever shows another certificate is turned away whatever key comes with it.
pub(crate) fn administers(peer: Option<&Peer>, has_master_key: bool) -> Result<(), Refusal> {
    match peer {
        Some(Peer::Known(Identity::Operator)) => Ok(()),
        Some(Peer::Unasked | Peer::Anonymous) if has_master_key => Ok(()),
        Some(Peer::Known(other)) => Err(Refusal::Forbidden(other.clone())),
        Some(Peer::Nameless(why)) => Err(Refusal::Unknown(why.to_string())),
        Some(Peer::Unasked | Peer::Anonymous) | None => {
            Err(Refusal::unknown("the master key is wanted: authorization: Bearer KEY"))
        }
    }
}

/// Whether somebody may show a key to the HTTP API at all: the ingress passes on what people send it.
pub(crate) fn may_show_a_key(peer: &Peer) -> Result<(), Refusal> {
    match peer {
        Peer::Unasked | Peer::Anonymous | Peer::Known(Identity::Gateway | Identity::Operator) => Ok(()),
        Peer::Known(other @ (Identity::Ledger | Identity::Namespace(_))) => {
            Err(Refusal::Forbidden(other.clone()))
        }
        Peer::Nameless(why) => Err(Refusal::Unknown(why.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Nameless;

    #[test]
    fn each_certificate_opens_its_own_doors() {
        let payments = || "payments".parse().unwrap();
        let known = |identity| Some(Peer::Known(identity));
        // What each opens: keys, the operator's door without and with the master key, the HTTP API.
        let table = [
            (Some(Peer::Unasked), Some(Reach::Every), [false, true], true),
            (Some(Peer::Anonymous), None, [false, true], true),
            (Some(Peer::Nameless(Nameless::Uris(2))), None, [false, false], false),
            (known(Identity::Ledger), None, [false, false], false),
            (known(Identity::Gateway), Some(Reach::Every), [false, false], true),
            (known(Identity::Operator), None, [true, true], true),
            (
                known(Identity::Namespace(payments())),
                Some(Reach::Namespace(payments())),
                [false, false],
                false,
            ),
            (None, None, [false, false], false),
        ];
        for (peer, keys, operator, http) in table {
            assert_eq!(reach(peer.as_ref()).ok(), keys, "{peer:?}");
            let opens = [false, true].map(|key| administers(peer.as_ref(), key).is_ok());
            assert_eq!(opens, operator, "{peer:?}");
            assert_eq!(peer.as_ref().is_some_and(|peer| may_show_a_key(peer).is_ok()), http, "{peer:?}");
        }
    }
}
