//! `fother crds`: the custom resource definitions, as YAML.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use super::Exit;

/// Print the custom resource definitions that the controller needs.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fother crds | kubectl apply --server-side -f -
  fother crds --output-dir crds    # one file per kind")]
pub struct Crds {
    /// Write one file per kind into this folder instead of printing.
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
}

impl Crds {
    /// Prints or writes them.
    pub fn run(self) -> anyhow::Result<Exit> {
        for crd in crate::api::crds() {
            let yaml = render(&crd)?;
            match &self.output_dir {
                Some(folder) => write(folder, &crd, &yaml)?,
                None => super::say(|out| write!(out, "---\n{yaml}"))?,
            }
        }
        Ok(Exit::Yes)
    }
}

/// One definition as YAML, exactly as it stands in `crds/`.
pub fn render(crd: &CustomResourceDefinition) -> anyhow::Result<String> {
    // Through a JSON value, whose maps are sorted: the same definition is always the same text.
    let value = serde_json::to_value(crd)?;
    Ok(serde_saphyr::to_string(&value)?)
}

/// The file name of one definition.
pub fn file_name(crd: &CustomResourceDefinition) -> String {
    format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural)
}

fn write(folder: &Path, crd: &CustomResourceDefinition, yaml: &str) -> anyhow::Result<()> {
    let path = folder.join(file_name(crd));
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&path, yaml))
        .with_context(|| format!("failed to write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_in_crds_are_fresh() {
        for crd in crate::api::crds() {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds").join(file_name(&crd));
            let committed = std::fs::read_to_string(&path).unwrap_or_default();
            let fresh = render(&crd).expect("renders");
            assert!(committed == fresh, "{} is stale: run `make crds`", path.display());
        }
    }
}
