//! Worlds by chance: whatever people write, delete and write again, in whatever order, and whatever part of a plan is carried out in whatever
//! order, it comes to rest, and rest means the same.

use crate::cluster::{Cluster, HOUR_MS, condition, name};
use proptest::prelude::*;
use std::collections::BTreeSet;
use tollgate_domain::account::AccountKind;
use tollgate_operator::plan::Kind;

#[derive(Clone, Debug)]
enum Step {
    Organization {
        namespace: u8,
        allowed: u8,
    },
    Team {
        namespace: u8,
        allowed: u8,
        organization: bool,
        most: Option<u8>,
    },
    VirtualKey {
        namespace: u8,
        number: u8,
        team: u8,
        named: bool,
        rotates: bool,
    },
    Budget {
        namespace: u8,
        target: u8,
        amount: u16,
    },
    PriceBook {
        namespace: u8,
        number: u8,
        says: u8,
    },
    Delete {
        kind: u8,
        namespace: u8,
        number: u8,
    },
    DeleteSecret {
        namespace: u8,
        number: u8,
    },
    Label {
        namespace: u8,
        on: bool,
    },
    LedgerAway(bool),
    LedgerLost,
    Restart,
    Pass {
        hours: u16,
    },
    /// Carries out every action of a plan whose bit is set, backwards.
    Part {
        which: u32,
    },
    Settle,
}

const NAMESPACES: [&str; 3] = ["tollgate", "platform", "payments"];
const ALLOWED: [&str; 3] =
    ["{from: Same}", "{from: All}", "{from: Selector, selector: {matchLabels: {llm: allowed}}}"];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        1 => (0..3_u8, 0..3_u8).prop_map(|(namespace, allowed)| Step::Organization { namespace, allowed }),
        3 => (0..3_u8, 0..3_u8, any::<bool>(), proptest::option::of(0..3_u8))
            .prop_map(|(namespace, allowed, organization, most)| Step::Team { namespace, allowed, organization, most }),
        5 => (0..3_u8, 0..3_u8, 0..3_u8, any::<bool>(), any::<bool>())
            .prop_map(|(namespace, number, team, named, rotates)| Step::VirtualKey { namespace, number, team, named, rotates }),
        2 => (0..3_u8, 0..7_u8, any::<u16>()).prop_map(|(namespace, target, amount)| Step::Budget { namespace, target, amount }),
        3 => (0..3_u8, 0..3_u8, 0..6_u8).prop_map(|(namespace, number, says)| Step::PriceBook { namespace, number, says }),
        2 => (0..5_u8, 0..3_u8, 0..3_u8).prop_map(|(kind, namespace, number)| Step::Delete { kind, namespace, number }),
        1 => (0..3_u8, 0..3_u8).prop_map(|(namespace, number)| Step::DeleteSecret { namespace, number }),
        1 => (0..3_u8, any::<bool>()).prop_map(|(namespace, on)| Step::Label { namespace, on }),
        1 => any::<bool>().prop_map(Step::LedgerAway),
        1 => Just(Step::LedgerLost),
        1 => Just(Step::Restart),
        1 => (0..1_000_u16).prop_map(|hours| Step::Pass { hours }),
        4 => any::<u32>().prop_map(|which| Step::Part { which }),
        2 => Just(Step::Settle),
    ];
    proptest::collection::vec(step, 1..40)
}

fn manifest(step: &Step) -> Option<String> {
    let namespace = |number: u8| NAMESPACES[usize::from(number)];
    Some(match step {
        Step::Organization { namespace: at, allowed } => format!(
            "kind: Organization\nmetadata: {{name: org, namespace: {}}}\nspec: {{allowedNamespaces: {}}}\n",
            namespace(*at),
            ALLOWED[usize::from(*allowed)]
        ),
        Step::Team { namespace: at, allowed, organization, most } => format!(
            "kind: Team\nmetadata: {{name: team, namespace: {}}}\nspec: {{allowedNamespaces: {}{}{}}}\n",
            namespace(*at),
            ALLOWED[usize::from(*allowed)],
            if *organization { ", organizationRef: {name: org, namespace: tollgate}" } else { "" },
            most.map(|most| format!(", maxKeys: {most}")).unwrap_or_default(),
        ),
        Step::VirtualKey { namespace: at, number, team, named, rotates } => format!(
            "kind: VirtualKey\nmetadata: {{name: key{number}, namespace: {}}}\n\
             spec: {{teamRef: {{name: team, namespace: {}}}{}{}}}\n",
            namespace(*at),
            namespace(*team),
            if *named { ", displayName: Same, secret: {name: same}" } else { "" },
            if *rotates { ", rotation: {every: 100h, overlap: 10h}" } else { "" },
        ),
        Step::Budget { namespace: at, target, amount } => {
            let (kind, target) = [
                ("Organization", "org"),
                ("Team", "team"),
                ("VirtualKey", "key0"),
                ("VirtualKey", "key1"),
                ("Tag", "tag"),
                ("Session", "*"),
                ("Session", "ci-*"),
            ][usize::from(*target)];
            format!(
                "kind: Budget\nmetadata: {{name: {}, namespace: {}}}\n\
                 spec: {{targetRef: {{kind: {kind}, name: \"{target}\"}}, limits: [{{amount: \"{amount}\", period: Lifetime}}]}}\n",
                format!("{kind}-{amount}").to_lowercase(),
                namespace(*at),
            )
        }
        Step::PriceBook { namespace: at, number, says } => {
            let says = [
                r#"discounts: [{provider: anthropic, percent: "10"}]"#,
                r#"discounts: [{provider: anthropic, percent: "20"}]"#,
                r#"discounts: [{model: fast, percent: "5"}]"#,
                "aliases: [{alias: fast, model: plain}]",
                "aliases: [{alias: fast, model: x}]",
                r#"models: [{name: openai/plain, prices: [{input: "1", output: "1"}]}]"#,
            ][usize::from(*says)];
            format!(
                "kind: PriceBook\nmetadata: {{name: prices{number}, namespace: {}}}\nspec: {{{says}}}\n",
                namespace(*at)
            )
        }
        _ => return None,
    })
}

