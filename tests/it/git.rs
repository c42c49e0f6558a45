//! The git shell against a real server: `fother git-worker` fetching over https.

use std::time::Duration;

use axum::http::StatusCode;
use fother::git::{
    Access, Consequence, Credentials, Error, Fetcher, FetcherOptions, Reference, Secret, Snapshot, Source,
};
use tempfile::TempDir;

use crate::support::git_server::{Behavior, GitServer, Origin};

/// A server with one repository, and a fetcher that trusts it.
struct Fixture {
    server: GitServer,
    origin: Origin,
    fetcher: Fetcher,
    cache: TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let server = GitServer::start().await;
        let origin = server.create("pack").await;
        let cache = tempfile::tempdir().unwrap();
        let fetcher = Fetcher::new(options(&cache));
        Self { server, origin, fetcher, cache }
    }

    fn source(&self, reference: Reference) -> Source {
        Source {
            owner: "payments/pack".into(),
            url: self.server.url("pack"),
            reference,
            path: String::new(),
            access: Access { ca_bundle: Some(self.server.ca_pem().to_owned()), ..Access::default() },
            signers: None,
            ancestor: None,
        }
    }

    async fn fetch(&self, reference: Reference) -> Result<Snapshot, Error> {
        self.fetcher.fetch(&self.source(reference)).await
    }

    /// How many packs were downloaded.
    fn uploads(&self) -> usize {
        self.server.seen().iter().filter(|seen| seen.path.ends_with("/git-upload-pack")).count()
    }
}

fn options(cache: &TempDir) -> FetcherOptions {
    FetcherOptions::new(env!("CARGO_BIN_EXE_fother"), cache.path())
}

pub fn commits_in(cache: &TempDir) -> usize {
    let folder = std::fs::read_dir(cache.path()).unwrap().flatten().map(|entry| entry.path());
    let folder = folder.into_iter().find(|path| path.extension().is_some_and(|e| e == "git")).unwrap();
    let repository = git2::Repository::open_bare(folder).unwrap();
    let mut walk = repository.revwalk().unwrap();
    walk.push_glob("refs/fother/*").unwrap();
    walk.count()
}

