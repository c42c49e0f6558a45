//! Packs: from the files of a revision to validated objects, or to everything that is wrong with them.
//!
//! ```text
//! files ─▶ yaml (places) ─▶ envelope ─▶ schema ─▶ typed objects ─▶ checks ─▶ objects + findings
//! ```
//!
//! One reading serves `fother validate` and the Pack controller, so that both say the same. Nothing is used of a
//! set in which anything is an error.

mod envelope;
pub mod finding;
mod place;
mod remedy;
mod repair;
mod rules;
mod schema;
mod script;
mod yaml;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::str::Utf8Error;

use serde_json::{Map, Value, json};

use self::envelope::Envelope;
use self::finding::{File, Finding};
use self::schema::{Located, Schemas};
use self::yaml::Node;
use super::check::{self, Known};
use super::path::Path;
use super::pod::PodPolicy;
use super::problem::{Problem, Severity};
use crate::api::{Action, ActionSpec, ExecutionSpec, Rule, Target, Webhook, WebhookSpec};
use crate::expr;

pub use self::script::{Scripts, resolve_scripts};

/// A file of a pack.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Its path below the pack's folder.
    pub path: &'a str,
    /// Its content.
    pub content: &'a [u8],
}

/// What is known around the files.
#[derive(Clone, Debug, Default)]
pub struct Surroundings<'a> {
    /// The namespace the objects go to, if it is known.
    pub namespace: Option<&'a str>,
    /// Actions that exist there without being among the files.
    pub external_actions: Vec<&'a str>,
    /// Webhooks that exist there without being among the files.
    pub external_webhooks: Vec<&'a str>,
    /// Whether the files are only some of a set: then other kinds than a pack's are welcome, and a reference to an
    /// Action that is not among them is only a warning.
    pub partial: bool,
    /// What Actions may say about their Pods.
    pub pods: PodPolicy,
}

/// An object of a pack.
#[derive(Clone, Debug)]
pub enum Object {
    /// A Rule.
    Rule(Box<Rule>),
    /// An Action.
    Action(Box<Action>),
    /// A Webhook.
    Webhook(Box<Webhook>),
}

/// An object and where it is written.
#[derive(Clone, Debug)]
pub struct Written {
    /// The object.
    pub object: Object,
    /// Its file.
    pub file: String,
    /// The line on which it begins.
    pub line: usize,
}

/// What reading gave.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// The objects that could be read; to be used only if there is no error.
    pub objects: Vec<Written>,
    /// What is wrong, by file and place.
    pub findings: Vec<Finding>,
    /// How many files were read.
    pub files: usize,
}

impl Reading {
    /// How many findings are of this severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.problem.severity == severity).count()
    }
}

/// The most bytes of one file. A revision from git has none that is larger.
pub const MAX_FILE_BYTES: usize = 1 << 20;

/// What standard input is called, which has no name of its own.
pub const STANDARD_INPUT: &str = "<stdin>";

/// Whether a file's name says that it is YAML.
pub fn is_yaml(path: &str) -> bool {
    std::path::Path::new(path).extension().is_some_and(|end| end == "yaml" || end == "yml")
}

/// Whether a file of a pack holds objects; files and folders that begin with a dot belong to tools.
fn is_manifest(path: &str) -> bool {
    is_yaml(path) && !path.split('/').any(|part| part.starts_with('.'))
}

/// Whether a file that somebody chose holds objects.
fn is_chosen(path: &str) -> bool {
    is_yaml(path) || path == STANDARD_INPUT
}

/// A file's text as it can be drawn: all up to the first byte that is not UTF-8 is where it was. Of what is UTF-16, or larger
/// than a file may be, there is nothing to draw.
pub fn drawn(content: &[u8]) -> Cow<'_, str> {
    if content.len() > MAX_FILE_BYTES || is_utf16(content) {
        return Cow::Borrowed("");
    }
    String::from_utf8_lossy(content)
}

/// Whether a file begins with the mark of UTF-16, as some editors save it.
fn is_utf16(content: &[u8]) -> bool {
    content.starts_with(&[0xff, 0xfe]) || content.starts_with(&[0xfe, 0xff])
}

