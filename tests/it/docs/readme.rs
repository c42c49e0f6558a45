//! The first rule in five minutes, as README has it: its shell blocks as they stand, on a cluster that is that of `fother dev`
//! without the controller, which README starts itself.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use fother::sandbox::apiserver::{ApiServer, User};
use fother::sandbox::kubelet::{Kubelet, KubeletOptions};
use fother::sandbox::pki::Pki;
use fother::sandbox::world::{World, WorldOptions};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{blocks, read, root};
use crate::support::access::Access;
use crate::support::kubectl;
use crate::support::process::Process;
use crate::support::wait::eventually;

/// For three restarts and ten seconds more, on a busy machine.
const FIRES: Duration = Duration::from_mins(3);

/// A cluster, and the checkout that README is typed in.
struct Desk {
    folder: tempfile::TempDir,
    _cluster: DropGuard,
}

impl Desk {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        std::fs::create_dir_all(at("target/debug")).unwrap();
        std::fs::create_dir(at("bin")).unwrap();
        symlink(root().join("examples"), at("examples")).unwrap();
        symlink(env!("CARGO_BIN_EXE_fother"), at("target/debug/fother")).unwrap();
        let program = kubectl::program();
        // A bare name is that of PATH, which the shell has too.
        if program.is_absolute() {
            symlink(program, at("bin/kubectl")).unwrap();
        }
        let (api, pki, stop) = (ApiServer::new(), Pki::generate().unwrap(), CancellationToken::new());
        api.add_token("admin", User::admin());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("https://{}", listener.local_addr().unwrap());
        Access::new(&server, &pki.ca_pem, "admin").write(&at("kubeconfig"));
        let client = api.client(&User::admin());
        let options = KubeletOptions { serve_logs: true, ..KubeletOptions::new("node-1", at("node")) };
        let kubelet = Kubelet::new(client.clone(), options);
        api.set_log_source(kubelet.logs());
        tokio::spawn(kubelet.run(stop.clone()));
        tokio::spawn(World::new(client, WorldOptions::default()).run(stop.clone()));
        tokio::spawn(api.serve(listener, pki.tls, stop.clone()));
        Self { folder, _cluster: stop.drop_guard() }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Types into a shell, and gives what it shows.
    async fn shell(&self, lines: &str) -> Result<String, String> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths([self.at("bin")].into_iter().chain(std::env::split_paths(&path)));
        let mut shell = Command::new("sh");
        shell.args(["-eu", "-s"]).current_dir(self.folder.path());
        shell.env("PATH", path.unwrap()).env("KUBECONFIG", self.at("kubeconfig"));
        let answer = kubectl::run(shell, lines).await;
        if answer.code == 0 { Ok(answer.stdout) } else { Err(format!("{lines}\n{answer:#?}")) }
    }
}

/// The blocks of the section: what sets it all up, the controller's command line at its end, and what one looks with.
fn section() -> (String, Vec<String>, String) {
    let page = read("README.md");
    let (_, section) = page.split_once("\n## A first rule in five minutes\n").expect("the section");
    let typed = blocks(section.split("\n## ").next().unwrap(), "sh");
    let [(_, first), (_, look)] = typed.as_slice() else { panic!("{typed:#?}") };
    let (set_up, controller) = first.trim_end().rsplit_once('\n').unwrap();
    let words: Vec<_> = controller.split_whitespace().map(str::to_owned).collect();
    assert_eq!(words[0], "fother", "the last line runs in the foreground: {controller}");
    (format!("{set_up}\n"), words[1..].to_vec(), look.clone())
}

fn controller(desk: &Desk, words: &[String]) -> Process {
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let kubeconfig = desk.at("kubeconfig");
    // Several tests of this kind may run at a time.
    let words = [&words[..], &["--listen", "127.0.0.1:0"]].concat();
    Process::fother(&words, &[("KUBECONFIG", kubeconfig.to_str().unwrap())], &desk.at("controller.log"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_rule_in_five_minutes_goes_as_the_readme_says() {
    let (set_up, words, look) = section();
    let desk = Desk::new().await;
    let applied = desk.shell(&set_up).await.unwrap();
    assert!(applied.contains("rule.fother.dev/crash-loop created"), "{applied}");
    let _controller = controller(&desk, &words);
    let seen = eventually("what README promises is to be seen", FIRES, || async {
        let seen = desk.shell(&look).await?;
        if seen.contains("Observed") && seen.contains("RuleFired") { Ok(seen) } else { Err(seen) }
    })
    .await;
    assert!(seen.contains("restart-workload"), "it says what would have been done:\n{seen}");
    // "Set `mode: Enforce` and it is done."
    let enforce = r#"kubectl -n web patch rule crash-loop --type merge -p '{"spec": {"mode": "Enforce"}}'"#;
    desk.shell(enforce).await.unwrap();
    let rungs =
        r"kubectl -n web get executions -o jsonpath='{range .items[*].status.rungs[*]}{.run}={.state} {end}'";
    eventually("it is done", FIRES, || async {
        let rungs = desk.shell(rungs).await?;
        if rungs.contains("restart-workload=Succeeded") { Ok(()) } else { Err(rungs) }
    })
    .await;
}
