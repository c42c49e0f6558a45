//! What all reconcilers share.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::Client;

use super::definitions::Definitions;
use super::execution::{JobWatches, Troubles, Turns};
use super::executions::Executions;
use super::looks::Looks;
use super::outcomes::Pending;
use super::published::Published;
use super::queue::Queue;
use super::receiver::{Known, Listening, Unheard};
use super::recorder::Recorder;
use super::rule::{Evaluators, Places};
use super::store::Store;
use super::{Batches, Rules};
use crate::api::{Action, Pack, Webhook};
use crate::cluster::account::Accounts;
use crate::cluster::discovery::Kinds;
use crate::cluster::events::Teller;
use crate::cluster::reviews::Reviews;
use crate::decide::episode::Caps;
use crate::decide::index::Index;
use crate::decide::pod::PodPolicy;
use crate::git::Fetcher;
use crate::source::shared::Watches;
use crate::telemetry::Metrics;

/// Clients, stores and settings.
pub struct Context {
    /// The controller's own client, guarded by the lease.
    pub home: Client,
    /// Which kinds there are.
    pub kinds: Kinds,
    /// What fields they have.
    pub published: Published,
    /// Accounts, as they were read last.
    pub accounts: Accounts,
    /// Has Events about targets written, beside the work that they tell about.
    pub teller: Teller,
    /// What accounts may do.
    pub reviews: Reviews,
    /// What is watched for rules.
    pub watches: Watches<Index>,
    /// The evaluators of rules.
    pub evaluators: Evaluators,
    /// Packs, as last seen.
    pub packs: Store<Pack>,
    /// Rules, as last seen.
    pub rules: Rules,
    /// Actions, as last seen.
    pub actions: Store<Action>,
    /// Executions, as last seen.
    pub executions: Executions,
    /// Webhooks, as last seen.
    pub webhooks: Store<Webhook>,
    /// What they received and is kept, as last seen.
    pub batches: Batches,
    /// How much of it there is.
    pub known: Known,
    /// What became of it and is not written yet.
    pub pending: Pending,
    /// Who listens to it.
    pub listening: Listening,
    /// Since when everybody who sends is heard.
    pub unheard: Unheard,
    /// From when to when nobody led before this process did; none if nobody knows.
    pub unled: Option<(Timestamp, Timestamp)>,
    /// Until when somebody led before so that nothing is left over from then; none if nobody knows.
    pub settled: Option<Timestamp>,
    /// What is to be reconciled.
    pub queue: Queue,
    /// The most that may go on at once.
    pub caps: Caps,
    /// What Actions may say about their Pods.
    pub pods: PodPolicy,
    /// Whether somebody listens for what Webhooks receive.
    pub receives: bool,
    /// Fetches Packs.
    pub fetcher: Fetcher,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What is told the journal.
    pub journal: Recorder,
    /// Who fires at this moment.
    pub places: Places,
    /// Which Execution may act on which target.
    pub turns: Turns,
    /// Executions that cannot be looked at.
    pub troubles: Troubles,
    /// What was looked at before an Execution was created.
    pub looks: Looks,
    /// Jobs that are watched.
    pub jobs: JobWatches,
    /// Definitions that are known, and who needs them.
    pub definitions: Definitions,
}
