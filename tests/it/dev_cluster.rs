//! `fother dev` as kubectl sees it: the process itself, its port, and the packs of one's own.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use fother::api::{Condition, ConditionType, Pack, condition};
use kube::api::Api;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::access::Access;
use crate::support::control_plane::free_port;
use crate::support::kubectl::Kubectl;
use crate::support::process::Process;
use crate::support::wait::{DEADLINE, eventually};

const RULE: &str = "\
apiVersion: fother.dev/v1alpha1
kind: Rule
metadata: {name: watches}
spec:
  serviceAccountName: healer
  trigger: {resource: {apiVersion: v1, kind: ConfigMap}}
  when: object.data.hull == 'leaking'
  ladder: [{run: greet}]
";

const ACTION: &str = "\
apiVersion: fother.dev/v1alpha1
kind: Action
metadata: {name: greet}
spec:
  parameters: [{name: whom, default: world}]
  script: {image: 'debian:12', file: greet.sh}
";

/// A running `fother dev` with its kubectl.
struct Dev {
    process: Process,
    data: PathBuf,
    kubectl: Kubectl,
}

impl Dev {
    async fn start(folder: &TempDir, arguments: &[&str]) -> Self {
        let data = folder.path().join("data");
        let fixed = ["dev", "--data", data.to_str().unwrap()];
        let arguments = [&fixed[..], arguments].concat();
        let process = Process::fother(&arguments, &[], &folder.path().join("output"));
        eventually("the banner", DEADLINE, async || {
            let output = process.output();
            if output.contains("Ctrl-C ends it") { Ok(()) } else { Err(output) }
        })
        .await;
        let kubectl = Kubectl::new(&Access::from_file(&data.join("kubeconfig")));
        Self { process, data, kubectl }
    }

    /// The port of the API, as the kubeconfig has it.
    fn port(&self) -> u16 {
        let kubeconfig = kube::config::Kubeconfig::read_from(self.data.join("kubeconfig")).unwrap();
        let server = kubeconfig.clusters[0].cluster.as_ref().unwrap().server.clone().unwrap();
        let (host, port) = server.strip_prefix("https://").unwrap().split_once(':').unwrap();
        assert_eq!(host, "127.0.0.1");
        port.parse().unwrap()
    }

    /// Waits until a Pack's Ready condition has a reason.
    async fn pack(&self, name: &str, reason: &str) -> Condition {
        let client = Access::from_file(&self.data.join("kubeconfig")).client().await;
        let packs: Api<Pack> = Api::namespaced(client, "default");
        eventually(&format!("{name} is {reason}"), DEADLINE, async || {
            let pack = packs.get(name).await.map_err(|error| error.to_string())?;
            let conditions = pack.status.unwrap_or_default().conditions;
            let ready = condition(&conditions, ConditionType::Ready).cloned();
            ready.clone().filter(|ready| ready.reason == reason).ok_or_else(|| format!("{ready:?}"))
        })
        .await
    }
}

/// A git repository with these files.
fn repository(path: &Path, files: &[(&str, &str)]) -> String {
    std::fs::create_dir_all(path).unwrap();
    for (name, content) in files {
        std::fs::write(path.join(name), content).unwrap();
    }
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(path).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    git(&["init", "-q", "-b", "main"]);
    git(&["add", "."]);
    git(&["-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-qm", "one"]);
    path.display().to_string()
}

/// The words of a table's first line.
fn columns(table: &str) -> Vec<&str> {
    table.lines().next().unwrap_or_default().split_whitespace().collect()
}

