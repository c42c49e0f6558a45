//! Where something leads by its own words: to an object that an event, an alert or an object names, or to only a name.

use serde_json::Value;

use super::matching::{expression_problem, scope_of_what_is};
use super::problem::Problem;
use crate::api::{ObjectReference, RuleSpec, Target, is_path_segment};
use crate::expr::{Bindings, Expression, Template};

/// The longest name of a target, as the API server has it for names.
const LONGEST_NAME: usize = 253;

/// What is said of a text that no object can be called.
const NO_NAME: &str = "is no name of an object";

/// A compiled `target` of a Rule that says by itself what it is.
#[derive(Clone, Debug)]
pub enum Aim {
    /// An object: group and version, kind, namespace and name.
    Ref {
        /// Group and version.
        api_version: String,
        /// Kind.
        kind: String,
        /// Namespace, if the Rule says one.
        namespace: Option<Template>,
        /// Name.
        name: Template,
    },
    /// Only a name.
    Key(Expression),
}

impl Aim {
    /// Compiles the target of a Rule, if it is one of those; says where a Rule has the wrong one for its trigger.
    pub fn compile(spec: &RuleSpec, problems: &mut Vec<Problem>) -> Option<Self> {
        let scope = scope_of_what_is(&spec.trigger);
        let is_about_no_object = spec.trigger.names_target();
        let names = is_about_no_object || spec.trigger.resource.is_some();
        let mut template = |source: &str, path: &str| match Template::compile(source, &scope) {
            Ok(template) if template.expressions().next().is_none() && !is_path_segment(source) => {
                let problem = Problem::error(path, format!("{source:?} {NO_NAME}"));
                let meant = source.trim_matches(['{', '}', '$', '<', '%', '>', ' ']);
                let is_braced = ["{{", "${", "<%"].iter().any(|open| source.contains(open));
                problems.push(if is_braced {
                    problem.help(format!("write ${{{{ {meant} }}}}"))
                } else {
                    problem
                });
                None
            }
            Ok(template) => Some(template),
            Err(errors) => {
                problems.extend(errors.iter().map(|error| expression_problem(path, error)));
                None
            }
        };
        match spec.target.as_ref() {
            Some(Target::Ref(object)) if names => {
                let namespace =
                    object.namespace.as_deref().map(|text| template(text, "spec.target.ref.namespace"));
                let name = template(&object.name, "spec.target.ref.name");
                Some(Self::Ref {
                    api_version: object.api_version.clone(),
                    kind: object.kind.clone(),
                    namespace: namespace.map_or(Some(None), |namespace| namespace.map(Some))?,
                    name: name?,
                })
            }
            Some(Target::Key(source)) if names => match Expression::compile(source, &scope) {
                Ok(expression) => Some(Self::Key(expression)),
                Err(errors) => {
                    let of = |error| expression_problem("spec.target.key", error);
                    problems.extend(errors.iter().map(of));
                    None
                }
            },
            None if spec.trigger.webhook_name().is_none() => None,
            Some(Target::Object) if spec.trigger.execution.is_some() => None,
            Some(Target::Ref(_) | Target::Key(_)) => {
                let message = "an Event is about what it regards: ref and key are for other triggers; \
                               use object, workload or owner";
                problems.push(Problem::error("spec.target", message));
                None
            }
            _ if is_about_no_object => {
                let message = "this trigger is about no object; use ref: {apiVersion, kind, name} or key";
                problems.push(Problem::error("spec.target", message));
                None
            }
            _ => None,
        }
    }

    /// Its expressions.
    pub fn expressions(&self) -> Vec<&Expression> {
        match self {
            Self::Ref { namespace, name, .. } => {
                namespace.iter().flat_map(Template::expressions).chain(name.expressions()).collect()
            }
            Self::Key(expression) => vec![expression],
        }
    }

    /// The target that an event leads to. A reference has a namespace only if the Rule says one: whether its kind has
    /// any is not known here.
    ///
    /// # Errors
    /// Why it leads nowhere, in a sentence.
    pub fn at(&self, bindings: &Bindings, rule_namespace: &str) -> Result<ObjectReference, String> {
        match self {
            Self::Key(expression) => {
                match expression.evaluate(bindings).map_err(|error| error.to_string())? {
                    Value::String(name) => {
                        Ok(ObjectReference::key(rule_namespace, fitting("target.key", name)?))
                    }
                    other => Err(format!("target.key is {other}, not a text")),
                }
            }
            Self::Ref { api_version, kind, namespace, name } => {
                let text = |what: &str, template: &Template| {
                    let text = template.render_text(bindings).map_err(|error| format!("{what}: {error}"))?;
                    let text = fitting(what, text)?;
                    // Whoever sends an alert may have chosen it.
                    if is_path_segment(&text) { Ok(text) } else { Err(format!("{what}: {text:?} {NO_NAME}")) }
                };
                let namespace = namespace.as_ref().map(|template| text("target.ref.namespace", template));
                Ok(ObjectReference {
                    api_version: api_version.clone(),
                    kind: kind.clone(),
                    namespace: namespace.transpose()?,
                    name: text("target.ref.name", name)?,
                    uid: None,
                })
            }
        }
    }
}