/// The CustomResourceDefinitions among files that somebody chose, by which expressions over custom kinds are checked; and
/// whether there is nothing else, so that the files are no pack.
pub fn custom_kinds(sources: &[Source<'_>]) -> (Vec<Value>, bool) {
    let manifests = sources.iter().filter(|source| is_chosen(source.path));
    let texts: Vec<&str> = manifests.filter_map(|source| std::str::from_utf8(source.content).ok()).collect();
    // Most files have none, and reading YAML takes longer than looking for a word.
    let named: Vec<&str> =
        texts.iter().copied().filter(|text| text.contains(envelope::CUSTOM_KIND)).collect();
    let documents =
        named.iter().filter_map(|text| yaml::read(text).ok()).flat_map(|(documents, _)| documents);
    let (custom, others): (Vec<Value>, Vec<Value>) = documents
        .map(|document| document.to_json())
        .partition(|manifest| manifest["kind"] == envelope::CUSTOM_KIND);
    let alone = named.len() == texts.len() && others.is_empty() && !custom.is_empty();
    (custom, alone)
}

/// Reads all manifests among the files of a pack. What they mean is checked next, for which one may want to know more.
pub fn read<'a>(sources: &'a [Source<'a>], surroundings: &'a Surroundings<'a>) -> Manifests<'a> {
    read_those(is_manifest, sources, surroundings)
}

/// The same of files that somebody chose, by paths from anywhere: `./a.yaml`, or one below a folder that begins with a dot,
/// is meant as much as any other.
pub fn read_chosen<'a>(sources: &'a [Source<'a>], surroundings: &'a Surroundings<'a>) -> Manifests<'a> {
    read_those(is_chosen, sources, surroundings)
}

fn read_those<'a>(
    is_one: fn(&str) -> bool,
    sources: &'a [Source<'a>],
    surroundings: &'a Surroundings<'a>,
) -> Manifests<'a> {
    let mut reader = Reader { surroundings, files: Vec::new(), ambiguous: Vec::new(), documents: Vec::new() };
    let mut findings = Vec::new();
    for source in sources {
        match is_one(source.path) {
            true => findings.extend(reader.file(source)),
            // A script has its place in a pack, too.
            false => findings.extend(too_large(source)),
        }
    }
    findings.extend(reader.duplicates());
    Manifests { sources, reader, findings }
}

/// Manifests of which only the form has been checked.
pub struct Manifests<'a> {
    sources: &'a [Source<'a>],
    reader: Reader<'a>,
    findings: Vec<Finding>,
}

impl Manifests<'_> {
    /// The `apiVersion`s of the objects that their expressions read.
    pub fn api_versions(&self) -> BTreeSet<&str> {
        let rules = self.reader.documents.iter().filter_map(Document::rule);
        rules.flat_map(|rule| check::api_versions(&rule.spec)).collect()
    }

    /// Checks all the rest, expressions against the fields of the objects that they read.
    pub fn check(self, schemas: &expr::Schemas) -> Reading {
        let Self { sources, reader, mut findings } = self;
        // What follows from a word that is ambiguous is no news.
        let is_news = |finding: &Finding| {
            let mut ambiguous = reader.ambiguous.iter().filter(|(file, _)| *file == finding.file);
            !ambiguous.any(|(_, span)| span.contains(&finding.span.start))
        };
        findings.extend(reader.check(sources, schemas).into_iter().filter(is_news));
        findings.sort_by(|a, b| {
            (&a.file, a.span.start, &a.problem.path).cmp(&(&b.file, b.span.start, &b.problem.path))
        });
        let files = reader.files.len();
        let objects = reader.documents.into_iter().filter_map(|document| {
            let file = document.file.path.to_owned();
            Some(Written { object: document.object?, file, line: document.line })
        });
        Reading { objects: objects.collect(), findings, files }
    }
}

struct Reader<'a> {
    surroundings: &'a Surroundings<'a>,
    files: Vec<File<'a>>,
    /// What is ambiguous: its file and its bytes.
    ambiguous: Vec<(&'a str, Range<usize>)>,
    documents: Vec<Document<'a>>,
}

/// One document that has at least a kind and a name.
struct Document<'a> {
    file: File<'a>,
    node: Node,
    kind: String,
    name: String,
    line: usize,
    object: Option<Object>,
    /// Where its form is wrong.
    wrong: Vec<Path>,
}

impl Document<'_> {
    /// Whether the form is wrong at this place: what follows from what stands there instead is no news.
    fn is_wrong_at(&self, place: &str) -> bool {
        let place = Path::parse(place);
        self.wrong.iter().any(|wrong| place.starts_with(wrong))
    }

    fn rule(&self) -> Option<&Rule> {
        match &self.object {
            Some(Object::Rule(rule)) => Some(rule),
            _ => None,
        }
    }

    /// What a person writes into an Execution. No pack holds one, but it can be validated.
    fn run_by_hand(&self) -> Option<ExecutionSpec> {
        let is_one = self.kind == "Execution";
        is_one.then(|| serde_json::from_value(self.node.to_json()["spec"].take()).ok()).flatten()
    }

    fn title(&self) -> String {
        format!("{} {}", self.kind, self.name)
    }

    fn finding(&self, problem: Problem) -> Finding {
        let path = Path::parse(&problem.path);
        let span = place::of_problem(self.file.text, &self.node, &path, problem.span.as_ref());
        self.file.finding(span, problem).of(self.title())
    }
}

