//! What the batches of a Webhook owe: an outcome of each event to each Rule that it is listed for, to each that has taken
//! it up later, and one to nobody in particular where it is listed for none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use super::inbox::{Item, received_at};
use crate::api::{AcceptedEvent, EventBatch, EventBatchStatus, EventOutcome, OutcomeKind};

/// In place of a Rule's name: an outcome of the event itself.
pub const NOBODY: &str = "";

/// Outcomes that a batch has room for: a thousand of Rules that are listed, and as many of Rules that take an alert up later.
/// The schema has room for a thousand more, that alerts are resolved. With reasons that are cut short it stays below 1 MiB.
const ROOM: usize = 2000;
/// With more outcomes than this their reasons are short.
const MANY: usize = 500;
/// How long a reason may be, and a short one, in bytes.
const REASON: usize = 512;
const SHORT: usize = 100;

/// The outcomes of a batch, each with its event.
pub fn outcomes(batch: &EventBatch) -> impl Iterator<Item = (usize, &AcceptedEvent, &EventOutcome)> {
    batch.status.iter().flat_map(|status| &status.outcomes).filter_map(|outcome| {
        let index = usize::try_from(outcome.event).ok()?;
        Some((index, batch.spec.events.get(index)?, outcome))
    })
}

/// The events of a batch that are decided, each with what became of it.
pub fn settled(batch: &EventBatch) -> impl Iterator<Item = (usize, &AcceptedEvent, &EventOutcome)> {
    outcomes(batch).filter(|(_, event, outcome)| is_final(event, outcome.outcome))
}

/// The events of a batch and the rules that are done with them.
fn done(batch: &EventBatch) -> BTreeSet<(usize, &str)> {
    settled(batch).map(|(index, _, outcome)| (index, outcome.rule.as_str())).collect()
}

/// Whether an alert fires, as the event says.
pub fn fires(event: &AcceptedEvent) -> bool {
    event.alert.as_ref().is_some_and(|alert| alert.ends_at.is_none())
}

/// Whether a rule of another text has to look at it: an alert that fires is a state, of an event it is said once.
pub fn may_be_judged_anew(event: &AcceptedEvent, outcome: OutcomeKind) -> bool {
    fires(event) && matches!(outcome, OutcomeKind::NotMatched | OutcomeKind::Failed)
}

/// Whether nothing more will become of an event. What fires goes on, until it is resolved.
fn is_final(event: &AcceptedEvent, outcome: OutcomeKind) -> bool {
    match outcome {
        OutcomeKind::Held => false,
        OutcomeKind::Fired => !fires(event),
        _ => true,
    }
}

/// The rules that a batch owes an outcome of an event, or has given it.
pub fn rules_of(batch: &EventBatch, index: usize) -> BTreeSet<&str> {
    let listed = batch.spec.events.get(index).into_iter().flat_map(|event| &event.rules).map(String::as_str);
    let taken = outcomes(batch).filter(|(of, ..)| *of == index).map(|(.., outcome)| outcome.rule.as_str());
    listed.chain(taken.filter(|rule| *rule != NOBODY)).collect()
}

/// The rules that have still something to say of a batch, or may have.
pub fn waiting(batch: &EventBatch) -> BTreeSet<&str> {
    let done = done(batch);
    let listed = batch.spec.events.iter().enumerate();
    let listed = listed.flat_map(|(index, event)| event.rules.iter().map(move |rule| (index, rule.as_str())));
    let taken = outcomes(batch).map(|(index, _, outcome)| (index, outcome.rule.as_str()));
    let waiting = listed.chain(taken).filter(|owed| !done.contains(owed));
    waiting.map(|(_, rule)| rule).filter(|rule| *rule != NOBODY).collect()
}

/// Since when all is over with a batch; none while anything is not.
pub fn settled_at(batch: &EventBatch) -> Option<Timestamp> {
    let (settled, has_any) = (done(batch), outcomes(batch).map(|(index, ..)| index).collect::<BTreeSet<_>>());
    let mut events = batch.spec.events.iter().enumerate();
    let given = events.all(|(index, event)| match event.rules.as_slice() {
        [] => has_any.contains(&index),
        rules => rules.iter().all(|rule| settled.contains(&(index, rule.as_str()))),
    });
    let all = given && outcomes(batch).all(|(_, event, outcome)| is_final(event, outcome.outcome));
    let last = outcomes(batch).map(|(.., outcome)| outcome.time.0).max();
    all.then(|| last.unwrap_or_else(|| received_at(batch)))
}

