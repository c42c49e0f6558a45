//! Packs: fetch, check the whole revision, try all that differs, apply it as the Pack's account, delete what left. Whatever
//! fails before the first write, what was applied last stays in force; what fails after it is told as what it is.

mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use parking_lot::Mutex;

use super::context::Context;
use super::definitions;
use super::queue::Requeue;
use crate::api::{InventoryEntry, LABEL, Pack, PackStatus, Progress, Reason, set_progress};
use crate::cluster::account::Account;
use crate::cluster::discovery::Served;
use crate::cluster::objects::Objects;
use crate::cluster::{Error, Result, secrets, status};
use crate::controller::published::DOUBTED;
use crate::controller::rights::{self, lacking};
use crate::controller::strange::not_known;
use crate::decide::lineage::{self, Descent};
use crate::decide::pack::{self as manifests, Reading, Surroundings};
use crate::decide::problem::Severity;
use crate::decide::rights::Right;
use crate::decide::sync::{self, Deletion, Desired, Live, Plan, Refusal};
use crate::git::{self, Access, Lineage, Reference, Snapshot, Source};
use crate::source::watch::now;
pub use report::info;
use report::{MESSAGE_LIMIT, Report};

/// The kinds that a Pack applies.
const KINDS: [(&str, &str); 4] = [
    ("v1", "ConfigMap"),
    ("fother.dev/v1alpha1", "Action"),
    ("fother.dev/v1alpha1", "Webhook"),
    ("fother.dev/v1alpha1", "Rule"),
];

/// Objects of one kind that are tried, or applied, at a time. More are not faster: the API server has to do the work.
const APPLYING: usize = 16;

/// Objects that a condition names of those that were refused.
const TOLD: usize = 3;

/// Reconciles one Pack.
pub async fn reconcile(context: &Context, namespace: &str, name: &str) -> Result<Requeue> {
    let Some(pack) = context.packs.get(namespace, name) else { return Ok(Requeue::OnChange) };
    if pack.metadata.deletion_timestamp.is_some() {
        return Ok(Requeue::OnChange);
    }
    let report = match context.packs.unknown_field(namespace, name) {
        _ if pack.spec.suspend => Report::suspended(&pack),
        Some(field) => Report::failed(&pack, Reason::UnsupportedValue, &not_known(&field)),
        None => match sync(context, &pack).await {
            Ok(report) => report,
            Err(error) => {
                still_trying(context, &pack, &error).await;
                return Err(error);
            }
        },
    };
    let mut fresh = newest(context, &pack).status.clone().unwrap_or_default();
    report.write(&mut fresh, &pack, now());
    save(context, &pack, fresh).await?;
    Ok(match (pack.spec.suspend, report.again_soon) {
        (true, _) => Requeue::OnChange,
        (false, true) => Requeue::Failed,
        (false, false) => Requeue::After(pack.spec.interval.std().max(std::time::Duration::from_secs(1))),
    })
}

/// Says what keeps a sync from being finished. What is in force stays as it is said to be.
async fn still_trying(context: &Context, pack: &Arc<Pack>, error: &Error) {
    let mut fresh = newest(context, pack).status.clone().unwrap_or_default();
    let trouble = (Progress::Reconciling, Reason::ApplyFailed);
    let message: String = format!("{error}; it is tried again").chars().take(MESSAGE_LIMIT).collect();
    set_progress(&mut fresh.conditions, trouble, &message, pack.metadata.generation, now());
    if let Err(unsaved) = save(context, pack, fresh).await {
        tracing::debug!(%unsaved, "what keeps the sync from being finished is told here alone");
    }
}

