//! A server on this machine that speaks as much of the Hugging Face Hub as a download needs: repositories and their
//! commits, large files behind a redirect and small ones without, byte ranges, and trouble on demand.

#![allow(dead_code)] // each test file uses a part of it

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use clipcap::files::hex;
use sha1::Digest as _;
use sha2::Digest as _;

/// A repository of one commit.
#[derive(Clone, Default)]
pub struct Repository {
    pub files: HashMap<String, Vec<u8>>,
    pub license: Option<&'static str>,
    /// Answered to whoever brings no token.
    pub refuses_with: Option<u16>,
}

/// Trouble with one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The connection ends after so many bytes, this many times.
    Cut { after: usize, times: usize },
    /// One byte is another.
    Corrupt,
    /// What has come before is sent again: byte ranges are not understood.
    NoRanges,
}

#[derive(Default)]
struct State {
    repositories: HashMap<String, Repository>,
    /// Old ids, which the Hub redirects.
    renamed: HashMap<String, String>,
    trouble: HashMap<String, Trouble>,
    /// Paths asked for, with the range.
    log: Vec<(String, String)>,
    token: Option<String>,
}

pub struct HubServer {
    pub endpoint: String,
    state: Arc<Mutex<State>>,
}

/// Files from this size on are stored apart, and named by their sha256.
const LARGE: usize = 1000;
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

impl HubServer {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let (shared, address) = (state.clone(), endpoint.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (state, address) = (shared.clone(), address.clone());
                std::thread::spawn(move || {
                    // A client that goes away is not this side's failure.
                    let _ = serve(stream, &state, &address);
                });
            }
        });
        Self { endpoint, state }
    }

    pub fn add(&self, id: &str, files: &[(&str, &[u8])]) {
        let mut state = self.state.lock().unwrap();
        let repository = state.repositories.entry(id.to_string()).or_default();
        for (name, bytes) in files {
            repository.files.insert(name.to_string(), bytes.to_vec());
        }
    }

    /// All files of a folder.
    pub fn add_folder(&self, id: &str, folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            self.add(id, &[(&name, &std::fs::read(entry.path()).unwrap())]);
        }
    }

    pub fn license(&self, id: &str, license: &'static str) {
        self.change(id, |repository| repository.license = Some(license));
    }

    /// Refuses whoever does not bring `token`.
    pub fn gate(&self, id: &str, status: u16, token: &str) {
        self.change(id, |repository| repository.refuses_with = Some(status));
        self.state.lock().unwrap().token = Some(token.to_string());
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut Repository)) {
        let mut state = self.state.lock().unwrap();
        change(state.repositories.entry(id.to_string()).or_default());
    }

    pub fn rename(&self, old: &str, new: &str) {
        let mut state = self.state.lock().unwrap();
        state.renamed.insert(old.to_string(), new.to_string());
    }

    pub fn trouble(&self, file: &str, trouble: Trouble) {
        let mut state = self.state.lock().unwrap();
        state.trouble.insert(file.to_string(), trouble);
    }

    pub fn no_trouble(&self) {
        self.state.lock().unwrap().trouble.clear();
    }

    /// The paths that were asked for since the last time, with their ranges.
    pub fn take_log(&self) -> Vec<(String, String)> {
        std::mem::take(&mut self.state.lock().unwrap().log)
    }
}

struct Request {
    path: String,
    headers: HashMap<String, String>,
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_string();
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.insert(name.to_lowercase(), value.to_string()),
            None => return Some(Request { path, headers }),
        };
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>, endpoint: &str) -> std::io::Result<()> {
    let Some(request) = read_request(&stream) else {
        return Ok(());
    };
    let range = request.headers.get("range").cloned().unwrap_or_default();
    let mut state = state.lock().unwrap();
    state.log.push((request.path.clone(), range));
    let answer = answer(&mut state, &request, endpoint);
    drop(state);
    let mut head = format!(
        "HTTP/1.1 {} Whatever\r\nConnection: close\r\n",
        answer.status
    );
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("Content-Length: {}\r\n\r\n", answer.body.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(&answer.body[..answer.sent.unwrap_or(answer.body.len())])?;
    stream.flush()
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// How much of the body is sent before the connection ends.
    sent: Option<usize>,
}

impl Answer {
    fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
            sent: None,
        }
    }
}

