//! What an Execution runs, frozen when it was decided: a Rule or Action that is edited meanwhile does not change it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::identity::{digest, readable};
use super::unknown;
use crate::api::{ActionSpec, AlertPhase, Moment, RuleSpec, Rung};

/// The ladder and all that it needs.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Definition {
    /// The Rule, for its trigger and condition; none for a run by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleSpec>,
    /// The rungs.
    pub ladder: Vec<Rung>,
    /// The Actions that the rungs name.
    pub actions: BTreeMap<String, ActionSpec>,
}

/// A stored definition that is not what its name says.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// It does not parse.
    #[error("definition {name} cannot be read: {source}")]
    Unreadable {
        /// Its name.
        name: String,
        /// Why not.
        source: serde_json::Error,
    },
    /// Somebody changed it.
    #[error("definition {name} was changed after it was written: refusing to run it")]
    Changed {
        /// Its name.
        name: String,
    },
    /// A later version of fother wrote it, and it says more than this one understands.
    #[error("definition {name} has {field}, which this version of fother does not know")]
    Unknown {
        /// Its name.
        name: String,
        /// The field.
        field: String,
    },
}

impl Definition {
    /// What a Rule's Execution runs.
    pub fn of_rule(rule: &RuleSpec, actions: BTreeMap<String, ActionSpec>) -> Self {
        Self { rule: Some(rule.clone()), ladder: rule.ladder.clone(), actions }
    }

    /// The data to store.
    pub fn data(&self) -> Value {
        serde_json::to_value(self).expect("plain data structures always become JSON")
    }

    /// The name to store it under, for the Rule or Action called `name`: it says what is in it.
    pub fn name(&self, name: &str) -> String {
        stored_name(name, &self.data())
    }

    /// Reads a stored definition and checks it against its name.
    pub fn read(name: &str, data: &Value) -> Result<Self, DefinitionError> {
        let digest = name.rsplit_once('-').map_or("", |(_, digest)| digest);
        if digest != digest_of(data) {
            return Err(DefinitionError::Changed { name: name.to_owned() });
        }
        let mut fields = Vec::new();
        let read: Self = unknown::read(data, |field| fields.push(field))
            .map_err(|source| DefinitionError::Unreadable { name: name.to_owned(), source })?;
        let alert = read.rule.as_ref().and_then(|rule| rule.trigger.alert.as_ref());
        if alert.is_some_and(|alert| alert.state == AlertPhase::Unknown) {
            fields.push("rule.trigger.alert.state".to_owned());
        }
        let moments = read.rule.as_ref().map_or(&[][..], |rule| rule.trigger.lifecycle());
        if moments.contains(&Moment::Unknown) {
            fields.push("rule.trigger.resource.lifecycle".to_owned());
        }
        match fields.into_iter().next() {
            None => Ok(read),
            Some(field) => Err(DefinitionError::Unknown { name: name.to_owned(), field }),
        }
    }
}

fn stored_name(name: &str, data: &Value) -> String {
    readable(name, &digest_of(data))
}

fn digest_of(data: &Value) -> String {
    digest(&[&canonical(data)])[..32].to_owned()
}

/// One text for one value, whatever order its members came in.
pub fn canonical(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let sorted: BTreeMap<_, _> = members.iter().collect();
            let members: Vec<_> = sorted
                .into_iter()
                .map(|(k, v)| format!("{}:{}", Value::from(k.as_str()), canonical(v)))
                .collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn definition() -> Definition {
        serde_json::from_value(json!({
            "ladder": [{"run": "restart", "with": {"b": 1, "a": 2}}],
            "actions": {"restart": {"kubernetes": {"restart": {}}}},
        }))
        .expect("a definition")
    }

    #[test]
    fn what_was_stored_is_read_back() {
        let (name, data) = (definition().name("crashloop"), definition().data());
        assert!(name.starts_with("crashloop-"));
        assert_eq!(Definition::read(&name, &data).expect("reads"), definition());
    }

    #[test]
    fn a_changed_definition_is_refused() {
        let name = definition().name("crashloop");
        let mut data = definition().data();
        data["ladder"][0]["run"] = "delete-everything".into();
        let error = Definition::read(&name, &data).expect_err("refused").to_string();
        assert_eq!(error, format!("definition {name} was changed after it was written: refusing to run it"));
    }

    #[test]
    fn what_a_later_version_wrote_is_not_half_understood() {
        let mut data = definition().data();
        data["ladder"][0]["retry"] = json!({"count": 3});
        let name = stored_name("crashloop", &data);
        let error = Definition::read(&name, &data).expect_err("refused").to_string();
        let expected =
            format!("definition {name} has ladder[0].retry, which this version of fother does not know");
        assert_eq!(error, expected);
    }

    #[test]
    fn the_order_of_members_does_not_matter() {
        let (one, other): (Value, Value) = (
            serde_json::from_str(r#"{"a":1,"b":[{"c":2,"d":3}]}"#).expect("JSON"),
            serde_json::from_str(r#"{"b":[{"d":3,"c":2}],"a":1}"#).expect("JSON"),
        );
        assert_eq!(canonical(&one), canonical(&other));
    }

    #[test]
    fn a_trigger_that_a_later_version_knows_is_not_taken_for_another() {
        for (trigger, unknown) in [
            // What an earlier version wrote keeps its name.
            (json!({"alert": {"webhook": "w"}}), None),
            (json!({"alert": {"webhook": "w", "state": "Resolved"}}), None),
            (json!({"alert": {"webhook": "w", "state": "Silenced"}}), Some("rule.trigger.alert.state")),
            (json!({"resource": {"apiVersion": "v1", "kind": "Pod"}}), None),
            (
                json!({"resource": {"apiVersion": "v1", "kind": "Pod", "lifecycle": ["Created", "Deleted"]}}),
                None,
            ),
            (
                json!({"resource": {"apiVersion": "v1", "kind": "Pod", "lifecycle": ["Created", "Renamed"]}}),
                Some("rule.trigger.resource.lifecycle"),
            ),
            (json!({"queue": {"name": "q"}}), Some("rule.trigger.queue")),
        ] {
            let rule =
                json!({"serviceAccountName": "h", "mode": "Observe", "trigger": trigger, "ladder": []});
            let data = json!({"rule": rule, "ladder": [], "actions": {}});
            let name = stored_name("r", &data);
            let read = Definition::read(&name, &data).map_err(|error| error.to_string());
            let refused =
                |field| format!("definition {name} has {field}, which this version of fother does not know");
            let expected = unknown.map_or(Ok(data), |field| Err(refused(field)));
            assert_eq!(read.map(|read| read.data()), expected, "{trigger}");
        }
    }
}
