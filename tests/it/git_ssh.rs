//! The git shell against a real ssh server: `fother git-worker` fetching with a key and `known_hosts`.

use std::time::Duration;

use fother::git::{
    Access, Consequence, Credentials, Error, Fetcher, FetcherOptions, Lineage, Reference, Secret, Snapshot,
    Source,
};
use tempfile::TempDir;

use crate::git::commits_in;
use crate::support::git_server::Origin;
use crate::support::ssh_server::{ECDSA, ED25519, KeyPair, RSA, SshServer};

/// A server with one repository and a key that it lets in.
struct Fixture {
    server: SshServer,
    origin: Origin,
    key: KeyPair,
    fetcher: Fetcher,
    cache: TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let server = SshServer::start(&[ED25519]).await;
        let origin = server.create("pack").await;
        let key = server.authorize("key", ED25519).await;
        let cache = tempfile::tempdir().unwrap();
        let fetcher = Fetcher::new(options(&cache));
        Self { server, origin, key, fetcher, cache }
    }

    fn source(&self) -> Source {
        source(&self.server, &self.key)
    }

    async fn fetch(&self) -> Result<Snapshot, Error> {
        self.fetcher.fetch(&self.source()).await
    }

    async fn fails(&self, source: &Source) -> Error {
        self.fetcher.fetch(source).await.expect_err("it is refused")
    }

    async fn fails_with(&self, known_hosts: &str) -> Error {
        let mut source = self.source();
        source.access.known_hosts = Some(known_hosts.to_owned());
        self.fails(&source).await
    }
}

fn options(cache: &TempDir) -> FetcherOptions {
    FetcherOptions::new(env!("CARGO_BIN_EXE_fother"), cache.path())
}