async fn sync(context: &Context, pack: &Arc<Pack>) -> Result<Report> {
    let namespace = pack.namespace().unwrap_or_default();
    let account = &pack.spec.service_account_name;
    let account = match context.accounts.live(&context.home, &namespace, account).await {
        Ok(account) => account,
        Err(error) if error.is_forbidden() => return Ok(forbidden(pack, &error)),
        Err(error) => return Err(error),
    };
    let source = match source(pack, &account).await {
        Ok(source) => source,
        Err(report) => return Ok(report),
    };
    let fetched = tokio::time::timeout(pack.spec.timeout.std(), context.fetcher.fetch(&source)).await;
    let snapshot = match fetched {
        Ok(Ok(snapshot)) => snapshot,
        Ok(Err(error)) => return Ok(Report::not_fetched(pack, &error)),
        Err(_) => {
            let message = format!("fetch timed out after {}", pack.spec.timeout);
            return Ok(Report::failed(pack, Reason::FetchFailed, &message).again_soon());
        }
    };
    let (revision, commit) = (snapshot.revision.to_string(), snapshot.revision.commit.as_str());
    if let Some(message) = lineage::hold(pack, (&revision, commit), descent(snapshot.lineage)) {
        return Ok(Report::kept_back(pack, Reason::HistoryRewritten, &revision, &message));
    }
    let reading = read(context, pack, &snapshot).await;
    if reading.count(Severity::Error) > 0 {
        return Ok(Report::invalid(pack, &revision, &reading.findings));
    }
    match apply_revision(context, pack, &account, (&snapshot, reading)).await {
        Err(error) if error.lacks_a_right() => Ok(forbidden(pack, &error)),
        // Such as an inventory that has no room in the status.
        Err(error) if error.is_lasting() => {
            Ok(Report::failed(pack, Reason::ApplyFailed, &error.to_string()).again_soon())
        }
        other => other,
    }
}

fn forbidden(pack: &Pack, error: &Error) -> Report {
    let account = (&*pack.namespace().unwrap_or_default(), &*pack.spec.service_account_name);
    Report::forbidden(&rights::refused(&error.to_string(), account))
}

fn descent(lineage: Lineage) -> Descent {
    match lineage {
        Lineage::Unasked | Lineage::Descends => Descent::Proven,
        Lineage::Rewritten => Descent::Refuted,
        Lineage::Unproven => Descent::Unproven,
    }
}

/// Where to fetch from, with credentials read as the Pack's account.
async fn source(pack: &Pack, account: &Account) -> std::result::Result<Source, Report> {
    let namespace = pack.namespace().unwrap_or_default();
    let secret = match &pack.spec.secret_ref {
        Some(reference) => match secrets::read(&account.client(), &namespace, &reference.name).await {
            Ok(secret) => secret,
            Err(error) if error.is_forbidden() => return Err(forbidden(pack, &error)),
            Err(error) => return Err(Report::failed(pack, Reason::ReferenceNotFound, &error.to_string())),
        },
        None => BTreeMap::new(),
    };
    let access = Access::from_secret(&secret).map_err(|problem| {
        Report::failed(pack, Reason::UnsupportedValue, &format!("spec.secretRef: {problem}"))
    })?;
    let reference = Reference::try_from(pack.spec.reference.as_ref());
    Ok(Source {
        owner: format!("{namespace}/{}", pack.name_any()),
        url: pack.spec.url.clone(),
        reference: reference.map_err(|error| Report::not_fetched(pack, &error))?,
        path: pack
            .spec
            .path
            .clone()
            .unwrap_or_default()
            .trim_matches('/')
            .trim_start_matches("./")
            .to_owned(),
        access,
        signers: pack.spec.verify.as_ref().map(|verify| verify.signers.clone()),
        ancestor: lineage::ancestor(pack).map(str::to_owned),
    })
}

fn files(snapshot: &Snapshot) -> Vec<manifests::Source<'_>> {
    snapshot.files.iter().map(|file| manifests::Source { path: &file.path, content: &file.content }).collect()
}