#[tokio::test]
async fn kubectl_shows_explains_and_reads_logs() {
    let folder = tempfile::tempdir().unwrap();
    let script = "echo \"hello, $FOTHER_PARAM_WHOM\"\n";
    let pack = repository(
        &folder.path().join("pack"),
        &[("r.yaml", RULE), ("a.yaml", ACTION), ("greet.sh", script)],
    );
    let dev = Dev::start(&folder, &["--pack", &pack]).await;
    dev.pack("pack", "Synced").await;
    let kubectl = &dev.kubectl;
    kubectl.run(&["wait", "rule/watches", "--for=condition=Ready", "--timeout=60s"]).await;
    let manifest = "---\n{apiVersion: fother.dev/v1alpha1, kind: Execution, metadata: {name: by-hand}, \
                    spec: {serviceAccountName: healer, run: greet, with: {whom: sailor}}}";
    assert_eq!(kubectl.apply(manifest, &[]).await, "execution.fother.dev/by-hand created\n");
    kubectl
        .apply("---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: ark}, data: {hull: leaking}}", &[])
        .await;
    // The kinds are there already, and the same.
    let crds = Command::new(env!("CARGO_BIN_EXE_fother")).arg("crds").output().unwrap().stdout;
    let crds = String::from_utf8(crds).unwrap();
    let applied = kubectl.apply(&crds, &["--server-side"]).await;
    assert_eq!(applied.lines().filter(|line| line.ends_with(" serverside-applied")).count(), 6, "{applied}");
    let finished = ["wait", "execution/by-hand", "--for=condition=Finished", "--timeout=60s"];
    kubectl.run(&finished).await;
    let job =
        kubectl.run(&["get", "execution", "by-hand", "-o", "jsonpath={.status.rungs[0].job.name}"]).await;
    assert_eq!(kubectl.run(&["logs", &format!("job/{job}")]).await, "hello, sailor\n");

    let of_rule = ["get", "fx", "-l", "fother.dev/rule=watches", "-o", "name"];
    eventually("the rule fires", DEADLINE, async || {
        let name = kubectl.run(&of_rule).await;
        if name.is_empty() { Err("no Execution") } else { Ok(name) }
    })
    .await;
    for (kind, narrow, wide) in [
        ("rules", "NAME MODE READY REASON LAST-FIRED AGE", "TRIGGER HELD REVISION MESSAGE"),
        ("actions", "NAME TYPE READY AGE", "IMAGE REVISION MESSAGE"),
        ("executions", "NAME RULE TARGET SUCCEEDED REASON STEP DURATION AGE", "EVENT REVISION MESSAGE"),
        ("packs", "NAME URL REVISION READY REASON AGE", "PATH MESSAGE"),
    ] {
        assert_eq!(columns(&kubectl.run(&["get", kind]).await).join(" "), narrow);
        let table = kubectl.run(&["get", kind, "-o", "wide"]).await;
        assert_eq!(columns(&table).join(" "), format!("{narrow} {wide}"));
    }
    let rules = kubectl.run(&["get", "fr", "-o", "wide"]).await;
    assert!(rules.contains(" ConfigMap ") && rules.contains("Observe"), "{rules}");
    assert!(kubectl.run(&["get", "fa", "-o", "wide"]).await.contains(" debian:12 "));
    let id = ["get", "fx", "-l", "fother.dev/rule=watches", "-o", "jsonpath={.items[0].spec.decision.id}"];
    let id = kubectl.run(&id).await;
    assert!(id.len() == 32 && kubectl.run(&["get", "fx", "-o", "wide"]).await.contains(&id), "{id}");

    for (field, words) in [
        ("rule.spec.when", "CEL expression over"),
        ("rule.status.held.since", "Since when it has been held for this reason"),
        ("execution.spec.decision.passed", "The guards that were asked and let it pass"),
        ("action.spec.script.image", "Image that has the interpreter"),
    ] {
        let explained = kubectl.run(&["explain", field]).await;
        assert!(explained.contains(words), "{field}: {explained}");
    }
}

#[tokio::test]
async fn kubectl_follows_what_changes() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(&folder, &[]).await;
    let mut watches = Vec::new();
    for (kind, manifest, change, columns) in [
        ("rules", RULE, r#"{"spec": {"mode": "Enforce"}}"#, [" Observe ", " Enforce "]),
        (
            "configmaps",
            // Quoted: what begins with a brace is JSON to older releases of kubectl.
            r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "watches"}, "data": {"hull": "leaking"}}"#,
            r#"{"data": {"tide": "low"}}"#,
            [" 1 ", " 2 "],
        ),
    ] {
        dev.kubectl.apply(manifest, &[]).await;
        let follows = dev.kubectl.start(&["get", kind, "-w"], &folder.path().join(kind));
        // What a row of each state shows beside the name; the controller, which says how a Rule is, may add more of them.
        let shows = async |column: &str| {
            eventually(&format!("a row of {kind} with{column}"), DEADLINE, async || {
                let rows = follows.output();
                let is_shown = rows.lines().any(|row| row.starts_with("watches ") && row.contains(column));
                if is_shown { Ok(()) } else { Err(rows) }
            })
            .await;
        };
        shows(columns[0]).await;
        assert!(!follows.output().contains(columns[1]), "{}", follows.output());
        dev.kubectl.run(&["patch", kind, "watches", "--type=merge", "-p", change]).await;
        shows(columns[1]).await;
        watches.push(follows);
    }
}

