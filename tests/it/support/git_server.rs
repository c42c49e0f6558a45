//! A real git server: `git http-backend` behind TLS, which can demand credentials, redirect, fail and hang on command.
//!
//! It listens on loopback under the name `localhost`, or at another address of this machine, with its own CA; repositories live in a temporary directory and are
//! pushed to with the git command over the same https.

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Response, StatusCode, header};
use parking_lot::Mutex;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// What the server does with requests.
#[derive(Clone, Debug)]
pub enum Behavior {
    /// Serves repositories.
    Serve,
    /// Redirects to another origin, such as `https://localhost:1234`, keeping path and query.
    RedirectTo(String),
    /// Accepts and never answers.
    Hang,
    /// Answers with a status.
    Answer(StatusCode),
}

/// One request as the server saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Path and query.
    pub path: String,
    /// The `Authorization` header.
    pub authorization: Option<String>,
}

struct Shared {
    root: TempDir,
    behavior: Mutex<Behavior>,
    required: Mutex<Option<String>>,
    renamed: Mutex<Option<(String, String)>>,
    seen: Mutex<Vec<Seen>>,
}

/// A running server; it ends with the test's runtime.
pub struct GitServer {
    host: String,
    address: SocketAddr,
    ca_pem: String,
    shared: Arc<Shared>,
}

impl GitServer {
    /// Starts on a free port of loopback.
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1".parse().unwrap(), "localhost").await
    }

    /// Starts on a free port of an address that others reach as `host`.
    pub async fn start_at(address: IpAddr, host: &str) -> Self {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (acceptor, ca_pem) = tls(host);
        let shared = Arc::new(Shared {
            root: tempfile::tempdir().unwrap(),
            behavior: Mutex::new(Behavior::Serve),
            required: Mutex::new(None),
            renamed: Mutex::new(None),
            seen: Mutex::new(Vec::new()),
        });
        std::fs::write(shared.root.path().join("ca.pem"), &ca_pem).unwrap();
        let router = Router::new().fallback(respond).with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(TlsListener { listener, acceptor }, router).await });
        Self { host: host.to_owned(), address, ca_pem, shared }
    }

    /// `https://HOST:PORT`.
    pub fn origin(&self) -> String {
        format!("https://{}:{}", self.host, self.address.port())
    }

    /// The URL of a repository.
    pub fn url(&self, repository: &str) -> String {
        format!("{}/{repository}.git", self.origin())
    }

    /// The CA to trust.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Changes what the server does.
    pub fn behave(&self, behavior: Behavior) {
        *self.shared.behavior.lock() = behavior;
    }

    /// Demands this `Authorization` header of everybody.
    pub fn require_authorization(&self, header: &str) {
        *self.shared.required.lock() = Some(header.to_owned());
    }

    /// Redirects a repository's old name to its new one, on the same origin, as forges do.
    pub fn rename(&self, old: &str, new: &str) {
        *self.shared.renamed.lock() = Some((format!("/{old}.git"), format!("{}/{new}.git", self.origin())));
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().clone()
    }

    /// Makes an empty repository with default branch `main`, and a clone to commit from.
    pub async fn create(&self, name: &str) -> Origin {
        let origin = Origin::create(self.shared.root.path(), name, &self.url(name)).await;
        origin.configure_server("http.receivepack", "true").await;
        let ca = self.shared.root.path().join("ca.pem");
        origin.git(&["config", "http.sslCAInfo", ca.to_str().unwrap()]).await;
        origin
    }
}

/// A repository on the server, with a working clone.
pub struct Origin {
    bare: PathBuf,
    work: PathBuf,
}

impl Origin {
    /// Makes `NAME.git` in a folder, empty, and a clone that pushes to `url`.
    pub async fn create(folder: &Path, name: &str, url: &str) -> Self {
        let (bare, work) = (folder.join(format!("{name}.git")), folder.join(format!("{name}-work")));
        git(folder, &["init", "--quiet", "--bare", "-b", "main", bare.to_str().unwrap()]).await;
        git(folder, &["init", "--quiet", "-b", "main", work.to_str().unwrap()]).await;
        git(&work, &["remote", "add", "origin", url]).await;
        Self { bare, work }
    }

    /// The clone, for whatever the helpers do not cover.
    pub fn work(&self) -> &Path {
        &self.work
    }

