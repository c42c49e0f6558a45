//! Bad Rules, Actions and Webhooks: each is answered with field, value and remedy. The numbers are those of the list of bad
//! inputs that fother was designed with; what a Webhook receives (21 to 31) is in `webhooks::refusals` and `webhooks::strangers`;
//! what a Pack meets (32 to 38) in `packs`, a missing right (39) in `real::healing::rights` and `real::healing::packs`, and
//! what a script says too much (40) in `real::healing::scripts`.

use fother::decide::pack::{Source, Surroundings, read};
use fother::expr::Schemas;

const RULE: &str = "\
apiVersion: fother.dev/v1alpha1
kind: Rule
metadata: {name: crashloop}
spec:
  serviceAccountName: healer
  trigger: {resource: {apiVersion: apps/v1, kind: Deployment, labelSelector: {matchLabels: {tier: web}}}}
  when: object.spec.replicas > 1
  limits: {cooldown: 30m, perRule: 20/1h}
  ladder:
    - {run: clean, with: {host: a}}
";

const ACTION: &str = "\
apiVersion: fother.dev/v1alpha1
kind: Action
metadata: {name: clean}
spec:
  parameters: [{name: host}, {name: port, type: integer}]
  container:
    image: 'debian@sha256:0000000000000000000000000000000000000000000000000000000000000000'
    command: [clean]
";

const WEBHOOK: &str = "\
apiVersion: fother.dev/v1alpha1
kind: Webhook
metadata: {name: alerts}
spec:
  serviceAccountName: receiver
  alertmanager: {}
  authentication: {bearer: {secretRef: {name: s, key: k}}}
  limits: {maxBodyBytes: 65536, perSenderPerMinute: 60}
";

const TRIGGER: &str =
    "resource: {apiVersion: apps/v1, kind: Deployment, labelSelector: {matchLabels: {tier: web}}}";
const WHEN: &str = "  when: object.spec.replicas > 1\n";

/// All that is wrong with the three, after one was changed; without places, of which other tests speak.
fn said(manifest: &str, from: &str, to: &str) -> Vec<String> {
    assert!(manifest.contains(from), "{from}");
    let files = [RULE, ACTION, WEBHOOK].map(|file| match file == manifest {
        true => file.replace(from, to),
        false => file.to_owned(),
    });
    let sources = files.each_ref().map(|file| Source { path: "a.yaml", content: file.as_bytes() });
    let surroundings = Surroundings { namespace: Some("a"), ..Surroundings::default() };
    let found = read(&sources, &surroundings).check(&Schemas::built_in()).findings.into_iter();
    found.map(|finding| format!("{:?} {}", finding.problem.severity, finding.problem)).collect()
}

#[track_caller]
fn answered(line: u8, (manifest, from, to): (&str, &str, &str), expected: &[&str]) {
    assert_eq!(said(manifest, from, to), expected, "line {line}");
}

/// All that is wrong with the Rule if it has another trigger, and this in place of its condition.
fn said_of(trigger: &str, rest: &str) -> Vec<String> {
    let rule = RULE.replace(TRIGGER, trigger).replace(WHEN, rest);
    let source = [Source { path: "a.yaml", content: rule.as_bytes() }];
    let surroundings = Surroundings { external_actions: vec!["clean"], ..Surroundings::default() };
    let found = read(&source, &surroundings).check(&Schemas::built_in()).findings;
    found.iter().map(|finding| finding.problem.to_string()).collect()
}

#[test]
fn what_is_good_is_good() {
    assert_eq!(said(RULE, "tier: web", "tier: web"), [""; 0]);
}

/// 1 to 5: fields, selectors and expressions. (5, a condition over its budget, is told when it is evaluated: `controller::told`.)
#[test]
fn what_a_rule_watches() {
    answered(
        1,
        (RULE, "trigger:", "trigerr:"),
        &["Error spec.trigerr: unknown field; did you mean \"trigger\"?"],
    );
    let empty = "selector is empty; leave it out to mean every object of the kind in this namespace";
    answered(
        2,
        (RULE, "{matchLabels: {tier: web}}", "{}"),
        &[&format!("Error spec.trigger.resource.labelSelector: {empty}")],
    );
    answered(3, (RULE, "replicas > 1", "replicas > 1)"), &["Error spec.when: unexpected \")\""]);
    answered(
        4,
        (RULE, "object.spec.replicas > 1", "object.spec.replicas > 'one'"),
        &["Error spec.when: object.spec.replicas is int, compared with string"],
    );
}