async fn read(context: &Context, pack: &Pack, snapshot: &Snapshot) -> Reading {
    let namespace = pack.namespace().unwrap_or_default();
    let name = pack.name_any();
    let is_of_others = |metadata: &ObjectMeta| {
        let owner = metadata.labels.as_ref().and_then(|labels| labels.get(LABEL.pack));
        metadata.namespace.as_deref() == Some(&namespace) && owner != Some(&name)
    };
    let others = context.actions.filter(|action| is_of_others(&action.metadata));
    let names: Vec<String> = others.iter().map(|action| action.name_any()).collect();
    let others = context.webhooks.filter(|webhook| is_of_others(&webhook.metadata));
    let webhooks: Vec<String> = others.iter().map(|webhook| webhook.name_any()).collect();
    let surroundings = Surroundings {
        namespace: Some(&namespace),
        external_actions: names.iter().map(String::as_str).collect(),
        external_webhooks: webhooks.iter().map(String::as_str).collect(),
        partial: false,
        pods: context.pods,
    };
    let files = files(snapshot);
    let manifests = manifests::read(&files, &surroundings);
    let fields = context.published.of(&context.home, &manifests.api_versions(), DOUBTED).await;
    manifests.check(&fields.schemas)
}

async fn apply_revision(
    context: &Context,
    pack: &Arc<Pack>,
    account: &Account,
    (snapshot, reading): (&Snapshot, Reading),
) -> Result<Report> {
    let (namespace, name) = (pack.namespace().unwrap_or_default(), pack.name_any());
    let revision = snapshot.revision.to_string();
    let desired = sync::desired(&name, &namespace, &revision, &reading.objects, &files(snapshot));
    let kinds = kinds(pack, &desired);
    let needed: Vec<Right> = kinds.iter().map(|kind| Right::to("list", *kind)).collect();
    if let Some(refused) = refused(context, account, needed).await? {
        return Ok(refused);
    }
    let mut live = live(context, account, &namespace, &kinds).await?;
    live.extend(unlabeled_scripts(context, account, &namespace, (&desired, &live)).await?);
    let plan = match sync::plan(pack, (&revision, &snapshot.revision.commit), desired, &live) {
        Ok(plan) => plan,
        Err(Refusal::Held(message)) => return Ok(Report::held(pack, &revision, &message)),
        Err(Refusal::Taken(message)) => return Ok(Report::taken(pack, &revision, &message)),
    };
    if let Some(refused) = refused(context, account, rights(&plan)).await? {
        return Ok(refused);
    }
    let refused = rehearse(context, account, &namespace, &plan).await?;
    if !refused.is_empty() {
        return Ok(not_applied(pack, &revision, &refused));
    }
    // What is about to be created is written down first: whoever goes on after a crash knows what to delete.
    let mut during = pack.status.clone().unwrap_or_default();
    during.inventory.clone_from(&plan.inventory_during);
    if plan.changes() > 0 {
        let applying = (Progress::Reconciling, Reason::Progressing);
        let message = format!("applying {revision}");
        set_progress(&mut during.conditions, applying, &message, pack.metadata.generation, now());
        if during.applied_revision.as_ref() != Some(&revision) {
            during.applying_revision = Some(revision.clone());
        }
    }
    save(context, pack, during).await?;
    let written = Mutex::default();
    let kept = match carry_out(context, account, &namespace, (&plan, &written)).await {
        Ok(kept) => kept,
        Err(error) => return Ok(stopped(context, pack, &error, (&plan, &revision, &written.into_inner()))),
    };
    let mut inventory: BTreeSet<_> = plan.inventory_after.into_iter().collect();
    inventory.extend(kept);
    let warnings = reading.findings.iter().map(ToString::to_string).collect();
    let by = (&*revision, snapshot.signer.as_deref());
    Ok(Report::synced(by, (plan.objects, inventory.into_iter().collect()), warnings))
}

/// The report on a revision of which objects were refused before anything was written.
fn not_applied(pack: &Pack, revision: &str, refused: &[Error]) -> Report {
    if let Some(error) = refused.iter().find(|error| error.lacks_a_right()) {
        return forbidden(pack, error);
    }
    let mut texts: Vec<_> = refused.iter().take(TOLD).map(ToString::to_string).collect();
    if let Some(more @ 1..) = refused.len().checked_sub(TOLD) {
        texts.push(format!("and {more} more"));
    }
    Report::not_applied(pack, revision, &texts.join("; "))
}