/// Outcomes for which a batch has room left, beside those that it owes.
pub fn room(batch: &EventBatch) -> usize {
    let events = batch.spec.events.iter().enumerate();
    let owed = events.clone().map(|(_, event)| event.rules.len().max(1)).sum::<usize>();
    let listed: BTreeSet<_> = events
        .flat_map(|(index, event)| event.rules.iter().map(move |rule| (index, rule.as_str())))
        .collect();
    let taken = outcomes(batch).map(|(index, _, outcome)| (index, outcome.rule.as_str()));
    let taken = taken.filter(|(index, rule)| *rule != NOBODY && !listed.contains(&(*index, *rule)));
    ROOM.saturating_sub(owed + taken.count())
}

/// The status of a batch with these outcomes in it. What is the same but for its time stays as it is. What a rule says that
/// is not listed is left out where there is no room for it.
pub fn recorded(batch: &EventBatch, fresh: &[EventOutcome]) -> EventBatchStatus {
    let known = batch.status.as_ref().map_or(&[][..], |status| &status.outcomes);
    let mut places: BTreeMap<_, _> =
        known.iter().enumerate().map(|(place, known)| ((known.event, known.rule.as_str()), place)).collect();
    let (mut recorded, mut room) = (known.to_vec(), room(batch));
    let is_many = {
        let keys = fresh.iter().map(|outcome| (outcome.event, outcome.rule.as_str()));
        keys.chain(places.keys().copied()).collect::<BTreeSet<_>>().len() > MANY
    };
    for outcome in fresh {
        let reason = cut(&outcome.reason, is_many).to_owned();
        let fresh = EventOutcome { reason, ..outcome.clone() };
        let key = (outcome.event, outcome.rule.as_str());
        if let Some(place) = places.get(&key) {
            let known = &mut recorded[*place];
            let time = known.time.clone();
            if (EventOutcome { time, ..fresh.clone() }) != *known {
                *known = fresh;
            }
            continue;
        }
        if !is_listed(batch, outcome) {
            let Some(left) = room.checked_sub(1) else { continue };
            room = left;
        }
        places.insert(key, recorded.len());
        recorded.push(fresh);
    }
    EventBatchStatus { outcomes: recorded }
}

/// Whether there is room in any case: for a rule that is listed, and for what becomes of the event itself.
fn is_listed(batch: &EventBatch, outcome: &EventOutcome) -> bool {
    let event = usize::try_from(outcome.event).ok().and_then(|index| batch.spec.events.get(index));
    outcome.rule == NOBODY || event.is_some_and(|event| event.rules.contains(&outcome.rule))
}

fn cut(reason: &str, is_many: bool) -> &str {
    let most = if is_many { SHORT } else { REASON };
    &reason[..reason.floor_char_boundary(most.min(reason.len()))]
}

