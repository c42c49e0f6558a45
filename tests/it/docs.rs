//! The documents tell the truth: their manifests are valid, their links lead somewhere, and they name every field,
//! reason, verb and flag that there is.

mod messages;
mod readme;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fother::api::{Reason, crds};
use fother::cluster::rights;
use fother::decide::pack::{self, Source, Surroundings};
use fother::decide::pod::PodPolicy;
use fother::decide::problem::Severity;
use fother::expr::Schemas;
use regex::Regex;
use serde_json::{Value, json};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Files below a folder of the repository, without what tools and builds put there.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with('.') || name == "target" {
            continue;
        }
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// All documents, by path from the root.
fn documents() -> Vec<(String, String)> {
    let mut found = Vec::new();
    files(root(), &mut found);
    let name = |path: &Path| path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
    let documents = found.iter().filter(|path| path.extension().is_some_and(|end| end == "md"));
    let mut documents: Vec<_> = documents.map(|path| (name(path), read(&name(path)))).collect();
    documents.sort();
    assert!(documents.len() > 20, "{} documents", documents.len());
    documents
}

/// The fenced blocks of a document in one language, without their indentation, with the line on which each begins.
fn blocks(text: &str, language: &str) -> Vec<(usize, String)> {
    let fence = Regex::new(&format!(r"(?ms)^( *)```{language}\n(.*?)^ *```$")).unwrap();
    let found = fence.captures_iter(text);
    found
        .map(|found| {
            let (indent, block) = (&found[1], found.get(2).unwrap());
            let lines = block.as_str().lines().map(|line| line.strip_prefix(indent).unwrap_or(line));
            (text[..block.start()].lines().count() + 1, lines.flat_map(|line| [line, "\n"]).collect())
        })
        .collect()
}

/// What documents give to kubectl: YAML blocks, and what shell blocks pass on standard input.
fn manifests(text: &str) -> Vec<(usize, String)> {
    let input = Regex::new(r"(?ms)<<'EOF'$\n(.*?)^EOF$").unwrap();
    let mut found = blocks(text, "yaml");
    for (line, block) in blocks(text, "sh") {
        found.extend(input.captures_iter(&block).map(|input| (line, input[1].to_owned())));
    }
    found
}

#[test]
fn manifests_in_documents_are_valid() {
    let mut checked = 0;
    for (path, text) in documents() {
        for (line, block) in manifests(&text) {
            let ours = |part: &&str| part.contains("apiVersion: fother.dev/");
            for manifest in block.split("---\n").filter(ours) {
                let source = Source { path: "block.yaml", content: manifest.as_bytes() };
                // What needs the flag is described too.
                let pods = PodPolicy { overlays: true, digests: false };
                let surroundings = Surroundings { partial: true, pods, ..Surroundings::default() };
                let findings = pack::read(&[source], &surroundings).check(&Schemas::built_in()).findings;
                let errors: Vec<_> =
                    findings.iter().filter(|f| f.problem.severity == Severity::Error).collect();
                assert!(errors.is_empty(), "{path}:{line}: {errors:#?}");
                checked += 1;
            }
        }
    }
    assert!(checked >= 12, "{checked} manifests");
}

#[test]
fn examples_are_valid_packs() {
    let mut packs = 0;
    for entry in std::fs::read_dir(root().join("examples")).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.is_dir() || folder.ends_with("setup") {
            continue;
        }
        let mut found = Vec::new();
        files(&folder, &mut found);
        let contents: Vec<_> = found
            .iter()
            .map(|path| (path.strip_prefix(&folder).unwrap().to_str().unwrap(), std::fs::read(path).unwrap()))
            .collect();
        let sources: Vec<_> = contents.iter().map(|(path, content)| Source { path, content }).collect();
        let reading = pack::read(&sources, &Surroundings::default()).check(&Schemas::built_in());
        assert_eq!(reading.count(Severity::Error), 0, "{}: {:#?}", folder.display(), reading.findings);
        assert!(reading.objects.len() > 1, "{} holds next to nothing", folder.display());
        packs += 1;
    }
    assert!(packs >= 3, "{packs} packs");
}

