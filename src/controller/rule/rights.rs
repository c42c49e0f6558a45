//! Which rights a rule's account lacks: asked by the controller before it watches, and by `fother check`.

use std::collections::BTreeMap;

use kube::{Client, ResourceExt};

use crate::api::{ActionSpec, Rule};
use crate::cluster::Result;
use crate::cluster::account::Account;
use crate::cluster::discovery::Kinds;
use crate::cluster::reviews::Reviews;
use crate::decide::rights::{Right, needed};

/// The rights that the account lacks for what the rule watches and runs, as a sentence with its remedy.
pub async fn lacking(
    (home, kinds, reviews): (&Client, &Kinds, &Reviews),
    rule: &Rule,
    actions: &BTreeMap<String, ActionSpec>,
    account: &Account,
) -> Result<Option<String>> {
    let namespace = rule.namespace().unwrap_or_default();
    let mut lacking = BTreeMap::<(bool, String), Vec<&str>>::new();
    for Right { verb, any_of } in needed(&rule.spec, actions.values()) {
        let mut first = None;
        let mut allowed = false;
        for kind in &any_of {
            let served = kinds.find(home, &kind.api_version, &kind.kind).await?;
            allowed = reviews.may(account, verb, &served, &namespace).await?;
            first.get_or_insert(served);
            if allowed {
                break;
            }
        }
        if let Some(served) = first.filter(|_| !allowed) {
            lacking.entry((served.namespaced, served.resource.plural)).or_default().push(verb);
        }
    }
    let who = format!("ServiceAccount {namespace}/{}", rule.spec.service_account_name);
    Ok((!lacking.is_empty()).then(|| sentence(&who, &namespace, &lacking)))
}

fn sentence(who: &str, namespace: &str, lacking: &BTreeMap<(bool, String), Vec<&str>>) -> String {
    let part = |namespaced: bool| {
        let of = lacking.iter().filter(|((scope, _), _)| *scope == namespaced);
        let texts: Vec<_> = of.map(|((_, plural), verbs)| format!("{} {plural}", verbs.join("/"))).collect();
        texts.join(", ")
    };
    let place = format!("in namespace {namespace}; add a Role that allows it");
    [(true, place.as_str()), (false, "in the cluster; add a ClusterRole that allows it")]
        .into_iter()
        .map(|(namespaced, place)| (part(namespaced), place))
        .filter(|(what, _)| !what.is_empty())
        .map(|(what, place)| format!("{who} cannot {what} {place}"))
        .collect::<Vec<_>>()
        .join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_right_is_named_with_its_place_and_remedy() {
        let lacking = [
            ((true, "jobs".to_owned()), vec!["create", "patch"]),
            ((true, "pods".to_owned()), vec!["list"]),
            ((false, "nodes".to_owned()), vec!["watch"]),
        ];
        assert_eq!(
            sentence("ServiceAccount a/healer", "a", &lacking.into()),
            "ServiceAccount a/healer cannot create/patch jobs, list pods in namespace a; add a Role that allows it; \
             ServiceAccount a/healer cannot watch nodes in the cluster; add a ClusterRole that allows it"
        );
    }
}
