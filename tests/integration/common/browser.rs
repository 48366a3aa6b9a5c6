//! Chromium without a window, told what to do over its debugging pipe: JSON messages that end in a zero byte.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long something may take to come about in a page.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser with one page.
pub struct Browser {
    child: Child,
    to: File,
    from: BufReader<File>,
    session: Value,
    last_id: u64,
    /// What scripts of the page failed with.
    pub errors: Vec<String>,
    _folder: tempfile::TempDir,
}

/// How a page is looked at.
#[derive(Clone, Copy)]
pub struct View {
    pub width: u32,
    pub height: u32,
    pub dark: bool,
}

impl Browser {
    /// Opens an address; `None` where there is no Chromium.
    pub fn open(url: &str, view: View) -> Option<Self> {
        let name = ["chromium", "chromium-browser", "google-chrome"]
            .into_iter()
            .find(|name| {
                let version = Command::new(name).arg("--version").output();
                version.is_ok_and(|out| out.status.success())
            })?;
        let folder = tempfile::tempdir().unwrap();
        let [input, output] = ["in", "out"].map(|name| folder.path().join(name));
        let made = Command::new("mkfifo").args([&input, &output]).status();
        assert!(made.unwrap().success());
        // It reads messages from descriptor 3 and writes them to 4.
        let line = format!(
            "exec {name} --headless --no-sandbox --disable-gpu --remote-debugging-pipe --user-data-dir=profile about:blank 3<in 4>out"
        );
        let child = Command::new("sh")
            .args(["-c", &line])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let to = File::options().write(true).open(&input).unwrap();
        let from = BufReader::new(File::open(&output).unwrap());
        let mut browser = Self {
            child,
            to,
            from,
            session: Value::Null,
            last_id: 0,
            errors: Vec::new(),
            _folder: folder,
        };
        browser.begin(url, view);
        Some(browser)
    }

    fn begin(&mut self, url: &str, view: View) {
        let target = self.send("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        self.session = self.send("Target.attachToTarget", attach)["sessionId"].take();
        self.send("Runtime.enable", json!({}));
        self.send("Page.enable", json!({}));
        let (width, height) = (view.width, view.height);
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.send("Emulation.setDeviceMetricsOverride", size);
        let scheme = if view.dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.send("Emulation.setEmulatedMedia", media);
        let focus = json!({"enabled": true});
        self.send("Emulation.setFocusEmulationEnabled", focus);
        self.go(url);
    }

    /// Goes to an address, again if it is there.
    pub fn go(&mut self, url: &str) {
        self.evaluate("window.before = true");
        self.send("Page.navigate", json!({"url": url}));
        self.until("!window.before && document.readyState === 'complete'");
    }

    fn send(&mut self, method: &str, params: Value) -> Value {
        let answer = self.try_send(method, params);
        answer.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    fn try_send(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        self.last_id += 1;
        let id = self.last_id;
        let mut message = json!({"id": id, "method": method, "params": params});
        if !self.session.is_null() {
            message["sessionId"] = self.session.clone();
        }
        self.to
            .write_all(format!("{message}\0").as_bytes())
            .unwrap();
        loop {
            let mut bytes = Vec::new();
            self.from.read_until(0, &mut bytes).unwrap();
            bytes.pop().expect("the browser has ended");
            let mut answer: Value = serde_json::from_slice(&bytes).unwrap();
            if answer["method"] == "Runtime.exceptionThrown" {
                self.errors
                    .push(answer["params"]["exceptionDetails"].to_string());
            }
            if answer["id"] == id {
                return match answer.get("error") {
                    Some(error) => Err(error.clone()),
                    None => Ok(answer["result"].take()),
                };
            }
        }
    }

    /// The value of an expression, a promise's once it has one.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let mut answer = self.send("Runtime.evaluate", params);
        let failed = &answer["exceptionDetails"];
        assert!(failed.is_null(), "{expression}: {failed}");
        answer["result"]["value"].take()
    }

    /// Its value as text.
    pub fn text(&mut self, expression: &str) -> String {
        match self.evaluate(expression) {
            Value::String(text) => text,
            other => other.to_string(),
        }
    }

    /// Waits until an expression is true.
    pub fn until(&mut self, expression: &str) {
        let end = Instant::now() + PATIENCE;
        let params = json!({"expression": format!("!!({expression})"), "returnByValue": true});
        // Between two pages there is nothing to ask.
        let is_true = |answer: Result<Value, Value>| {
            answer.is_ok_and(|answer| answer["result"]["value"] == true)
        };
        while !is_true(self.try_send("Runtime.evaluate", params.clone())) {
            let page = || "document.body?.innerText";
            assert!(
                Instant::now() < end,
                "never: {expression}\n{}",
                self.text(page())
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The middle of an element, scrolled into view.
    fn place(&mut self, selector: &str) -> (Value, Value) {
        let quoted = json!(selector);
        let found = self.evaluate(&format!(
            "(() => {{ const e = document.querySelector({quoted}); e.scrollIntoView({{block: 'center'}}); const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; }})()"
        ));
        (found[0].clone(), found[1].clone())
    }

    /// Moves the mouse over an element.
    pub fn hover(&mut self, selector: &str) {
        let (x, y) = self.place(selector);
        let params = json!({"type": "mouseMoved", "x": x, "y": y});
        self.send("Input.dispatchMouseEvent", params);
    }

    /// Clicks an element by the mouse.
    pub fn click(&mut self, selector: &str) {
        let (x, y) = self.place(selector);
        for kind in ["mouseMoved", "mousePressed", "mouseReleased"] {
            let button = if kind == "mouseMoved" { "none" } else { "left" };
            let params = json!({"type": kind, "x": x, "y": y, "button": button, "clickCount": 1});
            self.send("Input.dispatchMouseEvent", params);
        }
    }

    /// Presses a key, by its name and number.
    pub fn key(&mut self, name: &str, number: u32) {
        for kind in ["keyDown", "keyUp"] {
            let mut params =
                json!({"type": kind, "key": name, "code": name, "windowsVirtualKeyCode": number});
            if name == "Enter" && kind == "keyDown" {
                params["text"] = json!("\r");
            }
            self.send("Input.dispatchKeyEvent", params);
        }
    }

    /// Chooses files in an input.
    pub fn choose(&mut self, selector: &str, files: &[&Path]) {
        let document = self.send("DOM.getDocument", json!({}));
        let root = document["root"]["nodeId"].clone();
        let query = json!({"nodeId": root, "selector": selector});
        let node = self.send("DOM.querySelector", query)["nodeId"].take();
        let params = json!({"files": files, "nodeId": node});
        self.send("DOM.setFileInputFiles", params);
    }

    /// Has downloads put into a folder.
    pub fn download_to(&mut self, folder: &Path) {
        let params = json!({"behavior": "allow", "downloadPath": folder});
        self.send("Browser.setDownloadBehavior", params);
    }

    /// Whether the page is as wide as the window, and not wider.
    pub fn fits(&mut self) -> bool {
        self.evaluate("document.documentElement.scrollWidth <= innerWidth") == true
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Both may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