/// The addresses that a process and its children listen on.
fn listening(process: u32) -> BTreeSet<SocketAddr> {
    let children = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
    let children = children.unwrap_or_default();
    let mut sockets = BTreeSet::new();
    for id in children.split_whitespace().map(str::to_owned).chain([process.to_string()]) {
        for entry in std::fs::read_dir(format!("/proc/{id}/fd")).unwrap() {
            let Ok(target) = std::fs::read_link(entry.unwrap().path()) else { continue };
            let target = target.to_string_lossy().into_owned();
            sockets
                .extend(target.strip_prefix("socket:[").map(|inode| inode.trim_end_matches(']').to_owned()));
        }
    }
    let mut found = BTreeSet::new();
    for table in ["tcp", "tcp6"] {
        let table = std::fs::read_to_string(format!("/proc/{process}/net/{table}")).unwrap_or_default();
        for line in table.lines().skip(1) {
            let fields: Vec<_> = line.split_whitespace().collect();
            // 0A is the state LISTEN.
            if fields[3] == "0A" && sockets.contains(fields[9]) {
                found.insert(address(fields[1]));
            }
        }
    }
    found
}

/// `0100007F:1F90` is 127.0.0.1:8080; of IPv6 only that it is none of loopback's IPv4 matters.
fn address(text: &str) -> SocketAddr {
    let (host, port) = text.split_once(':').unwrap();
    let port = u16::from_str_radix(port, 16).unwrap();
    let host = match u32::from_str_radix(host, 16) {
        Ok(bits) => IpAddr::V4(Ipv4Addr::from(bits.swap_bytes())),
        Err(_) => IpAddr::V6(u128::from_str_radix(host, 16).unwrap().into()),
    };
    SocketAddr::new(host, port)
}

#[tokio::test]
async fn the_port_is_the_given_one_and_everything_is_on_loopback() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let wanted = free_port();
    let given = Dev::start(&folders[0], &["--port", &wanted.to_string()]).await;
    let any = Dev::start(&folders[1], &["--port", "0"]).await;
    assert_eq!(given.port(), wanted);
    assert!(any.port() != 0 && any.port() != wanted);
    for dev in [&given, &any] {
        assert_eq!(
            dev.kubectl.run(&["get", "namespace", "fother", "-o", "name"]).await,
            "namespace/fother\n"
        );
        let served = SocketAddr::from((Ipv4Addr::LOCALHOST, dev.port()));
        // The API, the controller's health, and the node.
        let listening = eventually("the controller listens too", DEADLINE, async || {
            let found = listening(dev.process.id());
            if found.len() > 1 && found.contains(&served) { Ok(found) } else { Err(format!("{found:?}")) }
        })
        .await;
        assert!(listening.iter().all(|address| address.ip() == Ipv4Addr::LOCALHOST), "{listening:?}");
    }
    let taken = tempfile::tempdir().unwrap();
    let arguments = ["dev", "--data", taken.path().to_str().unwrap(), "--port", &wanted.to_string()];
    let mut second = Process::fother(&arguments, &[], &taken.path().join("output"));
    assert_eq!(second.wait(DEADLINE).await.code(), Some(2), "{}", second.output());
    assert!(second.output().contains(&format!("failed to listen on port {wanted}")), "{}", second.output());
}

#[tokio::test]
async fn what_comes_from_elsewhere_is_printed_and_not_run() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody is there: where it comes from decides, not what it is.
    let dev = Dev::start(&folder, &["--pack", "https://127.0.0.1:1/ops/pack.git"]).await;
    let trace = folder.path().join("trace");
    let command = format!("touch {}", trace.display());
    let job = format!(
        "---\n{{apiVersion: batch/v1, kind: Job, metadata: {{name: x}}, spec: {{template: {{spec: {{restartPolicy: Never, \
         containers: [{{name: c, image: debian, command: [sh, -c, '{command}']}}]}}}}}}}}"
    );
    dev.kubectl.apply(&job, &[]).await;
    let told =
        ["get", "events", "-o", "jsonpath={range .items[?(@.reason=='PrintOnly')]}{.message}{'\\n'}{end}"];
    eventually("what would have run is told", DEADLINE, async || {
        let events = dev.kubectl.run(&told).await;
        if events.contains(&command) { Ok(()) } else { Err(events) }
    })
    .await;
    assert!(!trace.exists());
}