/// 2 as well: what is empty is answered with what to write, and a key with nothing behind it by what it counts for.
#[test]
fn what_is_there_without_a_value() {
    for (from, to, expected) in [
        (
            "ladder:\n    - {run: clean, with: {host: a}}",
            "ladder: []",
            "ladder: is empty; write at least one item, a map with run",
        ),
        (
            "serviceAccountName: healer",
            "serviceAccountName: ''",
            "serviceAccountName: is empty; write such as healer",
        ),
        (
            TRIGGER,
            "event: ",
            "trigger: exactly one of resource, event, alert, webhook, schedule and execution must be set; \
             event without a value is as if it were not there: write event: {}",
        ),
    ] {
        answered(2, (RULE, from, to), &[&format!("Error spec.{expected}")]);
    }
}

/// 6 and 7: what refers to something. (8, a circle, can be one of Rules that follow each other: `decide::check::follows`.)
#[test]
fn what_a_rule_refers_to() {
    answered(
        6,
        (RULE, "run: clean", "run: claen"),
        &["Error spec.ladder[0].run: Action \"claen\" not found in namespace \"a\"; did you mean \"clean\"?"],
    );
    answered(
        7,
        (RULE, "run: clean", "run: b/clean"),
        &["Error spec.ladder[0].run: \"b/clean\": refs must stay in \"a\""],
    );
}

/// 9 to 11: durations and numbers. What no manifest can exceed is a cap here; those of the controller are 10 in `cli`.
#[test]
fn how_long_how_often_and_how_much() {
    answered(
        9,
        (RULE, "cooldown: 30m", "cooldown: 5 minutes"),
        &["Error spec.limits.cooldown: \"5 minutes\" is not a duration: use \"5m\""],
    );
    for (rate, expected) in [
        ("0/1h", "\"0/1h\" allows nothing: the count must be at least 1; use mode: Observe to stop a rule"),
        ("-1/1h", "\"-1/1h\" is not a rate: write a count of at most 9999, a slash and a duration: 2/1h"),
        (
            "0",
            "want text, got 0; \"0\" is not a rate: write a count of at most 9999, a slash and a duration: 2/1h",
        ),
        ("abc", "\"abc\" is not a rate: write a count of at most 9999, a slash and a duration: 2/1h"),
    ] {
        let to = format!("perRule: {rate}");
        answered(10, (RULE, "perRule: 20/1h", &to), &[&format!("Error spec.limits.perRule: {expected}")]);
    }
    let (body, sender) = ("maxBodyBytes: 65536", "perSenderPerMinute: 60");
    for (from, to, expected) in [
        (body, "maxBodyBytes: 2097152", "maxBodyBytes: 2097152: must be <= 1048576"),
        (body, "maxBodyBytes: 0", "maxBodyBytes: 0: must be >= 1"),
        (sender, "perSenderPerMinute: 0", "perSenderPerMinute: 0: must be >= 1"),
        (sender, "perSenderPerMinute: -5", "perSenderPerMinute: -5: must be >= 1"),
    ] {
        answered(11, (WEBHOOK, from, to), &[&format!("Error spec.limits.{expected}")]);
    }
    let (bearer, late) = (
        "{bearer: {secretRef: {name: s, key: k}}}",
        "a request that is overheard can be sent again for as long",
    );
    answered(
        11,
        (WEBHOOK, bearer, "{hmac: {secretRef: {name: s, key: k}, tolerance: 16m}}"),
        &[&format!("Error spec.authentication.hmac.tolerance: \"16m\": tolerance is at most 15m: {late}")],
    );
    for (count, expected) in [(500, "500: must be <= 100"), (0, "0: must be >= 2")] {
        let correlate = format!("  correlate: {{within: 10m, count: {count}}}\n");
        assert_eq!(said_of("event: {}", &correlate), [format!("spec.correlate.count: {expected}")]);
    }
}

