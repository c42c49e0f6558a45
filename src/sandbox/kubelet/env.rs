//! A container's environment: literals, references and `$(NAME)`.
//!
//! The order is Kubernetes': `envFrom` first, then `env` from top to bottom, each value
//! seeing those before it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, Pod};

use super::downward;
use super::sources::{SourceError, Sources};

/// The environment of `container`, on top of `base`.
///
/// # Errors
/// When something that the container refers to is not there, or cannot be read.
pub async fn resolve(
    pod: &Pod,
    container: &Container,
    sources: &Sources,
    base: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, SourceError> {
    let mut env = base;
    for source in container.env_from.iter().flatten() {
        let entries = if let Some(config) = &source.config_map_ref {
            sources.config_map(&config.name, config.optional).await?
        } else if let Some(secret) = &source.secret_ref {
            sources.secret(&secret.name, secret.optional).await?
        } else {
            continue;
        };
        let prefix = source.prefix.as_deref().unwrap_or_default();
        for (key, value) in entries.into_iter().flatten() {
            env.insert(format!("{prefix}{key}"), String::from_utf8_lossy(&value).into_owned());
        }
    }
    for variable in container.env.iter().flatten() {
        if let Some(value) = value_of(pod, container, sources, variable).await? {
            let value = if variable.value_from.is_some() { value } else { expand(&value, &env) };
            env.insert(variable.name.clone(), value);
        }
    }
    Ok(env)
}

async fn value_of(
    pod: &Pod,
    container: &Container,
    sources: &Sources,
    variable: &EnvVar,
) -> Result<Option<String>, SourceError> {
    let Some(from) = &variable.value_from else {
        return Ok(Some(variable.value.clone().unwrap_or_default()));
    };
    let EnvVarSource { config_map_key_ref, secret_key_ref, field_ref, resource_field_ref, .. } = from;
    if let Some(key) = config_map_key_ref {
        return sources.config_map_key(&key.name, &key.key, key.optional).await;
    }
    if let Some(key) = secret_key_ref {
        return sources.secret_key(&key.name, &key.key, key.optional).await;
    }
    let found = if let Some(field) = field_ref {
        (downward::field(pod, &field.field_path), field.field_path.clone())
    } else if let Some(resource) = resource_field_ref {
        (downward::resource(container, resource), resource.resource.clone())
    } else {
        (None, variable.name.clone())
    };
    match found {
        (Some(value), _) => Ok(Some(value)),
        (None, path) => Err(SourceError::UnsupportedField(path)),
    }
}

/// Replaces `$(NAME)` by the value of `NAME`; `$$` is a dollar sign, an unknown name stays as it is.
pub fn expand(text: &str, env: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match env.get(name) {
                Some(value) => out.push_str(value),
                None => out.extend(["$(", name, ")"]),
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_parentheses_are_expanded() {
        let env = BTreeMap::from([("A".to_owned(), "1".to_owned()), ("B".to_owned(), "$(A)".to_owned())]);
        for (text, expected) in [
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$$(A)", "$(A)"),
            ("$(B)", "$(A)"),
            ("$(NONE)", "$(NONE)"),
            ("$A ${A} $", "$A ${A} $"),
            ("$(A", "$(A"),
            ("", ""),
        ] {
            assert_eq!(expand(text, &env), expected, "{text}");
        }
    }
}
