//! The same requests to the in-memory API and to a real kube-apiserver: the answers must not differ beyond what
//! differs from run to run.
//!
//! A case is a short conversation with one API server (`exchange`), which leaves a transcript (`transcript`) without
//! names, times and versions (`normal`). What a real server answered is kept in `recorded/`. The fast tests compare
//! the in-memory API with that; those in `real` compare the records with a real server, and with `UPDATE_EXPECT=1`
//! write them anew.

mod access;
mod apply;
mod bookmarks;
mod custom;
mod deletion;
mod deviations;
mod exchange;
mod forms;
mod lists;
mod normal;
mod objects;
mod patches;
mod paths;
mod real;
mod refusals;
mod repository;
mod rules;
mod transcript;
mod watches;
mod workloads;

use std::future::Future;
use std::pin::Pin;

use exchange::Exchange;
use transcript::Transcript;

/// A named conversation.
struct Case {
    name: &'static str,
    run: for<'x> fn(&'x mut Exchange) -> Pin<Box<dyn Future<Output = ()> + Send + 'x>>,
}

/// The cases of one file.
struct Theme {
    name: &'static str,
    cases: Vec<Case>,
}

macro_rules! theme {
    ($theme:ident: $($case:ident),* $(,)?) => {
        Theme {
            name: stringify!($theme),
            cases: vec![$(Case { name: stringify!($case), run: |x| Box::pin($theme::$case(x)) }),*],
        }
    };
}

fn themes() -> Vec<Theme> {
    vec![
        theme!(objects: create_and_read, names_are_checked, metadata_is_checked, bodies_that_do_not_fit, generated_names,
            replaces, what_an_update_cannot_touch, immutable_content, dry_runs, unknown_fields, field_managers),
        theme!(patches: merge_patches, json_patches, strategic_patches, a_custom_kind_takes_no_strategic_patch),
        theme!(apply: on_a_map, what_it_asks_of_a_request, on_a_workload, on_a_custom_kind),
        theme!(lists: label_selectors, field_selectors, selectable_fields, pages, versions, expired),
        theme!(watches: from_a_version, finalizers_are_seen, from_the_present_state, streaming_lists, what_is_refused,
            in_other_forms),
        theme!(bookmarks: of_a_watch_that_lives, only_for_who_asks_and_stays, of_a_streaming_list, in_other_forms),
        theme!(deletion: with_preconditions, what_the_options_may_say, answers_of_some_kinds, finalizers_hold,
            of_a_custom_object, in_the_background, in_the_foreground, leaving_orphans, two_owners, owners_that_never_were,
            of_a_collection, of_a_namespace),
        theme!(custom: registration, definitions_are_checked, schemas_are_checked, validation, unknown_fields_are_pruned,
            defaults, status_is_kept_apart, without_a_status_subresource, scale, two_versions, at_cluster_scope),
        theme!(rules: on_create, on_update, what_was_wrong_before_may_stay),
        theme!(forms: tables_of_built_in_kinds, tables_of_custom_kinds, metadata_only, what_may_be_accepted),
        theme!(access: a_role_allows_what_it_names, impersonation, access_reviews, roles_and_bindings_are_checked),
        theme!(paths: that_lead_nowhere, methods_that_are_not_known, ways_to_a_namespaced_kind, parameters, discovery),
        theme!(workloads: a_deployment_and_its_scale, pods, evictions, jobs, generations, events_in_both_groups),
    ]
}

/// The kinds that this repository defines. They change with every release, and so do the answers: no record is kept of them.
fn own_kinds() -> Theme {
    theme!(repository: rules, actions, executions, packs, webhooks, event_batches)
}

/// The answers of the in-memory API, each case on a fresh one.
async fn played(theme: &Theme) -> Transcript {
    let mut transcript = Transcript::new();
    for case in &theme.cases {
        let mut exchange = Exchange::sandbox().await;
        (case.run)(&mut exchange).await;
        transcript.push((case.name.to_owned(), exchange.steps));
    }
    transcript
}

/// Cases to run where only some are wanted, as `CONFORMANCE=lists` or `CONFORMANCE=pages`.
fn wanted() -> Vec<Theme> {
    let mut themes = themes();
    if let Ok(name) = std::env::var("CONFORMANCE") {
        for theme in themes.iter_mut().filter(|theme| theme.name != name) {
            theme.cases.retain(|case| case.name == name);
        }
    }
    themes.retain(|theme| !theme.cases.is_empty());
    themes
}

#[tokio::test(start_paused = true)]
async fn answers_are_those_that_were_recorded() {
    let mut found = Vec::new();
    let themes = wanted();
    for theme in &themes {
        let path = transcript::file(theme.name);
        let mut recorded = transcript::read(&std::fs::read_to_string(&path).unwrap());
        recorded.retain(|(name, _)| theme.cases.iter().any(|case| case.name == name));
        found.extend(transcript::differences(theme.name, &recorded, &played(theme).await));
    }
    deviations::judge(&found, |place| {
        let mut cases =
            themes.iter().flat_map(|theme| theme.cases.iter().map(move |case| (theme.name, case.name)));
        cases.any(|(theme, case)| place.starts_with(&format!("{theme}/{case}/")))
    });
}
