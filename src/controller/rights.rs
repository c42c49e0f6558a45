//! Which rights an account lacks: asked before a rule is watched and before a revision is applied, and by `fother check`.

use std::collections::BTreeMap;

use kube::Client;

use crate::api::ANNOTATION;
use crate::cluster::Result;
use crate::cluster::account::Account;
use crate::cluster::discovery::Kinds;
use crate::cluster::reviews::Reviews;
use crate::decide::rights::Right;

/// The rights that the account lacks of those that are needed in its namespace, as a sentence with its remedy.
pub async fn lacking(
    (home, kinds, reviews): (&Client, &Kinds, &Reviews),
    needed: impl IntoIterator<Item = Right>,
    account: &Account,
) -> Result<Option<String>> {
    let (namespace, name) = account.namespace_and_name();
    let mut lacking = BTreeMap::<(bool, String), Vec<&str>>::new();
    for Right { verb, any_of } in needed {
        let mut first = None;
        let mut allowed = false;
        for kind in &any_of {
            let served = kinds.find(home, &kind.api_version, &kind.kind).await?;
            allowed = reviews.may(account, verb, &served, namespace).await?;
            first.get_or_insert(served);
            if allowed {
                break;
            }
        }
        if let Some(served) = first.filter(|_| !allowed) {
            lacking.entry((served.namespaced, served.resource.plural)).or_default().push(verb);
        }
    }
    let who = format!("ServiceAccount {namespace}/{name}");
    Ok((!lacking.is_empty()).then(|| sentence(&who, namespace, &lacking)))
}

/// What the API server said when it refused, with what mends it if it is the controller that may not act as the account.
pub fn refused(text: &str, (namespace, name): (&str, &str)) -> String {
    let of_account = format!("system:serviceaccount:{namespace}:{name}\"");
    // Without an enrolment the controller may neither act as the account nor keep what it needs beside it.
    let controller_may_not = text.contains("\" cannot ") && !text.contains(&of_account);
    let is_enrolled = !controller_may_not && !text.contains(ANNOTATION.allow);
    match is_enrolled {
        true => text.to_owned(),
        false => format!(
            "{text}; fother enroll {namespace} --service-account {name} --apply lets the controller act as it"
        ),
    }
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
    fn who_cannot_act_as_an_account_hears_how_it_is_enrolled() {
        let remedy = "; fother enroll a --service-account healer --apply lets the controller act as it";
        let user = |user: &str, what: &str| format!("User \"system:serviceaccount:{user}\" cannot {what}");
        for (text, is_account) in [
            (user("fother:fother", "impersonate resource \"serviceaccounts\""), false),
            (
                "ServiceAccount a/healer does not carry the annotation fother.dev/allow: \"true\"".to_owned(),
                false,
            ),
            (user("a:healer", "list resource \"pods\""), true),
            (user("a:healers", "list resource \"pods\""), false),
            ("admission webhook \"policy.example\" denied the request: no".to_owned(), true),
            ("exceeded quota: few, requested: count/jobs.batch=1".to_owned(), true),
        ] {
            let expected = if is_account { text.clone() } else { format!("{text}{remedy}") };
            assert_eq!(refused(&text, ("a", "healer")), expected);
        }
    }

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
