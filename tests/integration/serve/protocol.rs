//! Methods, headers, tokens, origins, ids and descriptions.

use std::io::Write;

use clipcap::serve::{Service, ServiceConfig};
use serde_json::Value;

use super::help::*;

#[test]
fn the_page_names_the_model_and_other_paths_are_refused() {
    let running = start(Fake::default(), config());
    let page = get(running.address, "/");
    assert_eq!(page.status, 200);
    assert!(page.body.contains("model/&lt;sample&gt;"));
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let health = get(running.address, "/health");
    assert_eq!(health.status, 200);
    assert_eq!(health.body, "{\"model\":\"model/<sample>\"}\n");
    for target in [
        "/captions",
        "/caption/",
        "/../etc/passwd",
        "/%2e",
        "//",
        "/HEALTH",
    ] {
        get(running.address, target).fails(404, &["/caption", "/health"]);
    }
}

#[test]
fn every_path_answers_head_options_and_405_with_what_it_allows() {
    let running = start(Fake::default(), config());
    let ask = |method: &str, target: &str| ask(running.address, method, target, &[], b"");
    for target in ["/", "/health", "/metrics", "/openapi.json"] {
        let (get, head) = (ask("GET", target), ask("HEAD", target));
        assert_eq!((get.status, head.status), (200, 200), "{target}");
        assert_eq!(head.body, "");
        assert_eq!(head.header("content-type"), get.header("content-type"));
        if target != "/metrics" {
            let length = get.body.len().to_string();
            assert_eq!(
                head.header("content-length"),
                Some(length.as_str()),
                "{target}"
            );
        }
        let allow = "GET, HEAD, OPTIONS";
        let options = ask("OPTIONS", target);
        assert_eq!(
            (options.status, options.header("allow")),
            (204, Some(allow))
        );
        for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW"] {
            let answer = ask(method, target);
            answer.fails(405, &[method, target, "GET"]);
            assert_eq!(answer.header("allow"), Some(allow), "{method} {target}");
        }
    }
    let options = ask("OPTIONS", "/caption");
    assert_eq!(
        (options.status, options.header("allow")),
        (204, Some("POST, OPTIONS"))
    );
    for method in ["GET", "PUT", "DELETE"] {
        let answer = ask(method, "/caption");
        answer.fails(405, &[method, "POST"]);
        assert_eq!(answer.header("allow"), Some("POST, OPTIONS"));
    }
    let head = ask("HEAD", "/caption");
    assert_eq!(
        (head.status, head.header("allow")),
        (405, Some("POST, OPTIONS"))
    );
    assert_eq!(ask("OPTIONS", "*").status, 204);
    assert_eq!(ask("OPTIONS", "/other").status, 404);
}