fn fitting(what: &str, text: String) -> Result<String, String> {
    match text.len() {
        0 => Err(format!("{what} is empty")),
        // It would forge a line wherever it is told.
        _ if text.chars().any(char::is_control) => Err(format!("{what} has a control character")),
        length if length > LONGEST_NAME => Err(format!("{what} is {length} bytes; max {LONGEST_NAME}")),
        _ => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::jiff::Timestamp;
    use serde_json::json;

    fn aim(target: Value) -> Result<Option<Aim>, Vec<String>> {
        let spec = json!({"serviceAccountName": "h", "ladder": [{"run": "x"}], "target": target,
            "trigger": {"schedule": {"cron": "0 3 * * *"}}});
        let mut problems = Vec::new();
        let aim = Aim::compile(&serde_json::from_value(spec).expect("a Rule"), &mut problems);
        if problems.is_empty() { Ok(aim) } else { Err(problems.iter().map(ToString::to_string).collect()) }
    }

    fn at(target: Value) -> Result<String, String> {
        let alert =
            json!({"labels": {"deployment": "web", "namespace": "b", "n": "", "forged": "x\nINFO fired"}});
        let aim = aim(target).expect("compiles").expect("an aim");
        let bindings = Bindings::at(Timestamp::UNIX_EPOCH).with("event", json!({"data": alert}));
        aim.at(&bindings, "a").map(|found| format!("{:?} {found}", found.namespace))
    }

    #[test]
    fn an_event_leads_to_what_it_names() {
        let deployment =
            |name: &str| json!({"ref": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}});
        assert_eq!(at(deployment("${{ event.data.labels.deployment }}")), Ok("None Deployment/web".into()));
        assert_eq!(
            at(deployment("x-${{ event.data.labels.deployment }}")),
            Ok("None Deployment/x-web".into())
        );
        let mut elsewhere = deployment("web");
        elsewhere["ref"]["namespace"] = "${{ event.data.labels.namespace }}".into();
        assert_eq!(at(elsewhere), Ok("Some(\"b\") Deployment/web".into()));
        assert_eq!(at(json!({"key": "event.data.labels.deployment"})), Ok("Some(\"a\") Key/web".into()));
        assert_eq!(at(json!({"key": "event.data.labels.n"})), Err("target.key is empty".into()));
        let forged = json!({"key": "event.data.labels.forged"});
        assert_eq!(at(forged), Err("target.key has a control character".into()));
        assert_eq!(at(json!({"key": "1 + 1"})), Err("target.key is 2, not a text".into()));
        assert!(at(deployment("${{ event.data.labels.absent }}")).is_err());
    }

    #[test]
    fn what_is_no_name_leads_nowhere() {
        for name in
            ["web/scale", "web?dryRun=All", "web#x", "../../../namespaces/b/deployments/web", "a b", ".."]
        {
            let template = format!("${{{{ '{name}' }}}}");
            let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": template});
            let expected = format!("target.ref.name: {name:?} is no name of an object");
            assert_eq!(at(json!({"ref": object})), Err(expected));
            let mut object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
            object["namespace"] = template.into();
            assert!(at(json!({"ref": object})).is_err());
        }
        assert_eq!(
            at(json!({"key": "'rack 1/2'"})),
            Ok("Some(\"a\") Key/rack 1/2".into()),
            "it is no object"
        );
    }

    #[test]
    fn mistakes_have_their_place() {
        let refused = |target| aim(target).expect_err("refused").remove(0);
        assert_eq!(
            refused(json!("workload")),
            "spec.target: this trigger is about no object; use ref: {apiVersion, kind, name} or key"
        );
        assert_eq!(
            refused(json!({"ref": {"apiVersion": "v1", "kind": "Node", "name": "{{ event.data.node }}"}})),
            "spec.target.ref.name: \"{{ event.data.node }}\" is no name of an object; write ${{ event.data.node }}"
        );
        let named = |name: &str| json!({"ref": {"apiVersion": "v1", "kind": "Node", "name": name}});
        assert_eq!(
            refused(named("${ event.data.node }")),
            "spec.target.ref.name: \"${ event.data.node }\" is no name of an object; write ${{ event.data.node }}"
        );
        assert_eq!(
            refused(json!({"key": "evnt.x"})),
            "spec.target.key: unknown variable \"evnt\"; did you mean \"event\"?"
        );
    }
}