/// What is said to be tested is what `tests/cluster` builds.
#[test]
fn the_versions_that_are_tested_are_those_that_are_named() {
    let version = |part: &str, module: &str| {
        let modules = read(&format!("tests/cluster/{part}go.mod"));
        let line = modules.lines().find_map(|line| line.trim().strip_prefix(&format!("{module} v")));
        let version = line.unwrap_or_else(|| panic!("{part}go.mod has no {module}")).to_owned();
        let parts: Vec<_> = version.split('.').map(str::to_owned).collect();
        (parts[0].clone(), format!("{}.{}", parts[0], parts[1]))
    };
    let (_, kubernetes) = version("", "k8s.io/kubernetes");
    let (_, kubectl) = version("kubectl-1.30/", "k8s.io/kubernetes");
    let (helm, _) = version("helm/", "helm.sh/helm/v4");
    let install = read("docs/how-to/install.md");
    for row in [
        format!("| Kubernetes | {kubernetes} |"),
        format!("| helm | {helm} |"),
        format!("| kubectl | {kubectl} and {kubernetes} |"),
    ] {
        assert!(install.contains(&row), "docs/how-to/install.md lacks {row}");
    }
    assert!(read("README.md").contains(&format!("[{kubernetes} is tested]")));
    let chart = read("charts/fother/Chart.yaml");
    assert!(chart.contains("kubeVersion: \">=1.30.0-0\"") && install.contains("from 1.30 on"), "{chart}");
}

#[test]
fn links_lead_somewhere() {
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let fence = Regex::new(r"(?ms)^```.*?^```$").unwrap();
    let mut checked = 0;
    for (path, text) in documents() {
        let prose = fence.replace_all(&text, "");
        for found in link.captures_iter(&prose) {
            let target = &found[1];
            if target.contains("://") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let here = root().join(&path);
            let file = if file.is_empty() { here } else { here.parent().unwrap().join(file) };
            assert!(file.exists(), "{path}: {target} leads nowhere");
            if !heading.is_empty() {
                let there = std::fs::read_to_string(&file).unwrap();
                assert!(anchors(&there).contains(heading), "{path}: {target} has no such heading");
            }
            checked += 1;
        }
    }
    assert!(checked > 50, "{checked} links");
}