/// What `fother validate` says of a folder, in the form in which conditions say it: errors and warnings.
fn validate(folder: &str) -> [Vec<String>; 2] {
    let output = Command::new(env!("CARGO_BIN_EXE_fother"))
        .args(["validate", ".", "-n", "default", "-o", "json", "--require-image-digests"])
        .current_dir(folder)
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let text = |finding: &Value, field: &str| finding[field].as_str().unwrap_or_default().to_owned();
    ["error", "warning"].map(|severity| {
        let findings = report["findings"].as_array().unwrap().iter();
        findings
            .filter(|finding| finding["severity"] == severity)
            .map(|finding| {
                let place = format!("{}:{}:{}", text(finding, "file"), finding["line"], finding["column"]);
                let parts = [place, text(finding, "path"), text(finding, "message")];
                let line = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ");
                let help = text(finding, "help");
                if help.is_empty() { line } else { format!("{line}; {help}") }
            })
            .collect()
    })
}

#[tokio::test]
async fn validate_and_the_packs_condition_say_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let bad_rule = RULE
        .replace("when: object", "when: objekt")
        .replace("run: greet", "run: gret")
        .replace("ladder", "for: 5\n  ladder");
    let bad_action = ACTION.replace("parameters", "parameterz");
    let bad = repository(
        &folder.path().join("bad"),
        &[("a.yaml", &bad_action), ("r.yaml", &bad_rule), ("s.yaml", "a: [1\n"), ("t.yaml", RULE)],
    );
    let digest = format!("debian@sha256:{}", "0".repeat(64));
    let warned_rule = RULE.replace("object.data.hull == 'leaking'", "object.metadata.generation > 3");
    let warned = repository(
        &folder.path().join("warned"),
        &[("a.yaml", &ACTION.replace("debian:12", &digest)), ("greet.sh", "true"), ("r.yaml", &warned_rule)],
    );
    let dev = Dev::start(&folder, &["--pack", &bad, "--pack", &warned, "--require-image-digests"]).await;

    let [errors, _] = validate(&bad);
    let condition = dev.pack("bad", "InvalidRevision").await;
    let lines: Vec<_> = condition.message.lines().skip(1).collect();
    assert_eq!(lines, errors);
    for word in ["parameterz", "objekt", "gret", "not pinned by sha256 digest", "greet.sh", "s.yaml", "twice"]
    {
        assert!(condition.message.contains(word), "{word}: {}", condition.message);
    }

    let [errors, warnings] = validate(&warned);
    let condition = dev.pack("warned", "Synced").await;
    let lines: Vec<_> = condition.message.lines().filter_map(|line| line.strip_prefix("warning: ")).collect();
    assert_eq!((lines, errors), (warnings.iter().map(String::as_str).collect(), vec![]));
    assert_eq!(warnings.len(), 1, "{warnings:?}");
}

/// What a check says of the cluster, and how it ends if nobody listens.
#[tokio::test]
async fn a_check_does_not_send_anybody_to_enroll_what_is_never_enrolled() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(&folder, &[]).await;
    dev.kubectl.run(&["create", "namespace", "payments"]).await;
    for namespace in ["kube-system", "fother", "payments"] {
        dev.kubectl.apply(RULE, &["-n", namespace]).await;
    }
    let check = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fother"));
        command.arg("check").arg("--kubeconfig").arg(dev.data.join("kubeconfig"));
        command
    };
    let said = eventually("its controller leads", DEADLINE, async || {
        let ended = check().output().unwrap();
        let said = String::from_utf8(ended.stdout).unwrap();
        assert_eq!(ended.status.code(), Some(1), "{said}");
        let leads = "! no controller is deployed in namespace fother, but dev leads";
        if said.contains(leads) { Ok(said) } else { Err(said) }
    })
    .await;
    for fix in [
        "payments/healer does not exist\n    fix: kubectl -n payments create serviceaccount healer && fother enroll payments --service-account healer --apply\n",
        "kube-system/healer does not exist\n    fix: move the Rules, Packs and Webhooks of kube-system to another namespace",
        "fother/healer does not exist\n    fix: move the Rules, Packs and Webhooks of fother to another namespace",
    ] {
        assert!(said.contains(fix), "no {fix:?} in {said}");
    }
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ended = check().stdout(writer).output().unwrap();
    assert_eq!((ended.status.code(), ended.stderr.as_slice()), (Some(1), &b""[..]));
}
