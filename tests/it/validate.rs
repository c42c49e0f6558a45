//! `fother validate` as a person runs it.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

const RULE: &str = "\
apiVersion: fother.dev/v1alpha1
kind: Rule
metadata: {name: crashloop}
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
metadata: {name: restart}
spec: {kubernetes: {restart: {}}}
";

/// Runs it in a folder; returns exit code, standard output without the duration, and standard error.
fn validate(folder: &Path, arguments: &[&str], stdin: &str) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_fother"))
        .arg("validate")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let stdout = text(output.stdout);
    let stdout = stdout.rsplit_once(" · ").map_or(stdout.clone(), |(start, _)| start.to_owned());
    (output.status.code().unwrap(), stdout, text(output.stderr))
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    folder
}

#[test]
fn whoever_reads_only_the_first_line_gets_the_same_answer() {
    let folder = folder(&[("rule.yaml", &RULE.replace("crashLooping", "crashLoping"))]);
    for output in ["text", "json"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_fother"));
        command.args(["validate", "rule.yaml", "-o", output]).current_dir(folder.path()).stdout(writer);
        let ended = command.stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!((ended.status.code(), said.as_str()), (Some(1), ""), "{output}");
    }
}

/// A terminal that shows what is wrong with a file obeys nothing that is in it.
#[test]
fn what_a_file_names_moves_no_cursor() {
    let forged = ACTION.replace("{restart: {}}", r#"{restart: {}}, "bad\e[2Jfield\nerror: forged": 1"#);
    let folder = folder(&[("a.yaml", &forged)]);
    let (code, stdout, stderr) = validate(folder.path(), &["."], "");
    let said = stdout + &stderr;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(r"bad\u{1b}[2Jfield\nerror: forged"), "{said}");
}

#[test]
fn a_good_pack_is_good() {
    let folder = folder(&[
        ("pack/a.yaml", RULE),
        ("pack/b/c.yml", ACTION),
        ("pack/README.md", "x"),
        ("pack/.x/y.yaml", "}"),
    ]);
    let expected = (0, "✓ nothing wrong · 2 files".to_owned(), String::new());
    assert_eq!(validate(folder.path(), &["pack"], ""), expected);
}

#[test]
fn errors_are_drawn_where_they_are() {
    let folder = folder(&[("pack/a.yaml", &RULE.replace("trigger:", "trigerr:")), ("pack/b.yaml", ACTION)]);
    let (code, out, err) = validate(folder.path(), &["pack"], "");
    let expected = "\
error: unknown field
 --> pack/a.yaml:6:3
  |
6 |   trigerr: {resource: {apiVersion: v1, kind: Pod}}
  |   ^^^^^^^ did you mean \"trigger\"?
  |
  = spec.trigerr of Rule crashloop

✗ 1 error · 2 files";
    assert_eq!((code, out.as_str(), err.as_str()), (1, expected, ""));
}

const CRD: &str = "\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  names: {kind: Widget, plural: widgets}
  scope: Namespaced
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          properties: {status: {type: object, properties: {stuckSince: {type: string}, tries: {type: integer}}}}
";

#[test]
fn fields_and_types_are_checked_against_schemas() {
    let rule = |kind: &str, when: &str| {
        let rule = RULE.replace("apiVersion: v1, kind: Pod", kind);
        rule.replace("crashLooping(object, 3, duration('10m'))", when)
    };
    let widget = rule("apiVersion: example.com/v1, kind: Widget", "object.status.trys > 'a'");
    let folder = folder(&[
        ("pods/a.yaml", &rule("apiVersion: v1, kind: Pod", "object.status.phse == 'Failed'")),
        ("pods/b.yaml", ACTION),
        ("widgets/a.yaml", &widget),
        ("widgets/b.yaml", ACTION),
        ("crds/widgets.yaml", CRD),
    ]);
    let (code, out, err) = validate(folder.path(), &["pods"], "");
    let expected = "\
error: PodStatus has no field \"phse\"
 --> pods/a.yaml:7:23
  |
7 |   when: object.status.phse == 'Failed'
  |                       ^^^^ did you mean \"phase\"?
  |
  = spec.when of Rule crashloop

✗ 1 error · 2 files";
    assert_eq!((code, out.as_str(), err.as_str()), (1, expected, ""));
    // A field of another version of the kind, which is asked for, is only a warning.
    let asks =
        rule("apiVersion: v1, kind: Pod", "has(object.status.brandNew) && object.status.brandNew == 3");
    let (code, out, _) = validate(folder.path(), &["pods/b.yaml", "-"], &asks);
    let first = out.lines().next().unwrap_or_default();
    assert_eq!((code, first), (0, "warning: PodStatus has no field \"brandNew\""), "{out}");
    // Nothing is known of a kind whose definition is not there.
    assert_eq!(validate(folder.path(), &["widgets"], "").0, 0);
    for definitions in ["crds", "crds/widgets.yaml", "./crds/widgets.yaml"] {
        let (code, out, _) = validate(folder.path(), &["widgets", definitions], "");
        let first = out.lines().next().unwrap_or_default();
        assert_eq!((code, first), (1, "error: Widget.status has no field \"trys\""), "{out}");
    }
    // In a pack it would be refused.
    assert_eq!(validate(folder.path(), &["."], "").0, 1);
}

