//! CEL rules of a custom resource's schema (`x-kubernetes-validations`): compiled once per definition,
//! evaluated on every write, transition rules (`oldSelf`) included.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, LazyLock};

use cel::{Context, Env, Program, Value as Cel};
use serde_json::Value;

use super::error::Cause;
use super::schema::{Schema, Shape};

/// The compiled rules of one schema, by their source.
pub struct Rules {
    programs: BTreeMap<String, Result<Program, String>>,
}

impl fmt::Debug for Rules {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.programs.keys()).finish()
    }
}

/// CEL's reserved words, which a field name must not be.
const RESERVED: &[&str] = &[
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

impl Rules {
    /// Compiles every rule of a schema; those that do not compile are kept as problems.
    pub fn compile(schema: &Value) -> Self {
        let mut programs = BTreeMap::new();
        collect(schema, &mut programs);
        Self { programs }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.programs.is_empty()
    }

    /// Evaluates the rules at and below a node.
    pub fn check(
        &self,
        schema: Schema<'_>,
        (value, old): (&Value, Option<&Value>),
        path: &str,
        causes: &mut Vec<Cause>,
    ) {
        if self.programs.is_empty() {
            return;
        }
        let rules = schema.get("x-kubernetes-validations").and_then(Value::as_array);
        if let Some(rules) = rules.filter(|rules| !rules.is_empty() && !value.is_null()) {
            let mut context = context_of("self", to_cel(schema, value));
            if let Some(old) = old {
                context.add_variable_from_value("oldSelf", to_cel(schema, old));
            }
            let broken = |rule| self.check_rule(rule, (value, old.is_some()), &context, path);
            causes.extend(rules.iter().filter_map(broken));
        }
        match value {
            Value::Object(map) => {
                for (name, child) in map {
                    if let Some(field) =
                        schema.field(name).filter(|_| !(path.is_empty() && name == "metadata"))
                    {
                        let here = match schema.property(name) {
                            Some(_) if path.is_empty() => name.clone(),
                            Some(_) => format!("{path}.{name}"),
                            None => format!("{path}[{name}]"),
                        };
                        let before = old.and_then(|old| old.get(name));
                        self.check(field, (child, before), &here, causes);
                    }
                }
            }
            Value::Array(items) => {
                let Some(item_schema) = schema.items() else { return };
                for (index, item) in items.iter().enumerate() {
                    let before = old.and_then(|old| counterpart(schema, item, old));
                    self.check(item_schema, (item, before), &format!("{path}[{index}]"), causes);
                }
            }
            _ => {}
        }
    }

    fn check_rule(
        &self,
        rule: &Value,
        (value, is_update): (&Value, bool),
        context: &Context<'_, '_>,
        path: &str,
    ) -> Option<Cause> {
        let source = rule["rule"].as_str()?;
        let program = self.programs.get(source)?.as_ref().ok()?;
        if !is_update && program.references().variables().contains(&"oldSelf") {
            return None;
        }
        let field = match rule["fieldPath"].as_str() {
            Some(below) => format!("{path}{below}").trim_start_matches('.').to_owned(),
            None => path.to_owned(),
        };
        let complain = |text: &str| {
            let field = if field.is_empty() { "<nil>" } else { &field };
            // Whole objects are not repeated in the complaint.
            let cause = match value {
                Value::Object(_) | Value::Array(_) => Cause::invalid_bare(field, text),
                scalar => Cause::invalid(field, scalar, text),
            };
            Some(match rule["reason"].as_str() {
                Some("FieldValueForbidden") => Cause::forbidden(field, text),
                Some("FieldValueRequired") => Cause::required(field, text),
                _ => cause,
            })
        };
        match program.execute(context) {
            Ok(Cel::Bool(true)) => None,
            Ok(_) => complain(&self.message(rule, context)),
            Err(error) => complain(&format!("rule evaluation error: {error}: evaluating rule: {source}")),
        }
    }

    fn message(&self, rule: &Value, context: &Context<'_, '_>) -> String {
        let expression = rule["messageExpression"].as_str().and_then(|source| self.programs.get(source));
        if let Some(Ok(program)) = expression
            && let Ok(Cel::String(text)) = program.execute(context)
        {
            return text.to_string();
        }
        let message = rule["message"].as_str().map(str::to_owned);
        let source = rule["rule"].as_str().unwrap_or_default().trim();
        message.unwrap_or_else(|| format!("failed rule: {source}"))
    }
}

fn collect(schema: &Value, programs: &mut BTreeMap<String, Result<Program, String>>) {
    match schema {
        Value::Object(map) => {
            for rule in map.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
                for source in ["rule", "messageExpression"].iter().filter_map(|key| rule[key].as_str()) {
                    let compile = || compile(source);
                    programs.entry(source.to_owned()).or_insert_with(compile);
                }
            }
            map.values().for_each(|child| collect(child, programs));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, programs)),
        _ => {}
    }
}

/// Why a rule does not compile.
pub fn problem(source: &str) -> Option<String> {
    compile(source).err().map(|problem| problem.replace("\n|", "\n |"))
}

