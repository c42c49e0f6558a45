//! Scripts of a pack: an Action names a file, the cluster gets an immutable `ConfigMap` whose name says what is in it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Object, Source, Written};
use crate::api::{ActionSpec, ConfigMapKey};
use crate::decide::identity::{digest, readable};
use crate::decide::path::Path;
use crate::decide::problem::{Problem, Severity};
use crate::expr::closest;

/// A `ConfigMap` holds 1 MiB with all its metadata.
const MAX_SCRIPT: usize = 900 * 1024;

/// `ConfigMap`s by name.
pub type Scripts = BTreeMap<String, ConfigMap>;

/// Why an Action's script file cannot be used, if it cannot.
pub(super) fn missing(spec: &ActionSpec, sources: &[Source<'_>], partial: bool) -> Option<Problem> {
    let file = spec.script.as_ref()?.file.as_deref()?;
    let path = Path::default().member("spec").member("script").member("file").to_string();
    let Some(source) = sources.iter().find(|source| source.path == file) else {
        let help = closest(file, sources.iter().map(|source| source.path))
            .map(|path| format!("did you mean {path:?}?"));
        let severity = if partial { Severity::Warning } else { Severity::Error };
        return Some(Problem {
            severity,
            help,
            ..Problem::error(path, format!("no file {file:?} in the pack"))
        });
    };
    match source.content {
        [] => Some(Problem::error(path, format!("{file:?} is empty"))),
        content if content.len() > MAX_SCRIPT => {
            Some(Problem::error(path, format!("{file:?} has {} bytes; max {MAX_SCRIPT}", content.len())))
        }
        content if std::str::from_utf8(content).is_err() => {
            Some(Problem::error(path, format!("{file:?} is not UTF-8")))
        }
        _ => None,
    }
}

/// Makes the `ConfigMap`s of all script files, and the Actions name them instead of the files. To be called with the
/// objects and files of a reading without errors.
pub fn resolve_scripts(objects: &mut [Written], sources: &[Source<'_>]) -> Scripts {
    let mut scripts = Scripts::new();
    for written in objects {
        let Object::Action(action) = &mut written.object else { continue };
        let Some(script) = &mut action.spec.script else { continue };
        let Some(file) = script.file.take() else { continue };
        let source = sources.iter().find(|source| source.path == file);
        let Some(content) = source.and_then(|source| std::str::from_utf8(source.content).ok()) else {
            script.file = Some(file);
            continue;
        };
        let key = file.rsplit('/').next().unwrap_or(&file).to_owned();
        // The key is part of the identity: the same content under another name is another ConfigMap.
        let hash = digest(&[&key, content]);
        let name = readable(action.metadata.name.as_deref().unwrap_or("script"), &hash[..16]);
        let config_map = ConfigMap {
            metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
            data: Some(BTreeMap::from([(key.clone(), content.to_owned())])),
            immutable: Some(true),
            ..ConfigMap::default()
        };
        scripts.insert(name.clone(), config_map);
        script.config_map = Some(ConfigMapKey { name, key });
    }
    scripts
}