/// The report on a revision of which not all was written.
fn stopped(
    context: &Context,
    pack: &Arc<Pack>,
    error: &Error,
    (plan, revision, written): (&Plan, &str, &BTreeSet<InventoryEntry>),
) -> Report {
    let mut why = error.to_string();
    if error.lacks_a_right() {
        let account = (&*pack.namespace().unwrap_or_default(), &*pack.spec.service_account_name);
        why = rights::refused(&why, account);
    }
    let is_partly_applied = pack.status.as_ref().is_some_and(|status| status.applying_revision.is_some());
    let report = if written.is_empty() && !is_partly_applied {
        Report::not_applied(pack, revision, &why)
    } else {
        let made = sync::so_far(written, plan.changes());
        Report::stopped(&newest(context, pack), revision, &format!("{why}; {made}"))
    };
    if error.lacks_a_right() { report.unauthorized() } else { report }
}

/// The report on an account that lacks one of these rights: known before the first write, so that a revision is not
/// applied in part.
async fn refused(
    context: &Context,
    account: &Account,
    needed: impl IntoIterator<Item = Right>,
) -> Result<Option<Report>> {
    let looking = (&context.home, &context.kinds, &context.reviews);
    let lacks = lacking(looking, needed, account).await?;
    Ok(lacks.map(|text| Report::forbidden(&text)))
}

/// The kinds that a sync looks at: Webhooks only where the Pack has some, so that its account needs no right to them
/// otherwise.
fn kinds(pack: &Pack, desired: &[Desired]) -> Vec<(&'static str, &'static str)> {
    let inventory = pack.status.iter().flat_map(|status| &status.inventory);
    let mut named = inventory.chain(desired.iter().map(|desired| &desired.entry));
    let has_webhooks = named.any(|entry| entry.kind == "Webhook");
    KINDS.into_iter().filter(|(_, kind)| *kind != "Webhook" || has_webhooks).collect()
}

/// What a plan needs.
fn rights(plan: &Plan) -> BTreeSet<Right> {
    let kind = |name: &str| KINDS.into_iter().find(|(_, kind)| *kind == name);
    let applied = plan.apply.iter().filter_map(|desired| kind(&desired.entry.kind));
    let deleted = plan.displace.iter().chain(&plan.delete);
    let deleted = deleted.filter_map(|deletion| kind(&deletion.entry.kind));
    let apply = applied.flat_map(|kind| [Right::to("create", kind), Right::to("patch", kind)]);
    apply.chain(deleted.map(|kind| Right::to("delete", kind))).collect()
}

/// What there is under the names that a Pack may use.
async fn live(
    context: &Context,
    account: &Account,
    namespace: &str,
    kinds: &[(&str, &str)],
) -> Result<BTreeMap<InventoryEntry, Live>> {
    let mut found = BTreeMap::new();
    for &(api_version, kind) in kinds {
        let served = context.kinds.find(&context.home, api_version, kind).await?;
        // ConfigMaps of others are none of the Pack's business; script names say what is in them.
        let selector = (kind == "ConfigMap").then_some(LABEL.pack);
        for object in Objects::of(account.client(), &served, Some(namespace)).list(selector).await? {
            let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            found.insert(InventoryEntry { kind: kind.to_owned(), name }, Live::of(object));
        }
    }
    Ok(found)
}

