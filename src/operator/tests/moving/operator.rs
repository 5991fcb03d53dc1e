//! An operator whose API server is a map, and whose ledger is real.

use crate::ledger::{Ledger, MASTER};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use tollgate_domain::time::Timestamp;
use tollgate_operator::plan::{
    Account, Action, CaBundle, IssueKey, ObjectName, Settings, Status, World, plan, standing_from_wire,
};
use tollgate_operator::resources::{Budget, FINALIZER, Organization, Team, User, VirtualKey};
use tollgate_proto::v1;
use tollgate_proto::v1::admin_client::AdminClient;
use tollgate_proto::v1::apply_outcome::Outcome;
use tonic::Request;
use tonic::transport::Channel;

pub(crate) struct Operator {
    client: AdminClient<Channel>,
    world: World,
    settings: Settings,
    statuses: BTreeMap<String, Status>,
    issued: Vec<IssueKey>,
}

fn signed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {MASTER}").parse().unwrap());
    request
}

fn now() -> Timestamp {
    Timestamp::new(jiff::Timestamp::now().as_millisecond())
}

impl Operator {
    pub(crate) async fn new(ledger: &Ledger) -> Self {
        let client = AdminClient::connect(format!("http://{}", ledger.admin)).await.unwrap();
        let settings = Settings {
            cluster: "kubernetes".into(),
            release_namespace: "tollgate".into(),
            platform_namespaces: ["platform".to_owned()].into(),
            base_url: "http://tollgate".into(),
            ca_bundle: CaBundle::None,
        };
        let mut world = World::default();
        for namespace in ["tollgate", "platform"] {
            let label = ("kubernetes.io/metadata.name".to_owned(), namespace.to_owned());
            world.namespaces.insert(namespace.into(), [label].into());
        }
        Self { client, world, settings, statuses: BTreeMap::new(), issued: vec![] }
    }

    /// As `kubectl apply` does, in the order of the documents.
    pub(crate) fn apply(&mut self, yaml: &str) {
        for document in serde_yaml_ng::Deserializer::from_str(yaml) {
            let value = serde_yaml_ng::Value::deserialize(document).unwrap();
            let world = &mut self.world;
            match value["kind"].as_str().unwrap_or_default() {
                "" => {}
                "Organization" => {
                    put(&mut world.organizations, value, |one: &mut Organization| &mut one.metadata)
                }
                "Team" => put(&mut world.teams, value, |one: &mut Team| &mut one.metadata),
                "User" => put(&mut world.users, value, |one: &mut User| &mut one.metadata),
                "VirtualKey" => put(&mut world.virtual_keys, value, |one: &mut VirtualKey| &mut one.metadata),
                "Budget" => put(&mut world.budgets, value, |one: &mut Budget| &mut one.metadata),
                other => panic!("{other}"),
            }
        }
    }

    /// How every account stands now.
    pub(crate) async fn hear(&mut self) {
        self.world.ledger.standings.clear();
        let mut changes =
            self.client.changes(signed(v1::ChangesRequest::default())).await.unwrap().into_inner();
        loop {
            let heard = changes.message().await.unwrap().unwrap();
            for status in heard.accounts {
                let (name, standing) = standing_from_wire(status).unwrap();
                self.world.ledger.tell(name, standing);
            }
            if !heard.more {
                break;
            }
        }
        self.world.ledger.sync();
    }

    /// Carries out plans until there is nothing left to do but to write statuses again.
    pub(crate) async fn settle(&mut self) {
        for _ in 0..20 {
            self.hear().await;
            let actions = plan(&self.world, &self.settings, now()).actions;
            let mut done = true;
            for action in actions {
                done &= matches!(action, Action::SetStatus { .. });
                self.carry_out(action).await;
            }
            if done {
                return;
            }
        }
        panic!(
            "there is always something left to do: {:#?}",
            plan(&self.world, &self.settings, now()).actions
        );
    }

