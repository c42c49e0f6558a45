//! A complete list, while it comes page by page. Of state it tells nothing before it is complete: a target may not seem
//! clear because its objects are on another page. If it breaks off, what was known before holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::Eye;
use crate::controller::rule::later::Later;
use crate::controller::rule::lives::Shown;
use crate::controller::rule::seen::{Judged, key_of};
use crate::decide::view::{Match, ObjectKey};
use crate::source::watch::{Page, now};

/// What its pages have told so far, and what is to hold again if it breaks off.
#[derive(Default)]
pub struct List {
    /// What matches.
    pub found: BTreeMap<ObjectKey, Match>,
    /// What cannot be judged, or not be led anywhere yet.
    pub unknown: BTreeSet<ObjectKey>,
    /// What is on it, if the rule is about what happens to objects.
    pub listed: BTreeSet<ObjectKey>,
    /// An object that could not be judged, and why.
    pub mistake: Option<(ObjectKey, String)>,
    /// What waited for its moment.
    later: Later,
    /// What matched and had no target.
    unresolved: BTreeMap<ObjectKey, Arc<Value>>,
}

impl Eye {
    /// Looks at what is on a page. What happened is led on at once; what is the state waits for the others.
    pub(super) async fn page(&mut self, page: &Page) {
        if page.first {
            self.break_off();
            let (later, unresolved) = (std::mem::take(&mut self.later), std::mem::take(&mut self.unresolved));
            self.later.clear(now());
            self.list = Some(List { later, unresolved, ..List::default() });
        }
        for object in &page.items {
            self.listed(object).await;
        }
    }

    async fn listed(&mut self, object: &Arc<Value>) {
        let key = key_of(object);
        if !self.is_about_state() {
            let is_compared = self.before.is_some() || self.lives.is_some();
            if let Some(list) = self.list.as_mut().filter(|_| is_compared) {
                list.listed.insert(key);
            }
            return self.happens(object, Shown::Listed).await;
        }
        let found = match self.evaluate(object).await {
            Judged::Match(found) => Some(*found),
            Judged::Clear => None,
            Judged::Unknown => {
                if let Some(list) = &mut self.list {
                    list.unknown.insert(key.clone());
                }
                self.state.lock().view.get(&key).cloned()
            }
        };
        if let (Some(list), Some(found)) = (&mut self.list, found) {
            list.found.insert(key, found);
        }
    }

    /// Forgets the list that comes, if one does.
    pub(super) fn break_off(&mut self) {
        let Some(List { later, unresolved, .. }) = self.list.take() else { return };
        (self.later, self.unresolved) = (later, unresolved);
        // It may have brought again what was used.
        if let Some(capturing) = &mut self.capturing {
            capturing.use_up();
        }
    }
}