fn answer(state: &mut State, request: &Request, endpoint: &str) -> Answer {
    let parts: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
    match parts[..] {
        ["api", "models", owner, name, ..] => {
            information(state, &format!("{owner}/{name}"), request)
        }
        ["stored", owner, name, file] => stored(state, &format!("{owner}/{name}"), file, request),
        [owner, name, "resolve", "main", file] => {
            resolve(state, &format!("{owner}/{name}"), file, request, endpoint)
        }
        _ => Answer::new(404, "no such page"),
    }
}

fn refusal(state: &State, id: &str, request: &Request) -> Option<Answer> {
    let repository = state.repositories.get(id);
    let Some(repository) = repository else {
        // So does the Hub, which does not tell strangers what exists.
        return Some(Answer::new(401, "Invalid username or password."));
    };
    let token = state.token.as_ref().map(|token| format!("Bearer {token}"));
    let known = token.is_some() && request.headers.get("authorization") == token.as_ref();
    let status = repository.refuses_with.filter(|_| !known)?;
    Some(Answer::new(status, "Access to this model is restricted."))
}

fn information(state: &State, id: &str, request: &Request) -> Answer {
    let id = state.renamed.get(id).map_or(id, String::as_str);
    if let Some(refusal) = refusal(state, id, request) {
        return refusal;
    }
    let repository = &state.repositories[id];
    let siblings: Vec<_> = repository
        .files
        .keys()
        .map(|name| serde_json::json!({"rfilename": name}))
        .collect();
    let card = repository
        .license
        .map(|license| serde_json::json!({"license": license}));
    let body = serde_json::json!({"id": id, "sha": COMMIT, "siblings": siblings, "cardData": card});
    let mut answer = Answer::new(200, body.to_string());
    answer
        .headers
        .push(("Content-Type", "application/json".into()));
    answer
}

fn resolve(state: &mut State, id: &str, file: &str, request: &Request, endpoint: &str) -> Answer {
    if let Some(new) = state.renamed.get(id) {
        let mut answer = Answer::new(307, "Temporary Redirect");
        answer
            .headers
            .push(("Location", format!("/{new}/resolve/main/{file}")));
        return answer;
    }
    if let Some(refusal) = refusal(state, id, request) {
        return refusal;
    }
    let Some(bytes) = state.repositories[id].files.get(file) else {
        return Answer::new(404, "Entry not found");
    };
    let commit = ("X-Repo-Commit", COMMIT.to_string());
    if bytes.len() < LARGE {
        let etag = git_blob(bytes);
        let mut answer = stored(state, id, file, request);
        answer
            .headers
            .extend([commit, ("ETag", format!("\"{etag}\""))]);
        return answer;
    }
    let mut answer = Answer::new(302, "Found");
    answer.headers = vec![
        commit,
        ("ETag", "\"of-the-redirect\"".to_string()),
        ("X-Linked-Etag", format!("\"{}\"", sha256(bytes))),
        ("X-Linked-Size", bytes.len().to_string()),
        ("Location", format!("{endpoint}/stored/{id}/{file}")),
    ];
    answer
}

/// The bytes, or those of a range, with what trouble there is.
fn stored(state: &mut State, id: &str, file: &str, request: &Request) -> Answer {
    let mut bytes = state.repositories[id].files[file].clone();
    let trouble = state.trouble.get_mut(file);
    if trouble.as_deref() == Some(&Trouble::Corrupt) {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    }
    let range = request.headers.get("range").and_then(|range| {
        let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse::<usize>().ok()?, last.parse::<usize>().ok()))
    });
    let probing = range == Some((0, Some(0)));
    let total = bytes.len();
    let Some((first, last)) =
        range.filter(|_| probing || trouble.as_deref() != Some(&Trouble::NoRanges))
    else {
        return Answer::new(200, bytes);
    };
    if first >= total {
        return Answer::new(416, "Range Not Satisfiable");
    }
    let last = last.unwrap_or(total - 1).min(total - 1);
    let mut answer = Answer::new(206, &bytes[first..=last]);
    answer
        .headers
        .push(("Content-Range", format!("bytes {first}-{last}/{total}")));
    if let Some(Trouble::Cut { after, times }) = trouble
        && !probing
        && *times > 0
    {
        *times -= 1;
        answer.sent = Some((*after).min(answer.body.len()));
    }
    answer
}

pub fn sha256(bytes: &[u8]) -> String {
    hex(&sha2::Sha256::digest(bytes))
}

fn git_blob(bytes: &[u8]) -> String {
    let header = format!("blob {}\0", bytes.len());
    hex(&sha1::Sha1::digest([header.as_bytes(), bytes].concat()))
}
