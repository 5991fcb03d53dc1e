use super::pair::{AUTHORITY_LIFE, LEAF_LIFE, after};
use super::plan::SETTLE;
use super::*;
use jiff::{SignedDuration, Timestamp};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{Error, RootCertStore};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const DAY: SignedDuration = SignedDuration::from_hours(24);

fn start() -> Timestamp {
    "2026-11-28T12:00:00Z".parse().unwrap()
}

fn ledger() -> Leaf {
    Leaf { part: Part::Ledger, dns: vec!["tollgate-ledger".into(), "t-ledger.tollgate.svc".into()] }
}

fn payments() -> Leaf {
    Leaf { part: Part::Namespace("payments".into()), dns: Vec::new() }
}

fn wanted() -> Vec<Leaf> {
    vec![
        ledger(),
        Leaf { part: Part::Gateway, dns: vec!["t-gateway.tollgate.svc".into()] },
        Leaf { part: Part::Operator, dns: Vec::new() },
        Leaf { part: Part::Webhook, dns: vec!["t-webhook.tollgate.svc".into()] },
        payments(),
    ]
}

/// Everything that is kept.
#[derive(Clone, Default)]
struct World {
    authority: AuthoritySecret,
    leaves: Vec<(Leaf, LeafSecret)>,
}

impl World {
    fn empty(wanted: Vec<Leaf>) -> Self {
        let leaves = wanted.into_iter().map(|leaf| (leaf, LeafSecret::default())).collect();
        Self { authority: AuthoritySecret::default(), leaves }
    }

    /// After the first start.
    fn settled() -> Self {
        let mut world = Self::empty(wanted());
        world.tend(start());
        world
    }

    /// Through the Secrets, as an operator does it; says what was done.
    fn tend(&mut self, now: Timestamp) -> (AuthorityStep, Vec<LeafStep>) {
        let done = plan(AuthoritySecret::read(&self.authority.data()), &self.leaves, now).unwrap();
        for ((leaf, secret), step) in self.leaves.iter_mut().zip(&done.leaves) {
            if let Some(next) = done.carry_out(*step, leaf, secret, now).unwrap() {
                *secret = LeafSecret::read(&next.data());
            }
        }
        self.authority = AuthoritySecret::read(&done.secret.data());
        (done.authority, done.leaves)
    }

    fn of(&self, part: &Part) -> &LeafSecret {
        &self.leaves.iter().find(|(leaf, _)| leaf.part == *part).unwrap().1
    }
}

fn der(secret: &LeafSecret) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(secret.pair.as_ref().unwrap().certificate().as_bytes()).unwrap()
}

fn roots(authorities: &str) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
        roots.add(root.unwrap()).unwrap();
    }
    Arc::new(roots)
}

fn unix(at: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(at.as_second().unsigned_abs()))
}

/// Whether somebody with these authorities lets in a client with this certificate.
fn lets_in(authorities: &str, client: &LeafSecret, now: Timestamp) -> Result<(), Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(authorities), provider).build().unwrap();
    verifier.verify_client_cert(&der(client), &[], unix(now)).map(drop)
}

/// Whether somebody with these authorities believes a server.
fn believes(authorities: &str, server: &LeafSecret, name: &str, now: Timestamp) -> Result<(), Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(roots(authorities), provider).build().unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    verifier.verify_server_cert(&der(server), &[], &name, &[], unix(now)).map(drop)
}

#[test]
fn the_first_start_makes_everything_and_the_next_nothing() {
    let mut world = World::empty(wanted());
    let (authority, leaves) = world.tend(start());
    assert_eq!(authority, AuthorityStep::Make);
    assert_eq!(leaves, vec![LeafStep::Sign(Why::Missing); 5]);
    for later in [SignedDuration::ZERO, HOUR, DAY * 19] {
        let (authority, leaves) = world.tend(after(start(), later));
        assert_eq!(authority, AuthorityStep::Keep, "{later}");
        assert_eq!(leaves, vec![LeafStep::Keep; 5], "{later}");
    }
}

