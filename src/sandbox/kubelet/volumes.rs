//! A pod's volumes as directories on this machine.
//!
//! What lives as long as its pod is below the pod's own directory; claims and host paths
//! outlive it, below the kubelet's root: `volumes/<namespace>/<claim>` and `host/<path>`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{
    Container, DownwardAPIVolumeFile, KeyToPath, PersistentVolumeClaim, Pod, ProjectedVolumeSource,
    ServiceAccount, ServiceAccountTokenProjection, Volume, VolumeProjection,
};
use kube::api::PostParams;
use kube::{Api, ResourceExt};

use super::downward;
use super::paths::Mounts;
use super::sources::{Entries, SourceError, Sources};

/// The places of a pod's volumes, by name.
pub type Places = BTreeMap<String, PathBuf>;

/// A file of a volume, before it is written.
#[derive(Debug, PartialEq, Eq)]
struct File {
    path: String,
    content: Vec<u8>,
    mode: i32,
}

/// Where a pod's volumes go.
pub struct Layout<'a> {
    /// The kubelet's root.
    pub root: &'a Path,
    /// The pod's own directory.
    pub pod: &'a Path,
}

/// Why one volume could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume {volume:?} : {cause}")]
pub struct MountError {
    volume: String,
    cause: SourceError,
}

/// Sets up every volume of `pod`; may be repeated until it succeeds.
pub async fn set_up(pod: &Pod, sources: &Sources, layout: &Layout<'_>) -> Result<Places, MountError> {
    let mut places = Places::new();
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        let place = set_up_one(pod, volume, sources, layout).await;
        let place = place.map_err(|cause| MountError { volume: volume.name.clone(), cause })?;
        places.insert(volume.name.clone(), place);
    }
    Ok(places)
}

async fn set_up_one(
    pod: &Pod,
    volume: &Volume,
    sources: &Sources,
    layout: &Layout<'_>,
) -> Result<PathBuf, SourceError> {
    let own = layout.pod.join("volumes").join(&volume.name);
    let place = if let Some(claim) = &volume.persistent_volume_claim {
        claim_exists(sources, &claim.claim_name).await?;
        layout.root.join("volumes").join(sources.namespace()).join(&claim.claim_name)
    } else if let Some(host) = &volume.host_path {
        layout.root.join("host").join(inside(host.path.trim_start_matches('/'))?)
    } else {
        own
    };
    create_dir(&place)?;
    for file in files(pod, volume, sources).await? {
        write(&place, &file)?;
    }
    Ok(place)
}

async fn claim_exists(sources: &Sources, name: &str) -> Result<(), SourceError> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(sources.client().clone(), sources.namespace());
    let what = format!("persistentvolumeclaim {name:?}");
    match api.get_opt(name).await.map_err(|source| SourceError::Read { what, source })? {
        Some(_) => Ok(()),
        None => Err(SourceError::Missing { kind: "persistentvolumeclaim", name: name.to_owned() }),
    }
}

async fn files(pod: &Pod, volume: &Volume, sources: &Sources) -> Result<Vec<File>, SourceError> {
    if let Some(source) = &volume.config_map {
        let entries = sources.config_map(&source.name, source.optional).await?;
        return select(entries, source.items.as_deref(), source.default_mode, source.optional);
    }
    if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or_default();
        let entries = sources.secret(name, source.optional).await?;
        return select(entries, source.items.as_deref(), source.default_mode, source.optional);
    }
    if let Some(source) = &volume.downward_api {
        return downward_files(pod, source.items.as_deref(), source.default_mode);
    }
    if let Some(source) = &volume.projected {
        return projected(pod, source, sources).await;
    }
    let directory =
        [volume.empty_dir.is_some(), volume.persistent_volume_claim.is_some(), volume.host_path.is_some()];
    if directory.contains(&true) {
        return Ok(Vec::new());
    }
    Err(SourceError::Unsupported("this kind of volume".to_owned()))
}

