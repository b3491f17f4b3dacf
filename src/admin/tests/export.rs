//! The export of all rows.

use super::*;

const EXPORT: &[u8] = b"GET /v1/usage/export HTTP/1.1\r\nhost: gate\r\n\r\n";

/// Takes an answer apart into its head and the content of its chunks; `None` where the last chunk is missing.
fn dechunk(answer: &[u8]) -> (String, Option<Vec<u8>>) {
    let split = |bytes: &[u8], by: &[u8]| {
        let at = bytes.windows(by.len()).position(|window| window == by)?;
        Some((bytes[..at].to_vec(), bytes[at + by.len()..].to_vec()))
    };
    let Some((head, body)) = split(answer, b"\r\n\r\n") else { return (String::new(), None) };
    let head = String::from_utf8(head).expect("text");
    let (mut rest, mut content) = (body.as_slice(), Vec::new());
    loop {
        let Some(end) = rest.windows(2).position(|window| window == b"\r\n") else { return (head, None) };
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).expect("text"), 16).expect("a size");
        if size == 0 {
            return (head, Some(content));
        }
        let Some(chunk) = rest.get(end + 2..end + 2 + size) else { return (head, None) };
        content.extend_from_slice(chunk);
        rest = &rest[end + 2 + size + 2..];
    }
}

fn begin(gate: &Running) -> TcpStream {
    let mut stream = gate.connect();
    stream.write_all(EXPORT).expect("sent");
    stream
}

fn finish(mut stream: TcpStream) -> (String, Option<Vec<u8>>) {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("answered, and hung up");
    dechunk(&answer)
}

fn asked_pages(gate: &Running) -> usize {
    let asked = gate.control.asked.lock().expect("lock");
    asked.iter().filter(|asked| matches!(asked, Asked::Page(_))).count()
}

#[test]
fn an_export_is_every_page_in_order() {
    let gate = Running::usual();
    // Empty pages among them: an empty chunk would end the answer.
    let page = |page: usize| {
        if page.is_multiple_of(5) { Vec::new() } else { format!("{{\"page\":{page}}}\n").repeat(50).into_bytes() }
    };
    let pages: Vec<_> = (0..1000).map(page).collect();
    gate.control.set_pages(pages.clone());
    let (head, content) = finish(begin(&gate));
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("content-type: application/x-ndjson\r\n"), "{head}");
    assert_eq!(content.expect("a whole answer"), pages.concat());
    let asked: Vec<_> = (0..1000).map(Asked::Page).collect();
    assert_eq!(gate.control.asked(), asked);
    gate.control.set_pages(Vec::new());
    assert_eq!(finish(begin(&gate)).1, Some(Vec::new()));
    gate.stop();
}

#[test]
fn an_export_makes_no_page_before_the_peer_has_taken_the_last() {
    let gate = Running::usual();
    let pages = 64;
    gate.control.set_pages(vec![vec![b'\n'; 1 << 20]; pages]);
    let stream = begin(&gate);
    // What the sockets hold is a few pages; then nothing more is asked for.
    let mut before = usize::MAX;
    while before == 0 || before != asked_pages(&gate) {
        before = asked_pages(&gate);
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!((1..pages / 2).contains(&before), "{before} pages made for a peer that reads nothing");
    assert_eq!(status(&gate.get("/livez")), "200");
    assert_eq!(finish(stream).1.map(|content| content.len()), Some(pages << 20));
    assert_eq!(asked_pages(&gate), pages);
    gate.stop();
}

#[test]
fn an_export_may_take_longer_than_other_answers() {
    let connection_timeout = Duration::from_millis(500);
    let gate = Running::start(Bounds { connection_timeout, ..Bounds::default() });
    gate.control.set_pages(vec![b"a\n".to_vec(), b"b\n".to_vec()]);
    let open = gate.control.hold_page(1);
    let export = begin(&gate);
    while asked_pages(&gate) < 2 {
        std::thread::yield_now();
    }
    // An idle connection that is younger has come to its end.
    assert_eq!(converse(gate.connect(), ""), "");
    open.send(()).expect("an export");
    assert_eq!(finish(export).1.as_deref(), Some(&b"a\nb\n"[..]));
    gate.stop();
}

#[test]
fn an_export_does_not_take_for_ever() {
    let (connection_timeout, export_timeout) = (Duration::from_millis(10), Duration::from_millis(50));
    let gate = Running::start(Bounds { connection_timeout, export_timeout, ..Bounds::default() });
    gate.control.set_pages(vec![b"a\n".to_vec(), b"b\n".to_vec()]);
    let open = gate.control.hold_page(1);
    assert_eq!(finish(begin(&gate)).1, None);
    open.send(()).expect("the page is still being made");
    gate.stop();
}

#[test]
fn an_export_that_cannot_go_on_is_not_taken_for_whole() {
    let gate = Running::usual();
    gate.control.set_pages(vec![b"a\n".to_vec(); 4]);
    gate.control.pages.lock().expect("lock").torn = Some(2);
    assert_eq!(finish(begin(&gate)).1, None);
    assert_eq!(asked_pages(&gate), 3);
    gate.stop();
}

#[test]
fn exports_at_once_are_bounded_and_take_no_query() {
    let gate = Running::usual();
    gate.control.set_pages(vec![b"a\n".to_vec()]);
    let open = gate.control.hold_page(0);
    let exports = [begin(&gate), begin(&gate)];
    while asked_pages(&gate) < 2 {
        std::thread::yield_now();
    }
    assert_eq!(status(&gate.get("/v1/usage/export")), "409");
    open.send(()).and_then(|()| open.send(())).expect("exports");
    for export in exports {
        assert_eq!(finish(export).1.as_deref(), Some(&b"a\n"[..]));
    }
    open.send(()).expect("an export");
    assert_eq!(finish(begin(&gate)).1.as_deref(), Some(&b"a\n"[..]));
    assert_eq!(status(&gate.get("/v1/usage/export?page=1")), "400");
    gate.stop();
}
