//! `clipcap serve` as it is run.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, Stdio};

use super::help::*;

struct Program {
    child: Child,
    address: SocketAddr,
    log: BufReader<ChildStderr>,
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_clipcap"));
    command
        .args(["serve", "--model", "model/sample", "--device", "cpu"])
        .args(args)
        .stdin(Stdio::null());
    command
}

fn start(args: &[&str]) -> Program {
    let mut child = command(args).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    log.read_line(&mut line).unwrap();
    let address = line
        .split("http://")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    let address = address.and_then(|address| address.parse().ok());
    Program {
        address: address.unwrap_or_else(|| panic!("no address: {line}")),
        child,
        log,
    }
}

fn signal(child: &Child, signal: &str) {
    let status = Command::new("kill")
        .arg(signal)
        .arg(child.id().to_string())
        .status();
    assert!(status.unwrap().success());
}

#[cfg(unix)]
#[test]
fn it_prints_its_port_logs_each_request_and_ends_well_on_signals() {
    for name in ["-INT", "-TERM", "-HUP"] {
        let mut program = start(&["--port", "0", "--log", "json"]);
        assert_ne!(program.address.port(), 0);
        let health = get(program.address, "/health");
        assert_eq!(health.status, 200);
        assert_eq!(health.body, "{\"model\":\"sample\"}\n", "no path");
        assert_eq!(post(program.address, &png(40)).status, 200);
        signal(&program.child, name);
        let mut text = String::new();
        program.log.read_to_string(&mut text).unwrap();
        assert_eq!(
            program.child.wait().unwrap().code(),
            Some(0),
            "{name}: {text}"
        );
        let lines: Vec<serde_json::Value> = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!(lines[0]["path"], "/health");
        assert_eq!(
            (&lines[1]["path"], &lines[1]["images"]),
            (&"/caption".into(), &1.into())
        );
        assert!(!text.contains("panicked"), "{text}");
    }
}

#[cfg(unix)]
#[test]
fn flags_set_tokens_origins_and_limits() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    std::fs::write(&file, "\u{feff}first\r\n\n second \n").unwrap();
    let mut program = start(&[
        "--port",
        "0",
        "--log",
        "none",
        "--token-file",
        file.to_str().unwrap(),
        "--allow-origin",
        "https://example.org",
        "--limit-captions",
        "2",
    ]);
    post(program.address, &png(40)).fails(401, &["token"]);
    let headers = [
        ("Authorization", "Bearer second"),
        ("Origin", "https://example.org"),
    ];
    let with = |query: &str| {
        let target = format!("/caption?decode=beam&num_captions={query}");
        ask(program.address, "POST", &target, &headers, &png(40))
    };
    let answer = with("2");
    assert_eq!(answer.status, 200);
    let origin = answer.header("access-control-allow-origin");
    assert_eq!(origin, Some("https://example.org"));
    with("3").fails(400, &["num_captions is 3", "at most 2"]);
    signal(&program.child, "-TERM");
    let mut text = String::new();
    program.log.read_to_string(&mut text).unwrap();
    assert!(program.child.wait().unwrap().success());
    assert_eq!(text.lines().count(), 1, "only the end is told: {text}");
}

#[test]
fn what_cannot_be_served_is_told_in_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_string()
    };
    let (empty, odd) = (write("empty", "\n\n"), write("odd", "one\ntwo words\n"));
    let missing = folder.path().join("missing");
    for (args, code, parts) in [
        (["--token-file", &empty], 1, ["empty", "no token"]),
        (["--token-file", &odd], 1, ["odd", "token 2"]),
        (
            ["--token-file", missing.to_str().unwrap()],
            1,
            ["missing", "No such file"],
        ),
        (
            ["--allow-origin", "example.org"],
            2,
            ["`example.org`", "https://"],
        ),
        (["--host", "256.1.1.1"], 1, ["256.1.1.1", "--host"]),
        (
            ["--limit-length", "3"],
            2,
            ["--limit-length 3", "less than"],
        ),
        (["--max-request", "5"], 2, ["--max-request 5", "--max-size"]),
        (
            ["--max-connections", "128"],
            2,
            ["--max-connections 128", "--queue 128"],
        ),
        (["--max-size", "0"], 2, ["--max-size", "1 to 1024"]),
    ] {
        let output = command(&args).args(["--port", "0"]).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        assert!(
            parts.iter().all(|part| text.contains(part)),
            "{args:?}: {text}"
        );
    }
}