fn source(server: &SshServer, key: &KeyPair) -> Source {
    let identity = Secret::new(key.private());
    Source {
        owner: "payments/pack".into(),
        url: server.url("pack"),
        reference: Reference::Default,
        path: String::new(),
        access: Access {
            credentials: Some(Credentials::Key { identity, passphrase: None }),
            known_hosts: Some(server.known_hosts()),
            ca_bundle: None,
        },
        signers: None,
        ancestor: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fetches_shallow_and_only_what_is_new() {
    let fixture = Fixture::new().await;
    fixture.origin.push(&[("rules/a.yaml", "1")]).await;
    let commit = fixture.origin.push(&[("rules/a.yaml", "2")]).await;
    let snapshot = fixture.fetch().await.unwrap();
    assert_eq!(snapshot.revision.to_string(), format!("main@sha1:{commit}"));
    assert_eq!(snapshot.files[0].content, b"2");
    assert_eq!(commits_in(&fixture.cache), 1, "shallow");

    let connections = fixture.server.connections();
    fixture.fetch().await.unwrap();
    assert_eq!(fixture.server.connections(), connections + 1, "nothing new, nothing downloaded");

    let next = fixture.origin.push(&[("rules/b.yaml", "3")]).await;
    let snapshot = fixture.fetch().await.unwrap();
    assert_eq!((snapshot.revision.commit, snapshot.files.len()), (next, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn finds_an_old_commit() {
    let fixture = Fixture::new().await;
    let first = fixture.origin.push(&[("a", "1")]).await;
    fixture.origin.push(&[("a", "2")]).await;
    let source = Source { reference: Reference::Commit(first.clone()), ..fixture.source() };
    let snapshot = fixture.fetcher.fetch(&source).await.unwrap();
    assert_eq!((snapshot.revision.commit, snapshot.files[0].content.as_slice()), (first, &b"1"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn whether_a_branch_goes_on_is_found_as_over_https() {
    let fixture = Fixture::new().await;
    let applied = fixture.origin.push(&[("a", "1")]).await;
    let lineage = async || {
        let source = Source { ancestor: Some(applied.clone()), ..fixture.source() };
        fixture.fetcher.fetch(&source).await.unwrap().lineage
    };
    fixture.origin.push_many(50).await;
    assert_eq!(lineage().await, Lineage::Descends, "deeper than is asked for at first");
    fixture.origin.push_many(1100).await;
    assert_eq!(lineage().await, Lineage::Unproven);
    let commits = commits_in(&fixture.cache);
    assert!(commits < 1152, "{commits} commits: not everything was fetched");
    fixture.origin.git(&["checkout", "--quiet", "--orphan", "other"]).await;
    fixture.origin.git(&["branch", "-D", "main"]).await;
    fixture.origin.git(&["branch", "-M", "main"]).await;
    fixture.origin.push(&[("a", "2")]).await;
    assert_eq!(lineage().await, Lineage::Rewritten);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_of_key_is_used_and_believed() {
    let types: [&[&str]; 6] = [
        ED25519,
        ECDSA,
        &["-t", "ecdsa", "-b", "384"],
        &["-t", "ecdsa", "-b", "521"],
        RSA,
        &["-t", "rsa", "-b", "2048", "-m", "PEM"],
    ];
    for options in types {
        let server = SshServer::start(&[options]).await;
        let commit = server.create("pack").await.push(&[("a", "1")]).await;
        let key = server.authorize("key", options).await;
        let cache = tempfile::tempdir().unwrap();
        let fetched = Fetcher::new(self::options(&cache)).fetch(&source(&server, &key)).await;
        assert_eq!(fetched.unwrap_or_else(|error| panic!("{options:?}: {error}")).revision.commit, commit);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_key_of_any_type_is_enough() {
    let server = SshServer::start(&[ED25519, ECDSA, RSA]).await;
    server.create("pack").await.push(&[("a", "1")]).await;
    let key = server.authorize("key", ED25519).await;
    let cache = tempfile::tempdir().unwrap();
    let fetcher = Fetcher::new(options(&cache));
    for known in server.host_keys() {
        let mut source = source(&server, &key);
        source.access.known_hosts = Some(format!("{} {known}\n", server.host()));
        fetcher.fetch(&source).await.unwrap_or_else(|error| panic!("{known}: {error}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_host_key_is_refused() {
    let fixture = Fixture::new().await;
    fixture.origin.push(&[("a", "1")]).await;
    let host = fixture.server.host();
    for other in [ED25519, ECDSA] {
        let folder = tempfile::tempdir().unwrap();
        let other = KeyPair::generate(folder.path(), "other", other).await.public();
        let error = fixture.fails_with(&format!("{host} {other}")).await;
        assert_eq!((error.reason(), error.consequence()), ("HostKeyRefused", Consequence::Wait), "{error}");
        let expected = "host key mismatch; refusing: the server shows ssh-ed25519 SHA256:";
        assert!(error.to_string().contains(expected), "{error}");
    }
    let own = &fixture.server.host_keys()[0];
    let error = fixture.fails_with(&format!("{host} {own}\n@revoked * {own}")).await;
    assert!(error.to_string().contains("is revoked; refusing"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_host_is_refused() {
    let fixture = Fixture::new().await;
    fixture.origin.push(&[("a", "1")]).await;
    let own = &fixture.server.host_keys()[0];
    let host = fixture.server.host();
    // A key is known for its port, and not for the whole machine.
    for lines in [String::new(), format!("127.0.0.1 {own}"), format!("@cert-authority {host} {own}")] {
        let error = fixture.fails_with(&lines).await;
        assert_eq!(error.reason(), "HostKeyRefused", "{error}");
        assert!(error.to_string().contains(&format!("known_hosts has no line for {host}")), "{error}");
    }
    let connections = fixture.server.connections();
    let mut source = fixture.source();
    source.access.known_hosts = None;
    let error = fixture.fails(&source).await;
    assert!(error.to_string().starts_with("secret: known_hosts is missing"), "{error}");
    assert_eq!(fixture.server.connections(), connections, "nobody is asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn hashed_hosts_are_known() {
    let fixture = Fixture::new().await;
    let commit = fixture.origin.push(&[("a", "1")]).await;
    let file = fixture.server.root().join("known_hosts");
    std::fs::write(&file, fixture.server.known_hosts()).unwrap();
    let mut hash = tokio::process::Command::new("ssh-keygen");
    hash.args(["-q", "-H", "-f", file.to_str().unwrap()]);
    assert!(hash.output().await.unwrap().status.success());
    let hashed = std::fs::read_to_string(&file).unwrap();
    assert!(hashed.starts_with("|1|") && !hashed.contains("127.0.0.1"), "{hashed}");
    let mut source = fixture.source();
    source.access.known_hosts = Some(hashed);
    assert_eq!(fixture.fetcher.fetch(&source).await.unwrap().revision.commit, commit);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_server_does_not_know_is_refused() {
    let fixture = Fixture::new().await;
    fixture.origin.push(&[("a", "1")]).await;
    let stranger = KeyPair::generate(fixture.server.root(), "stranger", ED25519).await;
    let error = fixture.fails(&source(&fixture.server, &stranger)).await;
    assert_eq!((error.reason(), error.consequence()), ("AuthenticationFailed", Consequence::Wait), "{error}");
    assert!(error.to_string().ends_with("the server refused the credentials"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_key_needs_its_passphrase() {
    let fixture = Fixture::new().await;
    let commit = fixture.origin.push(&[("a", "1")]).await;
    let key = fixture.server.authorize("encrypted", &["-t", "ed25519", "-N", "hunter2"]).await;
    for (passphrase, problem) in [
        (Some("hunter2"), None),
        (Some("canary"), Some("secret: identity cannot be read with this password")),
        (None, Some("secret: identity is encrypted; give its passphrase as password")),
    ] {
        let mut source = source(&fixture.server, &key);
        let (identity, passphrase) = (Secret::new(key.private()), passphrase.map(Secret::new));
        source.access.credentials = Some(Credentials::Key { identity, passphrase });
        match (fixture.fetcher.fetch(&source).await, problem) {
            (Ok(snapshot), None) => assert_eq!(snapshot.revision.commit, commit),
            (Err(error), Some(problem)) => assert_eq!(error.to_string(), problem),
            (result, _) => panic!("{result:?}"),
        }
    }
    let mut garbage = fixture.source();
    let identity = Secret::new("-----BEGIN OPENSSH PRIVATE KEY-----\ncanary\n");
    garbage.access.credentials = Some(Credentials::Key { identity, passphrase: None });
    let error = fixture.fails(&garbage).await.to_string();
    assert!(error.starts_with("secret: identity is not a private key"), "{error}");
    assert!(!error.contains("canary"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn says_what_the_server_or_the_network_said() {
    let fixture = Fixture::new().await;
    fixture.origin.push(&[("a", "1")]).await;
    let missing = Source { url: fixture.server.url("missing"), ..fixture.source() };
    let error = fixture.fails(&missing).await;
    assert_eq!(error.reason(), "FetchFailed");
    assert!(error.to_string().contains("the server says: fatal: '"), "{error}");
    assert!(error.to_string().ends_with("does not appear to be a git repository"), "{error}");

    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = Source { url: format!("ssh://git@{free}/x"), ..fixture.source() };
    let error = fixture.fails(&nobody).await;
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_is_no_command() {
    let fixture = Fixture::new().await;
    let mark = fixture.server.root().join("mark");
    let path = format!("/x';touch {};'", mark.display()).replace(' ', "%20");
    let base = fixture.server.url("pack");
    let (origin, _) = base.split_at("ssh://".len() + base["ssh://".len()..].find('/').unwrap());
    let error = fixture.fails(&Source { url: format!("{origin}{path}"), ..fixture.source() }).await;
    assert!(error.to_string().contains("does not appear to be a git repository"), "{error}");
    assert!(!mark.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn time_and_size_are_bounded() {
    let fixture = Fixture::new().await;
    fixture.origin.push(&[("a", "1")]).await;
    let mut options = options(&fixture.cache);
    options.limits.transfer_bytes = 50;
    let error = Fetcher::new(options.clone()).fetch(&fixture.source()).await.unwrap_err();
    assert!(error.to_string().ends_with("the transfer exceeds 50 bytes"), "{error}");

    fixture.server.hang(true);
    options.timeout = Duration::from_secs(1);
    let error = Fetcher::new(options).fetch(&fixture.source()).await.unwrap_err();
    assert_eq!(error.to_string(), "fetch timed out after 1s");
    fixture.server.hang(false);
    fixture.fetch().await.unwrap();
}
