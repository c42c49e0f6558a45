//! What holds a rule back, how often it acts, times of the clock, and ends of Executions; through restarts.

use fother::api::{Execution, Mode, Rule};
use fother::source::watch::now;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::bay::{Bay, MEND, NAMESPACE, PAINT};
use crate::support::wait::{DEADLINE, eventually};

fn regarding(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "namespace": NAMESPACE, "name": name})
}

fn all_ended(executions: &[Execution], count: usize) -> bool {
    executions.len() == count && executions.iter().all(Execution::is_finished)
}

/// What is said, in Events, of events that led to nothing.
async fn suppressed(bay: &Bay) -> Vec<String> {
    let events: Api<Event> = Api::namespaced(bay.admin.clone(), NAMESPACE);
    let told = events.list(&ListParams::default()).await.unwrap().items.into_iter();
    let told = told.filter(|event| event.reason.as_deref() == Some("RuleFireSuppressed"));
    told.filter_map(|event| event.note).collect()
}

async fn crew(bay: &Bay, name: &str, crew: &Value) {
    let data = json!({"hull": "leaking", "crew": crew});
    bay.apply(
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": NAMESPACE},
        "data": data}),
    )
    .await;
}

#[tokio::test]
async fn a_state_is_held_while_something_speaks_against_it() {
    let bay = Bay::new().await;
    crew(&bay, "ark", &json!("aboard")).await;
    let unless = json!([{"if": "target.data.crew == 'aboard'", "reason": "Manned"}]);
    bay.rule("ark", json!({"unless": unless, "ladder": [{"run": MEND}]})).await;
    let says = |rule: &Rule, text: &str| {
        let conditions = rule.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default();
        conditions.iter().any(|c| c.type_ == "Ready" && c.message.contains(text))
    };
    bay.until_rule("ark", "it says what it holds", |rule| says(rule, "holds ConfigMap/ark: Manned")).await;
    assert_eq!(bay.executions().await.len(), 0);
    crew(&bay, "ark", &json!("ashore")).await;
    bay.only("it acts when nothing speaks against it", Execution::is_finished).await;
}

#[tokio::test]
async fn a_rule_about_the_age_of_an_object_fires_at_its_moment_and_lists_nothing() {
    const LISTS: &str = "GET /api/v1/namespaces/default/configmaps?&limit";
    let bay = Bay::new().await;
    bay.count(LISTS);
    let when = |text: &str| json!({"when": format!("object.data.hull == 'leaking' && {text}")});
    bay.rule("due", when("now >= timestamp(object.data.due)")).await;
    bay.rule("aged", when("has(object.data.old) && !rolledOutWithin(object, duration('4s'))")).await;
    bay.rule("never", when("has(object.data.never) && now >= timestamp(object.data.due)")).await;
    for rule in ["due", "aged", "never"] {
        bay.watching(rule).await;
    }
    let due = now() + SignedDuration::from_secs(4);
    let boat = |name: &str, data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": NAMESPACE}, "data": data});
    bay.apply(boat("first", json!({"hull": "leaking", "due": due.to_string()}))).await;
    bay.apply(boat("second", json!({"hull": "leaking", "due": "2200-01-01T00:00:00Z", "old": "1"}))).await;
    bay.apply(boat("mended", json!({"hull": "tight", "due": due.to_string()}))).await;
    let found = bay.all("both rules act", |executions| executions.len() == 2).await;
    for execution in &found {
        let decision = execution.spec.decision.as_ref().unwrap();
        let late = decision.time.0.duration_since(due);
        // A time in an object is a whole second.
        assert!(late > SignedDuration::from_secs(-2) && late < SignedDuration::from_secs(10), "{late:?}");
    }
    let mut rules: Vec<_> =
        found.iter().map(|e| e.spec.decision.as_ref().unwrap().rule.name.clone()).collect();
    rules.sort_unstable();
    assert_eq!(rules, ["aged", "due"]);
    assert!(bay.struck(LISTS) <= 3, "one list for each rule that joins: {}", bay.struck(LISTS));
}

