//! The stand-in for the payment service behind the gate: plain HTTP on loopback, unsigned JSON; XML on a path of API v2.
//!
//! An order number that begins with one of the words below makes it misbehave.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::DemoError;
use super::accounts::unique;

/// The running stand-in.
pub(super) struct StandIn {
    pub address: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<io::Result<()>>,
}

impl StandIn {
    /// Starts it on a free port.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn start() -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(serve(listener, stopped))
        };
        let thread = std::thread::Builder::new().name("upstream".to_owned()).spawn(serve)?;
        Ok(Self { address, stop, thread })
    }

    /// Stops it.
    ///
    /// # Errors
    /// Where its thread failed.
    pub fn stop(self) -> Result<(), DemoError> {
        // Gone already where its thread ended; the join tells.
        let _ = self.stop.send(());
        Ok(self.thread.join().map_err(|_| DemoError::Thread)??)
    }
}

async fn serve(listener: std::net::TcpListener, mut stopped: oneshot::Receiver<()>) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = tokio::select! {
            _ = &mut stopped => return Ok(()),
            accepted = listener.accept() => accepted?,
        };
        stream.set_nodelay(true)?;
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(handle)));
    }
}

async fn handle(request: Request<Incoming>) -> Result<Response<Reply>, Infallible> {
    let (head, body) = request.into_parts();
    // A body that broke off has no order number, so it is answered like any other.
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let path = head.uri.path();
    if path == ORDER_V2 {
        let mut response = Response::new(Reply::new(ORDERED_V2.to_owned(), false));
        head_of(response.headers_mut(), &head.headers, false);
        response.headers_mut().insert("content-type", HeaderValue::from_static("text/plain"));
        return Ok(response);
    }
    let number = number(path, &body);
    if number.starts_with(SLOW) {
        tokio::time::sleep(SLOW_ANSWER).await;
    }
    let (status, answer) = if number.starts_with(REFUSE) {
        let message = "the order cannot be paid";
        (StatusCode::FORBIDDEN, Some(json!({ "code": "TRADE_ERROR", "message": message })))
    } else {
        answer(&head.method, path, &number, &body)
    };
    let answer = answer.as_ref().map(Value::to_string).unwrap_or_default();
    let mut response = Response::new(Reply::new(answer, number.starts_with(DROP)));
    *response.status_mut() = status;
    head_of(response.headers_mut(), &head.headers, number.starts_with(SIGNED));
    Ok(response)
}