fn take(cluster: &mut Cluster, step: &Step) {
    if let Some(manifest) = manifest(step) {
        return cluster.apply(&manifest);
    }
    let namespace = |number: u8| NAMESPACES[usize::from(number)];
    match step {
        Step::Delete { kind, namespace: at, number } => {
            let (kind, object) = match kind {
                0 => (Kind::Organization, "org".to_owned()),
                1 => (Kind::Team, "team".to_owned()),
                2 => (Kind::PriceBook, format!("prices{number}")),
                _ => (Kind::VirtualKey, format!("key{number}")),
            };
            cluster.delete(kind, &format!("{}/{object}", namespace(*at)));
        }
        Step::DeleteSecret { namespace: at, number } => {
            let secret = name(&format!("{}/key{number}", namespace(*at)));
            cluster.secrets.remove(&secret);
            cluster.world.secrets.remove(&secret);
        }
        Step::Label { namespace: at, on } => {
            cluster.label(namespace(*at), if *on { &[("llm", "allowed")] } else { &[] });
        }
        Step::LedgerAway(true) => cluster.world.ledger.lose(cluster.now),
        Step::LedgerAway(false) => cluster.world.ledger.sync(),
        Step::LedgerLost => {
            cluster.ledger.clear();
            cluster.overlays.clear();
            cluster.hear_everything();
        }
        Step::Restart => cluster.restart_operator(),
        Step::Pass { hours } => cluster.now = cluster.now.plus_ms(i64::from(*hours) * HOUR_MS),
        Step::Part { which } => {
            let actions = cluster.plan().actions;
            for (index, action) in actions.into_iter().enumerate().rev() {
                if which >> (index % 32) & 1 == 1 {
                    cluster.carry_out(action);
                }
            }
        }
        _ => cluster.settle(),
    }
}

/// What is true at rest, told without the plan.
fn check(cluster: &Cluster) {
    for (object, key) in &cluster.world.virtual_keys {
        let text = object.to_string();
        let works = cluster.works(&text);
        let secret = key.spec.secret.as_ref().and_then(|secret| secret.name.clone());
        let secret = name(&format!("{}/{}", object.namespace, secret.unwrap_or_else(|| object.name.clone())));
        match cluster.held(AccountKind::Key, &text) {
            Some(account) => {
                let present = cluster.world.secrets[&secret].key.as_ref().unwrap().digest;
                assert!(works.contains(&present), "{text}: the key in its Secret works");
                let team = &key.spec.team_ref;
                let team =
                    name(&format!("{}/{}", team.namespace.as_ref().unwrap_or(&object.namespace), team.name));
                assert!(cluster.settings.is_platform(&team.namespace), "{text}: whose money");
                assert!(cluster.held(AccountKind::Team, &team.to_string()).is_some());
                assert!(account.credentials.len() <= 16);
            }
            None => assert!(works.is_empty()),
        }
    }
    check_prices(cluster);
    for (account, held) in cluster.ledger.iter().filter(|(_, held)| !held.deleted) {
        if account.kind == AccountKind::Key {
            let object = account.id.strip_prefix("kubernetes/").unwrap();
            assert!(cluster.world.virtual_keys.contains_key(&name(object)), "{object}: nobody wants it");
            assert!(!held.account.credentials.is_empty());
        }
    }
}

/// Where every price book that counts is ready, the ledger goes by all of them; where one is not, one of them has a fault.
fn check_prices(cluster: &Cluster) {
    let mut sheets = BTreeSet::new();
    let mut faulty = 0;
    let mut waiting = 0;
    for (object, book) in &cluster.world.price_books {
        let conditions = &book.status.as_ref().unwrap().conditions;
        match condition(conditions, "Ready").as_str() {
            "True Ready" => drop(sheets.insert(format!("PriceBook {object}"))),
            "False NamespaceNotListed" => assert!(!cluster.settings.is_platform(&object.namespace)),
            "False OthersRefused" => waiting += 1,
            _ => faulty += 1,
        }
    }
    if faulty > 0 {
        assert!(sheets.is_empty(), "all or nothing");
        return;
    }
    assert_eq!(waiting, 0, "for nobody");
    let in_force = cluster.overlays.values().flat_map(|overlay| &overlay.sheets);
    assert_eq!(in_force.map(|sheet| sheet.name.clone()).collect::<BTreeSet<_>>(), sheets);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn every_world_comes_to_rest(steps in steps()) {
        let mut cluster = Cluster::new();
        for step in &steps {
            take(&mut cluster, step);
        }
        cluster.world.ledger.sync();
        cluster.settle();
        // What the ledger would not take is asked for again.
        cluster.pass(cluster.now.plus_ms(HOUR_MS));
        check(&cluster);
        // And is the same to an operator that knows nothing.
        let (ledger, secrets) = (format!("{:?}", cluster.ledger), cluster.secrets.clone());
        let events = cluster.events.len();
        let overlays = cluster.overlays.clone();
        cluster.restart_operator();
        cluster.settle();
        prop_assert_eq!(format!("{:?}", cluster.ledger), ledger);
        prop_assert_eq!(&cluster.secrets, &secrets);
        prop_assert_eq!(&cluster.overlays, &overlays);
        prop_assert_eq!(cluster.events.len(), events);
    }
}
