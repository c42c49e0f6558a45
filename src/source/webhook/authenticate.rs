//! Whether a request is from somebody who knows the secret: compared in constant time, over the raw body.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use ring::hmac;
use sha2::{Digest, Sha256};

use super::header;
use crate::api::{Bearer, Duration, Encoding, Format, HashAlgorithm, Hmac, Signs, WebhookSpec};

/// How far the time of sending may be from ours, if the Webhook does not say.
const TOLERANCE: SignedDuration = SignedDuration::from_mins(5);
/// The most that it may be.
const MOST: SignedDuration = SignedDuration::from_mins(15);
/// Signatures in one header that are tried: senders that change keys send two.
const MAX_SIGNATURES: usize = 8;
/// The header with the id of a message, in Standard Webhooks.
pub(super) const ID_HEADER: &str = "webhook-id";

/// Whether a request has any credentials, before its body is read: a stranger's is not worth the memory. A token is
/// compared already here.
///
/// # Errors
/// What is missing, in a sentence for the sender that says nothing of the secret.
pub fn has_credentials(spec: &WebhookSpec, secret: &str, headers: &HeaderMap) -> Result<(), String> {
    match (&spec.authentication.bearer, &spec.authentication.hmac) {
        (Some(token), None) => bearer(spec, token, secret, headers),
        (None, Some(signature)) => {
            let scheme = Scheme::of(spec, signature);
            let present = header(headers, &scheme.header).is_some();
            present.then_some(()).ok_or_else(|| "missing signature header".to_owned())
        }
        _ => Err("the Webhook has no single authentication".to_owned()),
    }
}

