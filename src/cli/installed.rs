//! The account that the controller runs as: as somebody names it, and as a cluster knows it.

use std::fmt;
use std::str::FromStr;

use anyhow::Context;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::{Api, Client};

use super::names;
use crate::cluster::error::optional;
use crate::cluster::rights;

/// The controller's `ServiceAccount`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ControllerAccount {
    /// Where it lives.
    pub namespace: String,
    /// What it is called.
    pub name: String,
}

impl ControllerAccount {
    /// The one that a cluster has given the controller's own role, if any.
    pub async fn find(client: &Client) -> anyhow::Result<Option<Self>> {
        let api: Api<ClusterRoleBinding> = Api::all(client.clone());
        let bound = optional(api.get(rights::CONTROLLER_ROLE).await);
        let bound = bound.context("failed to read who the controller is")?;
        let subjects = bound.and_then(|bound| bound.subjects).unwrap_or_default();
        let found = subjects.into_iter().find(|subject| subject.kind == "ServiceAccount");
        Ok(found.and_then(|found| Some(Self { namespace: found.namespace?, name: found.name })))
    }

    /// Namespace and name.
    pub fn parts(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }
}

impl fmt::Display for ControllerAccount {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for ControllerAccount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (namespace, name) = text.split_once('/').ok_or("not of the form NAMESPACE/NAME")?;
        Ok(Self { namespace: names::namespace(namespace)?, name: names::account(name)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controller_is_named_with_its_namespace() {
        let account = ControllerAccount { namespace: "ops".to_owned(), name: "fother".to_owned() };
        assert_eq!(account.to_string().parse(), Ok(account));
        for bad in ["fother", "/fother", "ops/", "a/b/c", "Ops/fother", "ops/the controller"] {
            assert!(bad.parse::<ControllerAccount>().is_err(), "{bad}");
        }
    }
}
