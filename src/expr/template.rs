//! Templates: `${{ expression }}` inside strings, and whole JSON values with such strings in them.

use super::bindings::Bindings;
use super::compile::Expression;
use super::errors::{EvalError, ExprError};
use super::scope::Scope;
use serde_json::Value;
use std::collections::BTreeSet;

const OPEN: &str = "${{";
const CLOSE: &str = "}}";

/// A string with expressions in it.
///
/// A string that is one expression and nothing else keeps the type of its value; in all others
/// values become text: strings as they are, everything else as JSON. `$${{` is a plain `${{`.
#[derive(Clone, Debug)]
pub struct Template {
    source: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    /// An expression, and where in the whole string its source begins.
    Expression(Expression, usize),
}

impl Template {
    /// Compiles all expressions of a string.
    ///
    /// # Errors
    /// All mistakes, with spans in the whole string.
    pub fn compile(source: &str, scope: &Scope) -> Result<Self, Vec<ExprError>> {
        let (mut parts, mut errors, mut at) = (Vec::new(), Vec::new(), 0);
        while let Some(open) = source[at..].find(OPEN).map(|found| at + found) {
            if source[at..open].ends_with('$') {
                text(&mut parts, &source[at..open - 1]);
                text(&mut parts, OPEN);
                at = open + OPEN.len();
                continue;
            }
            text(&mut parts, &source[at..open]);
            let start = open + OPEN.len();
            let Some(length) = closing(&source[start..]) else {
                errors.push(ExprError::new("\"${{\" is not closed with \"}}\"", open..start));
                return Err(errors);
            };
            match Expression::compile(&source[start..start + length], scope) {
                Ok(expression) => parts.push(Part::Expression(expression, start)),
                Err(found) => errors.extend(found.into_iter().map(|error| error.shifted(start))),
            }
            at = start + length + CLOSE.len();
        }
        text(&mut parts, &source[at..]);
        if errors.is_empty() { Ok(Self { source: source.to_owned(), parts }) } else { Err(errors) }
    }

    /// What it was compiled from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The expressions in it.
    pub fn expressions(&self) -> impl Iterator<Item = &Expression> {
        self.parts.iter().filter_map(|part| match part {
            Part::Expression(expression, _) => Some(expression),
            Part::Text(_) => None,
        })
    }

    /// The doubts about its expressions, with spans in the whole string.
    pub fn doubts(&self) -> impl Iterator<Item = ExprError> {
        self.parts.iter().flat_map(|part| match part {
            Part::Expression(expression, start) => {
                expression.doubts().iter().map(|doubt| doubt.clone().shifted(*start)).collect()
            }
            Part::Text(_) => Vec::new(),
        })
    }

    /// Its value: of any type if it is one whole expression, else a string.
    pub fn render(&self, bindings: &Bindings) -> Result<Value, EvalError> {
        if let [Part::Expression(expression, start)] = self.parts.as_slice() {
            return expression.evaluate(bindings).map_err(|error| error.shifted(*start));
        }
        self.render_text(bindings).map(Value::String)
    }

    /// Its value as text, also if it is one whole expression.
    pub fn render_text(&self, bindings: &Bindings) -> Result<String, EvalError> {
        let mut rendered = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => rendered.push_str(text),
                Part::Expression(expression, start) => {
                    let value = expression.evaluate(bindings).map_err(|error| error.shifted(*start))?;
                    match value {
                        Value::String(text) => rendered.push_str(&text),
                        value => rendered.push_str(&value.to_string()),
                    }
                }
            }
        }
        Ok(rendered)
    }
}

fn text(parts: &mut Vec<Part>, text: &str) {
    match parts.last_mut() {
        _ if text.is_empty() => {}
        Some(Part::Text(before)) => before.push_str(text),
        _ => parts.push(Part::Text(text.to_owned())),
    }
}

/// The length of an expression up to the `}}` that closes it: one that stands in no string and
/// closes no map of the expression itself.
fn closing(source: &str) -> Option<usize> {
    let (mut maps, mut quote, mut escaped) = (0_usize, None, false);
    for (at, c) in source.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(delimiter), c) if c == delimiter => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, '{') => maps += 1,
            (None, '}') if maps > 0 => maps -= 1,
            (None, '}') if source[at..].starts_with(CLOSE) => return Some(at),
            _ => {}
        }
    }
    None
}

/// Whether a string has an expression in it, escaped or not.
fn is_template(text: &str) -> bool {
    text.contains(OPEN)
}

/// A JSON value with templates in its strings, such as the `with` of a rung.
#[derive(Clone, Debug)]
pub struct TemplateTree {
    root: Node,
}