/// Whether a request is authentic.
///
/// # Errors
/// Why not, in a sentence for the sender that says nothing of the secret.
pub fn authenticate(
    spec: &WebhookSpec,
    secret: &str,
    headers: &HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Result<(), String> {
    has_credentials(spec, secret, headers)?;
    match &spec.authentication.hmac {
        Some(signature) => Scheme::of(spec, signature).verify(secret, headers, body, now),
        None => Ok(()),
    }
}

/// Until when an authentic request is so if somebody sends it again; none if nothing in it says when it was sent.
pub fn authentic_until(spec: &WebhookSpec, headers: &HeaderMap) -> Option<Timestamp> {
    let scheme = Scheme::of(spec, spec.authentication.hmac.as_ref()?);
    if scheme.signs == Signs::Body {
        return None;
    }
    let sent = sent_at(header(headers, &scheme.timestamp_header)?)?;
    // Ages are compared in whole seconds: what is not a second too old is fresh.
    sent.checked_add(scheme.tolerance + SignedDuration::from_secs(1)).ok()
}

fn bearer(spec: &WebhookSpec, bearer: &Bearer, secret: &str, headers: &HeaderMap) -> Result<(), String> {
    let own = match spec.format() {
        Some(Format::GitLab) => Some("X-Gitlab-Token"),
        _ => None,
    };
    let named = bearer.header.as_deref().or(own);
    let given = if let Some(name) = named {
        header(headers, name).ok_or_else(|| format!("missing {name} header"))?
    } else {
        let value = header(headers, "authorization").ok_or("missing Authorization header")?;
        let (scheme, token) = value.split_once(' ').ok_or("want Authorization: Bearer TOKEN")?;
        let is_bearer = scheme.eq_ignore_ascii_case("bearer");
        is_bearer.then(|| token.trim()).ok_or("want Authorization: Bearer TOKEN")?
    };
    // Digests are compared: how long that takes says nothing of the token.
    let digest = |text: &str| Sha256::digest(text.as_bytes());
    if !secret.is_empty() && digest(given) == digest(secret) {
        Ok(())
    } else {
        Err("token mismatch".to_owned())
    }
}

/// A way to sign, with all defaults filled in.
struct Scheme {
    signs: Signs,
    header: String,
    algorithm: HashAlgorithm,
    encoding: Encoding,
    prefix: String,
    timestamp_header: String,
    tolerance: SignedDuration,
}

impl Scheme {
    fn of(spec: &WebhookSpec, hmac: &Hmac) -> Self {
        let algorithm = hmac.algorithm.unwrap_or_default();
        let hash = match algorithm {
            HashAlgorithm::SHA256 => "sha256=",
            HashAlgorithm::SHA512 => "sha512=",
        };
        let (signs, header, encoding, prefix, timestamp) = match spec.format() {
            Some(Format::GitHub) => (Signs::Body, "X-Hub-Signature-256", Encoding::Hex, hash, "Date"),
            Some(Format::GitLab) => {
                (Signs::IdTimestampAndBody, "webhook-signature", Encoding::Base64, "v1,", "webhook-timestamp")
            }
            _ => (Signs::TimestampAndBody, "X-Signature", Encoding::Hex, hash, "X-Signature-Timestamp"),
        };
        let or = |own: &Option<String>, default: &str| own.clone().unwrap_or_else(|| default.to_owned());
        Self {
            signs: hmac.signs.unwrap_or(signs),
            header: or(&hmac.header, header),
            algorithm,
            encoding: hmac.encoding.unwrap_or(encoding),
            prefix: or(&hmac.prefix, prefix),
            timestamp_header: or(&hmac.timestamp_header, timestamp),
            // A Webhook from before there was a most may say more.
            tolerance: hmac.tolerance.map_or(TOLERANCE, Duration::signed).min(MOST),
        }
    }

    fn verify(&self, secret: &str, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<(), String> {
        let given = header(headers, &self.header).ok_or("missing signature header")?;
        let timestamp = match self.signs {
            Signs::Body => None,
            Signs::TimestampAndBody | Signs::IdTimestampAndBody => {
                let missing = || format!("missing {} header", self.timestamp_header);
                Some(header(headers, &self.timestamp_header).ok_or_else(missing)?)
            }
        };
        let mut signed = Vec::with_capacity(body.len() + 128);
        if self.signs == Signs::IdTimestampAndBody {
            let id = header(headers, ID_HEADER).ok_or_else(|| format!("missing {ID_HEADER} header"))?;
            signed.extend_from_slice(id.as_bytes());
            signed.push(b'.');
        }
        if let Some(timestamp) = timestamp {
            signed.extend_from_slice(timestamp.as_bytes());
            signed.push(b'.');
        }
        signed.extend_from_slice(body);
        let key = self.key(secret).ok_or("signature mismatch")?;
        let matches = |text: &str| {
            let signature = text.strip_prefix(&self.prefix).and_then(|text| self.decode(text));
            signature.is_some_and(|signature| hmac::verify(&key, &signed, &signature).is_ok())
        };
        // A signature with a comma in its prefix is followed by a space, so that no comma ends it.
        if !given.split_whitespace().map(|text| text.trim_end_matches(',')).take(MAX_SIGNATURES).any(matches)
        {
            return Err("signature mismatch".to_owned());
        }
        timestamp.map_or(Ok(()), |timestamp| self.is_fresh(timestamp, now))
    }

    fn key(&self, secret: &str) -> Option<hmac::Key> {
        let algorithm = match self.algorithm {
            HashAlgorithm::SHA256 => hmac::HMAC_SHA256,
            HashAlgorithm::SHA512 => hmac::HMAC_SHA512,
        };
        let bytes = match secret.strip_prefix("whsec_") {
            Some(encoded) => STANDARD.decode(encoded).ok()?,
            None => secret.as_bytes().to_vec(),
        };
        (!bytes.is_empty()).then(|| hmac::Key::new(algorithm, &bytes))
    }

    fn decode(&self, text: &str) -> Option<Vec<u8>> {
        match self.encoding {
            Encoding::Base64 => STANDARD.decode(text).ok(),
            Encoding::Hex => {
                let digits = text.as_bytes();
                let pairs = digits.chunks_exact(2);
                if !pairs.remainder().is_empty() {
                    return None;
                }
                let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
                pairs.map(byte).collect()
            }
        }
    }

    fn is_fresh(&self, timestamp: &str, now: Timestamp) -> Result<(), String> {
        let unreadable = || format!("{} is no time in seconds since 1970", self.timestamp_header);
        let sent = sent_at(timestamp).ok_or_else(unreadable)?;
        let (age, most) = (now.duration_since(sent).as_secs(), self.tolerance.as_secs());
        if age > most {
            return Err(format!("timestamp {age}s old; max {most}s"));
        }
        if age < -most {
            return Err(format!("timestamp {}s ahead; max {most}s", -age));
        }
        Ok(())
    }
}

fn sent_at(timestamp: &str) -> Option<Timestamp> {
    timestamp.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn spec(format: &str, authentication: Value) -> WebhookSpec {
        let format_settings =
            if format == "generic" { json!({"id": "body.id", "type": "'x'"}) } else { json!({}) };
        serde_json::from_value(json!({
            "serviceAccountName": "r", format: format_settings, "authentication": authentication,
        }))
        .expect("a Webhook")
    }

    fn hmac_with(extra: Value) -> Value {
        let mut hmac = json!({"secretRef": {"name": "s", "key": "k"}});
        json_patch::merge(&mut hmac, &extra);
        json!({ "hmac": hmac })
    }

    fn check(
        spec: &WebhookSpec,
        secret: &str,
        headers: &[(&str, &str)],
        body: &str,
        now: i64,
    ) -> Result<(), String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: http::HeaderName = name.to_lowercase().parse().expect("a name");
            map.append(name, value.parse().expect("a value"));
        }
        authenticate(spec, secret, &map, body.as_bytes(), Timestamp::from_second(now).expect("a time"))
    }

    fn refused(text: &str) -> Result<(), String> {
        Err(text.to_owned())
    }

    /// The example of "Validating webhook deliveries" in GitHub's documentation.
    #[test]
    fn github_signs_as_its_documentation_says() {
        let (spec, secret) = (spec("github", hmac_with(json!({}))), "It's a Secret to Everybody");
        let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let header = [("X-Hub-Signature-256", signature)];
        assert_eq!(check(&spec, secret, &header, "Hello, World!", 0), Ok(()));
        assert_eq!(check(&spec, secret, &header, "Hello, World?", 0), refused("signature mismatch"));
        assert_eq!(check(&spec, "another", &header, "Hello, World!", 0), refused("signature mismatch"));
        assert_eq!(check(&spec, secret, &[], "Hello, World!", 0), refused("missing signature header"));
        for odd in ["", "sha256=", "sha256=75", "sha256=zz", "sha1=757107ea", &signature[7..], "sha256=é"] {
            let refused_for = check(&spec, secret, &[("X-Hub-Signature-256", odd)], "Hello, World!", 0);
            assert!(refused_for.is_err(), "{odd}");
        }
    }

    /// The example of the Standard Webhooks specification, which GitLab's signing tokens follow.
    #[test]
    fn gitlab_signs_as_standard_webhooks_say() {
        let spec = spec("gitlab", hmac_with(json!({})));
        let (secret, sent) = ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", 1_614_265_330);
        let with = |signature: &str, timestamp: &str, now: i64| {
            let headers = [
                ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
                ("webhook-timestamp", timestamp),
                ("webhook-signature", signature),
            ];
            check(&spec, secret, &headers, r#"{"test": 2432232314}"#, now)
        };
        let good = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(with(good, "1614265330", sent), Ok(()));
        assert_eq!(
            with(&format!("v1a,x v1,AAAA {good}"), "1614265330", sent + 300),
            Ok(()),
            "one of several"
        );
        assert_eq!(with(good, "1614265330", sent + 612), refused("timestamp 612s old; max 300s"));
        assert_eq!(with(good, "1614265330", sent - 400), refused("timestamp 400s ahead; max 300s"));
        assert_eq!(with(good, "1614265331", sent), refused("signature mismatch"));
    }

    #[test]
    fn others_sign_the_time_and_the_body() {
        let key = hmac::Key::new(hmac::HMAC_SHA512, b"secret");
        let spec = spec("generic", hmac_with(json!({"algorithm": "SHA512", "tolerance": "1m"})));
        let hex = hmac::sign(&key, b"1000.{}").as_ref().iter().fold(String::new(), |mut text, byte| {
            use std::fmt::Write as _;
            let _ = write!(text, "{byte:02x}");
            text
        });
        let signature = format!("sha512={hex}");
        let signed = [("X-Signature", signature.as_str()), ("X-Signature-Timestamp", "1000")];
        assert_eq!(check(&spec, "secret", &signed, "{}", 1060), Ok(()));
        assert_eq!(check(&spec, "secret", &signed, "{}", 1061), refused("timestamp 61s old; max 60s"));
        assert_eq!(
            check(&spec, "secret", &signed[..1], "{}", 1000),
            refused("missing X-Signature-Timestamp header")
        );
    }

    #[test]
    fn a_webhook_says_where_the_time_stands_and_how_the_signature_is_written() {
        let own =
            json!({"encoding": "Base64", "timestampHeader": "X-Sent-At", "header": "X-Sig", "prefix": ""});
        let spec = spec("generic", hmac_with(own));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"secret"), b"1000.{}");
        let signature = STANDARD.encode(tag.as_ref());
        let signed = [("X-Sig", signature.as_str()), ("X-Sent-At", "1000")];
        assert_eq!(check(&spec, "secret", &signed, "{}", 1060), Ok(()));
        let elsewhere = [("X-Sig", signature.as_str()), ("X-Signature-Timestamp", "1000")];
        assert_eq!(check(&spec, "secret", &elsewhere, "{}", 1060), refused("missing X-Sent-At header"));
        let hex = tag.as_ref().iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        let in_hex = [("X-Sig", hex.as_str()), ("X-Sent-At", "1000")];
        assert_eq!(check(&spec, "secret", &in_hex, "{}", 1060), refused("signature mismatch"));
    }

    /// RFC 4231, test case 2.
    #[test]
    fn the_hash_is_that_of_the_rfc() {
        let spec = spec("cloudevents", hmac_with(json!({"signs": "Body", "prefix": "", "header": "X-Sig"})));
        let tag = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let body = "what do ya want for nothing?";
        assert_eq!(check(&spec, "Jefe", &[("X-Sig", tag)], body, 0), Ok(()));
    }

    #[test]
    fn a_token_is_the_secret_and_nothing_else() {
        let bearer = json!({"bearer": {"secretRef": {"name": "s", "key": "k"}}});
        let alerts = spec("alertmanager", bearer.clone());
        for (value, verdict) in [
            ("Bearer secret", Ok(())),
            ("bearer secret", Ok(())),
            ("Bearer secret2", refused("token mismatch")),
            ("Bearer ", refused("want Authorization: Bearer TOKEN")),
            ("Basic secret", refused("want Authorization: Bearer TOKEN")),
        ] {
            assert_eq!(check(&alerts, "secret", &[("Authorization", value)], "", 0), verdict, "{value}");
        }
        assert_eq!(check(&alerts, "secret", &[], "", 0), refused("missing Authorization header"));
        assert!(check(&alerts, "", &[("Authorization", "Bearer x")], "", 0).is_err(), "no empty secret");
        let gitlab = spec("gitlab", bearer);
        assert_eq!(check(&gitlab, "secret", &[("X-Gitlab-Token", "secret")], "", 0), Ok(()));
        assert_eq!(check(&gitlab, "secret", &[], "", 0), refused("missing X-Gitlab-Token header"));
    }
}
