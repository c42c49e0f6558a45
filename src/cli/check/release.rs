//! What of fother a cluster has, and how helm mends it: the release that is there, and not another beside it.

use anyhow::Context;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};

use crate::cli::installed::ControllerAccount;
use crate::cluster::error::optional;

/// The labels of the controller's Deployment.
const CONTROLLER: &str = "app.kubernetes.io/name=fother,app.kubernetes.io/component=controller";
/// Where helm writes which release it is that it made something for.
const RELEASE_NAME: &str = "meta.helm.sh/release-name";
/// And in which namespace.
const RELEASE_NAMESPACE: &str = "meta.helm.sh/release-namespace";
/// What the documents call the release and its namespace.
const USUAL: &str = "fother";

/// What there is of fother.
pub struct Installed {
    /// The kinds of this version, each with what the cluster has of it.
    pub kinds: Vec<(CustomResourceDefinition, Option<CustomResourceDefinition>)>,
    /// Who the controller is.
    pub account: Option<ControllerAccount>,
    /// What runs it.
    pub deployment: Option<Deployment>,
    /// What mends it.
    pub release: Release,
}

impl Installed {
    /// Looks for all of it.
    pub async fn find(client: &Client) -> anyhow::Result<Self> {
        let api: Api<CustomResourceDefinition> = Api::all(client.clone());
        let mut kinds = Vec::new();
        for wanted in crate::api::crds() {
            let name = wanted.name_any();
            let found = optional(api.get(&name).await).with_context(|| format!("failed to read {name}"))?;
            kinds.push((wanted, found));
        }
        let account = ControllerAccount::find(client).await?;
        let deployment = deployment(client, account.as_ref()).await?;
        let there: Vec<_> = kinds.iter().filter_map(|(_, found)| found.as_ref()).collect();
        let release = Release::of(account.as_ref(), deployment.as_ref(), &there);
        Ok(Self { kinds, account, deployment, release })
    }
}

/// The Deployment beside the controller's account; anywhere, where nobody has its role.
async fn deployment(
    client: &Client,
    account: Option<&ControllerAccount>,
) -> anyhow::Result<Option<Deployment>> {
    let api: Api<Deployment> = match account {
        Some(account) => Api::namespaced(client.clone(), &account.namespace),
        None => Api::all(client.clone()),
    };
    let found = api.list(&ListParams::default().labels(CONTROLLER)).await;
    Ok(found.context("failed to list Deployments")?.items.into_iter().next())
}

/// The release of the chart, as it is or would be.
#[derive(Debug, Eq, PartialEq)]
pub struct Release {
    name: String,
    namespace: String,
    /// Then it may have values, and helm forgets them all when it is given one.
    is_there: bool,
    /// Whether there are kinds that helm has not made: it refuses to take them over.
    has_foreign_kinds: bool,
}

impl Release {
    fn of(
        account: Option<&ControllerAccount>,
        deployment: Option<&Deployment>,
        kinds: &[&CustomResourceDefinition],
    ) -> Self {
        // The kinds outlive a release, which helm then installs under the same name only.
        let said = |annotation: &str| {
            let of_deployment = deployment.and_then(|deployment| word(deployment, annotation));
            of_deployment.or_else(|| kinds.iter().find_map(|kind| word(*kind, annotation)))
        };
        let namespace = account.map(|account| account.namespace.clone());
        let namespace = namespace
            .or_else(|| said(RELEASE_NAMESPACE))
            .or_else(|| deployment.and_then(ResourceExt::namespace));
        Self {
            name: said(RELEASE_NAME).unwrap_or_else(|| USUAL.to_owned()),
            namespace: namespace.unwrap_or_else(|| USUAL.to_owned()),
            is_there: account.is_some() || deployment.is_some(),
            has_foreign_kinds: kinds.iter().any(|kind| !kind.annotations().contains_key(RELEASE_NAME)),
        }
    }

    /// What installs the chart, or puts right what it has installed.
    pub fn install(&self) -> String {
        self.command(None)
    }

    /// The same with one value changed, `name=value`.
    pub fn install_with(&self, value: &str) -> String {
        self.command(Some(value))
    }

