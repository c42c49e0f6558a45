//! What an account may do, asked of the API server as the account itself.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SubjectAccessReview,
    SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::account::Account;
use super::discovery::Served;
use super::error::{Error, Result};

/// How long a yes is good: rules of one account ask the same, and are looked at again and again. A right that is lost
/// meanwhile is noticed where it is used. A no is not kept: somebody is about to mend it. Then one asks again, and the
/// others go on with the yes until the answer is there: a thousand rules come in the same moment.
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
        if self.is_granted(&known) {
            return Ok(true);
        }
        let answer = ask(account, verb, kind, namespace).await;
        let mut granted = self.granted.lock();
        match answer {
            Ok(true) => granted.insert(known, Instant::now()),
            _ => granted.remove(&known),
        };
        answer
    }

    /// Whether there is a yes. Who finds it old is to ask, and it counts anew for those who come meanwhile.
    fn is_granted(&self, known: &[String; 4]) -> bool {
        let mut granted = self.granted.lock();
        let Some(at) = granted.get_mut(known) else { return false };
        let is_old = at.elapsed() >= KEEP;
        if is_old {
            *at = Instant::now();
        }
        !is_old
    }
}

async fn ask(account: &Account, verb: &str, kind: &Served, namespace: &str) -> Result<bool> {
    let resource = &kind.resource;
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
    Ok(answer.status.is_some_and(|status| status.allowed))
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::{Method, Request, Response};
    use kube::client::Body;
    use kube::core::{ApiResource, GroupVersionKind};

    use crate::api::ANNOTATION;

    /// An API server that lets the account do everything, the first `yes` times that it is asked.
    fn server(yes: usize) -> (Client, Arc<AtomicUsize>) {
        let asked = Arc::<AtomicUsize>::default();
        let counted = asked.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let answer = match *request.method() {
                Method::POST => {
                    serde_json::json!({"spec": {}, "status": {"allowed": counted.fetch_add(1, Ordering::SeqCst) < yes}})
                }
                _ => {
                    serde_json::json!({"metadata": {"name": "healer", "annotations": {ANNOTATION.allow: "true"}}})
                }
            };
            async move {
                tokio::task::yield_now().await;
                Ok::<_, std::convert::Infallible>(Response::new(Body::from(answer.to_string().into_bytes())))
            }
        });
        (Client::new(service, "a"), asked)
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_yes_counts_until_one_has_asked_again() {
        let (home, asked) = server(2);
        let account = Account::read(&home, "a", "healer").await.unwrap();
        let pods = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Pod"));
        let pods = Served { resource: pods, namespaced: true };
        let reviews = Reviews::default();
        let may = || reviews.may(&account, "watch", &pods, "a");
        assert!(may().await.unwrap() && may().await.unwrap());
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        tokio::time::advance(KEEP).await;
        let answers = futures::future::join_all((0..10).map(|_| may())).await;
        assert!(answers.into_iter().all(Result::unwrap));
        assert_eq!(asked.load(Ordering::SeqCst), 2, "one asked again");
        tokio::time::advance(KEEP).await;
        assert!(!may().await.unwrap() && !may().await.unwrap());
        assert_eq!(asked.load(Ordering::SeqCst), 4, "a no is not kept");
    }
}