impl<'a> Reader<'a> {
    /// Reads one file's documents; returns what is wrong with each by itself.
    fn file(&mut self, source: &Source<'a>) -> Vec<Finding> {
        let text = std::str::from_utf8(source.content);
        let file = File { path: source.path, text: text.unwrap_or_default() };
        self.files.push(file);
        if let Some(finding) = too_large(source).or_else(|| not_utf8(source, text.err()?)) {
            return vec![finding];
        }
        let text = file.text;
        let in_file = |mistake: yaml::Mistake| {
            file.finding(mistake.span, Problem { help: mistake.help, ..Problem::error("", mistake.message) })
        };
        let (documents, ambiguous) = match yaml::read(text) {
            Ok(read) => read,
            Err(mistake) => return vec![in_file(mistake)],
        };
        self.ambiguous.extend(ambiguous.iter().map(|mistake| (source.path, mistake.span.clone())));
        let mut findings: Vec<Finding> = ambiguous.into_iter().map(in_file).collect();
        for node in documents {
            findings.extend(self.document(file, node));
        }
        findings
    }

    fn document(&mut self, file: File<'a>, mut node: Node) -> Vec<Finding> {
        let Envelope { kind, name, spec, mut problems } = envelope::open(&node, self.surroundings);
        let spec_span = spec.map_or(node.span.clone(), |(key, _)| key.span.clone());
        let mut meant = Vec::new();
        if let (Some(kind), Some((key, spec))) = (&kind, spec) {
            let (refused, misspelled) = Schemas::current().check(kind, key, spec);
            problems.extend(refused);
            meant = misspelled;
        }
        // From here on a misspelled field counts as the one that was meant, so that it hides nothing.
        for meant in &meant {
            repair::rename(&mut node, meant);
        }
        let title = match (&kind, &name) {
            (Some(kind), Some(name)) => format!("{kind} {name}"),
            _ => String::new(),
        };
        if kind.as_deref() == Some("Rule") {
            problems.extend(target(&node, file));
        }
        let mut object = None;
        if let (Some(kind), Some(_)) = (&kind, &name) {
            match decode(kind, &node, &problems) {
                Ok(decoded) => object = decoded,
                // The schema has said it better, if it said anything.
                Err(message) if problems.is_empty() => {
                    let problem = Problem::error("spec", message);
                    problems.push(Located { parts: true, ..Located::new(spec_span, problem) });
                }
                Err(_) => {}
            }
        }
        if let (Some(kind), Some(name)) = (kind, name) {
            let line = file.position(node.span.start).0;
            let wrong = places(&problems).collect();
            self.documents.push(Document { file, node, kind, name, line, object, wrong });
        }
        problems.into_iter().map(|found| file.finding(found.span, found.problem).of(title.clone())).collect()
    }

    /// One finding for each object that is there already.
    fn duplicates(&self) -> Vec<Finding> {
        let mut first: BTreeMap<(&str, &str), &Document<'_>> = BTreeMap::new();
        let mut findings = Vec::new();
        for document in &self.documents {
            let Some(known) = first.get(&(document.kind.as_str(), document.name.as_str())) else {
                first.insert((&document.kind, &document.name), document);
                continue;
            };
            let places =
                [known, document].map(|document| format!("{}:{}", document.file.path, document.line));
            let message =
                format!("{} {:?} is twice here: {}", document.kind, document.name, places.join(" and "));
            findings.push(document.finding(Problem::error("metadata.name", message)));
        }
        findings
    }

    /// What is wrong with the objects beyond their form, alone and together.
    fn check(&self, sources: &[Source<'_>], schemas: &expr::Schemas) -> Vec<Finding> {
        let mut actions: BTreeMap<&str, Option<&ActionSpec>> =
            self.surroundings.external_actions.iter().map(|name| (*name, None)).collect();
        for document in self.documents.iter().filter(|document| document.kind == "Action") {
            let spec = match &document.object {
                Some(Object::Action(action)) => Some(&action.spec),
                _ => None,
            };
            actions.insert(&document.name, spec);
        }
        let known = Known {
            namespace: self.surroundings.namespace,
            actions,
            webhooks: self.webhooks(),
            partial: self.surroundings.partial,
            schemas: schemas.clone(),
        };
        let mut findings = Vec::new();
        for document in &self.documents {
            let problems = match &document.object {
                Some(Object::Rule(rule)) => check::rule(&rule.spec, &known),
                Some(Object::Action(action)) => {
                    let mut problems = check::action(&action.spec, self.surroundings.pods);
                    problems.extend(script::missing(&action.spec, sources, self.surroundings.partial));
                    problems
                }
                Some(Object::Webhook(webhook)) => check::webhook(&webhook.spec),
                None => document.run_by_hand().map_or_else(Vec::new, |spec| check::execution(&spec, schemas)),
            };
            let news = problems.into_iter().filter(|problem| !document.is_wrong_at(&problem.path));
            findings.extend(news.map(|problem| document.finding(problem)));
        }
        let rules = self.documents.iter().filter_map(|document| Some((document, &document.rule()?.spec)));
        let rules: Vec<_> = rules.collect();
        let named: Vec<_> = rules.iter().map(|(document, spec)| (document.name.as_str(), *spec)).collect();
        let follows = check::follows(&named).into_iter();
        findings.extend(follows.map(|(place, problem)| rules[place].0.finding(problem)));
        findings
    }
}

impl Reader<'_> {
    /// The Webhooks that Rules may name.
    fn webhooks(&self) -> BTreeMap<&str, Option<&WebhookSpec>> {
        let external = self.surroundings.external_webhooks.iter().map(|name| (*name, None));
        let here = self.documents.iter().filter(|document| document.kind == "Webhook").map(|document| {
            let spec = match &document.object {
                Some(Object::Webhook(webhook)) => Some(&webhook.spec),
                _ => None,
            };
            (document.name.as_str(), spec)
        });
        external.chain(here).collect()
    }
}

