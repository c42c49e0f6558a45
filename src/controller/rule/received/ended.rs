//! Alerts that are resolved, for Rules about that: each is decided about one time, and owed until then.

use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::jiff::Timestamp;

use super::{Listener, known};
use crate::api::{Execution, ObjectReference, OutcomeKind};
use crate::cluster::Result;
use crate::controller::rule::fire;
use crate::controller::rule::held::Hold;
use crate::controller::rule::seen::Edge;
use crate::controller::rule::{LOOK_AGAIN, executions_of, objection};
use crate::decide::ended::Verdict;
use crate::decide::episode::Held;
use crate::decide::identity::{TargetKey, execution_name};
use crate::decide::inbox::{Inbox, Item};
use crate::decide::matching::received;
use crate::source::watch::now;

impl Listener<'_> {
    /// Decides about alerts that are resolved, oldest first. Those that fire are kept for what comes of them.
    pub(super) async fn ended(&mut self, inbox: Inbox) {
        self.note_all(inbox.over);
        for item in inbox.firing {
            self.note(&item, OutcomeKind::Held, "it is not resolved yet", None);
        }
        let executions = executions_of(self.context, self.case.compiled);
        for item in inbox.waiting {
            let Some(target) = self.lead(&item) else { continue };
            let key = TargetKey::from(&target);
            let edge = self.edge(&item, target, Vec::new());
            // It stays, and is tried again with the rule.
            if let Err(error) = self.end(&item, &edge, (&key, known(&executions, &key))).await {
                self.round.failed.get_or_insert((key, error));
            }
        }
    }

    async fn end(
        &mut self,
        item: &Item,
        edge: &Edge,
        (key, executions): (&TargetKey, &[Arc<Execution>]),
    ) -> Result<()> {
        let (context, case) = (self.context, self.case);
        let stores = (&context.places, &context.executions);
        let asked = fire::ask_end(stores, case.compiled, (edge, executions), (context.caps, now()));
        let (id, place) = match asked {
            Ok(asked) => asked,
            Err(otherwise) => {
                self.end_otherwise(item, edge, (key, otherwise)).await;
                return Ok(());
            }
        };
        let began = Instant::now();
        let Some(live) = fire::live(context, case.account, &edge.target).await? else {
            self.note(item, OutcomeKind::Failed, format!("{} does not exist", edge.target), None);
            return Ok(());
        };
        fire::permitted(context, case.account).await?;
        let bindings = received(&edge.data, &case.compiled.spec.trigger, now());
        if let Some(objection) = objection::raised(context, case, (bindings, &[]), &live).await? {
            self.round.object(key, &objection);
            self.note(item, OutcomeKind::Held, format!("{:?} {objection}", Held::Unless), None);
            self.wait_for(key, &edge.target, (Held::Unless, None));
            return Ok(());
        }
        let name = fire::answer(context, case, (edge, &live), (id, place, began)).await?;
        self.note(item, OutcomeKind::Fired, "", Some(name));
        Ok(())
    }

    /// What comes of an end that does not fire now.
    async fn end_otherwise(&mut self, item: &Item, edge: &Edge, (key, verdict): (&TargetKey, Verdict)) {
        match verdict {
            Verdict::Fired(id) | Verdict::Fire(id) => {
                let name = execution_name(&self.case.compiled.facts.name, &id);
                self.note(item, OutcomeKind::Fired, "", Some(name));
            }
            Verdict::Held(held, until) => {
                self.note(item, OutcomeKind::Held, format!("{held:?}"), None);
                self.wait_for(key, &edge.target, (held, until));
            }
            Verdict::Dropped(suppressed) => {
                fire::suppress(self.context, self.case, edge, suppressed, None).await;
                self.note(item, OutcomeKind::Suppressed, format!("{suppressed:?}"), None);
            }
        }
    }

    /// Shows what holds a target, and looks again.
    pub(super) fn wait_for(
        &mut self,
        key: &TargetKey,
        target: &ObjectReference,
        (held, until): (Held, Option<Timestamp>),
    ) {
        let waits = Hold { target: target.clone(), held, until };
        self.round.holds.insert(key.clone(), waits);
        match (held, until) {
            (Held::ObservedLimit, _) => self.round.unrecorded += 1,
            (_, Some(until)) => self.round.wake_at(until),
            (_, None) => self.round.wake_in(LOOK_AGAIN),
        }
    }
}
