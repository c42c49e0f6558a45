//! What a person waits for at the command line.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::report::{Goal, Row, Section};
use crate::scale::Scale;
use crate::stats::Samples;
use crate::support::access::Access;
use crate::support::process::Process;
use crate::sync::rules;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);
/// Nobody waits longer.
const LONG: Duration = Duration::from_mins(1);

pub async fn measure(scale: &Scale) -> Section {
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("files");
    write(&files, scale.rules);
    let (mut demo, mut validate) = (Samples::default(), Samples::default());
    for turn in 0..scale.repetitions {
        demo.push(until_ready(&folder.path().join(format!("demo-{turn}"))).await);
        validate.push(validated(&files).await);
    }
    let rows = vec![
        Row::plain("`fother dev --demo` serves its API", "ms", demo, Goal::AtMost(1000.0)),
        Row::plain(
            format!("`fother validate` of {} files", scale.rules),
            "ms",
            validate,
            Goal::AtMost(1000.0),
        ),
    ];
    let method = "From the start of the process until the API of the make-believe cluster answers that it is ready, and until the \
                  process ends with exit code 0.";
    Section { title: "At the command line", method: method.to_owned(), rows }
}

fn write(files: &Path, count: usize) {
    std::fs::create_dir(files).unwrap();
    for rule in rules(count) {
        let name = format!("{}.yaml", rule["metadata"]["name"].as_str().unwrap());
        std::fs::write(files.join(name), serde_json::to_string_pretty(&rule).unwrap()).unwrap();
    }
    let action = "apiVersion: fother.dev/v1alpha1\nkind: Action\nmetadata: {name: caulk}\n\
                  spec: {script: {image: \"debian:12-slim@sha256:0123\", inline: exit 0}}\n";
    std::fs::write(files.join("action.yaml"), action).unwrap();
}

async fn until_ready(data: &Path) -> f64 {
    std::fs::create_dir(data).unwrap();
    let started = Instant::now();
    let folder = data.join("data");
    let _demo =
        Process::fother(&["dev", "--demo", "--data", folder.to_str().unwrap()], &[], &data.join("output"));
    let kubeconfig = folder.join("kubeconfig");
    let mut looks = tokio::time::interval(LOOK);
    while started.elapsed() < LONG {
        looks.tick().await;
        if kubeconfig.exists() && answers(&kubeconfig).await {
            return started.elapsed().as_secs_f64() * 1000.0;
        }
    }
    panic!("not ready within {LONG:?}");
}

async fn answers(kubeconfig: &Path) -> bool {
    let whole = std::fs::read_to_string(kubeconfig).is_ok_and(|text| text.contains("token"));
    if !whole {
        return false;
    }
    let request = http::Request::get("/readyz").body(Vec::new()).unwrap();
    Access::from_file(kubeconfig).client().await.request_text(request).await.is_ok()
}

async fn validated(files: &Path) -> f64 {
    let started = Instant::now();
    let log = files.with_file_name("validate.log");
    let mut process = Process::fother(&["validate", files.to_str().unwrap()], &[], &log);
    let mut looks = tokio::time::interval(LOOK);
    while started.elapsed() < LONG {
        looks.tick().await;
        if let Some(status) = process.exit_status() {
            assert!(status.success(), "{}", process.output());
            return started.elapsed().as_secs_f64() * 1000.0;
        }
    }
    panic!("it runs after {LONG:?}");
}