#[tokio::test(flavor = "multi_thread")]
async fn fetches_shallow_and_only_what_is_new() {
    let fixture = Fixture::new().await;
    fixture.origin.push(&[("rules/a.yaml", "1")]).await;
    let commit = fixture.origin.push(&[("rules/a.yaml", "2")]).await;

    let snapshot = fixture.fetch(Reference::Default).await.unwrap();
    assert_eq!(snapshot.revision.to_string(), format!("main@sha1:{commit}"));
    assert_eq!(snapshot.files.len(), 1);
    assert_eq!(
        (snapshot.files[0].path.as_str(), snapshot.files[0].content.as_slice()),
        ("rules/a.yaml", &b"2"[..])
    );
    assert_eq!(commits_in(&fixture.cache), 1, "shallow");

    let uploads = fixture.uploads();
    assert_eq!(fixture.fetch(Reference::Branch("main".into())).await.unwrap().revision.commit, commit);
    assert_eq!(fixture.uploads(), uploads, "nothing new, nothing downloaded");

    let next = fixture.origin.push(&[("rules/b.yaml", "3")]).await;
    let snapshot = fixture.fetch(Reference::Default).await.unwrap();
    assert_eq!((snapshot.revision.commit, snapshot.files.len()), (next, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn follows_a_rewritten_branch() {
    let fixture = Fixture::new().await;
    fixture.origin.push(&[("a", "1")]).await;
    fixture.fetch(Reference::Default).await.unwrap();
    fixture.origin.git(&["checkout", "--quiet", "--orphan", "other"]).await;
    fixture.origin.git(&["branch", "-D", "main"]).await;
    fixture.origin.git(&["branch", "-M", "main"]).await;
    let rewritten = fixture.origin.push(&[("a", "2")]).await;
    assert_eq!(fixture.origin.git(&["rev-list", "--count", "HEAD"]).await, "1", "it has no parent");
    assert_eq!(fixture.fetch(Reference::Default).await.unwrap().revision.commit, rewritten);
}

#[tokio::test(flavor = "multi_thread")]
async fn finds_commits_that_no_reference_names() {
    for by_hash in [true, false] {
        let fixture = Fixture::new().await;
        fixture.origin.configure_server("uploadpack.allowReachableSHA1InWant", &by_hash.to_string()).await;
        let first = fixture.origin.push(&[("a", "1")]).await;
        fixture.origin.push(&[("a", "2")]).await;
        fixture.origin.git(&["tag", "v1.0.0"]).await;
        fixture.origin.git(&["push", "--quiet", "origin", "v1.0.0"]).await;

        let snapshot = fixture.fetch(Reference::Commit(first.clone())).await.unwrap();
        assert_eq!((snapshot.revision.commit, snapshot.files[0].content.as_slice()), (first, &b"1"[..]));
        assert_eq!(commits_in(&fixture.cache) == 1, by_hash, "deepens only where it must");

        let missing = fixture.fetch(Reference::Commit("f".repeat(40))).await.unwrap_err();
        assert_eq!(missing.to_string(), format!("commit {} not found", "f".repeat(40)), "by hash: {by_hash}");
        let tag = fixture.fetch(Reference::Semver("^1".into())).await.unwrap();
        assert_eq!(tag.revision.name.as_deref(), Some("v1.0.0"));
    }
}

fn basic() -> (Credentials, &'static str) {
    let credentials = Credentials::Basic { username: "me".into(), password: Secret::new("hunter2") };
    (credentials, "Basic bWU6aHVudGVyMg==")
}

fn bearer() -> (Credentials, &'static str) {
    (Credentials::Bearer(Secret::new("canary-token")), "Bearer canary-token")
}

#[tokio::test(flavor = "multi_thread")]
async fn authenticates() {
    for (credentials, header) in [basic(), bearer()] {
        let fixture = Fixture::new().await;
        fixture.origin.push(&[("a", "1")]).await;
        fixture.server.require_authorization(header);

        let error = fixture.fetch(Reference::Default).await.unwrap_err();
        assert_eq!(
            (error.reason(), error.consequence()),
            ("AuthenticationFailed", Consequence::Wait),
            "{error}"
        );
        assert!(error.to_string().ends_with("needs credentials or does not exist"), "{error}");

        let mut source = fixture.source(Reference::Default);
        source.access.credentials = Some(credentials);
        fixture.fetcher.fetch(&source).await.unwrap();
        let last = fixture.server.seen().pop().unwrap();
        assert_eq!(last.authorization.as_deref(), Some(header));

        let before = fixture.server.seen().len();
        source.access.credentials = Some(Credentials::Bearer(Secret::new("wrong-canary")));
        let error = fixture.fetcher.fetch(&source).await.unwrap_err();
        assert_eq!(error.reason(), "AuthenticationFailed", "{error}");
        assert!(error.to_string().ends_with("the server refused the credentials"), "{error}");
        assert!(!error.to_string().contains("canary"), "{error}");
        assert_eq!(fixture.server.seen().len(), before + 1, "refused credentials are not tried again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn never_follows_a_redirect_elsewhere() {
    let elsewhere = GitServer::start().await;
    elsewhere.create("pack").await.push(&[("a", "evil")]).await;
    let before = elsewhere.seen().len();
    let other_port = elsewhere.origin();
    let other_host = other_port.replace("localhost", "127.0.0.1");
    let plain = other_port.replace("https", "http");
    for target in [other_port, other_host, plain] {
        for credentials in [None, Some(basic().0), Some(bearer().0)] {
            let fixture = Fixture::new().await;
            fixture.origin.push(&[("a", "1")]).await;
            fixture.server.behave(Behavior::RedirectTo(target.clone()));
            let mut source = fixture.source(Reference::Default);
            source.access.credentials = credentials;
            source.access.ca_bundle = Some(format!("{}{}", fixture.server.ca_pem(), elsewhere.ca_pem()));
            let error = fixture.fetcher.fetch(&source).await.unwrap_err();
            assert!(matches!(error, Error::Redirected { .. }), "{target}: {error}");
        }
    }
    assert_eq!(elsewhere.seen().len(), before, "no request may arrive there");
}

#[tokio::test(flavor = "multi_thread")]
async fn follows_a_redirect_within_the_origin() {
    let fixture = Fixture::new().await;
    let commit = fixture.origin.push(&[("a", "1")]).await;
    let mut source = fixture.source(Reference::Default);
    // A forge that renamed a repository: the old path redirects to the new one.
    fixture.server.rename("old", "pack");
    source.url = fixture.server.url("old");
    assert_eq!(fixture.fetcher.fetch(&source).await.unwrap().revision.commit, commit);
}

#[tokio::test(flavor = "multi_thread")]
async fn trusts_the_given_ca_alone() {
    let fixture = Fixture::new().await;
    fixture.origin.push(&[("a", "1")]).await;
    let stranger = GitServer::start().await;
    for bundle in [None, Some(stranger.ca_pem().to_owned())] {
        let mut source = fixture.source(Reference::Default);
        source.access.ca_bundle = bundle;
        let error = fixture.fetcher.fetch(&source).await.unwrap_err();
        assert_eq!(error.reason(), "CertificateInvalid", "{error}");
        let remedy = "put the one that signed it into ca.crt of the Secret";
        assert!(error.to_string().ends_with(remedy), "{error}");
    }
    // The certificate is for `localhost`, so that the right CA is not enough for another name.
    let mut source = fixture.source(Reference::Default);
    source.url = source.url.replace("localhost", "127.0.0.1");
    let error = fixture.fetcher.fetch(&source).await.unwrap_err();
    assert_eq!(error.reason(), "CertificateInvalid", "{error}");
    assert!(error.to_string().ends_with("; use such a name in the url"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn gives_up_on_a_server_that_never_answers() {
    let fixture = Fixture::new().await;
    fixture.origin.push(&[("a", "1")]).await;
    let mut options = options(&fixture.cache);
    options.timeout = Duration::from_secs(1);
    let fetcher = Fetcher::new(options);
    fixture.server.behave(Behavior::Hang);
    let source = fixture.source(Reference::Default);
    let error = fetcher.fetch(&source).await.unwrap_err();
    assert_eq!(error.to_string(), "fetch timed out after 1s");
    // Nothing is left of it: the cache's lock is free and the next fetch works.
    fixture.server.behave(Behavior::Serve);
    fixture.fetch(Reference::Default).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_what_the_server_or_the_network_said() {
    let fixture = Fixture::new().await;
    fixture.origin.push(&[("a", "1")]).await;
    for (status, reason, text) in [
        (StatusCode::INTERNAL_SERVER_ERROR, "FetchFailed", "the server answered 500 Internal Server Error"),
        (StatusCode::NOT_FOUND, "FetchFailed", "the server answered 404 Not Found"),
        (StatusCode::FORBIDDEN, "AuthenticationFailed", "needs credentials or does not exist"),
    ] {
        fixture.server.behave(Behavior::Answer(status));
        let error = fixture.fetch(Reference::Default).await.unwrap_err();
        assert_eq!(error.reason(), reason, "{error}");
        assert!(error.to_string().ends_with(text), "{error}");
    }
    let mut source = fixture.source(Reference::Default);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    source.url = format!("https://localhost:{free}/pack.git");
    let error = fixture.fetcher.fetch(&source).await.unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_remote_is_an_error_like_any_other() {
    let fixture = Fixture::new().await;
    let error = fixture.fetch(Reference::Branch("main".into())).await.unwrap_err();
    assert_eq!(error.to_string(), r#"branch "main" not found; the repository is empty"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_symlinks_and_large_transfers() {
    let fixture = Fixture::new().await;
    std::os::unix::fs::symlink("/etc/passwd", fixture.origin.work().join("x")).unwrap();
    fixture.origin.push_work().await;
    let error = fixture.fetch(Reference::Default).await.unwrap_err();
    assert_eq!(error.to_string(), "x: symlink not allowed");
    assert_eq!(error.reason(), "InvalidRevision");

    let mut options = options(&fixture.cache);
    options.limits.transfer_bytes = 50;
    let error = Fetcher::new(options)
        .fetch(&Source { owner: "other".into(), ..fixture.source(Reference::Default) })
        .await;
    let error = error.unwrap_err().to_string();
    assert!(error.ends_with("the transfer exceeds 50 bytes"), "{error}");
}

/// A server sends the second as a small delta of the first: whoever wants it has to have both in memory.
#[tokio::test(flavor = "multi_thread")]
async fn what_takes_much_memory_to_unpack_is_refused() {
    let fixture = Fixture::new().await;
    for name in ["one", "two"] {
        let mut content = vec![0; 40 << 20];
        content.extend(name.as_bytes());
        std::fs::write(fixture.origin.work().join(name), content).unwrap();
    }
    fixture.origin.push_work().await;
    let mut options = options(&fixture.cache);
    options.limits.memory_bytes = 32 << 20;
    let error =
        Fetcher::new(options).fetch(&fixture.source(Reference::Default)).await.unwrap_err().to_string();
    assert!(error.ends_with("too much memory to unpack; keep large files out of the repository"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn local_repositories_need_consent() {
    let fixture = Fixture::new().await;
    let commit = fixture.origin.push(&[("a", "1")]).await;
    let mut source = fixture.source(Reference::Default);
    source.url = fixture.origin.work().to_str().unwrap().to_owned();
    source.access.ca_bundle = None;
    assert_eq!(fixture.fetcher.fetch(&source).await.unwrap_err().reason(), "InvalidURL");
    let mut options = options(&fixture.cache);
    options.transports = fother::git::Transports::RemoteAndLocal;
    assert_eq!(Fetcher::new(options).fetch(&source).await.unwrap().revision.commit, commit);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_ends_when_its_parent_is_gone() {
    use std::io::Write;
    let fixture = Fixture::new().await;
    fixture.server.behave(Behavior::Hang);
    // What a fetcher sends; the parent then goes away without killing anybody.
    let request = serde_json::json!({
        "cache": fixture.cache.path(),
        "source": fixture.source(Reference::Default),
        "transports": "Remote",
        "limits": fother::git::Limits::default(),
        "timeout": {"secs": 600, "nanos": 0},
    });
    let mut worker = std::process::Command::new(env!("CARGO_BIN_EXE_fother"))
        .arg(fother::git::COMMAND)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = worker.stdin.take().unwrap();
    writeln!(stdin, "{request}").unwrap();
    drop(stdin);
    let ended = tokio::task::spawn_blocking(move || worker.wait().unwrap());
    let status =
        tokio::time::timeout(Duration::from_secs(30), ended).await.expect("the worker ends").unwrap();
    assert_eq!(status.code(), Some(3));
}
