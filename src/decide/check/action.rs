//! Checks one Action.

use serde_json::Value;

use super::{has_template, operations, templates, types};
use crate::api::{ActionSpec, Parameter, Runner, ValueType};
use crate::decide::expansion::pasted;
use crate::decide::parameters::{environment_name, resolve};
use crate::decide::path::Path;
use crate::decide::pod::{self, PodPolicy};
use crate::decide::problem::Problem;

/// Everything that is wrong with an Action, in the order of its fields.
pub fn check(spec: &ActionSpec, pods: PodPolicy) -> Vec<Problem> {
    let mut problems = Vec::new();
    let root = Path::default().member("spec");
    for (index, parameter) in spec.parameters.iter().enumerate() {
        check_parameter(parameter, &root.member("parameters").item(index), &mut problems);
    }
    if spec.timeout.as_secs() == 0 {
        problems.push(Problem::error(root.member("timeout").to_string(), "must be longer than 0s"));
    }
    let has_a_job = spec.script.is_some() || spec.container.is_some();
    if !spec.outputs.is_empty() && !has_a_job && runners(spec).next().is_some() {
        let message = "only script and container have declared outputs";
        problems.push(Problem::error(root.member("outputs").to_string(), message));
    }
    // That there is exactly one the schema says. Of several each is looked at.
    runners(spec).for_each(|runner| check_runner(runner, spec, pods, &mut problems));
    problems.extend(pod::problems(spec, pods));
    problems
}

fn runners(spec: &ActionSpec) -> impl Iterator<Item = Runner<'_>> {
    let of_jobs = [spec.script.as_ref().map(Runner::Script), spec.container.as_ref().map(Runner::Container)];
    let others =
        [spec.kubernetes.as_ref().map(Runner::Kubernetes), spec.collect.as_ref().map(Runner::Collect)];
    of_jobs.into_iter().chain(others).flatten()
}

fn check_runner(runner: Runner<'_>, spec: &ActionSpec, pods: PodPolicy, problems: &mut Vec<Problem>) {
    let root = Path::default().member("spec");
    match runner {
        Runner::Script(script) => {
            let path = root.member("script");
            problems.extend(image(&script.image, &path, pods));
            no_templates("interpreter", &script.interpreter, &path, spec, problems);
            if let Some(inline) = script.inline.as_deref().filter(|inline| has_template(inline)) {
                problems.push(no_template("inline", &path.member("inline"), inline, spec));
            }
        }
        Runner::Container(container) => {
            let path = root.member("container");
            problems.extend(image(&container.image, &path, pods));
            no_templates("command", &container.command, &path, spec, problems);
            no_templates("args", &container.args, &path, spec, problems);
        }
        Runner::Kubernetes(operation) => {
            let value = serde_json::to_value(operation).expect("plain data structures always become JSON");
            let path = root.member("kubernetes");
            check_operation(&value, &path, spec, problems);
            if let Some(wrong) = operations::replicas(operation, &path) {
                refuse(wrong, problems);
            }
        }
        Runner::Collect(_) => {}
    }
}

fn check_parameter(parameter: &Parameter, path: &Path, problems: &mut Vec<Problem>) {
    let numeric = matches!(parameter.value_type, ValueType::Integer | ValueType::Number);
    for (field, set) in [("minimum", parameter.minimum.is_some()), ("maximum", parameter.maximum.is_some())] {
        if set && !numeric {
            let message = format!("{field} is for numbers; the type is {}", parameter.value_type.as_str());
            problems.push(Problem::error(path.member(field).to_string(), message));
        }
    }
    if !parameter.allowed.is_empty() && parameter.value_type != ValueType::String {
        let message = format!("enum is for strings; the type is {}", parameter.value_type.as_str());
        problems.push(Problem::error(path.member("enum").to_string(), message));
    }
    if let (Some(least), Some(most)) = (parameter.minimum, parameter.maximum)
        && least > most
    {
        let message = format!("minimum {least} is greater than maximum {most}");
        problems.push(Problem::error(path.member("minimum").to_string(), message));
    } else if parameter.default.is_some() {
        let mistakes =
            resolve(std::slice::from_ref(parameter), &serde_json::Map::new()).err().unwrap_or_default();
        let default = path.member("default").to_string();
        problems.extend(mistakes.into_iter().map(|mistake| Problem::error(default.clone(), mistake)));
    }
}

fn image(image: &str, runner: &Path, pods: PodPolicy) -> Option<Problem> {
    let path = runner.member("image").to_string();
    if has_template(image) {
        return Some(Problem::error(path, "templating not allowed in image"));
    }
    pods.image(path, image)
}

fn no_templates(
    field: &str,
    words: &[String],
    runner: &Path,
    spec: &ActionSpec,
    problems: &mut Vec<Problem>,
) {
    for (index, word) in words.iter().enumerate() {
        let path = runner.member(field).item(index);
        if has_template(word) {
            problems.push(no_template(field, &path, word, spec));
        }
        if let Some(name) = pasted(word) {
            let message = format!("the kubelet would paste $({name}) into {field}");
            problems.push(
                Problem::error(path.to_string(), message)
                    .help(format!("use env: ${name}, read by the program")),
            );
        }
    }
}

