//! The page in a real browser: Debian's chromium, without a screen. Where there is none, that is said, and these are left out.

use std::process::{Child, Command, Stdio};
use taffrail_tests::agent::Agent;
use taffrail_tests::listeners::{Door, address};
use taffrail_tests::node::Node;
use taffrail_tests::{seconds, verify};

/// A browser that opens the page, and prints its markup after some seconds of its own time, which stands still while a
/// tail is open.
fn browser(node: &Node, hash: &str) -> Child {
    Command::new("timeout")
        .args(["60", "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
        .arg(format!("--user-data-dir={}", node.path().join(format!("browser{}", hash.len())).display()))
        .arg("--virtual-time-budget=6000")
        .arg(format!("http://{}/{hash}", address(node, Door::Page)))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("chromium (Debian: chromium)")
}

/// Whether there is a browser.
fn is_here() -> bool {
    let found =
        Command::new("chromium").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let here = found.is_ok_and(|status| status.success());
    if !here {
        eprintln!("chromium is not here: the page is not looked at in a browser");
    }
    here
}

fn markup(browser: Child) -> String {
    let output = browser.wait_with_output().expect("the browser's output");
    assert!(output.status.success(), "the browser: {}", output.status);
    String::from_utf8(output.stdout).expect("a page of text")
}

#[test]
fn the_page_shows_pods_and_a_line_full_of_markup_stays_text() {
    if !is_here() {
        return;
    }
    let node = Node::new();
    let mut web = node.pod("web").namespace("shop").container("app");
    web.writes(100);
    let agent = Agent::start(&node.to_file(), &node);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    let page = markup(browser(&node, ""));
    for part in ["node n1", "<button>shop/web</button>", ">local</td>", "1 of 1", "none since the start"] {
        assert!(page.contains(part), "{part} in\n{page}");
    }
    let evil =
        "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>\u{1b}[2J";
    let browser = browser(&node, "#shop/web/app@local");
    for _ in 0..60 {
        web.writes_line(evil);
        taffrail_tests::let_pass(std::time::Duration::from_millis(100));
    }
    // With the agent the tail ends, and so the browser's time goes on.
    assert_eq!(agent.terminate().code, Some(0));
    let page = markup(browser);
    assert!(page.contains("&lt;img src=x onerror="), "the tail shows it as text:\n{page}");
    assert!(!page.contains("<img") && page.contains("<title>Taffrail</title>"), "{page}");
}

#[test]
fn a_thousand_containers_are_shown() {
    if !is_here() {
        return;
    }
    let node = Node::new();
    let containers: Vec<_> = (0..1_000)
        .map(|number| {
            let mut container = node.pod(&format!("pod-{number}")).namespace("many").container("app");
            container.writes(1);
            container
        })
        .collect();
    let _agent = Agent::start(&node.to_file(), &node);
    verify::exactly_once(seconds(60), || node.delivered(), &containers.iter().collect::<Vec<_>>());
    let page = markup(browser(&node, ""));
    assert!(
        page.contains("1000 of 1000") && page.contains("<button>many/pod-999</button>"),
        "{}",
        &page[..2_000]
    );
}
