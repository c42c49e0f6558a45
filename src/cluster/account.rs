//! Acting as a Rule's `ServiceAccount`, if its annotation allows it.

use http::HeaderValue;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, Client};

use super::client::acting_as;
use super::error::{Error, Result, optional};
use crate::api::ANNOTATION;

/// A `ServiceAccount` that the controller may act as. It can only be had by reading the annotation, so an empty or
/// forbidden identity cannot be built.
#[derive(Clone)]
pub struct Account {
    user: String,
    client: Client,
}

impl Account {
    /// Reads the account and its annotation, live.
    pub async fn read(home: &Client, namespace: &str, name: &str) -> Result<Self> {
        let api: Api<ServiceAccount> = Api::namespaced(home.clone(), namespace);
        let action = format!("read ServiceAccount {namespace}/{name}");
        let found = optional(api.get(name).await).map_err(Error::request(action))?;
        let Some(account) = found else {
            return Err(Error::NotAllowed(format!("ServiceAccount {namespace}/{name} does not exist")));
        };
        let allowed = account.metadata.annotations.and_then(|a| a.get(ANNOTATION.allow).cloned());
        if allowed.as_deref() != Some("true") {
            let text = format!(
                "ServiceAccount {namespace}/{name} does not carry the annotation {}: \"true\"",
                ANNOTATION.allow
            );
            return Err(Error::NotAllowed(text));
        }
        Self::named(home, namespace, name)
    }

    fn named(home: &Client, namespace: &str, name: &str) -> Result<Self> {
        let user = format!("system:serviceaccount:{namespace}:{name}");
        let complete = !namespace.is_empty() && !name.is_empty();
        let header = HeaderValue::from_str(&user).ok().filter(|_| complete);
        let header = header.ok_or_else(|| Error::NotAllowed(format!("{user:?} is not an account")))?;
        Ok(Self { client: acting_as(home.clone(), header, namespace), user })
    }

    /// The user that the API server sees.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Where it is and what it is called.
    pub fn namespace_and_name(&self) -> (&str, &str) {
        let rest = self.user.trim_start_matches("system:serviceaccount:");
        rest.split_once(':').unwrap_or(("", rest))
    }

    /// A client that acts as the account.
    pub fn client(&self) -> Client {
        self.client.clone()
    }
}
