//! `tollgate-operator crds`: the definitions of the custom resources, for `kubectl apply -f -` and for the files in `k8s/crds`.

use super::Failure;
use clap::Args;
use std::path::PathBuf;
use tollgate_operator::resources::definitions_yaml;

/// Options of the verb.
#[derive(Args)]
pub(crate) struct Crds {
    /// Folders to write one file for each definition into, instead of printing them.
    #[arg(long, value_name = "FOLDER")]
    into: Vec<PathBuf>,
}

pub(crate) fn run(options: Crds) -> Result<(), Failure> {
    let definitions = definitions_yaml()?;
    if options.into.is_empty() {
        for (_, definition) in &definitions {
            println!("---\n{}", definition.trim_end());
        }
    }
    for folder in options.into {
        std::fs::create_dir_all(&folder)?;
        for (name, definition) in &definitions {
            std::fs::write(folder.join(name), definition)?;
        }
    }
    Ok(())
}
