//! Webhook: an inbound endpoint, what it speaks and how its senders prove themselves.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Duration;

/// An inbound endpoint at `/hooks/NAMESPACE/NAME`: exactly one format, and exactly one way to authenticate.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "fother.dev",
    version = "v1alpha1",
    kind = "Webhook",
    namespaced,
    status = "WebhookStatus",
    shortname = "fwh",
    category = "fother",
    doc = "An inbound endpoint: what it speaks, and how its senders prove themselves.",
    validation = Rule::new("self.metadata.name.size() <= 52").message("name is too long: max 52 characters"),
    printcolumn(name = "Type", type_ = "string", json_path = ".status.type"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Last-Event", type_ = "date", json_path = ".status.lastEventAt"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Path", type_ = "string", json_path = ".status.path", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.alertmanager), has(self.cloudevents), has(self.github), has(self.gitlab), has(self.generic)].filter(set, set).size() == 1")
    .message("exactly one of alertmanager, cloudevents, github, gitlab and generic must be set"))]
pub struct WebhookSpec {
    /// What the Webhook is for, in a sentence. Example: `Alerts of the production clusters.`
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 2048))]
    pub description: String,
    /// `ServiceAccount` in the Webhook's namespace as which the Secret is read; it has to carry the annotation
    /// `fother.dev/allow: "true"` and may get that Secret. Example: `receiver`.
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: String,
    /// Notifications of Alertmanager (version 4) or Grafana: each alert becomes an event, for `trigger.alert`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alertmanager: Option<Defaults>,
    /// `CloudEvents` 1.0 over HTTP: structured, binary or batched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloudevents: Option<Defaults>,
    /// Webhooks of GitHub: the type is the event and its action, such as `deployment_status.created`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub github: Option<Defaults>,
    /// Webhooks of GitLab: the type is the payload's `object_kind`, such as `pipeline`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gitlab: Option<Defaults>,
    /// Any other JSON: expressions say where identity, type and time are in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generic: Option<GenericMapping>,
    /// How senders prove themselves: exactly one of the fields.
    pub authentication: Authentication,
    /// How much a sender may send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<WebhookLimits>,
}

/// A format without settings.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Defaults {}

/// Where the envelope of an event is in any JSON: CEL expressions over `body` and, with a bearer token, `headers` (in
/// lower case). A signature does not cover headers, so that with `hmac` they are not to be had.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GenericMapping {
    /// What tells one event from another: a request that is repeated must give the same. Example: `body.deliveryId`.
    #[schemars(length(min = 1, max = 4096))]
    pub id: String,
    /// What kind of event it is. Example: `"'disk.' + body.severity"`.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 4096))]
    pub event_type: String,
    /// When it happened, a timestamp. Default: when it was received. Example: `timestamp(body.at)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub time: Option<String>,
    /// Who it is from. Default: the Webhook's name. Example: `body.host`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub source: Option<String>,
}

/// How senders prove themselves: exactly one of the fields.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.bearer) != has(self.hmac)")
    .message("exactly one of bearer and hmac must be set: an endpoint without authentication is none"))]
pub struct Authentication {
    /// A token in a header. It proves the sender, not the message: use it over TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer: Option<Bearer>,
    /// A signature over the raw body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hmac: Option<Hmac>,
}

impl Authentication {
    /// The headers that it names, as they are written: what stands in them is not to be kept.
    pub fn headers(&self) -> impl Iterator<Item = &str> {
        let token = self.bearer.iter().filter_map(|bearer| bearer.header.as_deref());
        token.chain(self.hmac.iter().filter_map(|hmac| hmac.header.as_deref()))
    }
}

/// A token in a header.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bearer {
    /// Where the token is kept.
    pub secret_ref: SecretKey,
    /// The header that carries the token and nothing else. Default: `X-Gitlab-Token` for `gitlab`; otherwise
    /// `Authorization`, where the word `Bearer` stands before the token. Example: `X-Token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[A-Za-z0-9-]+$"))]
    pub header: Option<String>,
}

/// A signature over the raw body. The defaults are those of the format: GitHub's `X-Hub-Signature-256`; for GitLab the
/// headers of Standard Webhooks (`webhook-signature`, `webhook-id`, `webhook-timestamp`); for all others
/// `X-Signature` over `X-Signature-Timestamp` and the body.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.tolerance) || duration(self.tolerance) <= duration('15m')")
    .message("tolerance is at most 15m: a request that is overheard can be sent again for as long"))]
pub struct Hmac {
    /// Where the key is kept. A key that begins with `whsec_` is base64 after that, as in Standard Webhooks.
    pub secret_ref: SecretKey,
    /// What the signature is over. Default: `Body` for `github`, `IdTimestampAndBody` for `gitlab`, otherwise
    /// `TimestampAndBody`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signs: Option<Signs>,
    /// The header that carries the signature; several may stand in it, separated by spaces or commas and spaces.
    /// Default: that of the format. Example: `X-Hub-Signature-256`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[A-Za-z0-9-]+$"))]
    pub header: Option<String>,
    /// The hash. Default: `SHA256`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<HashAlgorithm>,
    /// How the signature is written. Default: `Base64` for `gitlab`, otherwise `Hex`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    /// What stands before the signature. Default: `v1,` for `gitlab`, otherwise `sha256=` or `sha512=`. Example: `sha256=`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub prefix: Option<String>,
    /// The header that carries the time of sending, in seconds since 1970, where `signs` has one. Default: that of the
    /// format. Example: `Webhook-Timestamp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[A-Za-z0-9-]+$"))]
    pub timestamp_header: Option<String>,
    /// How far the time of sending may be from ours, at most `15m`. For so long what is received is remembered, so that it
    /// is taken in once. Default: `5m`. Example: `2m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<Duration>,
}

