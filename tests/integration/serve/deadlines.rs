//! Clients that are slow, silent or gone cost themselves an answer, and nobody else.

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use clipcap::serve::{Deadlines, ServiceConfig};

use super::help::*;

/// Much longer than any test takes.
const NEVER: Duration = Duration::from_secs(3600);
/// Short enough to be waited for.
const SOON: Duration = Duration::from_millis(400);

fn with(deadlines: Deadlines) -> ServiceConfig {
    ServiceConfig {
        deadlines,
        ..config()
    }
}

fn never() -> Deadlines {
    Deadlines {
        head: NEVER,
        body: NEVER,
        idle: NEVER,
    }
}

/// Sends bytes one by one, for ever, until the other end has enough of it.
fn trickle(mut stream: TcpStream, bytes: impl Iterator<Item = u8> + Send + 'static) -> TcpStream {
    let answers = stream.try_clone().unwrap();
    thread::spawn(move || {
        for byte in bytes {
            if stream.write_all(&[byte]).is_err() {
                return;
            }
            thread::sleep(SOON / 20);
        }
    });
    answers
}

#[test]
fn a_head_that_comes_byte_by_byte_is_refused_in_time() {
    let mut config = with(Deadlines {
        head: SOON,
        ..never()
    });
    let log = with_log(&mut config);
    let running = start(Fake::default(), config);
    let head = "GET /health HTTP/1.1\r\nX: "
        .bytes()
        .chain(std::iter::repeat(b'x'));
    let stream = trickle(connect(running.address), head);
    read_answer(stream).fails(408, &["head"]);
    let log = log.lock().unwrap();
    assert_eq!((log[0].status, log[0].path.as_str()), (408, "-"));
}

#[test]
fn a_body_that_comes_byte_by_byte_is_refused_in_time() {
    let running = start(
        Fake::default(),
        with(Deadlines {
            body: SOON,
            ..never()
        }),
    );
    for head in ["Content-Length: 1000\r\n", "Transfer-Encoding: chunked\r\n"] {
        let mut stream = connect(running.address);
        let head = format!("POST /caption HTTP/1.1\r\nHost: here\r\n{head}\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let body: Box<dyn Iterator<Item = u8> + Send> = match head.contains("chunked") {
            true => Box::new("1\r\nx\r\n".bytes().cycle()),
            false => Box::new(std::iter::repeat(b'x')),
        };
        let answer = read_answer(trickle(stream, body));
        answer.fails(408, &["did not come whole in time"]);
    }
}

#[test]
fn a_silent_connection_is_closed_before_and_after_a_request() {
    let deadlines = Deadlines {
        head: SOON,
        idle: SOON,
        ..never()
    };
    let running = start(Fake::default(), with(deadlines));
    let silent = connect(running.address);
    let mut once = connect(running.address);
    once.write_all(b"GET /health HTTP/1.1\r\nHost: here\r\n\r\n")
        .unwrap();
    assert_eq!(read_answer(once).status, 200);
    assert_eq!(std::io::read_to_string(silent).unwrap(), "");
}

#[test]
fn three_hundred_silent_connections_and_as_many_half_sent_requests_stop_nobody() {
    let running = start(Fake::default(), with(never()));
    let silent: Vec<TcpStream> = (0..300).map(|_| connect(running.address)).collect();
    assert_eq!(get(running.address, "/health").status, 200);
    assert_eq!(post(running.address, &png(20)).caption(), "20 wide, 0");
    let half: Vec<TcpStream> = (0..300)
        .map(|index| {
            let mut stream = connect(running.address);
            let half = match index % 2 {
                0 => "GET /hea",
                _ => "POST /caption HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\nx",
            };
            stream.write_all(half.as_bytes()).unwrap();
            stream
        })
        .collect();
    // More than may be open at a time: the oldest were closed to make room.
    for _ in 0..20 {
        assert_eq!(get(running.address, "/health").status, 200);
        assert_eq!(post(running.address, &png(20)).caption(), "20 wide, 0");
    }
    let metrics = get(running.address, "/metrics").body;
    let evicted = metrics
        .lines()
        .find_map(|line| line.strip_prefix("clipcap_connections_evicted_total "));
    assert!(evicted.unwrap().parse::<usize>().unwrap() > 0, "{metrics}");
    drop((silent, half));
}

#[test]
fn where_only_uploads_are_open_the_oldest_makes_room() {
    let running = start(
        Fake::default(),
        ServiceConfig {
            max_connections: 10,
            ..with(never())
        },
    );
    let uploads: Vec<TcpStream> = (0..50)
        .map(|_| {
            let mut stream = connect(running.address);
            let half = "POST /caption HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\nx";
            stream.write_all(half.as_bytes()).unwrap();
            stream
        })
        .collect();
    assert_eq!(get(running.address, "/health").status, 200);
    assert_eq!(post(running.address, &png(20)).caption(), "20 wide, 0");
    drop(uploads);
}

#[test]
fn a_client_that_takes_no_answer_is_left_in_time() {
    let deadlines = Deadlines {
        idle: SOON,
        ..never()
    };
    let mut config = with(deadlines);
    config.model = "m".repeat(1 << 24);
    let running = start(Fake::default(), config);
    let mut stream = connect(running.address);
    stream
        .write_all(b"GET /health HTTP/1.1\r\nHost: here\r\n\r\n")
        .unwrap();
    let open = || {
        let metrics = get(running.address, "/metrics").body;
        let open = metrics
            .lines()
            .find_map(|line| line.strip_prefix("clipcap_connections "));
        open.unwrap().parse::<usize>().unwrap()
    };
    wait_until("only the one that asks is open", || open() == 1);
}

#[test]
fn a_client_that_goes_away_is_logged_and_leaves_nothing() {
    let mut config = with(never());
    let log = with_log(&mut config);
    let running = start(Fake::default(), config);
    let mut stream = connect(running.address);
    let half = "POST /caption HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\nx";
    stream.write_all(half.as_bytes()).unwrap();
    drop(stream);
    wait_until("the request is logged", || !log.lock().unwrap().is_empty());
    let entry = log.lock().unwrap()[0].clone();
    assert!(entry.status == 499 || entry.status == 400, "{entry}");
    assert!(
        get(running.address, "/metrics")
            .body
            .contains("\nclipcap_body_bytes 0\n")
    );
}
