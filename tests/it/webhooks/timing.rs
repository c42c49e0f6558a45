//! How long a refusal takes says nothing of how much of a guess is right. Two kinds of guesses come in random order, as in
//! dudect, and the faster half of each is compared, which is what nothing else on the machine has disturbed. (Of a signature's
//! 32 bytes none of this could be seen over a network; they are compared by `ring`.)

#![expect(clippy::cast_precision_loss, reason = "nanoseconds and counts are far below 2^52")]

use std::hint::black_box;
use std::time::Instant;

use fother::api::WebhookSpec;
use fother::source::webhook::authenticate;
use http::{HeaderMap, HeaderName, HeaderValue};
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

/// Guesses of both kinds together.
const GUESSES: usize = 3000;
/// How often it is looked, at the most.
const LOOKS: usize = 20;
/// How long the secret is: so that what leaks, leaks much.
const LENGTH: usize = 40_000;

/// The mean of the faster half, in nanoseconds.
fn faster_half(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.truncate(times.len() / 2);
    mean(&times)
}

/// How much longer it takes, in nanoseconds, to refuse a guess that is wrong at its last place only than one that is wrong at
/// its first.
fn difference(secret: &str, judge: &dyn Fn(&HeaderMap) -> bool) -> f64 {
    let (mut times, mut random) = ([Vec::new(), Vec::new()], 0x9e37_79b9_7f4a_7c15_u64);
    let (mut guess, places) = (secret.as_bytes().to_vec(), [0, secret.len() - 1]);
    for _ in 0..GUESSES {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let kind = usize::from(random >> 63 == 1);
        // Both kinds come from the same place in memory, so that caches make no difference.
        let right = std::mem::replace(&mut guess[places[kind]], b'x');
        let header = (HeaderName::from_static("x-guess"), HeaderValue::from_bytes(&guess).unwrap());
        guess[places[kind]] = right;
        let headers: HeaderMap = [header].into_iter().collect();
        let began = Instant::now();
        let is_right = black_box(judge(black_box(&headers)));
        times[kind].push(began.elapsed().as_nanos() as f64);
        assert!(!is_right);
    }
    let [first, last] = times.map(faster_half);
    last - first
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn how_long_a_refusal_takes_says_nothing_of_the_secret() {
    let secret = "s".repeat(LENGTH);
    let spec = json!({"serviceAccountName": "r", "generic": {"id": "body.id", "type": "'x'"},
        "authentication": {"bearer": {"secretRef": {"name": "s", "key": "k"}, "header": "X-Guess"}}});
    let webhook: WebhookSpec = serde_json::from_value(spec).unwrap();
    let ours =
        |headers: &HeaderMap| authenticate(&webhook, &secret, headers, b"{}", Timestamp::UNIX_EPOCH).is_ok();
    let naive = |headers: &HeaderMap| headers["x-guess"].to_str().is_ok_and(|guess| guess == secret);
    let naive = mean(&[(); 3].map(|()| difference(&secret, &naive))).abs();
    // A busy machine is wrong to either side, and less so the more often it is looked; what is there is there each time.
    let mut seen: Vec<_> = (0..3).map(|_| difference(&secret, &ours)).collect();
    while mean(&seen).abs() >= naive / 4.0 {
        assert!(
            seen.len() < LOOKS,
            "{seen:?} ns; a comparison that stops at what is wrong would be off by {naive} ns"
        );
        seen.push(difference(&secret, &ours));
    }
}