async fn projected(
    pod: &Pod,
    source: &ProjectedVolumeSource,
    sources: &Sources,
) -> Result<Vec<File>, SourceError> {
    let mut all = Vec::new();
    for projection in source.sources.iter().flatten() {
        all.extend(projection_files(pod, projection, source.default_mode, sources).await?);
    }
    Ok(all)
}

async fn projection_files(
    pod: &Pod,
    projection: &VolumeProjection,
    mode: Option<i32>,
    sources: &Sources,
) -> Result<Vec<File>, SourceError> {
    if let Some(source) = &projection.config_map {
        let entries = sources.config_map(&source.name, source.optional).await?;
        return select(entries, source.items.as_deref(), mode, source.optional);
    }
    if let Some(source) = &projection.secret {
        let entries = sources.secret(&source.name, source.optional).await?;
        return select(entries, source.items.as_deref(), mode, source.optional);
    }
    if let Some(source) = &projection.downward_api {
        return downward_files(pod, source.items.as_deref(), mode);
    }
    if let Some(source) = &projection.service_account_token {
        let content = token(pod, source, sources).await?.into_bytes();
        return Ok(vec![File { path: source.path.clone(), content, mode: mode.unwrap_or(0o600) }]);
    }
    Err(SourceError::Unsupported("this kind of projected volume".to_owned()))
}

/// A token bound to the pod; it is not renewed, which only pods that outlive it notice.
async fn token(
    pod: &Pod,
    source: &ServiceAccountTokenProjection,
    sources: &Sources,
) -> Result<String, SourceError> {
    let account =
        pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
    let api: Api<ServiceAccount> = Api::namespaced(sources.client().clone(), sources.namespace());
    let bound = BoundObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(pod.name_any()),
        uid: pod.uid(),
    };
    let spec = TokenRequestSpec {
        audiences: source.audience.clone().into_iter().collect(),
        bound_object_ref: Some(bound),
        expiration_seconds: source.expiration_seconds,
    };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let answer = api.create_token_request(account, &PostParams::default(), &request).await;
    let what = format!("token of serviceaccount {account:?}");
    let answer = answer.map_err(|source| SourceError::Read { what, source })?;
    Ok(answer.status.map(|status| status.token).unwrap_or_default())
}

fn select(
    entries: Entries,
    items: Option<&[KeyToPath]>,
    default_mode: Option<i32>,
    optional: Option<bool>,
) -> Result<Vec<File>, SourceError> {
    let mut entries = entries.unwrap_or_default();
    let mode = default_mode.unwrap_or(0o644);
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        let whole = |(path, content)| File { path, content, mode };
        return Ok(entries.into_iter().map(whole).collect());
    };
    let mut files = Vec::new();
    for item in items {
        match entries.remove(&item.key) {
            Some(content) => {
                files.push(File { path: item.path.clone(), content, mode: item.mode.unwrap_or(mode) });
            }
            None if optional == Some(true) => {}
            None => {
                let what = format!("references non-existent config key: {}", item.key);
                return Err(SourceError::UnsupportedField(what));
            }
        }
    }
    Ok(files)
}

fn downward_files(
    pod: &Pod,
    items: Option<&[DownwardAPIVolumeFile]>,
    default_mode: Option<i32>,
) -> Result<Vec<File>, SourceError> {
    let mut files = Vec::new();
    for item in items.unwrap_or_default() {
        let value = if let Some(field) = &item.field_ref {
            downward::field(pod, &field.field_path)
        } else if let Some(selector) = &item.resource_field_ref {
            let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
            let mut named = containers.filter(|one| Some(&one.name) == selector.container_name.as_ref());
            named.next().and_then(|container| downward::resource(container, selector))
        } else {
            None
        };
        let content = value.ok_or_else(|| SourceError::UnsupportedField(item.path.clone()))?.into_bytes();
        let mode = item.mode.or(default_mode).unwrap_or(0o644);
        files.push(File { path: item.path.clone(), content, mode });
    }
    Ok(files)
}

