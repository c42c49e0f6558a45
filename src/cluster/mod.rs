//! Shell that writes to the cluster: apply, status, impersonation, operations, lease.