/// Refuses a template, with what the parameter is called where the script or program finds it.
fn no_template(field: &str, path: &Path, text: &str, spec: &ActionSpec) -> Problem {
    let is_meant = |parameter: &&Parameter| text.contains(&format!("inputs.{}", parameter.name));
    let meant = spec.parameters.iter().filter(is_meant).max_by_key(|parameter| parameter.name.len());
    let alone = spec.parameters.first().filter(|_| spec.parameters.len() == 1);
    let variable =
        meant.or(alone).map_or("FOTHER_PARAM_…".to_owned(), |meant| environment_name(&meant.name));
    Problem::error(path.to_string(), format!("templating not allowed in {field}"))
        .help(format!("use env: ${variable}"))
}

/// Templates over `inputs` name declared parameters, and fit their types.
fn check_operation(value: &Value, path: &Path, spec: &ActionSpec, problems: &mut Vec<Problem>) {
    templates(value, path, &types::operation(&spec.parameters), problems);
}

/// Adds an error; a doubt about the same text only says what was probably meant.
fn refuse(wrong: Problem, problems: &mut Vec<Problem>) {
    let doubt = problems.iter().position(|problem| problem.path == wrong.path);
    let wrong = match doubt.map(|place| problems.remove(place)) {
        Some(Problem { span, help, .. }) => Problem { span, help, ..wrong },
        None => wrong,
    };
    problems.push(wrong);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check_all(spec: Value, expected: &[&str]) {
        let spec: ActionSpec = serde_json::from_value(spec).unwrap();
        let found: Vec<String> = check(&spec, PodPolicy::default()).iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn parameters_make_sense() {
        check_all(
            json!({"collect": {}, "parameters": [
                {"name": "a", "type": "integer", "default": "abc"},
                {"name": "b", "minimum": 1},
                {"name": "c", "type": "integer", "minimum": 2, "maximum": 1},
                {"name": "d", "enum": ["x", "y"], "default": "z"},
                {"name": "e", "type": "boolean", "enum": ["x"]},
                {"name": "f", "type": "integer", "default": "7", "minimum": 1},
            ]}),
            &[
                "spec.parameters[0].default: param a=\"abc\": want integer",
                "spec.parameters[1].minimum: minimum is for numbers; the type is string",
                "spec.parameters[2].minimum: minimum 2 is greater than maximum 1",
                "spec.parameters[3].default: param d=\"z\": must be one of x, y",
                "spec.parameters[4].enum: enum is for strings; the type is boolean",
            ],
        );
    }

    #[test]
    fn nothing_is_pasted_into_commands() {
        let image = format!("a@sha256:{}", "0".repeat(64));
        check_all(
            json!({"container": {"image": image, "command": ["rm", "${{ inputs.path }}"], "args": ["${{ x }}"]},
                   "parameters": [{"name": "pathName"}]}),
            &[
                "spec.container.command[1]: templating not allowed in command; use env: $FOTHER_PARAM_PATH_NAME",
                "spec.container.args[0]: templating not allowed in args; use env: $FOTHER_PARAM_PATH_NAME",
            ],
        );
        check_all(
            json!({"container": {"image": image, "command": ["rm", "$(FOTHER_PARAM_PATH)"], "args": ["$$(FOTHER_PARAM_PATH)", "-$(FOTHER_TARGET_NAME)"]}}),
            &[
                "spec.container.command[1]: the kubelet would paste $(FOTHER_PARAM_PATH) into command; use env: $FOTHER_PARAM_PATH, read by the program",
                "spec.container.args[1]: the kubelet would paste $(FOTHER_TARGET_NAME) into args; use env: $FOTHER_TARGET_NAME, read by the program",
            ],
        );
        check_all(
            json!({"script": {"image": "debian:12", "inline": "rm ${{ inputs.path }}", "interpreter": ["sh"]}}),
            &[
                "spec.script.image: image is not pinned by sha256 digest; a tag can come to mean another image",
                "spec.script.inline: templating not allowed in inline; use env: $FOTHER_PARAM_…",
            ],
        );
        check_all(
            json!({"script": {"image": image, "inline": "rm -rf ${{ inputs.pathName }}"},
                   "parameters": [{"name": "days"}, {"name": "path"}, {"name": "pathName"}]}),
            &["spec.script.inline: templating not allowed in inline; use env: $FOTHER_PARAM_PATH_NAME"],
        );
    }

    #[test]
    fn operations_read_what_is_declared() {
        check_all(
            json!({"kubernetes": {"scale": {"replicas": "${{ inputs.replica }}"}}, "parameters": [{"name": "replicas"}],
                   "outputs": [{"name": "x"}], "timeout": "0s"}),
            &[
                "spec.timeout: must be longer than 0s",
                "spec.outputs: only script and container have declared outputs",
                "spec.kubernetes.scale.replicas: inputs has no field \"replica\"; did you mean \"replicas\"?",
            ],
        );
        check_all(
            json!({"kubernetes": {"scale": {"replicas": "{{ inputs.replicas }}"}}, "parameters": [{"name": "replicas"}]}),
            &[
                "spec.kubernetes.scale.replicas: replicas \"{{ inputs.replicas }}\": want a whole number from 0 to 100000; \
                  did you mean \"${{ inputs.replicas }}\"?",
            ],
        );
        let wrong = json!({"kubernetes": {"annotate": {"values": {"a.b/c": "${{ object.x }}"}}}});
        let spec: ActionSpec = serde_json::from_value(wrong).unwrap();
        let found = check(&spec, PodPolicy::default());
        assert_eq!(found[0].path, "spec.kubernetes.annotate.values[\"a.b/c\"]");
        assert_eq!(found[0].span, Some(4..10));
    }
}