/// What becomes of events whose rules are gone.
pub fn orphaned(batch: &Arc<EventBatch>, exists: impl Fn(&str) -> bool, now: Timestamp) -> Vec<EventOutcome> {
    let settled = done(batch);
    let listed = batch.spec.events.iter().enumerate();
    let listed = listed.flat_map(|(index, event)| event.rules.iter().map(move |rule| (index, rule.as_str())));
    let taken = outcomes(batch).map(|(index, _, outcome)| (index, outcome.rule.as_str()));
    let owed: BTreeSet<_> = listed.chain(taken).collect();
    let gone = owed.into_iter().filter(|owed| owed.1 != NOBODY && !settled.contains(owed) && !exists(owed.1));
    gone.map(|(index, rule)| {
        let item = Item { batch: batch.clone(), index };
        item.outcome(rule, OutcomeKind::NotMatched, "the Rule is gone", now)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::inbox::tests::{alert, at, batch, decided, event};
    use super::*;

    #[test]
    fn a_batch_is_settled_when_nothing_is_open() {
        let both = batch("a", 10, json!([alert("f", 5, None), event("1")]));
        for (outcomes, settled) in [
            (vec![], None),
            (vec![(0, OutcomeKind::Fired), (1, OutcomeKind::Fired)], None),
            (vec![(0, OutcomeKind::Held), (1, OutcomeKind::Suppressed)], None),
            (vec![(0, OutcomeKind::Resolved)], None),
            (vec![(0, OutcomeKind::Resolved), (1, OutcomeKind::Fired)], Some(at(50))),
            (vec![(0, OutcomeKind::NotMatched), (1, OutcomeKind::Failed)], Some(at(50))),
        ] {
            assert_eq!(settled_at(&decided(&both, &outcomes)), settled, "{outcomes:?}");
        }
    }

    #[test]
    fn what_no_rule_may_match_and_what_a_rule_has_taken_up_is_owed_too() {
        let mut fires = alert("f", 5, None);
        fires["rules"] = json!([]);
        let fires = batch("a", 10, json!([fires]));
        assert_eq!(settled_at(&fires), None, "nobody has looked at it");
        let with = |outcomes: &[(&str, OutcomeKind)]| {
            let mut batch = EventBatch::clone(&fires);
            let item = Item { batch: fires.clone(), index: 0 };
            let outcomes: Vec<_> =
                outcomes.iter().map(|(rule, kind)| item.outcome(rule, *kind, "", at(50))).collect();
            batch.status = Some(recorded(&batch, &outcomes));
            Arc::new(batch)
        };
        let nobody = (NOBODY, OutcomeKind::NotMatched);
        assert_eq!(settled_at(&with(&[nobody])), Some(at(50)));
        let taken = with(&[nobody, ("r", OutcomeKind::Fired)]);
        assert_eq!((settled_at(&taken), waiting(&taken)), (None, BTreeSet::from(["r"])));
        assert_eq!(rules_of(&taken, 0), BTreeSet::from(["r"]));
        assert_eq!(settled_at(&with(&[nobody, ("r", OutcomeKind::Resolved)])), Some(at(50)));
        assert_eq!(orphaned(&taken, |_| true, at(60)), []);
        let gone = orphaned(&taken, |_| false, at(60));
        assert_eq!(
            gone.iter().map(|gone| (gone.rule.as_str(), gone.outcome)).collect::<Vec<_>>(),
            [("r", OutcomeKind::NotMatched)]
        );
    }

    #[test]
    fn what_is_recorded_again_changes_nothing() {
        let mut batch = EventBatch::clone(&batch("a", 10, json!([event("1")])));
        let item = Item { batch: Arc::new(batch.clone()), index: 0 };
        batch.status = Some(recorded(&batch, &[item.outcome("r", OutcomeKind::Held, "Cooldown", at(1))]));
        let again = recorded(&batch, &[item.outcome("r", OutcomeKind::Held, "Cooldown", at(2))]);
        assert_eq!(Some(again), batch.status);
        let fired = recorded(&batch, &[item.outcome("r", OutcomeKind::Fired, "", at(3))]);
        assert_eq!((fired.outcomes.len(), fired.outcomes[0].time.0), (1, at(3)));
    }

    /// A batch that is listed for as many rules as can be, each with the longest name.
    fn crowded() -> EventBatch {
        let name = |number: usize| format!("{number:0>52}");
        let mut event = alert("f", 5, None);
        event["rules"] = json!((0..1000).map(name).collect::<Vec<_>>());
        event["event"]["data"]["text"] = "x".repeat(64 * 1024).into();
        EventBatch::clone(&batch("a", 10, json!([event])))
    }

    #[test]
    fn a_batch_has_room_for_rules_that_come_later_and_no_more() {
        let mut batch = crowded();
        let item = Item { batch: Arc::new(batch.clone()), index: 0 };
        let said = |rule: &str| EventOutcome {
            execution: Some("e".repeat(63)),
            judged_by: Some("0".repeat(32)),
            ..item.outcome(rule, OutcomeKind::NotMatched, "ä".repeat(512), at(50))
        };
        let later: Vec<_> = (0..1200).map(|number| said(&format!("later-{number:0>46}"))).collect();
        assert_eq!(room(&batch), 1000);
        batch.status = Some(recorded(&batch, &later));
        assert_eq!((room(&batch), outcomes(&batch).count()), (0, 1000));
        let listed: Vec<_> = batch.spec.events[0].rules.iter().map(|rule| said(rule)).collect();
        batch.status = Some(recorded(&batch, &listed));
        batch.status = Some(recorded(&batch, &[said(NOBODY), said("one-more")]));
        assert_eq!(outcomes(&batch).count(), 2001, "those that are listed have theirs");
        let size = serde_json::to_vec(&batch).expect("a batch").len();
        assert!(size < 1024 * 1024, "{size} bytes");
    }

    #[test]
    fn a_reason_is_as_long_as_there_is_room_for() {
        let mut batch = crowded();
        let item = Item { batch: Arc::new(batch.clone()), index: 0 };
        let said = |rule: &str| item.outcome(rule, OutcomeKind::Failed, "x".repeat(600), at(50));
        batch.status = Some(recorded(&batch, &[said("r")]));
        let lengths =
            |batch: &EventBatch| outcomes(batch).map(|(.., o)| o.reason.len()).collect::<BTreeSet<_>>();
        assert_eq!(lengths(&batch), BTreeSet::from([512]));
        let all: Vec<_> = batch.spec.events[0].rules.iter().map(|rule| said(rule)).collect();
        batch.status = Some(recorded(&batch, &all));
        batch.status = Some(recorded(&batch, &[said("r")]));
        assert_eq!(lengths(&batch), BTreeSet::from([SHORT]));
    }

    #[test]
    fn a_rule_that_is_gone_matches_nothing() {
        let batch = batch("a", 10, json!([alert("f", 5, None)]));
        assert!(orphaned(&batch, |_| true, at(20)).is_empty());
        let outcomes = orphaned(&batch, |_| false, at(20));
        assert_eq!(outcomes.iter().map(|o| o.outcome).collect::<Vec<_>>(), [OutcomeKind::NotMatched]);
    }
}
