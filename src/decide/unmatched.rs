//! Alerts that no Rule may match as the Rules read now: what becomes of them, and how long they are kept for a Rule that is
//! mended while they fire.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use super::firing::Said;
use super::inbox::{Item, items};
use super::owed::{NOBODY, fires, may_be_judged_anew, outcomes, settled};
use crate::api::{AcceptedEvent, EventBatch, EventOutcome, OutcomeKind};

/// What becomes of the events of a batch that are listed for no Rule, by all batches that hold the same alerts.
pub fn noted(batch: &Arc<EventBatch>, beside: &[Arc<EventBatch>], now: Timestamp) -> Vec<EventOutcome> {
    let all = items(beside);
    let said = Said::of(&all);
    let unlisted = all.iter().filter(|item| is_of(item, batch) && item.accepted().rules.is_empty());
    let noted = unlisted.filter_map(|item| {
        let (kind, why) = match () {
            () if !fires(item.accepted()) => (OutcomeKind::Resolved, ""),
            () if said.is_resolved(item) => (OutcomeKind::Resolved, ""),
            () if said.is_silent(item, now) => (OutcomeKind::Resolved, "nothing was heard of it for 7 days"),
            () if said.is_repeated(item) => (OutcomeKind::Duplicate, "there is a newer one"),
            () => (OutcomeKind::NotMatched, "no Rule of the Webhook matched it, as they read then"),
        };
        // What is over stays so.
        let known = item.known(NOBODY).map(|known| known.outcome);
        let is_news = match known {
            None => true,
            Some(OutcomeKind::NotMatched) => kind != OutcomeKind::NotMatched,
            Some(OutcomeKind::Duplicate) => kind == OutcomeKind::Resolved,
            Some(_) => false,
        };
        is_news.then(|| item.outcome(NOBODY, kind, why, now))
    });
    noted.collect()
}

/// The alerts of other batches that a batch says are resolved, and of which that is not recorded: those that are listed for
/// no Rule, or all of them.
///
/// It must not go before that is recorded: a Rule that is mended then would act on what fires no more.
pub fn ended_by(
    batch: &Arc<EventBatch>,
    beside: &[Arc<EventBatch>],
    unlisted_only: bool,
    now: Timestamp,
) -> Vec<(Arc<EventBatch>, EventOutcome)> {
    // By what this batch alone says.
    let own = items(std::slice::from_ref(batch));
    let ends = Said::of(&own);
    let all = items(beside);
    let others =
        all.iter().filter(|item| !is_of(item, batch) && (!unlisted_only || item.accepted().rules.is_empty()));
    let ended = others.filter(|item| fires(item.accepted()) && ends.is_resolved(item) && !is_recorded(item));
    ended.map(|item| (item.batch.clone(), item.outcome(NOBODY, OutcomeKind::Resolved, "", now))).collect()
}

fn is_recorded(item: &Item) -> bool {
    outcomes(&item.batch)
        .any(|(index, _, outcome)| index == item.index && outcome.outcome == OutcomeKind::Resolved)
}

fn is_of(item: &Item, batch: &EventBatch) -> bool {
    item.batch.metadata.name == batch.metadata.name
}