/// A rule that calls what is not known here would fail on every object, so it is refused with its definition.
fn compile(source: &str) -> Result<Program, String> {
    let program = Program::compile(source).map_err(|error| error.to_string())?;
    let references = program.references();
    let is_name = |name: &&str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '.');
    match references.functions().into_iter().filter(is_name).find(|name| !is_known(name)) {
        Some(name) => Err(format!("undeclared reference to '{name}', which this API does not have")),
        None => Ok(program),
    }
}

/// Whether the name is taken, which the library says only to who wants to take it.
fn is_known(function: &str) -> bool {
    Context::with_env(environment()).add_function(function, |value: i64| value).is_err()
}

/// What rules may call, set up once: that takes longer than most rules do.
fn environment() -> Arc<Env> {
    static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));
    ENVIRONMENT.clone()
}

fn context_of(name: &'static str, value: Cel) -> Context<'static, 'static> {
    let mut context = Context::with_env(environment());
    context.add_variable_from_value(name, value);
    context
}

/// The old item that a new one continues: only lists with keys have such.
fn counterpart<'a>(schema: Schema<'_>, item: &Value, old: &'a Value) -> Option<&'a Value> {
    if schema.shape() != Shape::Keyed {
        return None;
    }
    let keys = schema.list_keys();
    old.as_array()?.iter().find(|before| keys.iter().all(|key| before[*key] == item[*key]))
}

/// An object as CEL sees it: whole numbers are integers, times and durations what their format says.
fn to_cel(schema: Schema<'_>, value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(flag) => Cel::Bool(*flag),
        Value::Number(_) if schema.kind() == "number" => Cel::Float(value.as_f64().unwrap_or_default()),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => Cel::Int(integer),
            None => Cel::Float(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => special(schema, text).unwrap_or_else(|| Cel::String(Arc::new(text.clone()))),
        Value::Array(items) => {
            let schema = schema.items();
            let item = |item| to_cel(schema.unwrap_or(Schema::plain(&Value::Null)), item);
            Cel::List(Arc::new(items.iter().map(item).collect()))
        }
        Value::Object(map) => {
            let fields = map.iter().map(|(name, child)| {
                let declared = schema.property(name);
                let key = if declared.is_some() { escape(name) } else { name.clone() };
                let field = declared.or_else(|| schema.additional());
                (key, to_cel(field.unwrap_or(Schema::plain(&Value::Null)), child))
            });
            Cel::from(fields.collect::<HashMap<_, _>>())
        }
    }
}

/// Strings whose format makes them times or durations.
fn special(schema: Schema<'_>, text: &str) -> Option<Cel> {
    static TIMESTAMP: LazyLock<Option<Program>> = LazyLock::new(|| Program::compile("timestamp(text)").ok());
    static DURATION: LazyLock<Option<Program>> = LazyLock::new(|| Program::compile("duration(text)").ok());
    let program = match schema.text("format")? {
        "date-time" => TIMESTAMP.as_ref()?,
        "duration" => DURATION.as_ref()?,
        _ => return None,
    };
    program.execute(&context_of("text", text.to_owned().into())).ok()
}

fn escape(name: &str) -> String {
    if RESERVED.contains(&name) {
        return format!("__{name}__");
    }
    name.replace("__", "__underscores__")
        .replace('-', "__dash__")
        .replace('.', "__dot__")
        .replace('/', "__slash__")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(schema: &Value, new: &Value, old: Option<&Value>) -> Vec<String> {
        let rules = Rules::compile(schema);
        let mut causes = Vec::new();
        rules.check(Schema::custom(schema), (new, old), "", &mut causes);
        causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn rules_hold_or_complain() {
        let schema = json!({"type": "object", "properties": {"spec": {
            "type": "object",
            "x-kubernetes-validations": [
                {"rule": "has(self.a) != has(self.b)", "message": "exactly one of a and b"},
                {"rule": "self.n <= 3", "messageExpression": "'n is ' + string(self.n)"},
            ],
            "properties": {
                "a": {"type": "string"}, "b": {"type": "string"}, "n": {"type": "integer"},
                "namespace": {"type": "string"},
                "fixed": {"type": "string", "x-kubernetes-validations": [
                    {"rule": "self == oldSelf", "message": "fixed is immutable"}]},
            },
        }}});
        let good = json!({"spec": {"a": "x", "n": 1, "fixed": "one"}});
        assert_eq!(check(&schema, &good, None), Vec::<String>::new());
        let bad = json!({"spec": {"a": "x", "b": "y", "n": 4, "fixed": "two"}});
        assert_eq!(
            check(&schema, &bad, Some(&good)),
            [
                "spec: Invalid value: exactly one of a and b",
                "spec: Invalid value: n is 4",
                "spec.fixed: Invalid value: \"two\": fixed is immutable",
            ]
        );
        assert!(problem("self.").is_some() && problem("ip('10.0.0.1').family() == 4").is_some());
        assert_eq!(problem("self.all(x, x.startsWith('a')) && has(self.b)"), None);
    }
}