/// Says that a file is larger than one may be, whatever is in it.
fn too_large(source: &Source<'_>) -> Option<Finding> {
    let problem = Problem::error("", "the file is larger than 1 MiB").help("split it, or leave it out");
    let file = File { path: source.path, text: "" };
    (source.content.len() > MAX_FILE_BYTES).then(|| file.finding(0..0, problem))
}

/// Says where a file is not UTF-8.
fn not_utf8(source: &Source<'_>, error: Utf8Error) -> Option<Finding> {
    let (readable, rest) = source.content.split_at_checked(error.valid_up_to())?;
    let message = match rest.first() {
        _ if is_utf16(source.content) => "the file is UTF-16".to_owned(),
        byte => format!("the file is not UTF-8: here is the byte 0x{:02X}", byte?),
    };
    let file = File { path: source.path, text: std::str::from_utf8(readable).ok()? };
    Some(file.finding(readable.len()..readable.len(), Problem::error("", message).help("save it as UTF-8")))
}

/// The typed object; none for kinds that are read only for their form. What is known to be wrong is left out, or empty
/// where something has to be, so that it does not hide what is wrong with the rest: an object with problems is only looked
/// at, never used.
fn decode(kind: &str, node: &Node, problems: &[Located]) -> Result<Option<Object>, String> {
    let mut value = node.to_json();
    places(problems).for_each(|place| place.remove_from(&mut value));
    if let (Some(schema), Some(spec)) = (Schemas::current().spec(kind), value.get_mut("spec")) {
        repair::complete(schema, spec);
    }
    // What else a Rule may say depends on what it is about.
    let says_nothing = |trigger: &Map<String, Value>| trigger.values().all(Value::is_null);
    if kind == "Rule" && value["spec"]["trigger"].as_object().is_some_and(says_nothing) {
        return Ok(None);
    }
    let metadata = &node.to_json()["metadata"];
    value["metadata"] = json!({"name": metadata["name"], "namespace": text(&metadata["namespace"]),
        "labels": texts(&metadata["labels"]), "annotations": texts(&metadata["annotations"])});
    let decoded = match kind {
        "Rule" => serde_json::from_value(value).map(|rule| Some(Object::Rule(Box::new(rule)))),
        "Action" => serde_json::from_value(value).map(|action| Some(Object::Action(Box::new(action)))),
        "Webhook" => serde_json::from_value(value).map(|webhook| Some(Object::Webhook(Box::new(webhook)))),
        _ => Ok(None),
    };
    decoded.map_err(|error| error.to_string())
}

/// What is wrong within the one part of a Rule that its schema leaves open.
fn target(node: &Node, file: File<'_>) -> Option<Located> {
    let path = Path::parse("spec.target");
    let member = node.get("spec")?.get("target")?.to_json();
    let is_one_of = ["owner", "ref"].iter().any(|name| member.get(name).is_some());
    let error = serde_json::from_value::<Target>(member).err().filter(|_| is_one_of)?;
    let span = place::of_problem(file.text, node, &path, None);
    Some(Located::new(span, Problem::error(path.to_string(), error.to_string())))
}

/// The places where the form is wrong. Where parts do not go together, each is looked at: of several triggers one is as good as
/// another to look at the rest with.
fn places(problems: &[Located]) -> impl Iterator<Item = Path> {
    problems.iter().filter(|located| !located.parts).map(|located| Path::parse(&located.problem.path))
}

fn text(value: &Value) -> Value {
    value.as_str().map_or(Value::Null, Value::from)
}

fn texts(value: &Value) -> Value {
    let Some(members) = value.as_object() else { return Value::Null };
    members
        .iter()
        .filter(|(_, value)| value.is_string())
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests;