#[tokio::test]
async fn an_event_that_something_spoke_against_stays_dropped() {
    let mut bay = Bay::new().await;
    crew(&bay, "ark", &json!("aboard")).await;
    let unless = json!([{"if": "target.data.crew == 'aboard'", "reason": "Manned"}]);
    bay.event_rule("springs", json!({"unless": unless, "ladder": [{"run": MEND}]})).await;
    bay.answers("springs").await;
    bay.event("first", regarding("ark")).await;
    let is_kept = |rule: &Rule| rule.status.as_ref().is_some_and(|status| status.objected.len() == 1);
    bay.until_rule("springs", "it is remembered", is_kept).await;
    assert_eq!(suppressed(&bay).await, ["Rule springs did not fire: Unless Manned"]);
    crew(&bay, "ark", &json!("ashore")).await;
    bay.restart().await;
    bay.event("second", regarding("ark")).await;
    let only = bay.only("the second alone is answered", Execution::is_finished).await;
    assert_eq!(only.spec.decision.unwrap().matched.object.name, "second");
}

#[tokio::test]
async fn however_many_events_something_spoke_against_they_stay_dropped() {
    let mut bay = Bay::new().await;
    crew(&bay, "ark", &json!("aboard")).await;
    for boat in ["brig", "cog"] {
        bay.boat(boat, "leaking").await;
    }
    let unless = json!([{"if": "target.data.crew == 'aboard'", "reason": "Manned"}]);
    bay.event_rule("springs", json!({"unless": unless, "ladder": [{"run": MEND}]})).await;
    bay.answers("springs").await;
    for number in 0..130 {
        bay.event(&format!("leak-{number}"), regarding("ark")).await;
    }
    bay.until_stopped("springs", "unless", 130).await;
    let until = |rule: &Rule| Some(rule.status.as_ref()?.objected_until.as_ref()?.0);
    let is_kept = |rule: &Rule| {
        until(rule).is_some() && rule.status.as_ref().is_some_and(|status| status.objected.len() == 100)
    };
    let rule = bay.until_rule("springs", "the last hundred are listed", is_kept).await;
    crew(&bay, "ark", &json!("ashore")).await;
    bay.restart().await;
    eventually("the second is over in which the others were", DEADLINE, async || {
        until(&rule).filter(|until| *until <= now()).ok_or("not yet")
    })
    .await;
    let shown = || bay.metric("fother_events_received_total{source=\"event\",result=\"accepted\"}");
    let all = |count: u64| {
        let shown = &shown;
        move || if shown() >= count { Ok(()) } else { Err(shown().to_string()) }
    };
    bay.until("it is shown all of them", all(130)).await;
    bay.event("later", regarding("ark")).await;
    bay.only("the later one is answered", Execution::is_finished).await;
    bay.later().await;
    bay.event("latest", regarding("brig")).await;
    let is_answered = |executions: &[Execution]| all_ended(executions, 2);
    let found = bay.all("the later ones alone are answered", is_answered).await;
    let mut matched: Vec<_> =
        found.iter().map(|e| e.spec.decision.as_ref().unwrap().matched.object.name.clone()).collect();
    matched.sort_unstable();
    assert_eq!(matched, ["later", "latest"]);
    // Another text of the rule is shown all of them anew.
    bay.event_rule("springs", json!({"limits": {"cooldown": "1s"}, "ladder": [{"run": MEND}]})).await;
    bay.until("it is shown all of them", all(264)).await;
    bay.later().await;
    bay.event("last", regarding("cog")).await;
    bay.all("nothing else is answered", |executions| all_ended(executions, 3)).await;
}

#[tokio::test]
async fn a_rule_acts_no_more_often_than_it_may_and_a_restart_changes_nothing() {
    let mut bay = Bay::new().await;
    bay.rule("boat", json!({"limits": {"perRule": "2/1h"}, "ladder": [{"run": MEND}]})).await;
    for boat in ["boat-1", "boat-2", "boat-3"] {
        bay.boat(boat, "leaking").await;
    }
    bay.all("two act", |executions| all_ended(executions, 2)).await;
    bay.until_stopped("boat", "rate", 1).await;
    let held = |count: usize| {
        move |rule: &Rule| rule.status.as_ref().is_some_and(|status| status.held.len() == count)
    };
    bay.until_rule("boat", "it shows what it holds", held(1)).await;
    bay.restart().await;
    // What was shown has been told of, and goes on; another is held by what was done before the restart.
    bay.boat("boat-4", "leaking").await;
    bay.until_stopped("boat", "rate", 1).await;
    bay.until_rule("boat", "it holds both", held(2)).await;
    assert_eq!(bay.executions().await.len(), 2);
}

