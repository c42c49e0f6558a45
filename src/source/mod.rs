//! Shell that watches the cluster and delivers what it sees.
