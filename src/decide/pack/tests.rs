//! Whole sets of files.

use super::*;

const RULE: &str = "\
apiVersion: fother.dev/v1alpha1
kind: Rule
metadata:
  name: crashloop
spec:
  serviceAccountName: healer
  trigger: {resource: {apiVersion: v1, kind: Pod}}
  when: crashLooping(object, 3, duration('10m'))
  ladder:
    - run: restart
";

const ACTION: &str = "\
apiVersion: fother.dev/v1alpha1
kind: Action
metadata: {name: restart, namespace: a, labels: {team: web}}
spec:
  kubernetes: {restart: {}}
";

const SCRIPT: &str = "\
apiVersion: fother.dev/v1alpha1
kind: Action
metadata: {name: clean}
spec:
  script: {image: 'debian@sha256:0000000000000000000000000000000000000000000000000000000000000000', file: scripts/clean.sh}
";

fn read_files(files: &[(&str, &str)], surroundings: &Surroundings<'_>) -> Reading {
    let sources: Vec<Source<'_>> =
        files.iter().map(|(path, content)| Source { path, content: content.as_bytes() }).collect();
    read(&sources, surroundings).check(&expr::Schemas::default())
}

fn check(files: &[(&str, &str)], expected: &[&str]) {
    let surroundings = Surroundings { namespace: Some("a"), ..Surroundings::default() };
    let found: Vec<String> =
        read_files(files, &surroundings).findings.iter().map(ToString::to_string).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_good_pack_becomes_objects() {
    let files = [
        ("rules/a.yaml", RULE),
        ("b.yml", &format!("---\n{ACTION}---\n{SCRIPT}")),
        ("scripts/clean.sh", "echo\n"),
    ];
    let mut reading = read_files(&files, &Surroundings { namespace: Some("a"), ..Surroundings::default() });
    assert_eq!(reading.findings, []);
    assert_eq!(reading.files, 2);
    let places: Vec<(&str, usize)> = reading.objects.iter().map(|w| (w.file.as_str(), w.line)).collect();
    assert_eq!(places, [("rules/a.yaml", 1), ("b.yml", 2), ("b.yml", 8)]);

    let sources = files.map(|(path, content)| Source { path, content: content.as_bytes() });
    let scripts = resolve_scripts(&mut reading.objects, &sources);
    let Object::Action(clean) = &reading.objects[2].object else { panic!("not an Action") };
    let script = clean.spec.script.as_ref().unwrap();
    let key = script.config_map.as_ref().unwrap();
    assert_eq!((script.file.as_deref(), key.key.as_str()), (None, "clean.sh"));
    let config_map = &scripts[&key.name];
    assert_eq!(config_map.immutable, Some(true));
    assert_eq!(config_map.data.as_ref().unwrap()["clean.sh"], "echo\n");
    assert!(key.name.starts_with("clean-") && key.name.len() == "clean-".len() + 16);
}

#[test]
fn all_problems_of_all_files_are_found_at_once() {
    let rule = RULE.replace("  when: crash", "  when: crashs").replace("run: restart", "run: restrat");
    check(
        &[("a.yaml", "a: 1\na: 2\n"), ("b.yaml", &rule), ("c.yaml", &ACTION.replace("spec:", "spek:"))],
        &[
            "a.yaml:2:1: duplicate key \"a\"",
            "b.yaml:8:9: spec.when: unknown function \"crashsLooping\"; did you mean \"crashLooping\"?",
            "b.yaml:10:12: spec.ladder[0].run: Action \"restrat\" not found in namespace \"a\"; did you mean \"restart\"?",
            "c.yaml:1:1: spec is required",
            "c.yaml:4:1: spek: unknown field; did you mean \"spec\"?",
        ],
    );
}

const WEBHOOK: &str = "\
apiVersion: fother.dev/v1alpha1
kind: Webhook
metadata: {name: open}
spec:
  serviceAccountName: healer
  authentication: {token: 1}
  generic: {id: 'body.', type: \"'a'\"}
";

#[test]
fn what_does_not_go_together_does_not_hide_the_parts() {
    let of = |spec: &str| ACTION.replace("kubernetes: {restart: {}}", spec);
    let script = of("script: {image: 'a:latest', foo: 1, interpreter: ['${{ x }}']}");
    let two =
        of("container: {image: a, args: ['${{ x }}']}\n  kubernetes: {scale: {replicas: '${{ inputs.z }}'}}");
    for (file, places) in [
        (WEBHOOK, &["spec.authentication", "spec.authentication.token", "spec.generic.id"][..]),
        (&script, &["spec.script", "spec.script.image", "spec.script.foo", "spec.script.interpreter[0]"]),
        (&two, &["spec", "spec.container.image", "spec.container.args[0]", "spec.kubernetes.scale.replicas"]),
    ] {
        let found = read_files(&[("a.yaml", file)], &Surroundings::default()).findings;
        let found: Vec<_> = found.iter().map(|finding| finding.problem.path.as_str()).collect();
        assert_eq!(found, places);
    }
}

/// Of what its expressions may read nothing can be said.
#[test]
fn the_rest_of_a_rule_without_a_trigger_is_left_alone() {
    let rule = RULE.replace("resource: {apiVersion: v1, kind: Pod}", "resource: ");
    let expected = "a.yaml:7:3: spec.trigger: exactly one of resource, event, alert, webhook, schedule and execution must be set; \
        resource without a value is as if it were not there: write a map with apiVersion, kind behind resource";
    check(&[("a.yaml", &rule)], &[expected]);
}

#[test]
fn a_malformed_field_does_not_hide_the_others() {
    let rule = RULE
        .replace("run: restart", "run: restrat")
        .replace("  when:", "  for: 5 minutes\n  mode: [x]\n  when:");
    check(
        &[("a.yaml", &rule), ("b.yaml", ACTION)],
        &[
            "a.yaml:8:8: spec.for: \"5 minutes\" is not a duration: use \"5m\"",
            "a.yaml:9:3: spec.mode: want text, got a list",
            "a.yaml:12:12: spec.ladder[0].run: Action \"restrat\" not found in namespace \"a\"; did you mean \"restart\"?",
        ],
    );
}

#[test]
fn a_target_says_what_it_lacks() {
    let rule =
        RULE.replace("  when:", "  target: {owner: {kind: Job}}\n  when:").replace("(object", "(objekt");
    check(
        &[("a.yaml", &rule), ("b.yaml", ACTION)],
        &[
            "a.yaml:8:3: spec.target: owner: missing field `apiVersion`; \
             write such as owner: {apiVersion: apps/v1, kind: StatefulSet}",
            "a.yaml:9:22: spec.when: unknown variable \"objekt\"; did you mean \"object\"?",
        ],
    );
}

#[test]
fn one_name_is_one_object() {
    check(
        &[("a.yaml", RULE), ("b.yaml", &format!("{ACTION}---\n{RULE}"))],
        &["b.yaml:10:9: metadata.name: Rule \"crashloop\" is twice here: a.yaml:1 and b.yaml:7"],
    );
}

#[test]
fn names_and_namespaces() {
    let long = "x".repeat(71);
    for (from, to, expected) in [
        ("name: restart", format!("name: {long}"), "a.yaml:3:18: metadata.name: name is 71 chars; max 52"),
        (
            "name: restart",
            "name: Restart".to_owned(),
            "a.yaml:3:18: metadata.name: \"Restart\": use lower-case letters, digits and hyphens, a letter or digit at both ends",
        ),
        (
            "namespace: a",
            "namespace: b".to_owned(),
            "a.yaml:3:38: metadata.namespace: namespace \"b\": everything here goes to \"a\"; leave it out",
        ),
        ("team: web", "team: 5".to_owned(), "a.yaml:3:50: metadata.labels.team: want text; write \"5\""),
        (
            "team: web",
            "fother.dev/pack: x".to_owned(),
            "a.yaml:3:50: metadata.labels[\"fother.dev/pack\"]: is set by fother itself",
        ),
        (
            "labels: {team: web}",
            "finalizers: [x]".to_owned(),
            "a.yaml:3:41: metadata.finalizers: field not settable here",
        ),
        (
            "labels: {team: web}",
            "label: {}".to_owned(),
            "a.yaml:3:41: metadata.label: unknown field; did you mean \"labels\"?",
        ),
    ] {
        check(&[("a.yaml", &ACTION.replace(from, &to))], &[expected]);
    }
}

#[test]
fn only_kinds_of_a_pack() {
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n";
    let pack = "apiVersion: fother.dev/v1alpha1\nkind: Pack\nmetadata: {name: x}\nspec: {url: u, serviceAccountName: s}\n";
    let old = ACTION.replace("v1alpha1", "v1");
    check(
        &[
            ("a.yaml", deployment),
            ("b.yaml", pack),
            ("c.yaml", "- 1"),
            ("d.yaml", "{}"),
            ("e.yaml", &old),
            (".github/x.yaml", "}"),
        ],
        &[
            "a.yaml:1:13: apiVersion: kind Deployment of apps/v1 is not allowed here; allowed: Rule, Action, Webhook",
            "b.yaml:2:7: kind: kind Pack is not allowed here; allowed: Rule, Action, Webhook",
            "c.yaml:1:1: want a map with apiVersion, kind, metadata and spec",
            "d.yaml:1:1: apiVersion is required",
            "d.yaml:1:1: kind is required",
            "e.yaml:1:13: apiVersion: \"fother.dev/v1\": want fother.dev/v1alpha1",
        ],
    );
    let lacking = "a.yaml:1:1: spec is required";
    let unknown = "a.yaml:4:1: spek: unknown field; did you mean \"spec\"?";
    // Of a kind of that name in a group of somebody else's nothing more is said.
    for (version, is_slip) in [("v1", true), ("fother.io/v1alpha1", true), ("example.com/v1", false)] {
        let action = ACTION.replace("fother.dev/v1alpha1", version).replace("spec:", "spek:");
        let told = format!(
            "a.yaml:1:13: apiVersion: kind Action of {version} is not allowed here; \
             use apiVersion fother.dev/v1alpha1"
        );
        let expected = if is_slip { vec![lacking, told.as_str(), unknown] } else { vec![told.as_str()] };
        check(&[("a.yaml", &action)], &expected);
    }
    let loose = read_files(&[("b.yaml", pack)], &Surroundings { partial: true, ..Surroundings::default() });
    assert_eq!(loose.findings, []);
}

#[test]
fn what_cannot_be_decided_here_is_a_warning() {
    let partial = Surroundings { partial: true, ..Surroundings::default() };
    let reading = read_files(&[("a.yaml", RULE), ("b.yaml", SCRIPT)], &partial);
    assert_eq!((reading.count(Severity::Error), reading.count(Severity::Warning)), (0, 2));
    let external = Surroundings { external_actions: vec!["restart"], ..Surroundings::default() };
    assert_eq!(read_files(&[("a.yaml", RULE)], &external).findings, []);
}

#[test]
fn rules_listen_to_webhooks_of_the_pack() {
    let webhook = "apiVersion: fother.dev/v1alpha1\nkind: Webhook\nmetadata: {name: alerts}\nspec:\n  serviceAccountName: r\n  alertmanager: {}\n  authentication: {bearer: {secretRef: {name: s, key: k}}}\n";
    let rule = "apiVersion: fother.dev/v1alpha1\nkind: Rule\nmetadata: {name: full}\nspec:\n  serviceAccountName: h\n  trigger: {alert: {webhook: alerts}}\n  target: {key: alert.labels.disk}\n  ladder: [{run: clean}]\n";
    let files = [("a.yaml", rule), ("b.yaml", webhook), ("c.yaml", SCRIPT), ("scripts/clean.sh", "x")];
    check(&files, &[]);
    check(
        &[files[0], files[2], files[3]],
        &["a.yaml:6:30: spec.trigger.alert.webhook: Webhook \"alerts\" not found in namespace \"a\""],
    );
    let open = webhook.replace("{bearer: {secretRef: {name: s, key: k}}}", "{}");
    check(
        &[files[0], ("b.yaml", &open), files[2], files[3]],
        &[
            "b.yaml:7:3: spec.authentication: exactly one of bearer and hmac must be set: an endpoint without \
           authentication is none",
        ],
    );
}

#[test]
fn an_action_that_cannot_be_read_is_not_missing_too() {
    let broken = ACTION.replace("{restart: {}}", "{restrat: {}}");
    check(
        &[("a.yaml", RULE), ("b.yaml", &broken)],
        &["b.yaml:5:16: spec.kubernetes.restrat: unknown field; did you mean \"restart\"?"],
    );
}

#[test]
fn one_mistake_hides_no_other() {
    let misspelled = RULE
        .replace("serviceAccountName", "serviceAcountName")
        .replace("trigger: {resource: {", "triger: {resource: {named: x, ")
        .replace("crashLooping(object", "crashLoping(object");
    check(
        &[("a.yaml", &misspelled), ("b.yaml", ACTION)],
        &[
            "a.yaml:6:3: spec.serviceAcountName: unknown field; did you mean \"serviceAccountName\"?",
            "a.yaml:7:3: spec.triger: unknown field; did you mean \"trigger\"?",
            "a.yaml:7:23: spec.trigger.resource.named: unknown field; fields here: apiVersion, kind, labelSelector, lifecycle",
            "a.yaml:8:9: spec.when: unknown function \"crashLoping\"; did you mean \"crashLooping\"?",
        ],
    );
    let lacking = RULE
        .replace("  serviceAccountName: healer\n", "")
        .replace("(object", "(objekt")
        .replace("    - run: restart", "    []");
    check(
        &[("a.yaml", &lacking)],
        &[
            "a.yaml:5:1: spec.serviceAccountName: serviceAccountName is required",
            "a.yaml:7:22: spec.when: unknown variable \"objekt\"; did you mean \"object\"?",
            "a.yaml:8:3: spec.ladder: is empty; write at least one item, a map with run",
        ],
    );
    let two = RULE.replace("kind: Pod}}", "kind: Pod}, event: {}}").replace("(object", "(objekt");
    check(
        &[("a.yaml", &two), ("b.yaml", ACTION)],
        &[
            "a.yaml:7:3: spec.trigger: exactly one of resource, event, alert, webhook, schedule and execution must be set",
            "a.yaml:8:22: spec.when: unknown variable \"objekt\"; did you mean \"object\"?",
        ],
    );
    // What does not go together is said of the whole; each part of it is looked at nevertheless.
    let together = RULE
        .replace("trigger: {resource: {apiVersion: v1, kind: Pod}}", "trigger: {event: {}}\n  for: 5m")
        .replace("crashLooping(object, 3, duration('10m'))", "evnt.type == 'x'");
    check(
        &[("a.yaml", &together), ("b.yaml", ACTION)],
        &[
            "a.yaml:8:8: spec: for needs a resource or alert trigger: an event is over at once",
            "a.yaml:9:9: spec.when: unknown variable \"evnt\"; did you mean \"event\"?",
        ],
    );
}

#[test]
fn an_ambiguous_word_in_place_of_an_expression_is_told_once() {
    let rule = RULE.replace("crashLooping(object, 3, duration('10m'))", "yes");
    check(
        &[("a.yaml", &rule), ("b.yaml", ACTION)],
        &["a.yaml:8:9: yes is ambiguous: YAML 1.1 reads it as a boolean; write an expression in quotes"],
    );
}

#[test]
fn scripts_are_there() {
    check(
        &[("a.yaml", SCRIPT), ("scripts/clear.sh", "x")],
        &[
            "a.yaml:5:107: spec.script.file: no file \"scripts/clean.sh\" in the pack; did you mean \"scripts/clear.sh\"?",
        ],
    );
    check(
        &[("a.yaml", SCRIPT), ("scripts/clean.sh", "")],
        &["a.yaml:5:107: spec.script.file: \"scripts/clean.sh\" is empty"],
    );
}

#[test]
fn problems_inside_strings_are_pointed_at() {
    let block = RULE.replace(
        "when: crashLooping(object, 3, duration('10m'))",
        "when: |\n    crashLooping(object, 3, duration('10m')) &&\n      objekt.x == 1",
    );
    check(
        &[("a.yaml", &block), ("b.yaml", ACTION)],
        &["a.yaml:10:7: spec.when: unknown variable \"objekt\"; did you mean \"object\"?"],
    );
    let template = RULE.replace("- run: restart", "- run: restart\n      with: {x: [1, 'a ${{ objekt }}']}");
    let reading = read_files(
        &[("a.yaml", &template)],
        &Surroundings { external_actions: vec!["restart"], ..Surroundings::default() },
    );
    let finding = &reading.findings[0];
    assert_eq!(
        (finding.pointer().as_str(), &template[finding.span.clone()]),
        ("/spec/ladder/0/with/x/1", "objekt")
    );
    assert_eq!(finding.object.as_deref(), Some("Rule crashloop"));
}

mod arbitrary {
    use super::*;
    use proptest::prelude::*;

    /// Reads a text as a file; every place that is named must be one.
    fn survives(text: &str) {
        let reading = read_files(&[("a.yaml", text), ("b.yaml", ACTION)], &Surroundings::default());
        for finding in reading.findings.iter().filter(|finding| finding.file == "a.yaml") {
            assert!(text.get(finding.span.clone()).is_some(), "{finding:?} is no place in {text:?}");
            assert!(finding.line >= 1 && finding.column >= 1);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn any_text(text in "\\PC{0,200}") {
            survives(&text);
        }

        #[test]
        fn yaml_of_sorts(text in "[-a-z0-9é:{}\\[\\],'\"|>&*!?#%@~ \n\t]{0,120}") {
            survives(&text);
        }

        #[test]
        fn a_rule_with_a_piece_replaced(start in 0..RULE.len(), length in 0..40usize, piece in "[-a-zé:{}\\[\\],'\"|>$ \n]{0,12}") {
            let end = (start + length).min(RULE.len());
            survives(&format!("{}{piece}{}", &RULE[..start], &RULE[end..]));
        }
    }
}
