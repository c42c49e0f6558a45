//! The way out over ssh: libgit2 speaks git's own protocol in the clear to a listener on loopback, and every connection becomes a
//! session on the server that runs `git-upload-pack` on one repository.
//!
//! There is no agent, no file of a home folder and no ssh program: the key and the known hosts are what the Pack's Secret has.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use russh::client::{self, Handle, Msg};
use russh::keys::{self, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Preferred};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use super::budget::Budget;
use super::known_hosts::KnownHost;
use super::{REQUEST_BYTES, Trouble, innermost, random_token};
use crate::git::address::Address;
use crate::git::source::Secret;

/// Of what the server's git complains, as much as a condition's message can use.
const COMPLAINT_BYTES: usize = 1024;
/// A request's first line: the service, a token and a host.
const GREETING_BYTES: usize = 256;

/// An open gate; dropping it closes it.
pub(in crate::git) struct Gate {
    address: SocketAddr,
    passage: Arc<Passage>,
    _runtime: Runtime,
}

/// What every connection needs to pass.
struct Passage {
    server: Address,
    token: String,
    identity: Arc<PrivateKey>,
    known: Arc<KnownHost>,
    budget: Budget,
    trouble: Arc<Mutex<Option<Trouble>>>,
}

/// What a gate is opened for.
pub(in crate::git) struct Opening<'a> {
    /// The repository.
    pub server: &'a Address,
    /// The private key.
    pub identity: &'a Secret,
    /// What it is encrypted with, if it is.
    pub passphrase: Option<&'a Secret>,
    /// The keys that the server may show.
    pub known_hosts: &'a str,
    /// Bytes that all answers together may have.
    pub transfer_bytes: u64,
}

