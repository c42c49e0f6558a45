//! One HTTP request over a connection of its own, whole or in two steps.

use std::fmt::Write as _;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::wait::DEADLINE;

/// What is said to whoever asks whether his body is wanted.
const WANTED: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub text: String,
}

/// Posts a body and reads the answer.
pub async fn post(address: SocketAddr, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    try_post(address, path, headers, body).await.unwrap()
}

/// The same, where perhaps nobody listens.
pub async fn try_post(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Answer> {
    post_over(TcpStream::connect(address).await?, path, headers, body).await
}

/// The same over a connection that is there.
pub async fn post_over(
    mut stream: TcpStream,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Answer> {
    let address = stream.peer_addr()?;
    let mut head = format!("POST {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    write!(head, "content-length: {}\r\n\r\n", body.len()).unwrap();
    stream.write_all(head.as_bytes()).await?;
    // Whoever refuses a body does not read it.
    let _ = stream.write_all(body).await;
    Ok(read(&mut stream).await)
}

/// Begins a request and keeps its connection open: comes back when somebody waits for the body.
pub async fn begin(address: SocketAddr, path: &str, headers: &[(&str, &str)], length: usize) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut head = format!("POST {path} HTTP/1.1\r\nhost: {address}\r\nexpect: 100-continue\r\n");
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    write!(head, "content-length: {length}\r\n\r\n").unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut said = vec![0; WANTED.len()];
    tokio::time::timeout(DEADLINE, stream.read_exact(&mut said)).await.unwrap().unwrap();
    assert_eq!(said, WANTED, "{}", String::from_utf8_lossy(&said));
    stream
}

/// Sends the body of a request that was begun, and reads its answer, which has to be the last of the connection.
pub async fn finish(mut stream: TcpStream, body: &[u8]) -> Answer {
    stream.write_all(body).await.unwrap();
    tokio::time::timeout(DEADLINE, read(&mut stream)).await.unwrap()
}

/// Gets what is at a path.
pub async fn get(address: SocketAddr, path: &str) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    Ok(read(&mut stream).await)
}

/// Reads an answer up to its end.
pub async fn read(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    let text = String::from_utf8(bytes).unwrap();
    let (head, text) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
    Answer { status, head: head.to_lowercase(), text: text.trim_end().to_owned() }
}