#[test]
fn each_part_is_what_its_certificate_says_and_nothing_more() {
    let world = World::settled();
    let now = start();
    let bundle = world.authority.bundle.pem();
    // Who serves by which name; who calls.
    let table = [
        (Part::Ledger, Some("tollgate-ledger"), false),
        (Part::Gateway, Some("t-gateway.tollgate.svc"), true),
        (Part::Operator, None, true),
        (Part::Webhook, Some("t-webhook.tollgate.svc"), false),
        (Part::Namespace("payments".into()), None, true),
    ];
    for (part, name, calls) in table {
        let secret = world.of(&part);
        assert_eq!(lets_in(&bundle, secret, now).is_ok(), calls, "{part}");
        assert_eq!(believes(&bundle, secret, "tollgate-ledger", now).is_ok(), part == Part::Ledger, "{part}");
        if let Some(name) = name {
            believes(&bundle, secret, name, now).unwrap();
            let early = now.checked_sub(SignedDuration::from_mins(4)).unwrap();
            believes(&bundle, secret, name, early).unwrap();
            believes(&bundle, secret, name, after(now, LEAF_LIFE + SignedDuration::from_secs(1)))
                .unwrap_err();
        }
        let uris: Vec<_> = secret.pair.as_ref().unwrap().facts().uris.iter().cloned().collect();
        assert_eq!(uris, Vec::from_iter(part.uri()), "{part}");
    }
}

#[test]
fn what_is_wrong_with_a_certificate_has_it_signed_anew() {
    let other = World::settled();
    let day = |days: i32| after(start(), DAY * days);
    type Spoil = Box<dyn Fn(&mut World)>;
    let change = |name: &'static str, to: Option<&'static [u8]>| -> Spoil {
        Box::new(move |world| {
            let mut data = world.leaves[0].1.data();
            data.remove(name);
            if let Some(to) = to {
                data.insert(name.to_owned(), to.to_vec());
            }
            world.leaves[0].1 = LeafSecret::read(&data);
        })
    };
    let foreign = other.leaves[0].1.clone();
    let foreign_key = other.leaves[0].1.data().remove("tls.key").unwrap().leak();
    let table: Vec<(&str, Spoil, Timestamp, LeafStep)> = vec![
        ("as it should be", Box::new(|_| ()), day(19), LeafStep::Keep),
        ("two thirds over", Box::new(|_| ()), day(20), LeafStep::Sign(Why::Age)),
        ("over", Box::new(|_| ()), day(31), LeafStep::Sign(Why::Age)),
        ("no certificate", change("tls.crt", None), day(0), LeafStep::Sign(Why::Missing)),
        ("no key", change("tls.key", None), day(0), LeafStep::Sign(Why::Missing)),
        (
            "broken",
            change("tls.crt", Some(b"-----BEGIN CERTIFICATE-----\nAAAA")),
            day(0),
            LeafStep::Sign(Why::Missing),
        ),
        ("somebody else's key", change("tls.key", Some(foreign_key)), day(0), LeafStep::Sign(Why::Missing)),
        ("no authorities", change("ca.crt", None), day(0), LeafStep::Bundle),
        ("other authorities", change("ca.crt", Some(b"x")), day(0), LeafStep::Bundle),
        (
            "another name is wanted",
            Box::new(|world| world.leaves[0].0.dns.push("ledger.example.com".into())),
            day(0),
            LeafStep::Sign(Why::Different),
        ),
        (
            "it is another part's",
            Box::new(|world| world.leaves[0].1 = world.leaves[4].1.clone()),
            day(0),
            LeafStep::Sign(Why::Different),
        ),
        (
            "another authority's",
            Box::new(move |world| world.leaves[0].1 = foreign.clone()),
            day(0),
            LeafStep::Sign(Why::Authority),
        ),
    ];
    for (what, spoil, now, expected) in table {
        let mut world = World::settled();
        spoil(&mut world);
        let (authority, leaves) = world.tend(now);
        assert_eq!((authority, leaves[0]), (AuthorityStep::Keep, expected), "{what}");
        let (_, again) = world.tend(now);
        assert_eq!(again, vec![LeafStep::Keep; 5], "{what}");
        believes(&world.authority.bundle.pem(), world.of(&Part::Ledger), "tollgate-ledger", now).unwrap();
    }
}