    fn command(&self, value: Option<&str>) -> String {
        let Self { name, namespace, .. } = self;
        let without_kinds = self.has_foreign_kinds.then_some("crds.install=false");
        let values: Vec<_> = without_kinds.into_iter().chain(value).collect();
        let given = match (values.is_empty(), self.is_there) {
            (true, _) => String::new(),
            (false, true) => format!(" --reset-then-reuse-values --set {}", values.join(",")),
            (false, false) => format!(" --set {}", values.join(",")),
        };
        format!("helm upgrade --install {name} charts/fother -n {namespace} --create-namespace{given}")
    }

    /// What brings the kinds of this version.
    pub fn install_kinds(&self) -> String {
        match self.has_foreign_kinds {
            true => "fother crds | kubectl apply --server-side -f -".to_owned(),
            false => self.install(),
        }
    }
}

/// An annotation that can stand in a command line: whoever may write it does not write what an administrator types.
fn word(object: &impl ResourceExt, annotation: &str) -> Option<String> {
    let text = object.annotations().get(annotation)?;
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let is_word = text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(is_plain);
    is_word.then(|| text.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn account() -> ControllerAccount {
        ControllerAccount { namespace: "ops".to_owned(), name: "fother".to_owned() }
    }

    fn annotated(annotations: &Value) -> Value {
        json!({"metadata": {"name": "fother", "namespace": "ops", "annotations": annotations}})
    }

    fn deployment(annotations: &Value) -> Deployment {
        serde_json::from_value(annotated(annotations)).expect("a Deployment")
    }

    fn kind(annotations: &Value) -> CustomResourceDefinition {
        let mut kind = crate::api::crds().swap_remove(0);
        kind.metadata.annotations = serde_json::from_value(annotations.clone()).expect("annotations");
        kind
    }

    #[test]
    fn a_cluster_without_fother_gets_what_the_documents_say() {
        let release = Release::of(None, None, &[]);
        let install = "helm upgrade --install fother charts/fother -n fother --create-namespace";
        assert_eq!(release.install(), install);
        assert_eq!(release.install_kinds(), install);
        assert_eq!(release.install_with("replicas=3"), format!("{install} --set replicas=3"));
    }

    #[test]
    fn a_release_that_is_there_is_mended_with_its_values() {
        let helm = json!({"meta.helm.sh/release-name": "guard", "meta.helm.sh/release-namespace": "ops"});
        let (there, kinds) = (deployment(&helm), kind(&helm));
        let install = "helm upgrade --install guard charts/fother -n ops --create-namespace";
        for (account, there) in
            [(Some(&account()), Some(&there)), (None, Some(&there)), (Some(&account()), None)]
        {
            let release = Release::of(account, there, &[&kinds]);
            assert_eq!(release.install(), install);
            assert_eq!(
                release.install_with("replicas=3"),
                format!("{install} --reset-then-reuse-values --set replicas=3")
            );
        }
        // Of one that was uninstalled the kinds are left, and with them its name.
        let left = Release::of(None, None, &[&kinds]);
        assert_eq!((left.install().as_str(), left.is_there), (install, false));
    }

    #[test]
    fn helm_leaves_kinds_alone_that_it_has_not_made() {
        let release = Release::of(None, None, &[&kind(&json!({}))]);
        let install = "helm upgrade --install fother charts/fother -n fother --create-namespace --set crds.install=false";
        assert_eq!(release.install(), install);
        assert_eq!(release.install_with("replicas=3"), format!("{install},replicas=3"));
        assert_eq!(release.install_kinds(), "fother crds | kubectl apply --server-side -f -");
    }

    #[test]
    fn nothing_else_than_a_name_gets_into_a_remedy() {
        for text in ["x; reboot", "$(reboot)", "-f", "", "a\nb"] {
            let odd = json!({"meta.helm.sh/release-name": text, "meta.helm.sh/release-namespace": text});
            let release = Release::of(None, Some(&deployment(&odd)), &[]);
            let install = "helm upgrade --install fother charts/fother -n ops --create-namespace";
            assert_eq!(release.install(), install, "{text:?}");
        }
    }
}
