//! Events are over at once: each is decided about one time, alone or as the last of several.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::ResourceExt;
use serde_json::json;

use super::{Listener, known};
use crate::api::{CapturedEvent, Execution, MatchedObject, ObjectReference, OutcomeKind};
use crate::cluster::Result;
use crate::controller::heard::{self, From};
use crate::controller::rule::fire::Decided;
use crate::controller::rule::seen::{Edge, Seen};
use crate::controller::rule::{Case, Executions, chosen, decide_edge, executions_of};
use crate::decide::capture::Correlation;
use crate::decide::correlation::{Found, TOO_MANY, WINDOW_ENDED, Windows};
use crate::decide::identity::{TargetKey, occurrence};
use crate::decide::inbox::{Inbox, Item, received_at};
use crate::decide::lead::{self, Lead};
use crate::decide::matching::received;
use crate::source::watch::now;

/// Events that one round decides, at the most, and how long it goes on before the outcomes are recorded. The first is
/// for events that lead to nothing, which cost no request; the second for those that do.
const EVENTS: usize = 2000;
const ROUND: Duration = Duration::from_millis(500);

/// When a round goes on that had to leave some.
pub(super) const SOON: Duration = Duration::from_millis(20);

/// An event that leads to a target, and the events of which it is made.
type Led = (Edge, Vec<Item>);

/// Windows, and what has become of the events that waited.
struct Filled {
    windows: Windows,
    /// Those that are in a window, by their identity.
    items: BTreeMap<String, Item>,
    /// Those of which an Execution was made, with its name.
    used: Vec<(Item, String)>,
    /// Those that do not match, or of which that cannot be said.
    nowhere: Vec<(Item, Lead)>,
    /// Those that went because too many wait.
    dropped: Vec<Item>,
}