    /// Writes the files, commits and pushes the current branch; returns the commit's hash.
    pub async fn push(&self, files: &[(&str, &str)]) -> String {
        for (path, content) in files {
            let path = self.work.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        self.push_work().await
    }

    /// Commits whatever is in the clone and pushes it.
    pub async fn push_work(&self) -> String {
        self.git(&["add", "--all"]).await;
        self.git(&["commit", "--quiet", "--allow-empty", "-m", "change"]).await;
        self.git(&["push", "--quiet", "--force", "origin", "HEAD"]).await;
        self.git(&["rev-parse", "HEAD"]).await
    }

    /// Adds many commits to `main` at once and pushes them; the files stay as they are.
    pub async fn push_many(&self, count: usize) -> String {
        let mut stream = String::new();
        for number in 0..count {
            let from = if number == 0 { "from refs/heads/main^0\n" } else { "" };
            let message = format!("commit {number}");
            let committer = "committer T <t@example.com> 1700000000 +0000";
            let length = message.len();
            writeln!(stream, "commit refs/heads/main\n{committer}\ndata {length}\n{message}\n{from}")
                .unwrap();
        }
        let file = self.work.join(".git/stream");
        std::fs::write(&file, stream).unwrap();
        let import = format!("git fast-import --quiet --force < {}", file.display());
        let mut shell = Command::new("sh");
        shell.args(["-c", &import]).current_dir(&self.work);
        assert!(shell.status().await.unwrap().success());
        self.git(&["push", "--quiet", "origin", "main"]).await;
        self.git(&["rev-parse", "main"]).await
    }

    /// Pushes `bytes` of what cannot be compressed, takes them out again, and hides both under more commits than are asked for at first.
    pub async fn push_a_heavy_past(&self, bytes: usize) -> String {
        let mut state = 1_u64;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[0]
        });
        let file = self.work.join("heavy");
        std::fs::write(&file, noise.take(bytes).collect::<Vec<_>>()).unwrap();
        self.push_work().await;
        std::fs::remove_file(&file).unwrap();
        self.push_work().await;
        self.push_many(15).await
    }

    /// Runs git in the clone.
    pub async fn git(&self, arguments: &[&str]) -> String {
        git(&self.work, arguments).await
    }

    /// Signs every commit and annotated tag from now on with an SSH key.
    pub async fn sign_with(&self, key: &Path) {
        let key = key.to_str().unwrap();
        let values = [
            ("gpg.format", "ssh"),
            ("user.signingkey", key),
            ("commit.gpgsign", "true"),
            ("tag.gpgsign", "true"),
        ];
        for (name, value) in values {
            self.git(&["config", name, value]).await;
        }
    }

    /// Makes the branch point to a commit object of this content, whatever it is, and pushes it.
    pub async fn push_raw(&self, commit: &str) -> String {
        let file = self.work.join(".git/raw-commit");
        std::fs::write(&file, commit).unwrap();
        let hash = self.git(&["hash-object", "-t", "commit", "-w", file.to_str().unwrap()]).await;
        self.git(&["reset", "--quiet", "--hard", &hash]).await;
        self.git(&["push", "--quiet", "--force", "origin", "HEAD"]).await;
        hash
    }

    /// Sets a configuration value of the repository on the server.
    pub async fn configure_server(&self, key: &str, value: &str) {
        git(&self.bare, &["config", key, value]).await;
    }
}

/// Where git is. Whoever runs a program by its name alone, and gives it an environment of its own, has this process copied to
/// look for it, with all the memory that the tests beside it have.
static GIT: LazyLock<PathBuf> = LazyLock::new(|| {
    let path = std::env::var_os("PATH").expect("a PATH");
    std::env::split_paths(&path).map(|folder| folder.join("git")).find(|git| git.exists()).expect("git")
});

/// Runs git without anybody's configuration and returns what it printed.
pub async fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new(&*GIT)
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_NAME"), "Test")))
        .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_EMAIL"), "test@example.com")))
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn tls(host: &str) -> (TlsAcceptor, String) {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    ca.distinguished_name.push(rcgen::DnType::CommonName, "git server's CA");
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let names = rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap();
    let certificate = names.signed_by(&key, &rcgen::Issuer::from_params(&ca, &ca_key)).unwrap();
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), ca_certificate.pem())
}

struct TlsListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else { continue };
            // A client that does not trust us breaks off; the next one may.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

async fn respond(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let path = request.uri().to_string();
    let authorization =
        request.headers().get(header::AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
    shared.seen.lock().push(Seen { path: path.clone(), authorization: authorization.clone() });
    let renamed = shared.renamed.lock().clone();
    if let Some((rest, new)) = renamed.and_then(|(old, new)| Some((path.strip_prefix(&old)?.to_owned(), new)))
    {
        return redirect(&format!("{new}{rest}"));
    }
    let behavior = shared.behavior.lock().clone();
    match behavior {
        Behavior::Hang => std::future::pending().await,
        Behavior::Answer(status) => empty(status),
        Behavior::RedirectTo(origin) => redirect(&format!("{origin}{path}")),
        Behavior::Serve if !shared.admits(authorization.as_deref()) => {
            let mut response = empty(StatusCode::UNAUTHORIZED);
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"git\""));
            response
        }
        Behavior::Serve => backend(shared.root.path(), request).await,
    }
}

impl Shared {
    fn admits(&self, authorization: Option<&str>) -> bool {
        self.required.lock().as_deref().is_none_or(|required| Some(required) == authorization)
    }
}

fn redirect(to: &str) -> Response<Body> {
    let mut response = empty(StatusCode::FOUND);
    response.headers_mut().insert(header::LOCATION, HeaderValue::try_from(to).unwrap());
    response
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// `git http-backend` as CGI.
async fn backend(root: &Path, request: Request) -> Response<Body> {
    let (request, body) = request.into_parts();
    let header =
        |name| request.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or("");
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", request.method.as_str())
        .env("PATH_INFO", request.uri.path())
        .env("QUERY_STRING", request.uri.query().unwrap_or(""))
        .env("CONTENT_TYPE", header("content-type"))
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let body = to_bytes(body, 64 << 20).await.unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feed = async move {
        // The backend may answer, with an error, before it has read everything.
        let _ = stdin.write_all(&body).await;
    };
    let (output, ()) = tokio::join!(child.wait_with_output(), feed);
    parse_cgi(&output.unwrap().stdout)
}

fn parse_cgi(output: &[u8]) -> Response<Body> {
    let split = output.windows(4).position(|window| window == b"\r\n\r\n").expect("a CGI head");
    let head = std::str::from_utf8(&output[..split]).unwrap();
    let mut response = Response::new(Body::from(output[split + 4..].to_vec()));
    for (name, value) in head.lines().filter_map(|line| line.split_once(": ")) {
        if name == "Status" {
            *response.status_mut() = value.split(' ').next().unwrap().parse().unwrap();
        } else {
            let name = header::HeaderName::try_from(name).unwrap();
            response.headers_mut().insert(name, HeaderValue::try_from(value).unwrap());
        }
    }
    response
}
