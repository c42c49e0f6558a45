//! Whether a target still matches, by what the API server says now: the look before every act.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use serde_json::Value;

use super::context::Context;
use super::lead::{self, matched};
use crate::api::{CapturedEvent, Decision, ObjectReference};
use crate::cluster::account::Account;
use crate::cluster::objects::Objects;
use crate::cluster::{Error, Result};
use crate::decide::capture::Correlation;
use crate::decide::gathering::{Together, record};
use crate::decide::identity::TargetKey;
use crate::decide::matching::{CompiledRule, Hit};
use crate::decide::view::{Match, ObjectKey, TargetView, key};
use crate::expr::EvalErrorKind;
use crate::source::watch::now;

/// Objects that are read at a time.
const READING: usize = 16;

/// What matches, as it is now.
#[derive(Debug)]
pub struct Standing {
    /// The object that stands for all.
    pub object: Arc<Value>,
    /// What a decision records of the objects that mean something only together.
    pub captured: Vec<CapturedEvent>,
}

impl Standing {
    fn alone(object: Arc<Value>) -> Self {
        Self { object, captured: Vec::new() }
    }
}

/// What stood for a target's matches when they were seen, if it still matches. A view may be a moment behind, and what
/// was mended in that moment needs no Execution.
pub async fn still(
    context: &Context,
    account: &Account,
    rule: &CompiledRule,
    view: &TargetView,
) -> Result<Option<Standing>> {
    let looking = Looking { context, account, rule, target: &view.target };
    if rule.correlation.is_some() {
        let names = view.together.iter().map(|one| one.object.object.name.clone()).collect();
        return looking.together(names).await;
    }
    let objects = Objects::around(account.client(), &context.kinds, &view.object.object).await?;
    let object = objects.listed(&view.object.object.name).await?.map(Arc::new);
    let matches = |object: &Arc<Value>| matches!(rule.matches_object(object, now()), Ok(Some(_)));
    Ok(object.filter(matches).map(Standing::alone))
}

/// What matches and leads to the target, if anything does. What was decided about is looked at first: while it matches,
/// there is no need to list all.
pub async fn matching(
    context: &Context,
    account: &Account,
    rule: &CompiledRule,
    target: &ObjectReference,
    decided: Option<&Decision>,
) -> Result<Option<Arc<Value>>> {
    let looking = Looking { context, account, rule, target };
    if let Some(correlation) = &rule.correlation {
        let mut found = looking.together(decided.map(names_of).unwrap_or_default()).await?;
        if found.is_none() && !correlation.is_absence() {
            found = looking.together_of_all().await?;
        }
        return Ok(found.map(|standing| standing.object));
    }
    let objects = looking.objects().await?;
    if let Some(decided) = decided
        && let Some(object) = objects.listed(&decided.matched.object.name).await?.map(Arc::new)
        && looking.leads(&object).await.is_ok_and(|found| found.is_some())
    {
        return Ok(Some(object));
    }
    let mut unknown = None;
    for object in objects.list(None).await? {
        let object = Arc::new(object);
        match looking.leads(&object).await {
            Ok(Some(_)) => return Ok(Some(object)),
            Ok(None) => {}
            Err(error) => drop(unknown.get_or_insert(error)),
        }
    }
    unknown.map_or(Ok(None), Err)
}

/// The names of the objects that led to a decision together.
fn names_of(decision: &Decision) -> Vec<String> {
    let name = |one: &CapturedEvent| one.data.0.pointer("/metadata/name")?.as_str().map(str::to_owned);
    decision.captured.iter().filter_map(name).collect()
}

/// Who looks at what.
#[derive(Clone, Copy)]
struct Looking<'a> {
    context: &'a Context,
    account: &'a Account,
    rule: &'a CompiledRule,
    target: &'a ObjectReference,
}

impl Looking<'_> {
    /// Those of the trigger's kind.
    async fn objects(self) -> Result<Objects> {
        let trigger = self.rule.spec.trigger.resource.clone().unwrap_or_default();
        let served = self.context.kinds.find(&self.context.home, &trigger.api_version, &trigger.kind).await?;
        Ok(Objects::of(self.account.client(), &served, Some(&self.rule.facts.namespace)))
    }

    /// The objects of these names, if they are still together. Whether something stays away says only a list of all.
    async fn together(self, names: Vec<String>) -> Result<Option<Standing>> {
        if self.rule.correlation.as_ref().is_none_or(Correlation::is_absence) {
            return self.together_of_all().await;
        }
        let objects = self.objects().await?;
        let reading = stream::iter(names).map(|name| {
            let objects = &objects;
            async move { objects.listed(&name).await }
        });
        let read: Vec<Option<Value>> = reading.buffer_unordered(READING).try_collect().await?;
        self.gathered(read.into_iter().flatten().collect()).await
    }

    async fn together_of_all(self) -> Result<Option<Standing>> {
        let all = self.objects().await?.list(None).await?;
        self.gathered(all).await
    }

    /// What is together of these by now.
    async fn gathered(self, objects: Vec<Value>) -> Result<Option<Standing>> {
        let Some(correlation) = &self.rule.correlation else { return Ok(None) };
        let (mut found, mut unknown) = (BTreeMap::new(), None);
        for object in objects.into_iter().map(Arc::new) {
            match self.leads(&object).await {
                Ok(Some(one)) => drop(found.insert(key(&one.object.object), (one, object))),
                Ok(None) => {}
                Err(error) => drop(unknown.get_or_insert(error)),
            }
        }
        // What cannot be led anywhere may be what is expected.
        if let Some(error) = unknown.take_if(|_| correlation.is_absence()) {
            return Err(error);
        }
        let matches = found.iter().map(|(key, (one, _))| (key, one));
        match correlation.together(matches).filter(|together| together.since <= now()) {
            Some(together) => Ok(standing(&together, &found)),
            None => unknown.map_or(Ok(None), Err),
        }
    }

    /// An object that matches and leads to the target. Those whose owners are gone lead nowhere: they are on their way
    /// out. One whose owners cannot be read leaves open only whether nothing matches.
    async fn leads(self, object: &Arc<Value>) -> Result<Option<Match>> {
        let judged = match self.rule.matches_object(object, now()) {
            Ok(None) => return Ok(None),
            Err(error) if error.kind == EvalErrorKind::Absent => return Ok(None),
            judged => judged,
        };
        let target = lead::from_object(&self.account.client(), &self.context.kinds, self.rule, object).await;
        let target = match target {
            Ok(target) if TargetKey::from(&target) == TargetKey::from(self.target) => target,
            Ok(_) | Err(Error::Unexpected(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let matched = matched(object);
        match judged {
            Ok(hit) => Ok(hit.map(|Hit { since, part }| Match { object: matched, target, since, part })),
            // Of the target itself: that nothing matches any more cannot be said.
            Err(error) => Err(Error::Unexpected(format!("{} cannot be judged: {error}", matched.object))),
        }
    }
}

fn standing(together: &Together, found: &BTreeMap<ObjectKey, (Match, Arc<Value>)>) -> Option<Standing> {
    let objects: Vec<_> = together
        .objects
        .iter()
        .filter_map(|one| Some((one, &found.get(&key(&one.object.object))?.1)))
        .collect();
    let captured = objects.iter().map(|(one, object)| record(one, object)).collect();
    Some(Standing { object: (*objects.last()?.1).clone(), captured })
}
