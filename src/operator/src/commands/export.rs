//! `export`: what the admin API has made, as custom resources.

use super::Failure;
use super::installation::Installation;
use clap::Args;
use std::path::PathBuf;
use tollgate_operator::authority::{self, read_own};
use tollgate_operator::export::{Settings, export, is_name, whole};
use tollgate_operator::runtime::{Door, Pass, list};
use zeroize::Zeroizing;

/// Options of the verb.
#[derive(Args)]
pub(crate) struct Export {
    /// The namespace of organizations, teams and users, and of budgets on them: the release's, or another one of the platform.
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: String,
    /// A folder to write a file for each kind into, instead of printing everything.
    #[arg(short, long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// A Team for keys that have none. Left out: such keys stay with the admin API.
    #[arg(long, value_name = "NAME")]
    default_team: Option<String>,
    #[command(flatten)]
    installation: Installation,
    /// The master key. Left out: the operator's own certificate opens the ledger, as it does in the operator's pod.
    #[arg(long, env = "TOLLGATE_MASTER_KEY", value_name = "KEY", hide_env_values = true)]
    master_key: Option<Zeroizing<String>>,
    /// Who vouches for the ledger, where it is reached by https with the master key.
    #[arg(long, value_name = "FILE")]
    ledger_authorities: Option<PathBuf>,
    /// Where Tollgate is installed: keys, and budgets on keys and tags, go there. Left out: where the objects go.
    #[arg(long, env = "TOLLGATE_OPERATOR_RELEASE_NAMESPACE", value_name = "NAMESPACE")]
    release_namespace: Option<String>,
}

pub(crate) async fn run(options: Export) -> Result<(), Failure> {
    options.check()?;
    let books = list(options.installation.ledger.clone(), options.door().await?).await?;
    let accounts = books.accounts.into_iter().map(TryInto::try_into).collect::<Result<Vec<_>, _>>()?;
    let release_namespace = options.release_namespace.unwrap_or_else(|| options.namespace.clone());
    let settings = Settings {
        namespace: options.namespace,
        release_namespace,
        cluster: options.installation.cluster,
        default_team: options.default_team,
        now: books.at,
    };
    let exported = export(&accounts, &settings);
    match options.output {
        None => print!("{}", whole(&exported)?),
        Some(folder) => {
            std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
            for file in exported.files()? {
                let path = folder.join(file.name);
                std::fs::write(&path, file.text).map_err(|error| format!("{}: {error}", path.display()))?;
            }
        }
    }
    for line in exported.summary() {
        eprintln!("{line}");
    }
    Ok(())
}

impl Export {
    fn check(&self) -> Result<(), Failure> {
        let Self { namespace, default_team, installation, .. } = self;
        for (option, name) in [("--namespace", Some(namespace)), ("--default-team", default_team.as_ref())] {
            if name.is_some_and(|name| !is_name(name)) {
                return Err(format!(
                    "{option}: small letters, digits and dashes, at most 63: such as platform"
                )
                .into());
            }
        }
        match &self.release_namespace {
            Some(release) if release != namespace && !installation.platform_namespaces.contains(namespace) => Err(format!(
                "objects do not count in namespace {namespace}: name {release}, or one of platformNamespaces of the installation"
            )
            .into()),
            _ => Ok(()),
        }
    }

    async fn door(&self) -> Result<Door, Failure> {
        if let Some(key) = self.master_key.clone().filter(|key| !key.is_empty()) {
            let read =
                |file: &PathBuf| std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()));
            return Ok(Door::MasterKey(key, self.ledger_authorities.as_ref().map(read).transpose()?));
        }
        let no_key = "no master key (TOLLGATE_MASTER_KEY), and no certificate of the operator";
        let client = kube::Client::try_default().await.map_err(|error| format!("{no_key}: {error}"))?;
        let settings = authority::Settings {
            release: self.installation.release.clone(),
            namespace: self.release_namespace.clone().unwrap_or_else(|| self.namespace.clone()),
            gateway_names: vec![],
            direct_namespaces: vec![],
            injects: false,
            keeps: false,
        };
        let own = read_own(client, settings).await?;
        Ok(Door::Certificate(Pass::of(&own).ok_or(no_key)?))
    }
}