#[tokio::test]
async fn events_beyond_the_rate_of_a_target_are_dropped_for_good() {
    let mut bay = Bay::new().await;
    for boat in ["ark", "brig"] {
        bay.boat(boat, "leaking").await;
    }
    bay.event_rule("springs", json!({"limits": {"perTarget": "1/1h"}, "ladder": [{"run": MEND}]})).await;
    bay.answers("springs").await;
    bay.event("first", regarding("ark")).await;
    bay.all("it is answered", |executions| all_ended(executions, 1)).await;
    bay.later().await;
    bay.event("second", regarding("ark")).await;
    bay.until_stopped("springs", "rate", 1).await;
    bay.restart().await;
    bay.until_stopped("springs", "rate", 1).await;
    bay.event("other", regarding("brig")).await;
    bay.all("another target has its own", |executions| all_ended(executions, 2)).await;
}

#[tokio::test]
async fn a_rule_that_begins_to_enforce_leaves_the_events_that_it_observed() {
    let mut bay = Bay::new().await;
    let rule = |mode: &str| json!({"mode": mode, "ladder": [{"run": MEND}]});
    bay.event_rule("springs", rule("Observe")).await;
    bay.answers("springs").await;
    for (count, (event, boat)) in [("first", "ark"), ("second", "brig")].into_iter().enumerate() {
        bay.boat(boat, "leaking").await;
        bay.event(event, regarding(boat)).await;
        bay.all("it is recorded", |executions| all_ended(executions, count + 1)).await;
    }
    // Of the records only the newest stay.
    let is_first =
        |e: &&Execution| e.spec.decision.as_ref().is_some_and(|d| d.matched.object.name == "first");
    let records = bay.executions().await;
    let first = records.iter().find(is_first).unwrap();
    let api: Api<Execution> = Api::namespaced(bay.admin.clone(), NAMESPACE);
    api.delete(&first.name_any(), &DeleteParams::default()).await.unwrap();
    bay.all("it is gone", |executions| executions.len() == 1).await;

    bay.event_rule("springs", rule("Enforce")).await;
    bay.restart().await;
    bay.until_stopped("springs", "beforerule", 1).await;
    bay.later().await;
    bay.event("third", regarding("ark")).await;
    let all = bay.all("what happens from now on is answered", |executions| all_ended(executions, 2)).await;
    let acted = all.iter().filter_map(|e| e.spec.decision.as_ref()).filter(|d| d.mode == Mode::Enforce);
    assert_eq!(acted.map(|d| d.matched.object.name.as_str()).collect::<Vec<_>>(), ["third"]);
}

#[tokio::test]
async fn of_many_events_the_first_or_the_last_is_acted_on() {
    let mut bay = Bay::new().await;
    for (rule, once) in [
        ("first", json!({"take": "First", "within": "1h"})),
        ("last", json!({"take": "Last", "within": "4s"})),
    ] {
        bay.boat(rule, "leaking").await;
        let when = format!("event.data.regarding.name == '{rule}'");
        bay.event_rule(rule, json!({"when": when, "limits": {"once": once}, "ladder": [{"run": MEND}]}))
            .await;
        bay.answers(rule).await;
    }
    for event in ["one", "two", "three"] {
        for rule in ["first", "last"] {
            bay.event(&format!("{rule}-{event}"), regarding(rule)).await;
        }
    }
    bay.restart().await;
    let acted = bay.all("each rule acts once", |executions| all_ended(executions, 2)).await;
    let decisions = acted.iter().filter_map(|execution| execution.spec.decision.as_ref());
    let mut chosen: Vec<_> =
        decisions.map(|decision| (&*decision.rule.name, &*decision.matched.object.name)).collect();
    chosen.sort_unstable();
    assert_eq!(chosen, [("first", "first-one"), ("last", "last-three")]);
    bay.restart().await;
    bay.until_stopped("first", "superseded", 2).await;
    bay.until_stopped("last", "superseded", 2).await;
    assert_eq!(bay.executions().await.len(), 2);
}

/// The times of a schedule that were taken, none of them twice.
fn taken(executions: &[Execution]) -> Vec<Timestamp> {
    let decisions = executions.iter().filter_map(|execution| execution.spec.decision.as_ref());
    let mut times: Vec<Timestamp> = decisions.map(|decision| decision.occurrence.parse().unwrap()).collect();
    let all = times.len();
    times.sort_unstable();
    times.dedup();
    assert_eq!(times.len(), all, "no time twice: {times:?}");
    times
}