/// The mounted paths of `container`; `places` has every volume of its pod.
pub fn mounts(container: &Container, places: &Places) -> Result<Mounts, SourceError> {
    let mut mounts = Mounts::default();
    for mount in container.volume_mounts.iter().flatten() {
        let Some(place) = places.get(&mount.name) else { continue };
        let place = match mount.sub_path.as_deref().filter(|path| !path.is_empty()) {
            None => place.clone(),
            Some(path) => {
                let place = place.join(inside(path)?);
                // As Kubernetes does: a sub-path that is not there yet becomes a directory.
                if !place.exists() {
                    create_dir(&place)?;
                }
                place
            }
        };
        mounts.add(&mount.mount_path, place);
    }
    Ok(mounts)
}

fn write(place: &Path, file: &File) -> Result<(), SourceError> {
    let path = place.join(inside(&file.path)?);
    if let Some(parent) = path.parent() {
        create_dir(parent)?;
    }
    // A read-only file of an earlier attempt could not be opened for writing.
    let written = match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => fs::write(&path, &file.content),
    };
    let mode = u32::try_from(file.mode).unwrap_or(0o644) & 0o777;
    written
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)))
        .map_err(|source| SourceError::Write { path: path.display().to_string(), source })
}

fn create_dir(path: &Path) -> Result<(), SourceError> {
    fs::create_dir_all(path).map_err(|source| SourceError::Write { path: path.display().to_string(), source })
}

/// `path` if it stays below the directory that it is joined to.
fn inside(path: &str) -> Result<&Path, SourceError> {
    let inner = Path::new(path);
    let plain = inner.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    plain.then_some(inner).ok_or_else(|| SourceError::Unsupported(format!("the path {path:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> BTreeMap<String, Vec<u8>> {
        BTreeMap::from([("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"2".to_vec())])
    }

    #[test]
    fn items_select_and_rename() {
        let items = [KeyToPath { key: "b".to_owned(), mode: Some(0o755), path: "bin/run".to_owned() }];
        let files = select(Some(entries()), Some(&items), None, None).unwrap();
        assert_eq!(files, [File { path: "bin/run".to_owned(), content: b"2".to_vec(), mode: 0o755 }]);
        assert_eq!(select(Some(entries()), None, Some(0o600), None).unwrap().len(), 2);
        let absent = [KeyToPath { key: "c".to_owned(), mode: None, path: "c".to_owned() }];
        assert!(select(Some(entries()), Some(&absent), None, None).is_err());
        assert_eq!(select(Some(entries()), Some(&absent), None, Some(true)).unwrap(), []);
    }

    #[test]
    fn files_are_written_with_their_mode_and_stay_inside() {
        let place = tempfile::tempdir().unwrap();
        let file = |path: &str, mode| File { path: path.to_owned(), content: b"x".to_vec(), mode };
        for attempt in 0..2 {
            write(place.path(), &file("deep/run", 0o500))
                .unwrap_or_else(|error| panic!("{attempt}: {error}"));
        }
        let mode = fs::metadata(place.path().join("deep/run")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o500);
        for path in ["../x", "/etc/x", "a/../../x"] {
            assert!(write(place.path(), &file(path, 0o644)).is_err(), "{path}");
        }
    }

    #[test]
    fn a_sub_path_is_mounted_in_place_of_its_volume() {
        let place = tempfile::tempdir().unwrap();
        let container: Container = serde_json::from_value(serde_json::json!({
            "name": "c",
            "volumeMounts": [
                {"name": "v", "mountPath": "/a", "subPath": "x/y"},
                {"name": "v", "mountPath": "/b"},
            ],
        }))
        .unwrap();
        let places = Places::from([("v".to_owned(), place.path().to_owned())]);
        let mounts = mounts(&container, &places).unwrap();
        assert_eq!(mounts.place("/a/f"), Some(place.path().join("x/y/f")));
        assert_eq!(mounts.place("/b"), Some(place.path().to_owned()));
        assert!(place.path().join("x/y").is_dir());
    }
}
