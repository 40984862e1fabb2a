//! A real browser, clicked: Debian's chromium without a screen, through its driver.
//!
//! What comes in: what a reader does, by CSS selectors and XPath. What goes out: what is then on the page. It speaks WebDriver
//! (W3C) itself, over [`crate::http`]: the clients that there are bring a second HTTP stack or an executor, for six calls. It
//! never waits for a time, and never answers for a page that it could not reach.

use crate::http;
use crate::{eventually, seconds};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The key that the standard gives to what names an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser, closed with the value.
pub struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
}

/// Whether a program is there: asked for its version, it ends well.
fn is_here(program: &str) -> bool {
    let status = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

impl Browser {
    /// A browser with an empty window and a profile below `folder`; `None`, having said so, where there is no chromium or no
    /// driver of it.
    ///
    /// # Panics
    /// When there are both, and they do not start.
    pub fn open(folder: &Path) -> Option<Browser> {
        let missing: Vec<&str> =
            ["chromium", "chromedriver"].into_iter().filter(|program| !is_here(program)).collect();
        if !missing.is_empty() {
            eprintln!(
                "not here: {} (Debian: chromium chromium-driver): the page is not clicked in a browser",
                missing.join(", ")
            );
            return None;
        }
        // Not even a test that is killed leaves a driver behind.
        let mut driver = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "chromedriver", "--port=0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("setpriv (Debian: util-linux)");
        let said = BufReader::new(driver.stdout.take().expect("its stdout")).lines();
        let port = said.map_while(Result::ok).find_map(|line| {
            let port = line.split_once("started successfully on port ")?.1;
            port.trim_end_matches('.').parse::<u16>().ok()
        });
        let address = SocketAddr::from(([127, 0, 0, 1], port.expect("chromedriver names its port")));
        let arguments =
            ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1280,900"].map(str::to_owned);
        let profile = format!("--user-data-dir={}", folder.join("browser").display());
        let arguments: Vec<String> = arguments.into_iter().chain([profile]).collect();
        let wanted =
            json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": { "args": arguments } } } });
        let mut browser = Browser { driver, address, session: String::new() };
        let made = browser.call("POST", "/session", Some(&wanted)).expect("a session");
        browser.session = format!("/session/{}", made["sessionId"].as_str().expect("its id"));
        Some(browser)
    }

    /// One call; `Err` with what the driver says is wrong.
    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let path = format!("{}{path}", self.session);
        let body = body.map(ToString::to_string).unwrap_or_default();
        let reply = http::send(self.address, method, &path, body.as_bytes());
        let reply = reply.map_err(|error| format!("{method} {path}: {error}"))?;
        let said: Value = serde_json::from_slice(&reply.body).map_err(|error| error.to_string())?;
        if reply.status == 200 { Ok(said["value"].clone()) } else { Err(said["value"].to_string()) }
    }

    /// Goes to an address and waits until the document is loaded.
    ///
    /// # Panics
    /// When it cannot be loaded.
    #[track_caller]
    pub fn goes_to(&self, url: &str) {
        self.call("POST", "/url", Some(&json!({ "url": url }))).expect("the page is loaded");
    }

    /// The address that is shown.
    ///
    /// # Panics
    /// When the browser is gone.
    #[track_caller]
    pub fn url(&self) -> String {
        self.call("GET", "/url", None).expect("an address").as_str().unwrap_or_default().to_owned()
    }

    /// Does something with the first element that this XPath names, as soon as that can be done: a page that is renewed while it
    /// is clicked may have replaced it.
    #[track_caller]
    fn with(&self, xpath: &str, act: &str, body: &Value) {
        eventually(seconds(20), &format!("{act} of {xpath}"), || {
            let find = json!({ "using": "xpath", "value": xpath });
            let element = self.call("POST", "/element", Some(&find))?;
            let id = element[ELEMENT].as_str().ok_or_else(|| element.to_string())?;
            self.call("POST", &format!("/element/{id}/{act}"), Some(body))
        });
    }

    /// Clicks the first element that this XPath names, as a pointer does: it must be seen, and nothing be in front of it.
    ///
    /// # Panics
    /// When there is none to be clicked within 20 s.
    #[track_caller]
    pub fn clicks(&self, xpath: &str) {
        self.with(xpath, "click", &json!({}));
    }

    /// Types into the first element that this XPath names, after what stands there.
    ///
    /// # Panics
    /// As [`Browser::clicks`].
    #[track_caller]
    pub fn types(&self, xpath: &str, text: &str) {
        self.with(xpath, "value", &json!({ "text": text }));
    }

    /// What a script of this body returns.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn evaluates(&self, script: &str, arguments: &[&str]) -> Value {
        let body = json!({ "script": script, "args": arguments });
        self.call("POST", "/execute/sync", Some(&body)).expect("the script runs")
    }

    /// The texts of all elements that match a CSS selector and are shown, in the order of the page.
    ///
    /// # Panics
    /// When the browser is gone.
    #[track_caller]
    pub fn texts(&self, css: &str) -> Vec<String> {
        const SHOWN: &str = "return [...document.querySelectorAll(arguments[0])]
            .filter((found) => found.offsetParent !== null).map((found) => found.textContent)";
        let texts = self.evaluates(SHOWN, &[css]);
        let texts = texts.as_array().into_iter().flatten();
        texts.map(|text| text.as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Waits until the texts of what matches satisfy a condition, and gives them.
    ///
    /// # Panics
    /// When they do not within 40 s.
    #[track_caller]
    pub fn shows(&self, css: &str, what: &str, is_so: impl Fn(&[String]) -> bool) -> Vec<String> {
        eventually(seconds(40), what, || {
            let texts = self.texts(css);
            if is_so(&texts) { Ok(texts) } else { Err(format!("{texts:?}")) }
        })
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends the browser, and then is ended itself.
        let _ = self.call("DELETE", "", None);
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