#[test]
fn what_is_not_http_is_refused_and_logged() {
    let mut config = config();
    let log = with_log(&mut config);
    let running = start(Fake::default(), config);
    for (bytes, status) in [
        (&b"NONSENSE\r\n\r\n"[..], 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"POST /caption HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (
            b"POST /caption HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
            400,
        ),
    ] {
        let mut stream = connect(running.address);
        stream.write_all(bytes).unwrap();
        assert_eq!(read_answer(stream).status, status);
    }
    let mut stream = connect(running.address);
    let long = format!("GET /health HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(200_000));
    // It may be closed before all of it is sent.
    let _ = stream.write_all(long.as_bytes());
    wait_until("all five are logged", || log.lock().unwrap().len() == 5);
    assert!(log.lock().unwrap().iter().all(|entry| entry.status == 400));
    assert_eq!(get(running.address, "/health").status, 200);
}

#[test]
fn requests_of_old_clients_and_several_on_one_connection_are_answered() {
    let running = start(Fake::default(), config());
    let mut stream = connect(running.address);
    stream.write_all(b"GET /health HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(read_answer(stream).status, 200);
    let mut stream = connect(running.address);
    let image = png(20);
    let first = format!(
        "POST /caption HTTP/1.1\r\nHost: here\r\nContent-Length: {}\r\n\r\n",
        image.len()
    );
    let last = request("GET", "/health", &[], b"");
    let wrong = b"POST /captions HTTP/1.1\r\nHost: here\r\nContent-Length: 4\r\n\r\nbody";
    stream
        .write_all(&[first.as_bytes(), &image, wrong, &last].concat())
        .unwrap();
    let answers = read_answer(stream);
    assert!(answers.body.contains("20 wide, 0"), "{answers:?}");
    assert!(answers.body.contains("HTTP/1.1 404"), "{answers:?}");
    assert!(answers.body.contains("{\"model\":"), "{answers:?}");
}

#[test]
fn a_token_is_asked_for_where_captions_and_counters_are() {
    let tokens = vec!["one".to_string(), "two".to_string()];
    let running = start(Fake::default(), ServiceConfig { tokens, ..config() });
    let with = |target: &str, header: &str| {
        let method = if target == "/caption" { "POST" } else { "GET" };
        let image = png(20);
        let body: &[u8] = if target == "/caption" { &image } else { b"" };
        let headers = [("Authorization", header)];
        ask(running.address, method, target, &headers, body)
    };
    for target in ["/caption", "/metrics"] {
        for header in [
            "",
            "Bearer",
            "Bearer three",
            "Basic one",
            "one",
            "Bearer one two",
        ] {
            let answer = with(target, header);
            answer.fails(401, &["Authorization: Bearer"]);
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
        for header in ["Bearer one", "Bearer two", "bearer  two"] {
            assert_eq!(with(target, header).status, 200, "{header}");
        }
    }
    for target in ["/", "/health", "/openapi.json"] {
        assert_eq!(get(running.address, target).status, 200);
    }
    // Much more than sockets hold: a refusal reaches even who sends it all first.
    ask(
        running.address,
        "POST",
        "/caption",
        &[],
        &vec![0; 20_000_000],
    )
    .fails(401, &["token"]);
}

#[test]
fn pages_of_allowed_origins_may_ask_and_no_others() {
    let here = [("Origin", "http://localhost:3000")];
    let preflight = [
        here[0],
        ("Access-Control-Request-Method", "POST"),
        (
            "Access-Control-Request-Headers",
            "authorization,content-type",
        ),
    ];
    let allowed = |answer: &Answer| {
        answer
            .header("access-control-allow-origin")
            .map(String::from)
    };
    let start_with = |origins: &[&str]| {
        let config = ServiceConfig {
            allow_origins: origins.iter().map(|origin| origin.to_string()).collect(),
            tokens: vec!["secret".into()],
            ..config()
        };
        start(Fake::default(), config)
    };
    let closed = start_with(&[]);
    let answer = ask(closed.address, "OPTIONS", "/caption", &preflight, b"");
    assert_eq!((answer.status, allowed(&answer)), (204, None));
    assert_eq!(
        allowed(&ask(closed.address, "GET", "/health", &here, b"")),
        None
    );

    let one = start_with(&["http://localhost:3000", "https://example.org"]);
    let answer = ask(one.address, "OPTIONS", "/caption", &preflight, b"");
    assert_eq!(
        (answer.status, allowed(&answer).as_deref()),
        (200, Some(here[0].1))
    );
    let methods = answer.header("access-control-allow-methods").unwrap();
    assert!(methods.contains("POST"), "{methods}");
    let headers = answer.header("access-control-allow-headers").unwrap();
    assert!(
        headers.contains("authorization") && headers.contains("content-type"),
        "{headers}"
    );
    // Refusals can be read by the page too.
    for (method, target, status) in [
        ("POST", "/caption", 401),
        ("GET", "/other", 404),
        ("GET", "/health", 200),
    ] {
        let answer = ask(one.address, method, target, &here, b"");
        assert_eq!(
            (answer.status, allowed(&answer).as_deref()),
            (status, Some(here[0].1))
        );
    }
    let other = [("Origin", "http://evil.example")];
    assert_eq!(
        allowed(&ask(one.address, "GET", "/health", &other, b"")),
        None
    );
    let options = ask(one.address, "OPTIONS", "/caption", &[], b"");
    assert_eq!(
        (options.status, options.header("allow")),
        (204, Some("POST, OPTIONS"))
    );

    let all = start_with(&["*"]);
    let answer = ask(all.address, "GET", "/health", &other, b"");
    assert_eq!(allowed(&answer).as_deref(), Some("*"));
    let wrong = ServiceConfig {
        allow_origins: vec!["example.org/".into()],
        ..config()
    };
    let error = Service::new(Fake::default(), wrong)
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("`example.org/`") && error.contains("https://"),
        "{error}"
    );
}

#[test]
fn every_request_has_an_id_and_one_log_entry() {
    let mut config = config();
    let log = with_log(&mut config);
    let running = start(Fake::default(), config);
    let id = [("X-Request-Id", "mine-1")];
    let answer = ask(running.address, "POST", "/caption?seed=1", &id, &png(20));
    assert_eq!(answer.header("x-request-id"), Some("mine-1"));
    let bad = [("X-Request-Id", "a b")];
    let answer = ask(running.address, "POST", "/caption", &bad, b"no image");
    let own = answer.header("x-request-id").unwrap().to_string();
    assert!(
        own.len() == 16 && own.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{own}"
    );
    wait_until("both are logged", || log.lock().unwrap().len() == 2);
    let log = log.lock().unwrap();
    let first = serde_json::to_value(&log[0]).unwrap();
    assert_eq!(first["request_id"], "mine-1");
    assert_eq!(first["path"], "/caption");
    assert_eq!(
        (&first["status"], &first["images"]),
        (&200.into(), &1.into())
    );
    assert!(
        first.get("error").is_none() && first["client"].as_str().unwrap().starts_with("127.0.0.1:")
    );
    assert!(first["time"].as_str().unwrap().ends_with('Z'), "{first}");
    let text = log[1].to_string();
    assert!(
        text.contains("POST /caption 400") && text.contains(&own) && text.contains("the image"),
        "{text}"
    );
    assert!(!text.contains('\n'));
}

#[test]
fn the_description_has_every_path_and_method_and_no_others() {
    let tokens = vec!["secret".to_string()];
    for tokens in [Vec::new(), tokens] {
        let running = start(
            Fake::default(),
            ServiceConfig {
                tokens: tokens.clone(),
                ..config()
            },
        );
        let document = get(running.address, "/openapi.json").json();
        assert_eq!(document["openapi"], "3.1.0");
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        let paths = document["paths"].as_object().unwrap();
        let unknown = get(running.address, "/unknown").fails(404, &[]);
        let (_, known) = unknown.split_once("there are ").unwrap();
        let mut known: Vec<&str> = known.split(", ").collect();
        let mut described: Vec<&str> = paths.keys().map(String::as_str).collect();
        known.sort_unstable();
        described.sort_unstable();
        assert_eq!(described, known);
        for (path, methods) in paths {
            let options = ask(running.address, "OPTIONS", path, &[], b"");
            let allowed = options.header("allow").unwrap().to_lowercase();
            let allowed: Vec<&str> = (allowed.split(", "))
                .filter(|method| !["head", "options"].contains(method))
                .collect();
            let described: Vec<&String> = methods.as_object().unwrap().keys().collect();
            assert_eq!(described, allowed, "{path}");
            for (method, operation) in methods.as_object().unwrap() {
                let answer = ask(running.address, &method.to_uppercase(), path, &[], b"");
                let status = answer.status.to_string();
                assert!(
                    operation["responses"].get(&status).is_some(),
                    "{path}: {status}"
                );
                let needs_token = operation.get("security").is_some();
                assert_eq!(needs_token, answer.status == 401, "{path}");
            }
        }
        every_reference_is_there(&document, &document);
    }
}

/// The settings of the query, the form and the JSON object are those that are taken.
#[test]
fn the_description_has_every_setting() {
    let running = start(Fake::default(), config());
    let document = get(running.address, "/openapi.json").json();
    let parameters = document["paths"]["/caption"]["post"]["parameters"]
        .as_array()
        .unwrap();
    let names: Vec<&str> = parameters
        .iter()
        .map(|parameter| parameter["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, clipcap::serve::Choices::NAMES);
    for schema in ["Request", "Form"] {
        let properties = document["components"]["schemas"][schema]["properties"]
            .as_object()
            .unwrap();
        for name in names.iter().chain(&["image"]) {
            assert!(properties.contains_key(*name), "{schema}: {name}");
        }
    }
    let most = &document["components"]["schemas"]["Request"]["properties"]["images"]["maxItems"];
    assert_eq!(most, 5);
}

fn every_reference_is_there(value: &Value, document: &Value) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(target)) = fields.get("$ref") {
                let target = target.strip_prefix('#').unwrap();
                assert!(document.pointer(target).is_some(), "{target}");
            }
            fields
                .values()
                .for_each(|value| every_reference_is_there(value, document));
        }
        Value::Array(values) => values
            .iter()
            .for_each(|value| every_reference_is_there(value, document)),
        _ => {}
    }
}

#[test]
fn what_happened_is_counted() {
    let running = start(Fake::default(), config());
    post(running.address, &png(20)).caption();
    post(running.address, b"no image").fails(400, &[]);
    get(running.address, "/nowhere");
    let metrics = get(running.address, "/metrics");
    let kind = metrics.header("content-type").unwrap();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    for line in [
        "clipcap_requests_total{path=\"/caption\",status=\"200\"} 1",
        "clipcap_requests_total{path=\"/caption\",status=\"400\"} 1",
        "clipcap_requests_total{path=\"other\",status=\"404\"} 1",
        "clipcap_images_total{outcome=\"captioned\"} 1",
        "clipcap_images_total{outcome=\"failed\"} 1",
        "clipcap_batch_images_count 1",
        "clipcap_request_duration_seconds_count{path=\"/caption\"} 2",
        "clipcap_queue_images 0",
        "clipcap_body_bytes 0",
    ] {
        assert!(
            metrics.body.lines().any(|found| found == line),
            "no `{line}` in:\n{}",
            metrics.body
        );
    }
}