#[derive(Clone, Debug)]
enum Node {
    /// A value without any template.
    Plain(Value),
    Template(Template),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// A mistake in one string of a [`TemplateTree`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {error}")]
pub struct TreeError {
    /// A JSON pointer to the string, such as `/labels/app`.
    pub path: String,
    /// What is wrong in it.
    pub error: ExprError,
}

/// Why one string of a [`TemplateTree`] has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {error}")]
pub struct TreeEvalError {
    /// A JSON pointer to the string, such as `/labels/app`.
    pub path: String,
    /// What happened in it.
    pub error: EvalError,
}

impl TemplateTree {
    /// Compiles the templates in all strings of a value.
    ///
    /// # Errors
    /// All mistakes, each with the path of its string. A template in a key is one.
    pub fn compile(value: &Value, scope: &Scope) -> Result<Self, Vec<TreeError>> {
        let mut errors = Vec::new();
        let root = compile_node(value, scope, "", &mut errors);
        if errors.is_empty() { Ok(Self { root }) } else { Err(errors) }
    }

    /// The expressions in it.
    pub fn expressions(&self) -> Vec<&Expression> {
        let mut found = Vec::new();
        self.root.expressions(&mut found);
        found
    }

    /// The doubts about its expressions, each with the path of its string.
    pub fn doubts(&self) -> Vec<TreeError> {
        let mut found = Vec::new();
        self.root.doubts("", &mut found);
        found
    }

    /// The variables that its expressions name.
    pub fn variables(&self) -> BTreeSet<&str> {
        self.expressions().into_iter().flat_map(Expression::variables).collect()
    }

    /// The value with every template replaced by its value.
    pub fn render(&self, bindings: &Bindings) -> Result<Value, TreeEvalError> {
        self.root.render(bindings, "")
    }
}

fn compile_node(value: &Value, scope: &Scope, path: &str, errors: &mut Vec<TreeError>) -> Node {
    match value {
        Value::String(text) if is_template(text) => match Template::compile(text, scope) {
            Ok(template) => Node::Template(template),
            Err(found) => {
                errors.extend(found.into_iter().map(|error| TreeError { path: path.to_owned(), error }));
                Node::Plain(Value::Null)
            }
        },
        Value::Array(items) => {
            let items = items.iter().enumerate();
            Node::List(items.map(|(at, item)| compile_node(item, scope, &below(path, &at), errors)).collect())
        }
        Value::Object(fields) => {
            for key in fields.keys().filter(|key| is_template(key)) {
                let error = ExprError::new("a key cannot be a template", 0..key.len());
                errors.push(TreeError { path: below(path, &pointer(key)), error });
            }
            let fields = fields.iter();
            let compiled = fields.map(|(key, field)| {
                (key.clone(), compile_node(field, scope, &below(path, &pointer(key)), errors))
            });
            Node::Map(compiled.collect())
        }
        plain => Node::Plain(plain.clone()),
    }
}

fn below(path: &str, name: &impl std::fmt::Display) -> String {
    format!("{path}/{name}")
}

/// A key as a JSON pointer writes it.
fn pointer(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

impl Node {
    fn render(&self, bindings: &Bindings, path: &str) -> Result<Value, TreeEvalError> {
        match self {
            Node::Plain(value) => Ok(value.clone()),
            Node::Template(template) => {
                template.render(bindings).map_err(|error| TreeEvalError { path: path.to_owned(), error })
            }
            Node::List(items) => {
                let items = items.iter().enumerate();
                items.map(|(at, item)| item.render(bindings, &below(path, &at))).collect()
            }
            Node::Map(fields) => {
                let fields = fields.iter();
                let rendered = fields.map(|(key, field)| {
                    Ok((key.clone(), field.render(bindings, &below(path, &pointer(key)))?))
                });
                rendered.collect::<Result<_, _>>().map(Value::Object)
            }
        }
    }

    fn doubts(&self, path: &str, found: &mut Vec<TreeError>) {
        match self {
            Node::Plain(_) => {}
            Node::Template(template) => {
                found.extend(template.doubts().map(|error| TreeError { path: path.to_owned(), error }));
            }
            Node::List(items) => {
                items.iter().enumerate().for_each(|(at, item)| item.doubts(&below(path, &at), found));
            }
            Node::Map(fields) => {
                for (key, field) in fields {
                    field.doubts(&below(path, &pointer(key)), found);
                }
            }
        }
    }

    fn expressions<'a>(&'a self, found: &mut Vec<&'a Expression>) {
        match self {
            Node::Plain(_) => {}
            Node::Template(template) => found.extend(template.expressions()),
            Node::List(items) => items.iter().for_each(|item| item.expressions(found)),
            Node::Map(fields) => fields.iter().for_each(|(_, field)| field.expressions(found)),
        }
    }
}
