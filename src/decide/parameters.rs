//! Parameters of an Action: defaults filled in, types checked, names turned into environment variables.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};

use crate::api::{Parameter, ValueType};

/// The values that an Action is run with, by parameter name.
pub type Inputs = BTreeMap<String, Value>;

/// Fills in defaults and checks every value; all mistakes at once.
pub fn resolve(declared: &[Parameter], given: &Map<String, Value>) -> Result<Inputs, Vec<String>> {
    let mut inputs = Inputs::new();
    let mut mistakes: Vec<String> = undeclared(declared, given).collect();
    for parameter in declared {
        let value = match (given.get(&parameter.name), &parameter.default) {
            (Some(value), _) if !value.is_null() => coerce(&parameter.name, parameter.value_type, value),
            (_, Some(default)) => {
                coerce(&parameter.name, parameter.value_type, &Value::String(default.clone()))
            }
            _ if parameter.required => Err(format!("parameter {} is required", parameter.name)),
            _ => continue,
        };
        match value.and_then(|value| within(parameter, value)) {
            Ok(value) => drop(inputs.insert(parameter.name.clone(), value)),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    if mistakes.is_empty() { Ok(inputs) } else { Err(mistakes) }
}

/// A message for each given name that is not declared.
pub fn undeclared<'a>(
    declared: &'a [Parameter],
    given: &'a Map<String, Value>,
) -> impl Iterator<Item = String> + 'a {
    let names = || declared.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join(", ");
    given.keys().filter(|name| !declared.iter().any(|p| p.name == **name)).map(move |name| {
        format!(
            "param {name:?} undeclared; declared: {}",
            if declared.is_empty() { "none".into() } else { names() }
        )
    })
}

/// Reads a value as a type. Text is accepted for every type, since environment and templates give text.
pub fn coerce(name: &str, wanted: ValueType, value: &Value) -> Result<Value, String> {
    let read = match (wanted, value) {
        (ValueType::String, Value::String(_))
        | (ValueType::Number, Value::Number(_))
        | (ValueType::Boolean, Value::Bool(_)) => Some(value.clone()),
        (ValueType::String, Value::Number(_) | Value::Bool(_)) => Some(Value::String(value.to_string())),
        (ValueType::Integer, Value::Number(n)) => whole(n).map(Value::from),
        (ValueType::Integer, Value::String(s)) => s.trim().parse::<i64>().ok().map(Value::from),
        (ValueType::Number, Value::String(s)) => {
            s.trim().parse::<f64>().ok().and_then(Number::from_f64).map(Value::Number)
        }
        (ValueType::Boolean, Value::String(s)) => s.trim().parse::<bool>().ok().map(Value::Bool),
        _ => None,
    };
    read.ok_or_else(|| format!("param {name}={value}: want {}", wanted.as_str()))
}

/// A number without a fraction, also when it is written with one (`7.0`).
fn whole(number: &Number) -> Option<i64> {
    number.as_i64().or_else(|| {
        let float = number.as_f64().filter(|f| f.fract() == 0.0 && f.abs() < 9e15)?;
        #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53, checked above")]
        Some(float as i64)
    })
}

fn within(parameter: &Parameter, value: Value) -> Result<Value, String> {
    let name = &parameter.name;
    if let Some(number) = value.as_f64() {
        #[expect(clippy::cast_precision_loss, reason = "limits are compared, not stored")]
        let beyond = |limit: Option<i64>| limit.map(|limit| number - limit as f64);
        if beyond(parameter.minimum).is_some_and(|d| d < 0.0) {
            return Err(format!(
                "param {name}={value}: must be >= {}",
                parameter.minimum.unwrap_or_default()
            ));
        }
        if beyond(parameter.maximum).is_some_and(|d| d > 0.0) {
            return Err(format!(
                "param {name}={value}: must be <= {}",
                parameter.maximum.unwrap_or_default()
            ));
        }
    }
    let allowed = &parameter.allowed;
    match value.as_str() {
        Some(text) if !allowed.is_empty() && !allowed.iter().any(|a| a == text) => {
            Err(format!("param {name}={value}: must be one of {}", allowed.join(", ")))
        }
        _ => Ok(value),
    }
}

/// The environment variable of a parameter: `olderThanDays` becomes `FOTHER_PARAM_OLDER_THAN_DAYS`.
pub fn environment_name(parameter: &str) -> String {
    parameter.chars().fold("FOTHER_PARAM_".to_owned(), |mut name, c| {
        if c.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
        name
    })
}

/// A value as the text of an environment variable.
pub fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn declared() -> Vec<Parameter> {
        serde_json::from_value(json!([
            {"name": "path", "required": true},
            {"name": "olderThanDays", "type": "integer", "default": "7", "minimum": 1, "maximum": 365},
            {"name": "mode", "enum": ["soft", "hard"]},
            {"name": "dryRun", "type": "boolean"},
            {"name": "share", "type": "number"},
        ]))
        .expect("valid parameters")
    }

    fn check(given: Value, expected: Result<Value, &[&str]>) {
        let given = given.as_object().expect("an object").clone();
        let resolved = resolve(&declared(), &given);
        match expected {
            Ok(inputs) => assert_eq!(serde_json::to_value(resolved.expect("valid")).expect("JSON"), inputs),
            Err(mistakes) => assert_eq!(resolved.expect_err("invalid"), mistakes),
        }
    }

    #[test]
    fn defaults_and_types() {
        check(json!({"path": "/var"}), Ok(json!({"path": "/var", "olderThanDays": 7})));
        check(
            json!({"path": 5, "olderThanDays": "30", "dryRun": "true", "share": "0.5", "mode": "soft"}),
            Ok(json!({"path": "5", "olderThanDays": 30, "dryRun": true, "share": 0.5, "mode": "soft"})),
        );
        check(json!({"path": "x", "olderThanDays": 9.0}), Ok(json!({"path": "x", "olderThanDays": 9})));
    }

    #[test]
    fn all_mistakes_at_once() {
        check(
            json!({"hots": 1, "olderThanDays": "abc", "mode": "warm", "dryRun": 3}),
            Err(&[
                "param \"hots\" undeclared; declared: path, olderThanDays, mode, dryRun, share",
                "parameter path is required",
                "param olderThanDays=\"abc\": want integer",
                "param mode=\"warm\": must be one of soft, hard",
                "param dryRun=3: want boolean",
            ]),
        );
        check(json!({"path": "x", "olderThanDays": 0}), Err(&["param olderThanDays=0: must be >= 1"]));
        check(json!({"path": "x", "olderThanDays": 400}), Err(&["param olderThanDays=400: must be <= 365"]));
        check(json!({"path": "x", "olderThanDays": 1.5}), Err(&["param olderThanDays=1.5: want integer"]));
    }

    #[test]
    fn environment_names() {
        assert_eq!(environment_name("olderThanDays"), "FOTHER_PARAM_OLDER_THAN_DAYS");
        assert_eq!(environment_name("path"), "FOTHER_PARAM_PATH");
    }
}