impl Listener<'_> {
    /// Decides about events, oldest first.
    pub(super) async fn events(&mut self, inbox: Inbox) -> Result<()> {
        let executions = executions_of(self.context, self.case.compiled);
        let inbox = self.sure(inbox, &executions).await?;
        self.note_all(inbox.over);
        let waiting = inbox.waiting;
        let facts = &self.case.compiled.facts;
        let mut failing = self.context.evaluators.failing(&facts.namespace, &facts.name);
        let led = match &self.case.compiled.correlation {
            Some(correlation) => self.together(waiting, correlation, &executions),
            None => self.alone(waiting, &failing),
        };
        failing.retain(|occurrence| led.iter().any(|(edge, _)| edge.occurrence == *occurrence));
        let edges = led.iter().map(|(edge, _)| edge.clone()).collect();
        let seen = Seen { edges, ..self.case.seen.clone() };
        let chosen = chosen(self.case.compiled, &seen);
        let began = Instant::now();
        for (number, (edge, items)) in led.into_iter().enumerate() {
            if number >= EVENTS || began.elapsed() > ROUND {
                self.round.wake_in(SOON);
                break;
            }
            let (chosen, target) =
                (chosen.get(edge.occurrence.as_str()).copied(), TargetKey::from(&edge.target));
            let known = known(&executions, &target);
            let case = Case { seen: &seen, ..self.case };
            match decide_edge(self.context, case, (&edge, known, chosen), &mut self.round).await {
                Ok(decided) => {
                    failing.remove(&edge.occurrence);
                    self.told(&items, decided);
                }
                // It stays, and is tried again with the rule.
                Err(error) => {
                    failing.insert(edge.occurrence);
                    self.round.failed.get_or_insert((target, error));
                }
            }
        }
        self.context.evaluators.set_failing(&facts.namespace, &facts.name, failing);
        Ok(())
    }

    /// What waits: before it is said that something has stayed away, by what the API server has at this moment. A watch may
    /// be late, and whoever sent it was told that it is accepted.
    async fn sure(&self, inbox: Inbox, executions: &Executions) -> Result<Inbox> {
        let Some(correlation) = self.case.compiled.correlation.as_ref().filter(|c| c.is_absence()) else {
            return Ok(inbox);
        };
        let mut windows = self.filled(inbox.waiting.clone(), correlation, executions).windows;
        match windows.found(self.hearing().known_by()).is_empty() {
            true => Ok(inbox),
            false => heard::inbox(self.context, self.case.compiled, From::ApiServer).await,
        }
    }

    /// What came of an event is the outcome of all of which it is made.
    fn told(&mut self, items: &[Item], decided: Option<Decided>) {
        let (kind, reason, execution) = match decided {
            None => (OutcomeKind::Held, "a later one may come".to_owned(), None),
            Some(Decided::Fired(name)) => (OutcomeKind::Fired, String::new(), Some(name)),
            Some(Decided::Suppressed(suppressed, None)) => {
                (OutcomeKind::Suppressed, format!("{suppressed:?}"), None)
            }
            Some(Decided::Suppressed(suppressed, Some(objection))) => {
                let why = format!("{suppressed:?} {objection}");
                self.round.mistake = self.round.mistake.take().or(objection.mistake);
                (OutcomeKind::Suppressed, why, None)
            }
            Some(Decided::Failed(why)) => (OutcomeKind::Failed, why, None),
        };
        for item in items {
            self.note(item, kind, reason.clone(), execution.clone());
        }
    }

    /// Each means something alone.
    fn alone(&mut self, mut waiting: Vec<Item>, failing: &BTreeSet<String>) -> Vec<Led> {
        // Which of several counts can be told only if all are there, and in their order.
        let many = if self.case.compiled.facts.once.is_some() {
            waiting.len()
        } else {
            those_that_failed_last(&mut waiting, |item| occurrence(&item.accepted().event), failing);
            EVENTS + 1
        };
        let led = waiting.into_iter().take(many).filter_map(|item| {
            let target = self.lead(&item)?;
            Some((self.edge(&item, target, Vec::new()), vec![item]))
        });
        led.collect()
    }

    pub(super) fn edge(&self, item: &Item, target: ObjectReference, captured: Vec<CapturedEvent>) -> Edge {
        let event = &item.accepted().event;
        let MatchedObject { object, resource_version } = self.matched();
        // A clock that goes ahead gets no event past a cooldown.
        let time = event.time.0.min(received_at(&item.batch));
        Edge {
            target,
            event: MatchedObject { object, resource_version },
            occurrence: occurrence(event),
            time,
            since: time,
            data: Arc::new(json!(event)),
            recorded: Some(event.clone()),
            captured,
            depth: 0,
        }
    }

    /// Several mean something together. The windows are filled anew from what waits, so that nothing of them is lost
    /// with the process.
    fn together(
        &mut self,
        waiting: Vec<Item>,
        correlation: &Correlation,
        executions: &Executions,
    ) -> Vec<Led> {
        let Filled { mut windows, mut items, used, nowhere, dropped } =
            self.filled(waiting, correlation, executions);
        for (item, execution) in used {
            self.note(&item, OutcomeKind::Fired, "", Some(execution));
        }
        for (item, lead) in nowhere {
            self.leads_nowhere(&item, lead);
        }
        for item in dropped {
            self.note(&item, OutcomeKind::Suppressed, TOO_MANY, None);
        }
        let hearing = self.hearing();
        // What completes a window is there, whatever else is not.
        let known_by = if correlation.is_absence() { hearing.known_by() } else { hearing.now };
        windows.resume(&self.tried(correlation));
        let found = windows.found(known_by);
        self.set_tried(correlation, windows.tried());
        let mistake = windows.mistake().and_then(|mistake| Some((items.get(&mistake.id)?, &mistake.text)));
        let mistake = mistake.map(|(item, text)| format!("{}: {text}", item.accepted().event.id));
        self.round.mistake = self.round.mistake.take().or(mistake);
        let led = found.iter().filter_map(|found| self.complete(found, correlation, &mut items)).collect();
        for id in windows.waiting() {
            if let Some(item) = items.remove(id) {
                self.note(&item, OutcomeKind::Held, "waits for others", None);
            }
        }
        for item in items.into_values() {
            self.note(&item, OutcomeKind::Suppressed, WINDOW_ENDED, None);
        }
        self.dropped = windows.dropped();
        if let Some(due) = windows
            .due()
            .map(|due| hearing.says(due))
            .or_else(|| windows.oldest()?.checked_add(correlation.within()).ok())
        {
            self.round.wake_at(due);
        }
        led
    }

    /// The windows with what waits in them. It changes nothing: what waits may be asked for once more.
    fn filled(&self, waiting: Vec<Item>, correlation: &Correlation, executions: &Executions) -> Filled {
        let by = used(executions, |_| true);
        let (windows, items) = (correlation.windows(), BTreeMap::new());
        let (used, nowhere, dropped) = (Vec::new(), Vec::new(), Vec::new());
        let mut filled = Filled { windows, items, used, nowhere, dropped };
        for item in waiting {
            let id = occurrence(&item.accepted().event);
            if let Some(execution) = by.get(id.as_str()) {
                filled.used.push((item, execution.name_any()));
                continue;
            }
            if let Err(otherwise) = lead::matches(self.case.compiled, item.accepted(), now()) {
                filled.nowhere.push((item, otherwise));
                continue;
            }
            let edge = self.edge(&item, ObjectReference::default(), Vec::new());
            let bindings = received(&edge.data, &self.case.compiled.spec.trigger, now());
            match correlation.capture((&id, edge.time), &bindings, edge.data) {
                Ok(Some(captured)) => {
                    filled.items.insert(id, item);
                    let dropped = filled.windows.take(captured);
                    let dropped = dropped.iter().filter_map(|dropped| filled.items.remove(&dropped.id));
                    filled.dropped.extend(dropped);
                }
                Ok(None) => {
                    filled.nowhere.push((item, Lead::Nowhere("no member of the pattern".to_owned())));
                }
                Err(error) => filled.nowhere.push((item, Lead::Unknown(error.to_string()))),
            }
        }
        filled
    }

    /// A pattern that is complete, led to the target of the event that completed it.
    fn complete(
        &mut self,
        found: &Found,
        correlation: &Correlation,
        items: &mut BTreeMap<String, Item>,
    ) -> Option<Led> {
        let parts: Vec<Item> = found.events.iter().filter_map(|(_, event)| items.remove(&event.id)).collect();
        let last = found
            .events
            .last()
            .and_then(|(_, last)| parts.iter().find(|item| occurrence(&item.accepted().event) == last.id))?;
        let target = self.lead(last)?;
        let edge = self.edge(last, target, correlation.record(found));
        Some((
            Edge { occurrence: found.occurrence.clone(), time: found.time, since: found.time, ..edge },
            parts,
        ))
    }
}