/// Writes the head, and repeats the decision that the gate named, for the demo to compare.
fn head_of(headers: &mut HeaderMap, received: &HeaderMap, signed: bool) {
    headers.insert("content-type", HeaderValue::from_static("application/json; charset=utf-8"));
    if let Some(decision) = received.get("tollgate-decision") {
        headers.insert(SEEN_DECISION, decision.clone());
    }
    if signed {
        let fields = [
            ("wechatpay-timestamp", "1554208460"),
            ("wechatpay-nonce", "the-services-own"),
            ("wechatpay-signature", OWN_SIGNATURE),
            ("wechatpay-serial", "0123456789ABCDEF"),
            ("wechatpay-signature-type", "WECHATPAY2-SHA256-RSA2048"),
        ];
        for (name, value) in fields {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}

fn number(path: &str, body: &Value) -> String {
    let in_body = body.get("out_trade_no").and_then(Value::as_str);
    let in_path = path.strip_prefix(BY_NUMBER).and_then(|rest| rest.split('/').next());
    in_body.or(in_path).unwrap_or_default().to_owned()
}

fn answer(method: &Method, path: &str, number: &str, body: &Value) -> (StatusCode, Option<Value>) {
    let prepay_id = format!("wx22{}", unique());
    let answer = match (method, path) {
        (&Method::POST, "/v3/pay/transactions/jsapi" | "/v3/pay/transactions/app") => json!({ "prepay_id": prepay_id }),
        (&Method::POST, "/v3/pay/transactions/native") => {
            json!({ "code_url": format!("weixin://wxpay/bizpayurl/up?pr={}&groupid=00", unique()) })
        }
        (&Method::POST, "/v3/pay/transactions/h5") => {
            let page = "https://wx.tenpay.com/cgi-bin/mmpayweb-bin/checkmweb";
            json!({ "h5_url": format!("{page}?prepay_id={prepay_id}&package=1") })
        }
        (&Method::POST, "/v3/refund/domestic/refunds") => json!({
            "refund_id": format!("5030{}", unique()),
            "out_refund_no": body.get("out_refund_no"),
            "out_trade_no": number,
            "channel": "ORIGINAL",
            "status": "PROCESSING",
            "amount": body.get("amount"),
        }),
        (&Method::POST, close) if close.ends_with("/close") => return (StatusCode::NO_CONTENT, None),
        (&Method::POST, reverse) if reverse.ends_with("/reverse") => {
            json!({ "out_trade_no": number, "trade_state": "REVOKED", "trade_state_desc": "reversed" })
        }
        (&Method::GET, refund) if refund.starts_with(REFUNDS) => {
            json!({ "out_refund_no": refund.strip_prefix(REFUNDS), "status": "SUCCESS" })
        }
        _ => json!({
            "out_trade_no": number,
            "transaction_id": format!("4200{}", unique()),
            "trade_type": "JSAPI",
            "trade_state": "SUCCESS",
            "trade_state_desc": "paid",
            "bank_type": if number.starts_with(BY_BALANCE) { "CFT" } else { "OTHERS" },
            "amount": body.get("amount"),
        }),
    };
    (StatusCode::OK, Some(answer))
}

/// An answer's body; it may break off before the length that the head promised.
struct Reply {
    bytes: Option<Bytes>,
    breaks: bool,
    left_bytes: u64,
}

impl Reply {
    fn new(answer: String, breaks: bool) -> Self {
        let bytes: Bytes = answer.into();
        let promised = bytes.len() + if breaks { 64 } else { 0 };
        Self { bytes: Some(bytes), breaks, left_bytes: u64::try_from(promised).unwrap_or(u64::MAX) }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(match self.bytes.take().filter(|bytes| !bytes.is_empty()) {
            Some(bytes) => {
                self.left_bytes = self.left_bytes.saturating_sub(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
                Some(Ok(Frame::data(bytes)))
            }
            None if self.breaks => Some(Err(io::ErrorKind::ConnectionAborted.into())),
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left_bytes == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left_bytes)
    }
}

/// Answers later than any gate of the demo waits.
pub(super) const SLOW: &str = "SLOW-";

/// Breaks the connection in the middle of the answer.
pub(super) const DROP: &str = "DROP-";

/// Answers with a refusal of its own.
pub(super) const REFUSE: &str = "REFUSE-";

/// Answers with signature headers of its own.
pub(super) const SIGNED: &str = "SIGNED-";

/// The signature that it then sends; it never signs, and the gate is not to judge.
pub(super) const OWN_SIGNATURE: &str = "b3duIHNpZ25hdHVyZQ==";

/// Tells, asked for the order, that it was paid by balance; else not how it was paid.
pub(super) const BY_BALANCE: &str = "BALANCE-";

/// Where it repeats the decision that the gate named.
pub(super) const SEEN_DECISION: &str = "demo-seen-decision";

/// Where orders by API v2 go.
const ORDER_V2: &str = "/pay/unifiedorder";

/// How they are answered.
const ORDERED_V2: &str = "<xml><return_code>SUCCESS</return_code><return_msg>OK</return_msg>\
    <result_code>SUCCESS</result_code><trade_type>NATIVE</trade_type>\
    <prepay_id>wx22</prepay_id><code_url><![CDATA[weixin://wxpay/bizpayurl?pr=2]]></code_url></xml>";

const BY_NUMBER: &str = "/v3/pay/transactions/out-trade-no/";
const REFUNDS: &str = "/v3/refund/domestic/refunds/";
const SLOW_ANSWER: Duration = Duration::from_secs(30);