#[test]
fn an_authority_that_is_no_good_is_replaced_at_once() {
    type Spoil = fn(&mut AuthoritySecret);
    let soon = after(start(), HOUR);
    let table: [(&str, Spoil, Timestamp, AuthorityStep); 5] = [
        ("its key is lost", |secret| secret.current = None, soon, AuthorityStep::Make),
        ("all is lost", |secret| *secret = AuthoritySecret::default(), soon, AuthorityStep::Make),
        ("it has ended", |_| (), after(start(), AUTHORITY_LIFE), AuthorityStep::Make),
        ("the bundle is lost", |secret| secret.bundle = Bundle::default(), soon, AuthorityStep::Bundle),
        ("it will not sign yet", |_| (), after(start(), DAY * 244), AuthorityStep::MakeNext),
    ];
    for (what, spoil, now, expected) in table {
        let mut world = World::settled();
        spoil(&mut world.authority);
        let (step, _) = world.tend(now);
        assert_eq!(step, expected, "{what}");
        let bundle = world.authority.bundle.pem();
        for (leaf, secret) in &world.leaves {
            assert_eq!(secret.authorities, bundle, "{what}: {}", leaf.part);
        }
        believes(&bundle, world.of(&Part::Ledger), "tollgate-ledger", now).unwrap();
        assert_eq!(world.tend(now).0, AuthorityStep::Keep, "{what}");
    }
}

#[test]
fn the_next_authority_is_trusted_before_it_signs_and_the_old_one_until_its_word_has_ended() {
    let mut world = World::settled();
    let due = after(start(), DAY * 244);
    world.tend(due.checked_sub(DAY).unwrap());
    assert_eq!(world.authority.bundle.len(), 1);
    let (step, leaves) = world.tend(due);
    assert_eq!((step, leaves), (AuthorityStep::MakeNext, vec![LeafStep::Bundle; 5]));
    assert_eq!(world.authority.bundle.len(), 2);
    let by_the_old = world.of(&Part::Gateway).clone();
    let (step, leaves) = world.tend(after(due, SETTLE - SignedDuration::from_secs(1)));
    assert_eq!((step, leaves), (AuthorityStep::Keep, vec![LeafStep::Keep; 5]));
    let signs = after(due, SETTLE);
    let (step, leaves) = world.tend(signs);
    assert_eq!((step, leaves), (AuthorityStep::Promote, vec![LeafStep::Sign(Why::Authority); 5]));
    assert!(world.authority.next.is_none());
    lets_in(&world.authority.bundle.pem(), &by_the_old, signs).unwrap();
    for days in [1, 19, 29] {
        world.tend(after(signs, DAY * days));
        assert_eq!(world.authority.bundle.len(), 2, "{days}");
    }
    let (step, _) = world.tend(after(signs, DAY * 30));
    assert_eq!((step, world.authority.bundle.len()), (AuthorityStep::Bundle, 1));
}

/// Two years, in which every part sees a changed Secret some minutes late, and each differently: nobody ever turns another away.
#[test]
fn nobody_is_ever_turned_away() {
    let mut world = World::settled();
    let mut now = start();
    // What the parts have seen: the newest last.
    let mut seen: VecDeque<Vec<(Leaf, LeafSecret)>> = VecDeque::from([world.leaves.clone()]);
    let mut steps = Vec::new();
    while now < after(start(), DAY * 730) {
        // Slowly where something happens, in leaps where nothing does.
        let (step, leaves) = world.tend(now);
        let quiet = step == AuthorityStep::Keep && leaves.iter().all(|step| *step == LeafStep::Keep);
        if step != AuthorityStep::Keep {
            steps.push(step);
        }
        if !quiet || seen.len() == 1 {
            seen.push_back(world.leaves.clone());
            let (old, new) = (seen.front().unwrap(), seen.back().unwrap());
            for (server, client) in [(old, new), (new, old), (new, new)] {
                for (part, secret) in client.iter().filter(|(leaf, _)| leaf.part.calls()) {
                    let served = &server[0].1;
                    let what = format!("{} at {now}", part.part);
                    lets_in(&served.authorities, secret, now)
                        .unwrap_or_else(|error| panic!("{what}: {error}"));
                    believes(&secret.authorities, served, "tollgate-ledger", now)
                        .unwrap_or_else(|error| panic!("{what}: {error}"));
                }
            }
            seen.pop_front();
        }
        now = after(now, if quiet { HOUR * 7 } else { SignedDuration::from_mins(10) });
    }
    use AuthorityStep::{Bundle, MakeNext, Promote};
    assert_eq!(steps, [MakeNext, Promote, Bundle, MakeNext, Promote, Bundle]);
}