/// The anchors of a document's headings, as forges make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter_map(|line| line.strip_prefix('#'));
    headings
        .map(|heading| {
            let words = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = words.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

#[test]
fn every_reason_is_described() {
    let page = read("docs/reference/reasons.md");
    let described: BTreeSet<_> =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let reasons: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(described, reasons);
}

#[test]
fn every_metric_is_described() {
    let rows = Regex::new(r"(?m)^\| `([a-z_]+?)(?:_total)?` \|").unwrap();
    let page = read("docs/reference/metrics.md");
    let (_, page) = page.split_once("| Metric |").expect("a table of metrics");
    let (table, _) = page.split_once("\n\n").unwrap();
    let described: BTreeSet<_> = rows.captures_iter(table).map(|row| row[1].to_owned()).collect();
    let registered = Regex::new(r#"register\(\s*r,\s*"([a-z_]+)""#).unwrap();
    let code = ["journal", "metrics", "work"].map(|file| read(&format!("src/telemetry/{file}.rs"))).concat();
    let registered: BTreeSet<_> = registered.captures_iter(&code).map(|name| name[1].to_owned()).collect();
    assert!(registered.len() > 3, "{registered:?}");
    assert_eq!(described, registered);
}

#[test]
fn every_field_is_described() {
    // What stands in code, in parts: `trigger.resource` names two fields.
    let code = Regex::new(r"`([^`\n]+)`").unwrap();
    for crd in crds() {
        let kind = crd.spec.names.kind.to_lowercase();
        let page = read(&format!("docs/reference/{kind}.md"));
        let words: BTreeSet<_> = code
            .captures_iter(&page)
            .flat_map(|found| {
                found[1].split(|c: char| !c.is_alphanumeric()).map(str::to_owned).collect::<Vec<_>>()
            })
            .collect();
        let schema = json!(crd.spec.versions[0].schema);
        let root = &schema["openAPIV3Schema"]["properties"];
        let mut fields = BTreeSet::new();
        for part in ["spec", "status"] {
            fields_of(&root[part], &mut fields);
        }
        assert!(fields.len() > 10, "{kind}: {fields:?}");
        let missing: Vec<_> = fields.difference(&words).collect();
        assert!(missing.is_empty(), "docs/reference/{kind}.md does not name {missing:?}");
    }
}

/// Names of all fields of a schema, save those of Kubernetes' own conditions and selectors.
fn fields_of(schema: &Value, found: &mut BTreeSet<String>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        found.insert(name.clone());
        if name != "conditions" && name != "labelSelector" {
            fields_of(field, found);
        }
    }
    if schema["items"].is_object() {
        fields_of(&schema["items"], found);
    }
}

/// What `fother … --help` prints, whatever the terminal.
fn help(verb: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fother"));
    command.args(verb.split_whitespace()).arg("--help").stdin(Stdio::null());
    for variable in ["COLUMNS", "FOTHER_NAMESPACE", "FOTHER_IDENTITY"] {
        command.env_remove(variable);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().flat_map(|line| [line.trim_end(), "\n"]).collect()
}

#[test]
fn the_command_line_is_described() {
    let listed = help("");
    let (_, verbs) = listed.split_once("Commands:\n").expect("there are verbs");
    let verbs = verbs.split("\n\n").next().unwrap().lines();
    let verbs = verbs.filter_map(|line| line.split_whitespace().next()).filter(|verb| *verb != "help");
    let page = read("docs/reference/cli.md");
    let (introduction, sections) = page.split_at(page.find("\n## ").map_or(page.len(), |at| at + 1));
    let mut expected = introduction.to_owned();
    for verb in verbs {
        let title = format!("## fother {verb}\n");
        let section = sections.find(&title).map_or("", |at| &sections[at + title.len()..]);
        let words = section.split("\n## ").next().unwrap_or_default();
        let words = words.split("```text\n").next().unwrap_or_default().trim();
        let words = if words.is_empty() { String::new() } else { format!("{words}\n\n") };
        expected.extend([&title, "\n", &words, "```text\n", &help(verb), "```\n\n"]);
    }
    let expected = format!("{}\n", expected.trim_end());
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(root().join("docs/reference/cli.md"), &expected).unwrap();
    }
    let page = read("docs/reference/cli.md");
    let difference = page.lines().zip(expected.lines()).find(|(there, wanted)| there != wanted);
    assert!(page == expected, "docs/reference/cli.md is stale at {difference:?}: UPDATE_EXPECT=1 writes it");
}

#[test]
fn what_to_install_is_described() {
    let page = read("docs/how-to/grant-rights.md");
    let manifests: Vec<Value> = blocks(&page, "yaml")
        .iter()
        .flat_map(|(_, block)| block.split("---\n").filter(|manifest| manifest.contains("kind:")))
        .map(|manifest| serde_saphyr::from_str(manifest).unwrap())
        .collect();
    for object in rights::installation("fother", "fother").unwrap() {
        assert!(manifests.contains(&object), "docs/how-to/grant-rights.md has not {object:#}");
    }
    let page = read("docs/how-to/install.md");
    let checked: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("✓ kind ")).collect();
    let kinds: Vec<_> = crds().into_iter().filter_map(|crd| crd.metadata.name).collect();
    assert_eq!(checked, kinds, "docs/how-to/install.md shows what `fother check` says of the kinds");
}

#[test]
fn the_examples_enroll_as_enroll_would() {
    for (pack, namespace, accounts) in [
        ("corrupted-cache", "shop", &["healer", "packs"][..]),
        ("crash-loop", "web", &["healer", "packs"]),
        ("oom-job", "reports", &["healer", "packs"]),
        ("sensor", "spools", &["healer", "packs", "receiver"]),
        ("alerting-pod", "queues", &["healer", "packs", "receiver"]),
        ("disk-alert", "storage", &["healer", "packs", "receiver"]),
        ("alert-job", "tickets", &["healer", "packs", "receiver"]),
        ("node-restart", "oncall", &["healer", "packs", "receiver"]),
        ("node-not-ready", "fleet", &["healer", "packs", "receiver"]),
        ("hpa-at-max", "checkout", &["healer", "packs"]),
    ] {
        let setup = read(&format!("examples/setup/{pack}/rbac.yaml"));
        let there: Vec<Value> = serde_saphyr::from_multiple(&setup).unwrap();
        let accounts: Vec<_> = accounts.iter().map(|name| (*name).to_owned()).collect();
        for object in rights::enroll(namespace, &accounts, ("fother", "fother")).unwrap() {
            assert!(there.contains(&object), "{pack} has not {object:#}");
        }
    }
}

/// What is said of the numbers comes with them: the next run of the bench writes it again.
#[test]
fn what_is_said_of_measurements_is_what_the_bench_says() {
    let said = |path: &str| {
        let text = read(path);
        let from = text
            .find("## What the time goes to")
            .unwrap_or_else(|| panic!("{path} says nothing of its numbers"));
        text[from..].to_owned()
    };
    assert_eq!(said("docs/performance.md"), said("benches/notes.md"));
}