#[test]
fn a_run_by_hand_is_checked_before_it_is_created() {
    let run = "apiVersion: fother.dev/v1alpha1\nkind: Execution\nmetadata: {name: now}\nspec:\n  serviceAccountName: healer\n  run: restart\n  \
               target: {apiVersion: apps/v1, kind: Deployment, name: web}\n  verify: {when: rolloutComplet(target)}\n";
    let folder = folder(&[("run.yaml", run)]);
    let (code, out, _) = validate(folder.path(), &["run.yaml"], "");
    assert_eq!(code, 1, "{out}");
    assert!(out.contains(r#"unknown function "rolloutComplet""#), "{out}");
    assert!(out.contains("run.yaml:8:"), "{out}");
}

#[test]
fn loose_files_and_stdin_are_parts_of_something() {
    let folder = folder(&[("a.yaml", RULE)]);
    let (code, out, _) = validate(folder.path(), &["a.yaml"], "");
    assert!(code == 0 && out.ends_with("! 1 warning · 1 file"), "{code} {out}");
    assert!(out.contains("warning: Action \"restart\" not found"), "{out}");
    let (code, out, _) = validate(folder.path(), &["a.yaml", "-"], ACTION);
    assert_eq!((code, out.as_str()), (0, "✓ nothing wrong · 2 files"));
    let (code, out, err) = validate(folder.path(), &["a.yaml", "-"], "\n");
    assert!(code == 2 && out.is_empty() && err.contains("standard input is empty"), "{code} {out} {err}");
    let (code, out, _) = validate(folder.path(), &["-"], "a: 1\na: 2");
    assert!(code == 1 && out.contains("--> <stdin>:2:1"), "{code} {out}");
}

/// As `find . -name '*.yaml' | xargs fother validate` and editors name it.
#[test]
fn a_file_that_is_named_is_read_wherever_it_is() {
    let broken = RULE.replace("trigger:", "trigerr:");
    let folder = folder(&[("a.yaml", ACTION), ("b/broken.yaml", &broken), (".tools/.c.yml", ACTION)]);
    let hidden = folder.path().join(".tools/.c.yml").display().to_string();
    for (below, path) in [("", "./a.yaml"), ("b", "../a.yaml"), ("", ".tools/.c.yml"), ("b", hidden.as_str())]
    {
        let expected = (0, "✓ nothing wrong · 1 file".to_owned(), String::new());
        assert_eq!(validate(&folder.path().join(below), &[path], ""), expected, "{path}");
    }
    let (code, out, _) = validate(folder.path(), &["a.yaml", "./b/broken.yaml"], "");
    assert!(code == 1 && out.contains("--> ./b/broken.yaml:6:3"), "{code} {out}");
    assert!(out.ends_with("✗ 1 error · 2 files"), "{out}");
}

#[test]
fn a_file_that_is_named_twice_is_one_file() {
    let folder = folder(&[("a.yaml", ACTION), ("b/c.yaml", RULE)]);
    let expected = (0, "✓ nothing wrong · 2 files".to_owned(), String::new());
    let paths = ["a.yaml", "a.yaml", "./a.yaml", "b/../a.yaml", "b/c.yaml"];
    assert_eq!(validate(folder.path(), &paths, ""), expected);
    let (code, out, _) = validate(folder.path(), &["a.yaml", "-"], ACTION);
    assert!(code == 1 && out.contains("is twice here: a.yaml:1 and <stdin>:1"), "{code} {out}");
}

/// As an editor names the file and a script the folder.
#[test]
fn a_file_of_a_folder_that_is_named_too_is_judged_once() {
    let broken = RULE.replace("trigger:", "trigerr:");
    let folder = folder(&[
        ("pack/a.yaml", &broken),
        ("pack/b/c.yaml", ACTION),
        ("pack/.d.yaml", ACTION),
        ("e.yaml", ACTION),
    ]);
    for paths in [
        &["pack", "pack/a.yaml"][..],
        &["pack/a.yaml", "pack"],
        &["./pack/b/../a.yaml", "pack/b/c.yaml", "pack/"],
        &["pack", "./pack", "pack/b/.."],
    ] {
        let (code, out, _) = validate(folder.path(), paths, "");
        assert!(code == 1 && out.ends_with("✗ 1 error · 2 files"), "{paths:?} {out}");
        assert_eq!(out.matches("a.yaml:6:3").count(), 1, "{paths:?} {out}");
    }
    // What is not looked at below a folder, and what is elsewhere, is judged by itself.
    for paths in [["pack", "pack/.d.yaml"], ["e.yaml", "pack"]] {
        let (code, out, _) = validate(folder.path(), &paths, "");
        assert!(code == 1 && out.ends_with("✗ 1 error · 3 files"), "{paths:?} {out}");
    }
}

#[test]
fn standard_input_is_no_file_of_that_name() {
    let folder = folder(&[("stdin.yaml", ACTION)]);
    let broken = RULE.replace("  ladder:\n    - run: restart\n", "  ladder: []\n");
    let (code, out, _) = validate(folder.path(), &["stdin.yaml", "-"], &broken);
    let expected = "\
error: is empty
 --> <stdin>:8:3
  |
8 |   ladder: []
  |   ^^^^^^ write at least one item, a map with run
  |
  = spec.ladder of Rule crashloop

✗ 1 error · 2 files";
    assert_eq!((code, out.as_str()), (1, expected));
}

/// What a part does not fit into is told beside what is wrong with the part.
#[test]
fn a_mistake_and_what_is_wrong_around_it_are_told_at_once() {
    let schedule = "trigger: {schedule: {cron: '0 3 * * *', every: 5 minutes}}\n  target: {key: \"'all'\"}";
    let rule = RULE.replace("trigger: {resource: {apiVersion: v1, kind: Pod}}", schedule);
    let rule = rule.replace("  when: crashLooping(object, 3, duration('10m'))\n", "");
    let folder = folder(&[("a.yaml", &rule)]);
    let (code, out, _) = validate(folder.path(), &["a.yaml", "--external-action", "restart"], "");
    let lines: Vec<_> = out.lines().filter(|line| line.starts_with("error")).collect();
    let expected = [
        "error: exactly one of cron, every and at must be set",
        "error: \"5 minutes\" is not a duration: use \"5m\"",
    ];
    assert_eq!((code, lines.as_slice()), (1, &expected[..]), "{out}");
}

#[test]
fn options_say_what_is_around() {
    let folder = folder(&[("pack/a.yaml", RULE)]);
    let (code, out, _) = validate(folder.path(), &["pack", "-n", "payments"], "");
    assert!(
        code == 1 && out.contains("Action \"restart\" not found in namespace \"payments\""),
        "{code} {out}"
    );
    assert_eq!(validate(folder.path(), &["pack", "--external-action", "restart"], "").0, 0);
}

#[test]
fn an_overlay_of_a_pod_needs_the_flag_that_the_controller_has() {
    let runner = "container: {image: 'x@sha256:1111111111111111111111111111111111111111111111111111111111111111', pod: {overlay: {hostNetwork: true}}}";
    let folder = folder(&[("pack/a.yaml", &ACTION.replace("kubernetes: {restart: {}}", runner))]);
    let (code, out, _) = validate(folder.path(), &["pack"], "");
    assert!(
        code == 1 && out.contains("field not settable here; the controller's pod policy refuses it"),
        "{out}"
    );
    assert_eq!(validate(folder.path(), &["pack", "--allow-pod-overlays"], "").0, 0);
}

#[test]
fn a_tag_is_warned_of_or_refused_as_the_controller_does() {
    let runner = "container: {image: 'debian:12'}";
    let folder = folder(&[("pack/a.yaml", &ACTION.replace("kubernetes: {restart: {}}", runner))]);
    let (code, out, _) = validate(folder.path(), &["pack"], "");
    assert!(code == 0 && out.contains("warning: image is not pinned by sha256 digest"), "{out}");
    let (code, out, _) = validate(folder.path(), &["pack", "--require-image-digests"], "");
    assert!(code == 1 && out.contains("error: image is not pinned by sha256 digest"), "{out}");
    assert!(out.contains("a.yaml:4:27") && out.contains("the controller requires name@sha256:…"), "{out}");
}

#[test]
fn programs_read_json() {
    let folder = folder(&[("pack/a.yaml", &RULE.replace("run: restart", "runs: restart"))]);
    let (code, out, _) = validate(folder.path(), &["pack", "-o", "json"], "");
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    let found = &report["findings"][0];
    assert_eq!(code, 1);
    assert_eq!((&report["errors"], &report["files"]), (&2.into(), &1.into()));
    assert_eq!(
        (&found["file"], &found["line"], &found["column"]),
        (&"pack/a.yaml".into(), &9.into(), &7.into())
    );
    assert_eq!((&found["pointer"], &found["severity"]), (&"/spec/ladder/0/runs".into(), &"error".into()));
}

#[test]
fn what_cannot_be_read_is_no_answer() {
    let nothing = "---\n# nothing\n";
    let folder = folder(&[
        ("pack/README.md", "x"),
        ("bare/.a.yaml", ACTION),
        ("void/a.yaml", nothing),
        ("a.yaml", ACTION),
        ("cut.yaml", ""),
    ]);
    for (arguments, message) in [
        (&["nowhere"][..], "failed to read nowhere"),
        (&["nowhere.yaml"], "failed to read nowhere.yaml"),
        (&["pack"], "nothing to check in pack\n"),
        (&["pack", "a.yaml", "bare"], "nothing to check in pack, bare\n"),
        (&["a.yaml", "pack/README.md"], "pack/README.md: not a YAML file\n"),
        (&["a.yaml", "void"], "nothing to check in void\n"),
        (&["a.yaml", "void/a.yaml"], "void/a.yaml: nothing in it\n"),
        (&["a.yaml", "cut.yaml"], "cut.yaml: nothing in it\n"),
        (&["link"], "symlink not allowed"),
    ] {
        if arguments == ["link"] {
            std::fs::create_dir(folder.path().join("link")).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link/a.yaml")).unwrap();
        }
        let (code, out, err) = validate(folder.path(), arguments, "");
        assert!(code == 2 && out.is_empty() && err.contains(message), "{code} {out} {err}");
    }
}

/// One file that cannot be read hides nothing of the others.
#[test]
fn what_is_no_text_is_told_with_its_place() {
    let folder = folder(&[("pack/a.yaml", &RULE.replace("trigger:", "trigerr:")), ("pack/b.yaml", ACTION)]);
    let pack = folder.path().join("pack");
    let utf16 = "kind: Rule\n".encode_utf16().flat_map(u16::to_le_bytes);
    for (content, expected) in [
        (b"a: 1\nb: caf\xe9 au lait\n".to_vec(), ["byte 0xE9", "c.yaml:2:7", "save it as UTF-8"]),
        (b"a: 1\n\xe9\n".to_vec(), ["byte 0xE9", "c.yaml:2:1", "save it as UTF-8"]),
        ([0xff, 0xfe].into_iter().chain(utf16).collect(), ["is UTF-16", "c.yaml", "save it as UTF-8"]),
        (vec![b'#'; (1 << 20) + 1], ["is larger than 1 MiB", "c.yaml", "split it, or leave it out"]),
    ] {
        std::fs::write(pack.join("c.yaml"), content).unwrap();
        let (code, out, err) = validate(folder.path(), &["pack"], "");
        assert_eq!((code, err.as_str()), (1, ""), "{out}");
        assert!(expected.iter().all(|expected| out.contains(expected)), "{expected:?} {out}");
        assert!(out.contains("unknown field") && out.ends_with("✗ 2 errors · 3 files"), "{out}");
    }
    std::fs::remove_file(pack.join("c.yaml")).unwrap();
    std::fs::write(pack.join("big.sh"), vec![b'#'; (1 << 20) + 1]).unwrap();
    let (code, out, _) = validate(folder.path(), &["pack"], "");
    assert!(code == 1 && out.contains("larger than 1 MiB") && out.contains("big.sh"), "{code} {out}");
    assert!(out.ends_with("✗ 2 errors · 2 files"), "{out}");
}

/// Whoever asks for changes is told what he will miss.
#[test]
fn a_rule_about_changes_is_told_when_it_sees_none() {
    let rule = RULE.replace(
        "crashLooping(object, 3, duration('10m'))",
        "object.spec.nodeName != oldObject.spec.nodeName",
    );
    let folder = folder(&[("a.yaml", &rule), ("b.yaml", ACTION)]);
    let (code, stdout, stderr) = validate(folder.path(), &["."], "");
    let told = "oldObject is known of a change that is seen live: what changes while no controller watches, as in a restart, \
        does not match";
    let said = format!("{stdout}{stderr}");
    assert!(code == 0 && said.contains("warning") && said.contains("a.yaml:7"), "{code} {said}");
    assert!(
        said.contains(told) && said.contains("where nothing may be missed, ask for how the object is"),
        "{said}"
    );
}
