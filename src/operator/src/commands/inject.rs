//! `inject`: for those who want no webhook.

use super::Failure;
use clap::Args;
use std::io::Read;
use std::path::PathBuf;
use tollgate_operator::inject::{Settings, inject_documents};

#[derive(Args)]
pub(crate) struct Inject {
    /// Pods, and what makes pods (Deployments, Jobs, CronJobs, ...), as YAML; - is standard input. The rest passes as it is.
    #[arg(short = 'f', long, value_name = "FILE")]
    filename: PathBuf,
    /// What the installation says of sidecars: the entry sidecar.yaml of the release's ConfigMap.
    #[arg(long, env = "TOLLGATE_OPERATOR_SIDECAR", value_name = "FILE")]
    settings: PathBuf,
    /// The namespace of what says none.
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,
}

/// Prints what is to be applied.
pub(crate) fn run(options: &Inject) -> Result<(), Failure> {
    let settings: Settings = serde_yaml_ng::from_str(&read(&options.settings)?)
        .map_err(|error| format!("{}: {error}", options.settings.display()))?;
    print!("{}", inject_documents(&read(&options.filename)?, &options.namespace, &settings)?);
    Ok(())
}

fn read(file: &PathBuf) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if file.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|mut file| file.read_to_string(&mut text))
    };
    read.map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(text)
}