/// Whether an alert of a batch fires, for all that is known, that a Rule may come to match when it is mended: one that it
/// means nothing to as it reads now, or one of those that are about its name and have not matched it.
pub fn may_be_mended(
    batch: &Arc<EventBatch>,
    beside: &[Arc<EventBatch>],
    (about, listens): (impl Fn(&AcceptedEvent) -> usize, impl Fn(&str) -> bool),
) -> bool {
    let all = items(beside);
    let said = Said::of(&all);
    let own = all.iter().filter(|item| is_of(item, batch) && fires(item.accepted()));
    let mut fires = own.filter(|item| !said.is_resolved(item) && !said.is_repeated(item));
    fires.any(|item| {
        let of_it = || settled(batch).filter(|(index, ..)| *index == item.index);
        let is_judged = of_it().any(|(_, event, outcome)| {
            outcome.judged_by.is_some()
                && may_be_judged_anew(event, outcome.outcome)
                && listens(&outcome.rule)
        });
        let done = of_it().filter(|(_, event, outcome)| {
            !may_be_judged_anew(event, outcome.outcome) && listens(&outcome.rule)
        });
        is_judged || about(item.accepted()) > done.count()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::inbox::SILENCE;
    use super::super::inbox::tests::{alert, at, batch};
    use super::super::owed::recorded;
    use super::*;

    /// An alert that is listed for these rules.
    fn listed(rules: &[&str], mut alert: Value) -> Value {
        alert["rules"] = json!(rules);
        alert
    }

    fn with(batch: &Arc<EventBatch>, outcomes: &[EventOutcome]) -> Arc<EventBatch> {
        let status = Some(recorded(batch, outcomes));
        Arc::new(EventBatch { status, ..EventBatch::clone(batch) })
    }

    fn said(batch: &Arc<EventBatch>, rule: &str, kind: OutcomeKind, text: Option<&str>) -> EventOutcome {
        let item = Item { batch: batch.clone(), index: 0 };
        EventOutcome { judged_by: text.map(str::to_owned), ..item.outcome(rule, kind, "", at(50)) }
    }

    fn kinds(batch: &Arc<EventBatch>, beside: &[&Arc<EventBatch>], now: i64) -> Vec<OutcomeKind> {
        let beside: Vec<_> = beside.iter().copied().cloned().collect();
        let noted = noted(batch, &beside, at(now));
        assert!(noted.iter().all(|outcome| outcome.rule == NOBODY));
        noted.into_iter().map(|outcome| outcome.outcome).collect()
    }

    #[test]
    fn what_no_rule_matches_has_an_outcome_as_long_as_it_fires_and_after_that() {
        use OutcomeKind::{Duplicate, NotMatched, Resolved};
        let fires = batch("a", 10, json!([listed(&[], alert("f", 5, None)), alert("g", 5, None)]));
        let end = batch("b", 20, json!([listed(&[], alert("f", 5, Some(15)))]));
        let again = batch("c", 30, json!([listed(&[], alert("f", 5, None))]));
        assert_eq!(kinds(&fires, &[&fires], 11), [NotMatched], "the other one is its rule's");
        assert_eq!(kinds(&end, &[&fires, &end], 21), [Resolved]);
        let judged = with(&fires, &noted(&fires, std::slice::from_ref(&fires), at(11)));
        assert_eq!(kinds(&judged, &[&judged], 12), []);
        assert_eq!(kinds(&judged, &[&end, &judged], 21), [Resolved]);
        assert_eq!(kinds(&judged, &[&judged, &again], 31), [Duplicate]);
        let week = SILENCE.as_secs();
        assert_eq!(kinds(&judged, &[&judged], 10 + week), []);
        assert_eq!(kinds(&judged, &[&judged], 11 + week), [Resolved]);
        let over = with(&fires, &[said(&fires, NOBODY, Resolved, None)]);
        assert_eq!(kinds(&over, &[&over], 40), [], "what said so is gone");
    }

    #[test]
    fn what_ends_an_alert_goes_after_that_is_recorded_where_it_fires() {
        use OutcomeKind::{Fired, NotMatched, Resolved};
        let nobody = batch("a", 10, json!([listed(&[], alert("f", 5, None))]));
        let somebody = batch("b", 10, json!([listed(&["r"], alert("f", 5, None))]));
        let (other, later) =
            (batch("c", 10, json!([alert("g", 5, None)])), batch("d", 10, json!([alert("f", 16, None)])));
        let end = batch("e", 20, json!([listed(&[], alert("f", 5, Some(15)))]));
        let ended = |changed: &[&Arc<EventBatch>], unlisted_only| {
            let beside: Vec<_> = changed.iter().copied().chain([&other, &later, &end]).cloned().collect();
            let ended = ended_by(&end, &beside, unlisted_only, at(21));
            ended.into_iter().filter_map(|(batch, _)| batch.metadata.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(ended(&[&nobody, &somebody], true), ["a"]);
        assert_eq!(ended(&[&nobody, &somebody], false), ["a", "b"]);
        let marked = with(&nobody, &[said(&nobody, NOBODY, Resolved, None)]);
        let fired = with(&somebody, &[said(&somebody, "r", Fired, None)]);
        assert_eq!(ended(&[&marked, &fired], false), ["b"]);
        let told = with(&somebody, &[said(&somebody, "r", Resolved, None)]);
        let judged = with(&nobody, &[said(&nobody, NOBODY, NotMatched, None)]);
        assert_eq!(ended(&[&judged, &told], false), ["a"]);
    }

    #[test]
    fn what_fires_is_kept_as_long_as_a_rule_may_be_mended_for_it() {
        use OutcomeKind::{Duplicate, Failed, NotMatched, Resolved, Suppressed};
        let fires = batch("a", 10, json!([listed(&["r"], alert("f", 5, None))]));
        for (outcomes, about, expected) in [
            (vec![(NOBODY, NotMatched, None)], 1, true),
            (vec![(NOBODY, NotMatched, None)], 0, false),
            (vec![(NOBODY, Resolved, None)], 1, false),
            (vec![("r", NotMatched, Some("t"))], 1, true),
            (vec![("r", Failed, Some("t"))], 0, true),
            (vec![("gone", NotMatched, Some("t"))], 0, false),
            (vec![("r", Suppressed, None)], 1, false),
            (vec![("r", Suppressed, None)], 2, true),
            (vec![("r", Suppressed, None), ("s", Duplicate, None)], 2, false),
            (vec![("r", Suppressed, None), ("gone", Duplicate, None)], 2, true),
            (vec![("r", Resolved, None)], 2, false),
        ] {
            let outcomes: Vec<_> =
                outcomes.iter().map(|(rule, kind, text)| said(&fires, rule, *kind, *text)).collect();
            let decided = with(&fires, &outcomes);
            let may = |beside: &[Arc<EventBatch>]| {
                may_be_mended(
                    &decided,
                    beside,
                    (|_: &AcceptedEvent| about, |rule: &str| ["r", "s"].contains(&rule)),
                )
            };
            assert_eq!(may(std::slice::from_ref(&decided)), expected, "{outcomes:?} {about}");
            let again = batch("b", 30, json!([alert("f", 5, None)]));
            assert!(!may(&[decided.clone(), again]), "the newer one is kept");
            let end = batch("c", 30, json!([alert("f", 5, Some(20))]));
            assert!(!may(&[decided.clone(), end]));
            let other_part = batch("d", 10, json!([listed(&["t"], alert("f", 5, None))]));
            assert_eq!(may(&[decided.clone(), other_part]), expected, "it is one request");
        }
    }
}