/// What has the name of a script, and lacks the label.
async fn unlabeled_scripts(
    context: &Context,
    account: &Account,
    namespace: &str,
    (desired, live): (&[Desired], &BTreeMap<InventoryEntry, Live>),
) -> Result<Vec<(InventoryEntry, Live)>> {
    let served = served(context, "ConfigMap").await?;
    let objects = Objects::of(account.client(), &served, Some(namespace));
    let scripts = desired.iter().map(|desired| &desired.entry).filter(|entry| sync::is_script(entry));
    let unknown: Vec<_> = scripts.filter(|entry| !live.contains_key(entry)).cloned().collect();
    let looks = unknown.into_iter().map(async |entry| {
        let found = objects.listed(&entry.name).await?;
        Ok(found.map(|object| (entry, Live::of(object))))
    });
    let found: Vec<Option<_>> = stream::iter(looks).buffered(APPLYING).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

/// Has the API server look at all that is to be applied, before the first write. Gives what it refuses.
async fn rehearse(context: &Context, account: &Account, namespace: &str, plan: &Plan) -> Result<Vec<Error>> {
    for tried in plan.rehearsal() {
        let tries: Vec<_> = tried
            .into_iter()
            .map(|desired| rehearse_one(context, account, namespace, (desired, plan)))
            .collect();
        let mut answers = stream::iter(tries).buffered(APPLYING);
        let mut refused = Vec::new();
        while let Some(answer) = answers.next().await {
            match answer {
                Err(error) if error.is_refusal() => refused.push(error),
                other => other?,
            }
        }
        if !refused.is_empty() {
            return Ok(refused);
        }
    }
    Ok(Vec::new())
}

async fn rehearse_one(
    context: &Context,
    account: &Account,
    namespace: &str,
    (Desired { entry, manifest }, plan): (&Desired, &Plan),
) -> Result<()> {
    let served = served(context, &entry.kind).await?;
    let objects = Objects::of(account.client(), &served, Some(namespace));
    match plan.displaces(entry) {
        // What is in its place would refuse it, and may have the room that it is to have.
        true => match objects.rehearse(manifest).await {
            Err(error) if error.exceeds_a_quota() => Ok(()),
            other => other,
        },
        false => objects.rehearse_apply(&entry.name, manifest).await,
    }
}

/// What was written, or may have been, as the answer was lost.
type Written = Mutex<BTreeSet<InventoryEntry>>;

/// Applies and deletes. Returns the scripts that have to stay for now: a later sync, to which they are still known, has them go.
async fn carry_out(
    context: &Context,
    account: &Account,
    namespace: &str,
    (plan, written): (&Plan, &Written),
) -> Result<Vec<InventoryEntry>> {
    for displaced in &plan.displace {
        let name = &displaced.entry.name;
        tracing::warn!(name, "this is not the script that its name says; putting it right");
        let objects = delete(context, account, namespace, (displaced, written)).await?;
        // Or whoever put it there could keep it.
        objects.release(name, displaced.uid.as_deref().unwrap_or_default()).await?;
    }
    // Kind by kind: what is named is there before what names it.
    for same_kind in plan.apply.chunk_by(|a, b| a.entry.kind == b.entry.kind) {
        let served = served(context, &same_kind[0].entry.kind).await?;
        let objects = Objects::of(account.client(), &served, Some(namespace));
        apply_all(&objects, same_kind, written).await?;
    }
    let in_use = scripts_in_use(context, namespace).await?;
    // What was decided while an Action still named the old script may not be known yet: it is by the next sync.
    let stays = |deletion: &&Deletion| {
        let entry = &deletion.entry;
        sync::is_script(entry) && (!plan.apply.is_empty() || in_use.contains(&entry.name))
    };
    for deletion in plan.delete.iter().filter(|deletion| !stays(deletion)) {
        delete(context, account, namespace, (deletion, written)).await?;
    }
    Ok(plan.delete.iter().filter(stays).map(|deletion| deletion.entry.clone()).collect())
}

async fn delete(
    context: &Context,
    account: &Account,
    namespace: &str,
    (Deletion { entry, uid }, written): (&Deletion, &Written),
) -> Result<Objects> {
    let served = served(context, &entry.kind).await?;
    let objects = Objects::of(account.client(), &served, Some(namespace));
    noted(objects.delete(&entry.name, uid.as_deref(), None).await, entry, written)?;
    tracing::info!(kind = entry.kind, name = entry.name, "deleted");
    Ok(objects)
}

/// Applies objects of one kind. After one that fails none is begun; those that are under way are waited for, so that it is
/// known what they came to.
async fn apply_all(objects: &Objects, same_kind: &[Desired], written: &Written) -> Result<()> {
    let applying: Vec<_> = same_kind.iter().map(|desired| apply(objects, desired, written)).collect();
    let (mut left, mut under_way) = (applying.into_iter(), FuturesUnordered::new());
    under_way.extend(left.by_ref().take(APPLYING));
    let mut failed = None;
    while let Some(applied) = under_way.next().await {
        if let Err(error) = applied {
            failed.get_or_insert(error);
        }
        under_way.extend(left.next().filter(|_| failed.is_none()));
    }
    failed.map_or(Ok(()), Err)
}

fn noted<T>(answer: Result<T>, entry: &InventoryEntry, written: &Written) -> Result<T> {
    if answer.as_ref().err().is_none_or(|error| error.code().is_none()) {
        written.lock().insert(entry.clone());
    }
    answer
}

async fn apply(objects: &Objects, desired: &Desired, written: &Written) -> Result<()> {
    let Desired { entry, manifest } = desired;
    let applied = noted(objects.apply(&entry.name, manifest).await, entry, written)?;
    // What somebody added by hand, an `unless` that is always true, is nothing that git says.
    if manifest.get("spec").is_some() && desired.is_contradicted_by(&applied) {
        objects.overrule(&entry.name, &applied, &manifest["spec"]).await?;
    }
    tracing::info!(kind = entry.kind, name = entry.name, "applied");
    Ok(())
}

async fn served(context: &Context, kind: &str) -> Result<Served> {
    let api_version =
        KINDS.iter().find(|(_, known)| *known == kind).map_or("v1", |(api_version, _)| api_version);
    context.kinds.find(&context.home, api_version, kind).await
}

/// Scripts that an Execution has still to mount. Nothing is deleted while it cannot be read what an Execution runs; one
/// whose definition is gone mounts nothing any more.
async fn scripts_in_use(context: &Context, namespace: &str) -> Result<BTreeSet<String>> {
    let running =
        context.executions.filter(|e| e.namespace().as_deref() == Some(namespace) && !e.is_finished());
    let mut scripts = BTreeSet::new();
    for name in running.iter().filter_map(|execution| execution.definition()) {
        let definition = match definitions::read(context, namespace, name).await {
            Err(error) if error.is_lasting() && !error.is_forbidden() => continue,
            definition => definition?,
        };
        let mounted =
            definition.actions.values().filter_map(|action| action.script.as_ref()?.config_map.as_ref());
        scripts.extend(mounted.map(|from| from.name.clone()));
    }
    Ok(scripts)
}

/// The Pack with what was written to it a moment ago.
fn newest(context: &Context, pack: &Arc<Pack>) -> Arc<Pack> {
    let known = context.packs.get(&pack.namespace().unwrap_or_default(), &pack.name_any());
    known.filter(|known| known.metadata.uid == pack.metadata.uid).unwrap_or_else(|| pack.clone())
}

async fn save(context: &Context, pack: &Arc<Pack>, fresh: PackStatus) -> Result<()> {
    let newest = newest(context, pack);
    if let Some(written) = status::write(&context.home, &*newest, newest.status.as_ref(), &fresh).await? {
        context.packs.insert(Arc::new(written));
    }
    Ok(())
}

/// The reason of a fetch that failed.
fn reason_of(error: &git::Error) -> Reason {
    match error {
        git::Error::InvalidUrl { .. }
        | git::Error::InvalidReference { .. }
        | git::Error::InvalidCredentials { .. } => Reason::UnsupportedValue,
        git::Error::ReferenceNotFound { .. } => Reason::ReferenceNotFound,
        git::Error::ContentRefused { .. } => Reason::InvalidRevision,
        git::Error::SignatureInvalid { .. } => Reason::SignatureInvalid,
        _ => Reason::FetchFailed,
    }
}