/// Why a gate cannot be opened.
pub(in crate::git) enum OpenError {
    /// The key or the known hosts cannot be used.
    Secret(String),
    /// The machine does not let us listen.
    Io(io::Error),
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Gate {
    /// Opens a gate.
    pub(in crate::git) fn open(opening: &Opening<'_>) -> Result<Self, OpenError> {
        let server = opening.server.clone();
        let known = KnownHost::read(opening.known_hosts, &server.host, server.port);
        let passage = Arc::new(Passage {
            identity: Arc::new(identity(opening).map_err(OpenError::Secret)?),
            known: Arc::new(known.map_err(OpenError::Secret)?),
            server,
            token: random_token()?,
            budget: Budget::new(opening.transfer_bytes),
            trouble: Arc::default(),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        runtime.spawn(serve(listener, Arc::clone(&passage)));
        Ok(Self { address, passage, _runtime: runtime })
    }

    /// Where libgit2 finds the repository.
    pub(in crate::git) fn url(&self) -> String {
        format!("git://{}/{}", self.address, self.passage.token)
    }

    /// What went wrong since this was asked last.
    pub(in crate::git) fn take_trouble(&self) -> Option<Trouble> {
        self.passage.trouble.lock().take()
    }
}

fn identity(opening: &Opening<'_>) -> Result<PrivateKey, String> {
    let passphrase = opening.passphrase.map(Secret::reveal);
    keys::decode_secret_key(opening.identity.reveal(), passphrase).map_err(|error| {
        match (error, passphrase) {
            (keys::Error::KeyIsEncrypted, None) => {
                "identity is encrypted; give its passphrase as password".to_owned()
            }
            (_, Some(_)) => "identity cannot be read with this password".to_owned(),
            (error, None) => format!("identity is not a private key that can be read: {error}"),
        }
    })
}

async fn serve(listener: TcpListener, passage: Arc<Passage>) {
    while let Ok((local, _)) = listener.accept().await {
        tokio::spawn(Arc::clone(&passage).pass(local));
    }
}

impl Passage {
    async fn pass(self: Arc<Self>, mut local: TcpStream) {
        if !self.greeted(&mut local).await {
            return;
        }
        if let Err(trouble) = self.carry(&mut local).await {
            let mut noted = self.trouble.lock();
            // What the server's key is refused for is known already and says more. A transfer comes after that: what it finds noted
            // is from an earlier one, which went well all the same.
            if noted.is_none() || matches!(trouble, Trouble::TooLarge(_)) {
                *noted = Some(trouble);
            }
        }
        // Only now: whoever sees the connection end finds the trouble noted.
        drop(local);
    }

    /// Whether the first line asks for the one repository that there is, with the token.
    async fn greeted(&self, local: &mut TcpStream) -> bool {
        let mut length = [0; 4];
        if local.read_exact(&mut length).await.is_err() {
            return false;
        }
        let length =
            std::str::from_utf8(&length).ok().and_then(|digits| usize::from_str_radix(digits, 16).ok());
        let Some(length) = length.and_then(|all| all.checked_sub(4)).filter(|rest| *rest <= GREETING_BYTES)
        else {
            return false;
        };
        let mut line = vec![0; length];
        let wanted = format!("git-upload-pack /{}\0", self.token);
        local.read_exact(&mut line).await.is_ok() && line.starts_with(wanted.as_bytes())
    }

    async fn carry(&self, local: &mut TcpStream) -> Result<(), Trouble> {
        let mut session = self.connect().await?;
        self.authenticate(&mut session).await?;
        let channel = session.channel_open_session().await.map_err(|error| broken(&error))?;
        channel.exec(true, self.server.command()).await.map_err(|error| broken(&error))?;
        self.relay(local, channel).await
    }

    async fn connect(&self) -> Result<Handle<Doorkeeper>, Trouble> {
        let preferred =
            Preferred { key: self.known.order(&Preferred::DEFAULT.key).into(), ..Preferred::DEFAULT };
        let config = Arc::new(client::Config { preferred, nodelay: true, ..client::Config::default() });
        let doorkeeper = Doorkeeper { known: Arc::clone(&self.known), trouble: Arc::clone(&self.trouble) };
        let place = (self.server.host.as_str(), self.server.port);
        client::connect(config, place, doorkeeper).await.map_err(|error| broken(&error))
    }

    async fn authenticate(&self, session: &mut Handle<Doorkeeper>) -> Result<(), Trouble> {
        // Of RSA only with SHA-2: what the server likes best of it, and the strongest if it does not say.
        let hash = match self.identity.algorithm().is_rsa() {
            true => session.best_supported_rsa_hash().await.map_err(|error| broken(&error))?.flatten(),
            false => None,
        };
        let key = PrivateKeyWithHashAlg::new(Arc::clone(&self.identity), hash.or(Some(HashAlg::Sha512)));
        let answer = session.authenticate_publickey(&self.server.user, key).await;
        if answer.map_err(|error| broken(&error))?.success() { Ok(()) } else { Err(Trouble::Unauthenticated) }
    }

    /// Carries bytes both ways until one side is done.
    async fn relay(&self, local: &mut TcpStream, channel: Channel<Msg>) -> Result<(), Trouble> {
        let (from_local, to_local) = local.split();
        let (from_server, to_server) = channel.split();
        tokio::select! {
            result = receive(from_server, to_local, &self.budget) => result,
            // libgit2 has hung up: nobody listens any more.
            () = send(from_local, to_server) => Ok(()),
        }
    }
}

async fn send(from_local: ReadHalf<'_>, to_server: ChannelWriteHalf<Msg>) {
    let mut request = from_local.take(REQUEST_BYTES as u64);
    // A server that does not take it any more says why in its answer.
    let _ = tokio::io::copy(&mut request, &mut to_server.make_writer()).await;
}

async fn receive(
    mut server: ChannelReadHalf,
    mut local: WriteHalf<'_>,
    budget: &Budget,
) -> Result<(), Trouble> {
    let (mut complaint, mut failed) = (Vec::new(), false);
    while let Some(message) = server.wait().await {
        match message {
            ChannelMsg::Data { data } => {
                budget.take(data.len())?;
                if local.write_all(&data).await.is_err() {
                    return Ok(());
                }
            }
            ChannelMsg::ExtendedData { data, .. } => {
                let room = COMPLAINT_BYTES.saturating_sub(complaint.len()).min(data.len());
                complaint.extend_from_slice(&data[..room]);
            }
            ChannelMsg::ExitStatus { exit_status } => failed = exit_status != 0,
            ChannelMsg::ExitSignal { .. } | ChannelMsg::Failure => failed = true,
            ChannelMsg::Close => break,
            _ => {}
        }
    }
    if failed { Err(Trouble::Complaint(readable(&complaint))) } else { Ok(()) }
}

/// A server's words on one line, without what would move a terminal's cursor.
fn readable(complaint: &[u8]) -> String {
    let text = String::from_utf8_lossy(complaint);
    let words: Vec<&str> = text.split(|c: char| c.is_control() || c.is_whitespace()).collect();
    words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

fn broken(error: &russh::Error) -> Trouble {
    Trouble::Unreachable(innermost(error).to_string())
}

/// Lets no server in that the known hosts do not vouch for.
struct Doorkeeper {
    known: Arc<KnownHost>,
    trouble: Arc<Mutex<Option<Trouble>>>,
}

impl client::Handler for Doorkeeper {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let verdict = match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => self.known.check(key),
            // None was asked for.
            PublicKeyOrCertificate::Certificate(_) => {
                Err("host certificates are not supported; refusing".into())
            }
        };
        if let Err(problem) = &verdict {
            *self.trouble.lock() = Some(Trouble::HostKey(problem.clone()));
        }
        Ok(verdict.is_ok())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net;

    use russh::keys::ssh_key::LineEnding;
    use russh::keys::ssh_key::private::Ed25519Keypair;

    use super::*;

    /// A gate to a port where nobody listens.
    fn gate() -> Gate {
        let key = PrivateKey::from(Ed25519Keypair::from_seed(&[1; 32]));
        let identity = &Secret::new(key.to_openssh(LineEnding::LF).unwrap().as_str());
        let server = &Address { user: "git".into(), host: "127.0.0.1".into(), port: 1, path: "x".into() };
        let opening = Opening { server, identity, passphrase: None, known_hosts: "", transfer_bytes: 1 };
        Gate::open(&opening).unwrap_or_else(|_| panic!("it opens"))
    }

    /// Sends one line and waits until the gate hangs up.
    fn ask(gate: &Gate, line: &str) -> Vec<u8> {
        let mut stream = net::TcpStream::connect(gate.address).unwrap();
        stream.write_all(line.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // Hanging up on what was not read to its end is a reset.
        let _ = stream.read_to_end(&mut answer);
        answer
    }

    #[test]
    fn opens_only_with_its_token() {
        let gate = gate();
        let greeting = |text: String| format!("{:04x}{text}", text.len() + 4);
        let token = &gate.passage.token;
        for other in [
            greeting("git-upload-pack /x\0host=127.0.0.1\0".to_owned()),
            greeting(format!("git-receive-pack /{token}\0host=127.0.0.1\0")),
            greeting(format!("git-upload-pack /{token}x\0host=127.0.0.1\0")),
            "ffffgit".to_owned(),
            "nonsense".to_owned(),
        ] {
            assert_eq!(ask(&gate, &other), b"", "{other:?}");
            assert_eq!(gate.take_trouble(), None, "nothing was tried for {other:?}");
        }
        ask(&gate, &greeting(format!("git-upload-pack /{token}\0host=127.0.0.1\0")));
        assert!(matches!(gate.take_trouble(), Some(Trouble::Unreachable(_))));
    }

    #[test]
    fn complaints_become_one_line() {
        assert_eq!(readable(b"fatal: no\x1b[2J such\r\nrepository\n"), "fatal: no [2J such repository");
    }
}
