//! A system outside of the cluster that takes requests with JSON in them: of tickets, of pages.

use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Takes requests until it is dropped with the test's runtime.
pub struct Taker {
    pub address: String,
    taken: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Taker {
    /// One at an address of this machine that answers each request with this text.
    pub async fn at(host: IpAddr, answer: &'static str) -> Self {
        let listener = TcpListener::bind((host, 0)).await.unwrap();
        let address = format!("http://{}/", listener.local_addr().unwrap());
        let taken = Arc::<Mutex<Vec<(String, Value)>>>::default();
        let kept = taken.clone();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = request(&mut stream).await;
                kept.lock().push(request);
                let head =
                    format!("HTTP/1.1 201 Created\r\nconnection: close\r\ncontent-length: {}", answer.len());
                stream.write_all(format!("{head}\r\n\r\n{answer}").as_bytes()).await.unwrap();
            }
        });
        Self { address, taken }
    }

    /// What it has taken: the head in small letters, and the body.
    pub fn taken(&self) -> Vec<(String, Value)> {
        self.taken.lock().clone()
    }
}

async fn request(stream: &mut TcpStream) -> (String, Value) {
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut buffer).await.unwrap();
        assert!(count > 0, "it broke off: {text}");
        text.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        if let Ok(body) = serde_json::from_str(body) {
            return (head.to_lowercase(), body);
        }
    }
}
