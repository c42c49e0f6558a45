//! What an account may do, asked of the API server as the account itself.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SubjectAccessReview,
    SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};
use parking_lot::Mutex;

use super::account::Account;
use super::discovery::Served;
use super::error::{Error, Result};

/// How long a yes is good: rules of one account ask the same, and are looked at again and again. A right that is lost
/// meanwhile is noticed where it is used. A no is not kept: somebody is about to mend it.
const KEEP: Duration = Duration::from_secs(300);

/// Who may do what to which resource in which namespace, of those that may.
#[derive(Default)]
pub struct Reviews {
    granted: Mutex<BTreeMap<[String; 4], Instant>>,
}

impl Reviews {
    /// Whether `account` may do `verb` to a kind; in its namespace, or in the cluster for a kind that has none.
    pub async fn may(&self, account: &Account, verb: &str, kind: &Served, namespace: &str) -> Result<bool> {
        let resource = &kind.resource;
        let namespace = if kind.namespaced { namespace } else { "" };
        let plural = format!("{}.{}", resource.plural, resource.group);
        let known = [account.user(), verb, &plural, namespace].map(str::to_owned);
        if self.granted.lock().get(&known).is_some_and(|at| at.elapsed() < KEEP) {
            return Ok(true);
        }
        let asked = ResourceAttributes {
            verb: Some(verb.to_owned()),
            group: Some(resource.group.clone()),
            resource: Some(resource.plural.clone()),
            namespace: Some(namespace.to_owned()),
            ..ResourceAttributes::default()
        };
        let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(asked), ..Default::default() };
        let review = SelfSubjectAccessReview { spec, ..Default::default() };
        let api: Api<SelfSubjectAccessReview> = Api::all(account.client());
        let answer = api.create(&PostParams::default(), &review).await;
        let answer = answer.map_err(Error::request(format!("ask what {} may do", account.user())))?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        if allowed {
            self.granted.lock().insert(known, Instant::now());
        }
        Ok(allowed)
    }
}

/// Whether the `ServiceAccount` `name` of `namespace` may do what `asked` says: asked about it, not as it.
pub async fn account_may(
    client: &Client,
    (namespace, name): (&str, &str),
    asked: ResourceAttributes,
) -> Result<bool> {
    let user = format!("system:serviceaccount:{namespace}:{name}");
    let groups = ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
    let spec = SubjectAccessReviewSpec {
        groups: Some([&groups[..], &["system:authenticated".to_owned()]].concat()),
        resource_attributes: Some(asked),
        user: Some(user.clone()),
        ..SubjectAccessReviewSpec::default()
    };
    let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
    let answer = Api::all(client.clone()).create(&PostParams::default(), &review).await;
    let answer = answer.map_err(Error::request(format!("ask what {user} may do")))?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}
