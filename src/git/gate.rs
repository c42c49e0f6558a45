//! The worker's only way out: a loopback proxy that opens connections to one host and port, and to no other.
//!
//! libgit2 attaches an `Authorization` header to whatever request it makes, also to one that a redirect sent to another port of the same
//! host. It is therefore made to reach servers by `CONNECT host:port` through this gate, which holds the binding where it cannot be
//! missed. TLS stays between libgit2 and the server; the gate sees only what it carries, encrypted.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

/// How long one address of the server may take to accept.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than any `CONNECT` request of libgit2.
const MAX_REQUEST_LINES: usize = 32;

/// An open gate; its threads end with the worker's process.
pub(super) struct Gate {
    address: SocketAddr,
    trouble: Arc<Mutex<Option<Trouble>>>,
}

/// Why the gate let nobody through, which libgit2 cannot know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// libgit2 was sent to another `host:port`.
    Elsewhere(String),
    /// The server could not be reached.
    Unreachable(String),
}

impl Gate {
    /// Opens a gate to one host and port.
    pub(super) fn open(host: &str, port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let trouble = Arc::new(Mutex::new(None));
        let allowed = format!("{host}:{port}");
        let seen = Arc::clone(&trouble);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (allowed, seen) = (allowed.clone(), Arc::clone(&seen));
                thread::spawn(move || {
                    if let Err(found) = serve(&client, &allowed) {
                        *seen.lock() = Some(found);
                        // Whether the refusal still reaches libgit2 does not matter: either way it has no connection.
                        let _ = (&client).write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
                    }
                });
            }
        });
        Ok(Self { address, trouble })
    }

    /// The URL to configure as proxy.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What went wrong at the gate since it was asked last.
    pub(super) fn take_trouble(&self) -> Option<Trouble> {
        self.trouble.lock().take()
    }
}

fn serve(client: &TcpStream, allowed: &str) -> Result<(), Trouble> {
    let wanted = read_connect(client).map_err(|error| Trouble::Unreachable(error.to_string()))?;
    if !wanted.eq_ignore_ascii_case(allowed) {
        return Err(Trouble::Elsewhere(wanted));
    }
    let server = connect(allowed).map_err(|error| Trouble::Unreachable(error.to_string()))?;
    // From here on trouble is the two ends' own, and they notice it themselves.
    let _ = carry(client, &server);
    Ok(())
}

/// Reads one request's head without a byte of what follows it, and returns where it wants to go.
fn read_connect(client: &TcpStream) -> io::Result<String> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, "not a CONNECT request");
    // libgit2 sends nothing after the head until it is answered, so that nothing is lost in this buffer.
    let mut lines = BufReader::new(client).lines();
    let first = lines.next().ok_or_else(invalid)??;
    for line in lines.by_ref().take(MAX_REQUEST_LINES) {
        if line?.is_empty() {
            let wanted = first.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next());
            return wanted.map(str::to_owned).ok_or_else(invalid);
        }
    }
    Err(invalid())
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn carry(client: &TcpStream, server: &TcpStream) -> io::Result<()> {
    let (mut from_server, mut to_client) = (server.try_clone()?, client.try_clone()?);
    to_client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    let down = thread::spawn(move || {
        let _ = io::copy(&mut from_server, &mut to_client);
        let _ = to_client.shutdown(std::net::Shutdown::Both);
    });
    let (mut from_client, mut to_server) = (client, server);
    let _ = io::copy(&mut from_client, &mut to_server);
    let _ = server.shutdown(std::net::Shutdown::Both);
    let _ = down.join();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn ask(gate: &Gate, request: &str) -> (TcpStream, String) {
        let mut client = TcpStream::connect(gate.address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client.write_all(request.as_bytes()).unwrap();
        let mut status = String::new();
        let mut reader = BufReader::new(client.try_clone().unwrap());
        reader.read_line(&mut status).unwrap();
        (client, status)
    }

    #[test]
    fn carries_to_the_allowed_server() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let gate = Gate::open("127.0.0.1", port).unwrap();
        let (client, status) = ask(&gate, &format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert!(status.starts_with("HTTP/1.1 200"), "{status}");
        let (mut accepted, _) = server.accept().unwrap();
        (&client).write_all(b"ping").unwrap();
        let mut got = [0; 4];
        accepted.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"ping");
        assert_eq!(gate.take_trouble(), None);
    }

    #[test]
    fn refuses_any_other_port_host_and_request() {
        let gate = Gate::open("127.0.0.1", 1).unwrap();
        let cases = [
            ("CONNECT 127.0.0.1:2 HTTP/1.1\r\n\r\n", Trouble::Elsewhere("127.0.0.1:2".into())),
            ("CONNECT evil.example:1 HTTP/1.1\r\n\r\n", Trouble::Elsewhere("evil.example:1".into())),
            (
                "GET http://127.0.0.1:1/ HTTP/1.1\r\n\r\n",
                Trouble::Unreachable("not a CONNECT request".into()),
            ),
        ];
        for (request, expected) in cases {
            let (_client, status) = ask(&gate, request);
            assert!(status.starts_with("HTTP/1.1 403"), "{status}");
            assert_eq!(gate.take_trouble(), Some(expected));
        }
    }

    #[test]
    fn says_that_nobody_listens() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let gate = Gate::open("127.0.0.1", free).unwrap();
        ask(&gate, &format!("CONNECT 127.0.0.1:{free} HTTP/1.1\r\n\r\n"));
        let Some(Trouble::Unreachable(cause)) = gate.take_trouble() else { panic!("no trouble") };
        assert!(cause.contains("refused"), "{cause}");
    }
}
