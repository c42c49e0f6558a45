//! Secrets in the middle of a text: what a program printed, what a server answered.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

/// What a secret looks like in the middle of a text. What is in the group `keep` says only that there was one.
static LOOKS_SECRET: LazyLock<Regex> = LazyLock::new(|| {
    let patterns = [
        r"(?P<scheme>(?i:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{6,}",
        r"(?P<url>://)[^/\s@]+@",
        r"(?P<header>(?i:authorization)\\?[\x22']?\s*[=:]\s*\\?[\x22']?)(?:[A-Za-z][A-Za-z0-9-]*\s+)?[^\s\x22'\\&,;]+",
        r"(?P<named>(?i:(?:password|passwd|secret|token|api[_-]?key)(?:[_-]\w+)?)\\?[\x22']?\s*[=:]\s*\\?[\x22']?)[^\s\x22'\\&,;]+",
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)",
        r"\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*",
        r"\b(?:gh[pousr]_|github_pat_|glpat-|xox[abeprs]-|AKIA|sk-)[A-Za-z0-9_-]{12,}",
    ];
    Regex::new(&patterns.join("|")).expect("the patterns are fixed, and a test uses each")
});

/// The same text without what looks like a secret.
pub fn without_secrets(text: &str) -> Cow<'_, str> {
    LOOKS_SECRET.replace_all(text, "${scheme}${url}${header}${named}(redacted)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_the_middle_of_a_text_are_left_out() {
        for (text, expected) in [
            ("sent Authorization: Bearer canary.canary, got 401", "sent Authorization: (redacted), got 401"),
            ("with Bearer canary.canary", "with Bearer (redacted)"),
            ("clone https://bot:canary@git.example/x", "clone https://(redacted)git.example/x"),
            ("GET /?token=canary&x=1", "GET /?token=(redacted)&x=1"),
            ("{\"password\": \"canary\"}", "{\"password\": \"(redacted)\"}"),
            (
                "AWS_SECRET_ACCESS_KEY=canary and secret_key: canary",
                "AWS_SECRET_ACCESS_KEY=(redacted) and secret_key: (redacted)",
            ),
            ("Authorization: Token canary", "Authorization: (redacted)"),
            ("got {\\\"password\\\":\\\"canary\\\"}", "got {\\\"password\\\":\\\"(redacted)\\\"}"),
            ("-----BEGIN RSA PRIVATE KEY-----\ncanary\n-----END RSA PRIVATE KEY----- end", "(redacted) end"),
            ("-----BEGIN PRIVATE KEY-----\ncanary", "(redacted)"),
            ("got eyJhbGciOi.canary.canary there", "got (redacted) there"),
            ("with ghp_canarycanary0123 and glpat-canarycanary", "with (redacted) and (redacted)"),
            (
                "Back-off restarting failed container app in pod web-1",
                "Back-off restarting failed container app in pod web-1",
            ),
            ("secret \"db\" not found", "secret \"db\" not found"),
            ("pull docker.io/app@sha256:00ff", "pull docker.io/app@sha256:00ff"),
        ] {
            assert_eq!(without_secrets(text), expected, "{text}");
        }
    }
}
