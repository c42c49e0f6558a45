//! The in-memory API over HTTPS on a free port, for kubectl and other processes.

use std::sync::Arc;

use bytes::Bytes;
use fother::sandbox::apiserver::{ApiServer, User};
use fother::sandbox::logs::{LogError, LogQuery, LogSource, LogStream};
use fother::sandbox::pki::Pki;
use futures::{StreamExt, stream};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::support::access::Access;
use crate::support::kubectl::Kubectl;

/// A running API, which ends with the test.
pub struct Stage {
    pub server: ApiServer,
    pub access: Access,
    _stop: DropGuard,
}

/// Says which log was asked for.
struct Echo;

impl LogSource for Echo {
    fn open(&self, query: &LogQuery) -> Result<LogStream, LogError> {
        let text = format!("{}/{} tail={:?}\n", query.pod, query.container, query.tail_lines);
        Ok(stream::iter([Ok(Bytes::from(text))]).boxed())
    }
}

impl Stage {
    pub async fn start() -> Self {
        let server = ApiServer::new();
        server.add_token("admin", User::admin());
        server.set_log_source(Arc::new(Echo));
        let pki = Pki::generate().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        tokio::spawn(server.clone().serve(listener, pki.tls.clone(), stop.clone()));
        Self { server, access: Access::new(&url, &pki.ca_pem, "admin"), _stop: stop.drop_guard() }
    }

    pub fn kubectl(&self) -> Kubectl {
        Kubectl::new(&self.access)
    }
}

/// A kind with a schema, a rule, columns, a status and a scale.
pub const FOO: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: foos.x.dev}
spec:
  group: x.dev
  scope: Namespaced
  names: {plural: foos, kind: Foo, shortNames: [fo], categories: [things]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}, scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}}
    additionalPrinterColumns:
    - {name: Mode, type: string, jsonPath: .spec.mode}
    - {name: Ready, type: string, jsonPath: '.status.conditions[?(@.type=="Ready")].status'}
    - {name: Age, type: date, jsonPath: .metadata.creationTimestamp}
    schema:
      openAPIV3Schema:
        type: object
        description: A Foo is a thing.
        properties:
          spec:
            type: object
            description: What is wanted.
            required: [mode]
            x-kubernetes-validations:
            - {rule: "!has(self.a) || !has(self.b)", message: "a and b exclude each other"}
            properties:
              mode: {type: string, enum: [Observe, Enforce], description: How it acts.}
              a: {type: string, maxLength: 5}
              b: {type: string, pattern: "^x"}
              level: {type: string, default: low}
              replicas: {type: integer, minimum: 0}
              fixed: {type: string, x-kubernetes-validations: [{rule: "self == oldSelf", message: "fixed is immutable"}]}
          status: {type: object, x-kubernetes-preserve-unknown-fields: true}
"#;

pub fn foo(name: &str, spec: &str) -> String {
    format!("apiVersion: x.dev/v1\nkind: Foo\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}
