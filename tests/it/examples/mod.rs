//! Example packs that listen to alerts, played in the sandbox: the packs' own files, the rights in their `rbac.yaml` and no
//! others, make-believe workloads, and a node that runs their Jobs.

mod alert_job;
mod alerting_pod;
mod disk_alert;
mod node_restart;
mod stage;
