//! Open watches as the proxy passes them on: frozen, closed or expired between two events.

use std::io;

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt as _};
use http::{StatusCode, Uri};
use http_body::Frame;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::status_of;

/// What an open watch is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Pass events on.
    Flow,
    /// Pass nothing on, and keep the connection: a watch that is stale and does not know it.
    Freeze,
    /// End as an API server ends a watch that has lasted long enough.
    Close,
    /// End with a 410 in the stream: the history that the client wants is gone.
    Expire,
}

/// The watches that are open, by what they asked for.
#[derive(Default)]
pub(super) struct Watches(Mutex<Vec<(Uri, watch::Sender<Order>)>>);

impl Watches {
    /// Tells the open watches that `concerns` describes, and says how many those are.
    pub(super) fn order(&self, order: Order, concerns: impl Fn(&Uri) -> bool) -> usize {
        let mut open = self.0.lock();
        open.retain(|(_, orders)| !orders.is_closed());
        let concerned = || open.iter().filter(|(uri, _)| concerns(uri));
        for (_, orders) in concerned() {
            orders.send_replace(order);
        }
        concerned().count()
    }

    /// Passes `body`, the answer to a watch on `uri`, on as ordered.
    pub(super) fn pass_on<S>(
        &self,
        uri: &Uri,
        body: S,
    ) -> impl Stream<Item = Result<Frame<Bytes>, io::Error>> + use<S>
    where
        S: Stream<Item = Result<Bytes, io::Error>> + Unpin + Send,
    {
        let (orders, ordered) = watch::channel(Order::Flow);
        self.0.lock().push((uri.clone(), orders));
        // Events end in a newline, so that "between two events" is known.
        let state = Some((body, ordered, true));
        stream::unfold(state, |state| async {
            let (mut body, mut ordered, whole) = state?;
            match next(&mut body, &mut ordered, whole).await? {
                Next::Data(Ok(data)) => {
                    let whole = data.ends_with(b"\n");
                    Some((Ok(Frame::data(data)), Some((body, ordered, whole))))
                }
                Next::Data(Err(error)) => Some((Err(error), None)),
                Next::Expired => Some((Ok(Frame::data(expired_event())), None)),
            }
        })
    }
}

enum Next {
    Data(Result<Bytes, io::Error>),
    Expired,
}

/// The next thing to pass on; none at the end.
async fn next<S>(body: &mut S, ordered: &mut watch::Receiver<Order>, whole: bool) -> Option<Next>
where
    S: Stream<Item = Result<Bytes, io::Error>> + Unpin,
{
    loop {
        let order = if whole { *ordered.borrow_and_update() } else { Order::Flow };
        match order {
            Order::Close => return None,
            Order::Expire => return Some(Next::Expired),
            // Without the proxy there are no more orders, and nothing to pass on to.
            Order::Freeze => ordered.changed().await.ok()?,
            Order::Flow => tokio::select! {
                data = body.next() => return data.map(Next::Data),
                changed = ordered.changed(), if whole => changed.ok()?,
            },
        }
    }
}

fn expired_event() -> Bytes {
    let event = serde_json::json!({"type": "ERROR", "object": status_of(StatusCode::GONE)});
    Bytes::from(format!("{event}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn passed(chunks: &[&'static str], order: Order) -> String {
        let watches = Watches::default();
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        let body = stream::unfold(receiver, |mut receiver: tokio::sync::mpsc::UnboundedReceiver<_>| async {
            receiver.recv().await.map(|data| (data, receiver))
        });
        let mut passed = Box::pin(watches.pass_on(&Uri::from_static("/api/v1/pods?watch=1"), Box::pin(body)));
        let mut text = String::new();
        for (position, chunk) in chunks.iter().enumerate() {
            sender.send(Ok(Bytes::from_static(chunk.as_bytes()))).unwrap();
            let frame = passed.next().await.unwrap().unwrap().into_data().unwrap();
            text.push_str(std::str::from_utf8(&frame).unwrap());
            if position == 0 {
                assert_eq!(watches.order(order, |uri| uri.path() == "/api/v1/pods"), 1);
                assert_eq!(watches.order(order, |uri| uri.path() == "/api/v1/nodes"), 0);
            }
        }
        while let Some(Ok(frame)) = passed.next().await {
            text.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
        }
        text
    }

    #[tokio::test]
    async fn ends_between_two_events() {
        assert_eq!(passed(&["{}\n"], Order::Close).await, "{}\n");
        assert_eq!(passed(&["{", "}\n"], Order::Close).await, "{}\n");
        let expired = passed(&["{", "}\n"], Order::Expire).await;
        assert!(expired.starts_with("{}\n{") && expired.contains("\"code\":410"), "{expired}");
    }

    #[tokio::test(start_paused = true)]
    async fn frozen_it_keeps_silent_and_thaws() {
        let watches = Watches::default();
        let body = stream::iter([Ok(Bytes::from_static(b"{}\n"))]);
        let mut passed = Box::pin(watches.pass_on(&Uri::from_static("/w"), body));
        watches.order(Order::Freeze, |_| true);
        let hour = std::time::Duration::from_hours(1);
        assert!(tokio::time::timeout(hour, passed.next()).await.is_err());
        watches.order(Order::Flow, |_| true);
        assert!(passed.next().await.unwrap().is_ok());
    }
}
