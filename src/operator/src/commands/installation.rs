//! What every verb that works for an installation is told of it.

use clap::Args;

#[derive(Args)]
pub(crate) struct Installation {
    /// What the release is called; the names of its own Secrets begin with it.
    #[arg(long, env = "TOLLGATE_OPERATOR_RELEASE", value_name = "NAME", default_value = "tollgate")]
    pub(crate) release: String,
    /// Where, beside the release's namespace, organizations, teams, users, budgets and price books count.
    #[arg(
        long,
        env = "TOLLGATE_OPERATOR_PLATFORM_NAMESPACES",
        value_name = "NAMESPACES",
        value_delimiter = ','
    )]
    pub(crate) platform_namespaces: Vec<String>,
    /// This cluster's name in the ledger; never changed afterwards, because accounts are found by it.
    #[arg(long, env = "TOLLGATE_OPERATOR_CLUSTER", value_name = "NAME", default_value = "kubernetes")]
    pub(crate) cluster: String,
    /// The ledger's admin port.
    #[arg(long, env = "TOLLGATE_OPERATOR_LEDGER", value_name = "URL")]
    pub(crate) ledger: String,
}