/// What a signature is over.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Signs {
    /// The raw body alone. What was sent once can be sent again at any time; it is told apart by what is in it.
    Body,
    /// The time of sending, a dot, and the raw body.
    TimestampAndBody,
    /// The message's id (header `webhook-id`), a dot, the time of sending, a dot, and the raw body.
    IdTimestampAndBody,
}

/// The hash of a signature.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum HashAlgorithm {
    /// HMAC-SHA256.
    #[default]
    SHA256,
    /// HMAC-SHA512.
    SHA512,
}

/// How a signature is written.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Encoding {
    /// Hexadecimal digits.
    Hex,
    /// Base64.
    Base64,
}

/// One key of a Secret in the same namespace.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct SecretKey {
    /// Name of the Secret. Example: `alertmanager`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in it. Example: `token`.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// How much a sender may send.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookLimits {
    /// The largest body, in bytes. Default: 1048576, which is also the most. Example: 65536.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_048_576))]
    pub max_body_bytes: Option<i32>,
    /// How many requests one address, or one IPv6 network of 64 bits, may have answered in a minute; more are asked to
    /// come back (503). Default: 600. Example: 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub per_sender_per_minute: Option<i32>,
}

/// What a Webhook speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format<'a> {
    /// Alertmanager and Grafana.
    Alertmanager,
    /// `CloudEvents`.
    CloudEvents,
    /// GitHub.
    GitHub,
    /// GitLab.
    GitLab,
    /// Any JSON.
    Generic(&'a GenericMapping),
}

impl Format<'_> {
    /// The name of its field.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alertmanager => "alertmanager",
            Self::CloudEvents => "cloudevents",
            Self::GitHub => "github",
            Self::GitLab => "gitlab",
            Self::Generic(_) => "generic",
        }
    }
}

impl Eq for GenericMapping {}

/// The largest body that any Webhook takes.
pub const MAX_BODY: usize = 1024 * 1024;
/// How many requests an address may have answered in a minute, if the Webhook does not say.
const PER_SENDER_PER_MINUTE: u32 = 600;

impl WebhookSpec {
    /// What it speaks; none if it is not exactly one thing.
    pub fn format(&self) -> Option<Format<'_>> {
        let mut set = [
            self.alertmanager.as_ref().map(|_| Format::Alertmanager),
            self.cloudevents.as_ref().map(|_| Format::CloudEvents),
            self.github.as_ref().map(|_| Format::GitHub),
            self.gitlab.as_ref().map(|_| Format::GitLab),
            self.generic.as_ref().map(Format::Generic),
        ]
        .into_iter()
        .flatten();
        let format = set.next()?;
        set.next().is_none().then_some(format)
    }

    /// The largest body that it takes.
    pub fn max_body(&self) -> usize {
        let asked = self.limits.as_ref().and_then(|limits| limits.max_body_bytes);
        asked.and_then(|bytes| usize::try_from(bytes).ok()).map_or(MAX_BODY, |bytes| bytes.min(MAX_BODY))
    }

    /// How many requests an address may have answered in a minute.
    pub fn per_sender_per_minute(&self) -> u32 {
        let asked = self.limits.as_ref().and_then(|limits| limits.per_sender_per_minute);
        asked.and_then(|count| u32::try_from(count).ok()).unwrap_or(PER_SENDER_PER_MINUTE)
    }

    /// The variables of the expressions of `generic`: a signature does not cover headers.
    pub fn variables(&self) -> &'static [&'static str] {
        if self.authentication.hmac.is_some() { &["body", "now"] } else { &["body", "headers", "now"] }
    }

    /// Where the secret is kept.
    pub fn secret(&self) -> Option<&SecretKey> {
        let Authentication { bearer, hmac } = &self.authentication;
        bearer.as_ref().map(|b| &b.secret_ref).or(hmac.as_ref().map(|h| &h.secret_ref))
    }
}

/// What the Webhook has come to.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookStatus {
    /// Ready, Accepted, `ResolvedRefs`, Authorized; Reconciling or Stalled while they are true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What it speaks. Example: `alertmanager`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub format: Option<String>,
    /// The path that it is served at. Example: `/hooks/payments/alertmanager`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub path: Option<String>,
    /// When an authenticated request last came. Written at most every ten seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_event_at: Option<Time>,
    /// Requests that were refused, by reason, since the Webhook was created. Written at most every ten seconds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub rejected: Vec<RejectedCount>,
    /// The last notification that left alerts out (`max_alerts` of Alertmanager): what it left out is unknown here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncated: Option<Truncated>,
}

/// How many requests were refused for one reason.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct RejectedCount {
    /// Why. Example: `Unauthenticated`.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// How many.
    pub count: i64,
}

/// A notification that left alerts out.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Truncated {
    /// How many it left out.
    pub alerts: i64,
    /// When it came.
    pub at: Time,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_format() {
        let mut spec = WebhookSpec { github: Some(Defaults {}), ..WebhookSpec::default() };
        assert_eq!(spec.format(), Some(Format::GitHub));
        spec.gitlab = Some(Defaults {});
        assert_eq!(spec.format(), None);
        assert_eq!(WebhookSpec::default().format(), None);
    }

    #[test]
    fn no_webhook_takes_more_than_the_most() {
        let limits = |bytes| WebhookSpec {
            limits: Some(WebhookLimits { max_body_bytes: Some(bytes), ..WebhookLimits::default() }),
            ..WebhookSpec::default()
        };
        assert_eq!(
            [limits(10).max_body(), limits(i32::MAX).max_body(), limits(-1).max_body()],
            [10, MAX_BODY, MAX_BODY]
        );
    }
}