/// 12 to 17: Actions, and what is given to them.
#[test]
fn what_an_action_takes_and_runs() {
    answered(
        12,
        (RULE, "host: a", "hots: a"),
        &["Error spec.ladder[0].with.hots: param \"hots\" undeclared; declared: host, port"],
    );
    answered(
        13,
        (RULE, "host: a", "port: abc"),
        &["Error spec.ladder[0].with.port: param port=\"abc\": want integer"],
    );
    answered(
        14,
        (ACTION, "command: [clean]", "command: ['${{ inputs.host }}']"),
        &["Error spec.container.command[0]: templating not allowed in command; use env: $FOTHER_PARAM_HOST"],
    );
    let refused = "field not settable here; the controller's pod policy refuses it";
    answered(
        15,
        (ACTION, "command: [clean]", "privileged: true"),
        &[&format!("Error spec.container.privileged: {refused}")],
    );
    answered(
        16,
        (
            ACTION,
            "debian@sha256:0000000000000000000000000000000000000000000000000000000000000000",
            "debian:12",
        ),
        &[
            "Warning spec.container.image: image is not pinned by sha256 digest; a tag can come to mean another image",
        ],
    );
    let long = "x".repeat(71);
    answered(
        17,
        (RULE, "name: crashloop", &format!("name: {long}")),
        &["Error metadata.name: name is 71 chars; max 52"],
    );
}

/// 18 to 20: what leads to a Rule again, and when it is due.
#[test]
fn what_comes_again() {
    let never = "spec.trigger.schedule.cron: \"0 0 31 2 *\" never fires";
    let unknown = "spec.trigger.schedule.timeZone: \"Europe/Londno\" is not an IANA zone; did you mean \"Europe/London\"?";
    for (trigger, expected) in [
        ("schedule: {cron: '0 0 31 2 *'}", &[never][..]),
        ("schedule: {cron: '0 3 * * *', timeZone: Europe/Londno}", &[unknown]),
        ("schedule: {cron: '0 0 31 2 *', timeZone: Europe/Londno}", &[never, unknown]),
        (
            "schedule: {cron: '@dialy'}",
            &["spec.trigger.schedule.cron: \"@dialy\": names no times; did you mean \"@daily\"?"],
        ),
        (
            "schedule: {every: 5 seconds}",
            &["spec.trigger.schedule.every: \"5 seconds\" is not a duration: use \"5s\""],
        ),
        (
            "schedule: {every: 5s}",
            &[
                "spec.trigger.schedule.every: \"5s\": every is at least 10s, and at most 8784h, which are 366 days",
            ],
        ),
        (
            "schedule: {at: ['2026-12-24T18:00:00Z', '2026-12-31 18:00']}",
            &[
                "spec.trigger.schedule.at[1]: \"2026-12-31 18:00\" is not a date: use \"2026-12-31T18:00:00Z\"",
            ],
        ),
        (
            "schedule: {every: 24h, timeZone: Europe/London}",
            &[
                "spec.trigger.schedule: timeZone goes with cron: an interval has none, and a date says its own",
            ],
        ),
        (
            "schedule: {cron: '@daily', at: ['2026-12-24T18:00:00Z']}",
            &["spec.trigger.schedule: exactly one of cron, every and at must be set"],
        ),
        (
            "schedule: {cron: '0 0 31 2 *', every: 5 minutes}",
            &[
                "spec.trigger.schedule: exactly one of cron, every and at must be set",
                never,
                "spec.trigger.schedule.every: \"5 minutes\" is not a duration: use \"5m\"",
            ],
        ),
        (
            "execution: {rules: [crashloop]}",
            &["spec.trigger.execution.rules[0]: rule reacts to its own Executions"],
        ),
    ] {
        assert_eq!(said_of(trigger, ""), expected, "{trigger}");
    }
}