#[tokio::test]
async fn no_time_of_a_schedule_is_taken_twice() {
    const INTERVAL: i64 = 10;
    let mut bay = Bay::new().await;
    bay.boat("ark", "leaking").await;
    let target = json!({"ref": {"apiVersion": "v1", "kind": "ConfigMap", "name": "ark"}});
    bay.told_rule("often", json!({"schedule": {"every": "10s"}}), json!({"target": target})).await;
    let began = |rule: &Rule| rule.status.as_ref().is_some_and(|status| status.schedule.is_some());
    let rule = bay.until_rule("often", "it waits for its time", began).await;
    bay.kill().await;
    let created = rule.creation_timestamp().unwrap().0;
    assert!(taken(&bay.executions().await).iter().all(|time| *time > created), "nothing from before it");
    // As if nobody had looked for a while. There is time to begin twice before the next one comes.
    let latest = |time: Timestamp| Timestamp::from_second(time.as_second() / INTERVAL * INTERVAL).unwrap();
    let begun = created + SignedDuration::from_secs(2);
    eventually("a time has just come that was not taken", DEADLINE, async || {
        let now = now();
        let is_new = now.duration_since(latest(now)) < SignedDuration::from_secs(2);
        if latest(now) > begun && is_new { Ok(()) } else { Err(now.to_string()) }
    })
    .await;
    let last = latest(now()) - SignedDuration::from_secs(3 * INTERVAL);
    let schedule = json!({"since": format!("{last:.0}"), "lastScheduledAt": format!("{last:.0}")});
    let (rules, status): (Api<Rule>, _) =
        (Api::namespaced(bay.admin.clone(), NAMESPACE), json!({"status": {"schedule": schedule}}));
    rules.patch_status("often", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    let oldest = latest(now());
    bay.restart().await;
    let missed = |rule: &Rule| rule.status.as_ref().and_then(|status| status.schedule.as_ref()?.missed);
    bay.until_rule("often", "it says what it missed", |rule| missed(rule).is_some_and(|count| count >= 2))
        .await;
    let made_up = |executions: &[Execution]| taken(executions).first().is_some_and(|time| *time >= oldest);
    bay.all("the latest is made up for", made_up).await;
    // As if what was taken had not been written down.
    bay.kill().await;
    rules.patch_status("often", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    bay.restart().await;
    let restarted = now();
    let later = |executions: &[Execution]| taken(executions).last().is_some_and(|time| *time > restarted);
    let found = taken(&bay.all("another time comes", later).await);
    assert!(found[0] >= oldest, "all but the latest stay missed: {found:?}");
    assert!(found.iter().all(|time| time.as_second() % INTERVAL == 0), "{found:?}");
    let events: Api<Event> = Api::namespaced(bay.admin.clone(), NAMESPACE);
    eventually("a person is told", DEADLINE, async || {
        let found = events.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
        let of_rule =
            |event: &&Event| event.regarding.as_ref().and_then(|of| of.name.as_deref()) == Some("often");
        let reasons: Vec<_> = found.iter().filter(of_rule).filter_map(|event| event.reason.clone()).collect();
        if reasons.iter().any(|reason| reason == "ScheduleMissed") {
            Ok(())
        } else {
            Err(format!("{reasons:?}"))
        }
    })
    .await;
}

/// What a Rule says when the last of its dates is over.
const OVER: &str = "no date of its schedule is to come";

#[tokio::test]
async fn each_date_of_a_schedule_comes_once() {
    let mut bay = Bay::new().await;
    bay.boat("ark", "leaking").await;
    let target = json!({"ref": {"apiVersion": "v1", "kind": "ConfigMap", "name": "ark"}});
    let date = |seconds: i64| format!("{:.0}", now() + SignedDuration::from_secs(seconds));
    let (over, soon) = (date(-3600), date(5));
    let rule = |dates: &[&str]| (json!({"schedule": {"at": dates}}), json!({"target": target}));
    let (trigger, changes) = rule(&[&soon, &over]);
    bay.told_rule("once", trigger, changes.clone()).await;
    let says = |rule: &Rule, text: &str| {
        let conditions = rule.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default();
        conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True" && c.message.contains(text))
    };
    bay.until_rule("once", "it waits", |rule| says(rule, "watching") && !says(rule, OVER)).await;
    let soon_at: Timestamp = soon.parse().unwrap();
    bay.all("the date comes", |executions| taken(executions) == [soon_at] && all_ended(executions, 1)).await;
    bay.until_rule("once", "its dates are over", |rule| says(rule, OVER)).await;
    bay.restart().await;
    // A date that is added comes, and brings none of the others back.
    let added = date(4);
    let (trigger, changes) = rule(&[&over, &soon, &added]);
    bay.told_rule("once", trigger, changes).await;
    bay.until_rule("once", "it waits again", |rule| says(rule, "watching") && !says(rule, OVER)).await;
    let all = [soon_at, added.parse().unwrap()];
    bay.all("the date that was added comes", |executions| taken(executions) == all).await;
}

#[tokio::test]
async fn a_rule_follows_the_end_of_another() {
    let mut bay = Bay::new().await;
    bay.boat("ark", "leaking").await;
    let follow = |rules: Value| json!({"execution": {"rules": rules, "outcomes": ["Failed"]}});
    bay.told_rule("rescue", follow(json!(["ark"])), json!({"ladder": [{"run": MEND}]})).await;
    bay.watching("rescue").await;
    bay.rule("ark", json!({})).await;
    bay.all("both have ended", |executions| all_ended(executions, 2)).await;
    bay.restart().await;
    bay.watching("rescue").await;
    let all = bay.all("there are two still", |executions| all_ended(executions, 2)).await;
    let rescue = all.iter().find(|e| e.spec.decision.as_ref().is_some_and(|d| d.rule.name == "rescue"));
    let (target, decision) = rescue.map(|e| (e.spec.target.clone(), e.spec.decision.clone())).unwrap();
    let (decision, target) = (decision.unwrap(), target.unwrap());
    assert_eq!((decision.depth, target.name.as_str()), (Some(1), "ark"));
    let event = decision.event.unwrap();
    assert_eq!((event.event_type.as_str(), &event.data.0["reason"]), ("Failed", &json!("Quarantined")));
}

#[tokio::test]
async fn an_end_is_answered_once_wherever_an_edited_rule_leads() {
    let mut bay = Bay::new().await;
    bay.boat("ark", "leaking").await;
    bay.script("look").await;
    let rescue = async |bay: &Bay, key: &str| {
        let changes = json!({"mode": "Observe", "ladder": [{"run": "look"}], "target": {"key": key}});
        bay.told_rule("rescue", json!({"execution": {"rules": ["ark"]}}), changes).await;
        bay.watching("rescue").await;
    };
    rescue(&bay, "'north'").await;
    bay.rule("ark", json!({})).await;
    bay.all("both have ended", |executions| all_ended(executions, 2)).await;
    bay.kill().await;
    let changes = json!({"spec": {"target": {"key": "'south'"}}});
    let rules: Api<Rule> = Api::namespaced(bay.admin.clone(), NAMESPACE);
    rules.patch("rescue", &PatchParams::default(), &Patch::Merge(changes)).await.unwrap();
    bay.start();
    bay.boat("ark-2", "leaking").await;
    let all = bay.all("the second end is answered", |executions| all_ended(executions, 4)).await;
    let decided =
        all.iter().filter(|one| one.spec.decision.as_ref().is_some_and(|d| d.rule.name == "rescue"));
    let mut targets: Vec<_> =
        decided.filter_map(|one| Some(one.spec.target.as_ref()?.name.clone())).collect();
    targets.sort();
    assert_eq!(targets, ["north", "south"]);
}

#[tokio::test]
async fn a_circle_of_rules_comes_to_an_end() {
    let bay = Bay::new().await;
    bay.boat("ark", "leaking").await;
    let follow = |rules: Value| json!({"execution": {"rules": rules}});
    bay.told_rule("ping", follow(json!(["ark", "pong"])), json!({})).await;
    bay.told_rule("pong", follow(json!(["ping"])), json!({})).await;
    for rule in ["ping", "pong"] {
        bay.watching(rule).await;
    }
    bay.rule("ark", json!({"ladder": [{"run": PAINT}]})).await;
    bay.until_stopped("pong", "depth", 1).await;
    let found = bay.all("all have ended", |executions| all_ended(executions, 4)).await;
    let mut way: Vec<_> = found
        .iter()
        .filter_map(|execution| execution.spec.decision.as_ref())
        .map(|decision| (decision.depth.unwrap_or(0), decision.rule.name.as_str()))
        .collect();
    way.sort_unstable();
    assert_eq!(way, [(0, "ark"), (1, "ping"), (2, "pong"), (3, "ping")]);
    assert_eq!(suppressed(&bay).await, ["Rule pong did not fire: Depth"]);
}