/// What has failed is tried again when the others are decided: an API server that refuses it slowly would use up each round.
fn those_that_failed_last<T>(
    events: &mut [T],
    occurrence: impl Fn(&T) -> String,
    failing: &BTreeSet<String>,
) {
    if !failing.is_empty() {
        events.sort_by_cached_key(|event| failing.contains(&occurrence(event)));
    }
}

/// The events that Executions were made of that count, each with its own.
pub(super) fn used(
    executions: &Executions,
    counts: impl Fn(&Execution) -> bool,
) -> BTreeMap<&str, &Arc<Execution>> {
    let all = executions
        .values()
        .flatten()
        .filter(|execution| counts(execution))
        .filter_map(|execution| Some((execution, execution.spec.decision.as_ref()?)));
    all.flat_map(|(execution, decision)| {
        decision.captured.iter().map(move |event| (event.id.as_str(), execution))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Mode;

    fn execution(name: &str, mode: &str) -> Arc<Execution> {
        let (object, zero) = (json!({"apiVersion": "v1", "kind": "K", "name": "a"}), "2026-01-01T00:00:00Z");
        let decision = json!({"id": "d", "time": zero, "rule": {"name": "r"}, "mode": mode, "definition": "x",
            "matched": {"object": object, "resourceVersion": ""},
            "captured": [{"id": "1", "type": "t", "time": zero}]});
        let execution = json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Execution",
            "metadata": {"name": name}, "spec": {"serviceAccountName": "h", "decision": decision}});
        Arc::new(serde_json::from_value(execution).expect("an Execution"))
    }

    #[test]
    fn an_event_is_used_by_what_counts_also_if_another_has_it_too() {
        let target = TargetKey::from(&ObjectReference::default());
        let both = vec![execution("enforced", "Enforce"), execution("observed", "Observe")];
        let executions = Executions::from([(target, both)]);
        let acts = |one: &Execution| one.spec.decision.as_ref().is_some_and(|d| d.mode == Mode::Enforce);
        let by = |used: BTreeMap<&str, &Arc<Execution>>| used.get("1").map(|by| by.name_any());
        assert_eq!(by(used(&executions, acts)), Some("enforced".to_owned()));
        assert_eq!(by(used(&executions, |_| false)), None);
    }

    #[test]
    fn what_failed_comes_after_all_others_which_stay_in_their_order() {
        let failing = BTreeSet::from(["1".to_owned(), "3".to_owned()]);
        let mut events = ["2", "1", "4", "3", "0"];
        those_that_failed_last(&mut events, |event| (*event).to_owned(), &failing);
        assert_eq!(events, ["2", "4", "0", "1", "3"]);
    }
}