    async fn carry_out(&mut self, action: Action) {
        match action {
            Action::AddFinalizer(of) => {
                let finalizers = Some(vec![FINALIZER.to_owned()]);
                let world = &mut self.world;
                for meta in [
                    world.organizations.get_mut(&of.name).map(|one| &mut Arc::make_mut(one).metadata),
                    world.teams.get_mut(&of.name).map(|one| &mut Arc::make_mut(one).metadata),
                    world.users.get_mut(&of.name).map(|one| &mut Arc::make_mut(one).metadata),
                    world.virtual_keys.get_mut(&of.name).map(|one| &mut Arc::make_mut(one).metadata),
                ]
                .into_iter()
                .flatten()
                .filter(|meta| meta.uid.as_ref() == Some(&of.uid))
                {
                    meta.finalizers.clone_from(&finalizers);
                }
            }
            Action::Apply(accounts) => self.apply_accounts(accounts).await,
            Action::Issue(issue) => self.issued.push(*issue),
            Action::SetStatus { object, status, .. } => {
                self.statuses.insert(format!("{} {}", object.kind, object.name), status);
            }
            // It says nothing of prices.
            Action::SetPrices { overlay, .. } if overlay.sheets.is_empty() => {
                self.world.ledger.answer_prices(overlay, Ok(()), now());
            }
            other => panic!("nobody asked for {other:?}"),
        }
    }

    async fn apply_accounts(&mut self, accounts: Vec<Account>) {
        let request = v1::ApplyRequest {
            managed_by: "kubernetes".into(),
            accounts: accounts.iter().map(v1::DesiredAccount::from).collect(),
        };
        let outcomes = self.client.apply(signed(request)).await.unwrap().into_inner().outcomes;
        for (account, outcome) in accounts.into_iter().zip(outcomes) {
            let answer = match outcome.outcome.unwrap() {
                Outcome::Applied(applied) => Ok(applied.revision),
                Outcome::Refused(refusal) => panic!("{account:?}: {refusal:?}"),
            };
            self.world.ledger.answer(account, answer, now());
        }
    }

    /// Objects that are not what was written, and why.
    pub(crate) fn not_ready(&self) -> Vec<String> {
        let ready = |(object, status): (&String, &Status)| {
            let conditions = match status {
                Status::Account(status) => &status.conditions,
                Status::VirtualKey(status) => &status.conditions,
                Status::Budget(status) => &status.conditions,
                Status::PriceBook(status) => &status.conditions,
            };
            let failing = conditions.iter().find(|one| one.type_ == "Ready" && one.status != "True")?;
            Some(format!("{object}: {}: {}", failing.reason, failing.message))
        };
        self.statuses.iter().filter_map(ready).collect()
    }

    /// Keys that were asked for.
    pub(crate) fn issued(&self) -> &[IssueKey] {
        &self.issued
    }

    /// What an object's account has spent, in nano-dollars.
    pub(crate) fn posted(&self, kind: &str, name: &str) -> i64 {
        let scope = format!("/{name}@kubernetes");
        let mut standings = self.world.ledger.standings.iter();
        let found = standings
            .find(|(account, told)| account.kind.as_str() == kind && told.owner_scope.ends_with(&scope));
        found.unwrap().1.posted.get()
    }
}

fn put<K: serde::de::DeserializeOwned>(
    list: &mut BTreeMap<ObjectName, Arc<K>>,
    value: serde_yaml_ng::Value,
    meta: impl Fn(&mut K) -> &mut ObjectMeta,
) {
    let kind = value["kind"].as_str().unwrap_or_default().to_owned();
    let mut object: K = serde_yaml_ng::from_value(value).unwrap();
    let of = meta(&mut object);
    let name = ObjectName::new(of.namespace.clone().unwrap(), of.name.clone().unwrap());
    of.uid = Some(format!("{kind}-{}", list.len()));
    of.generation = Some(1);
    list.insert(name, Arc::new(object));
}
