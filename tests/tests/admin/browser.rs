//! The page in a real browser: Debian's chromium, without a screen. To be asked for, since not every machine has one:
//! `cargo test -p taffrail-tests --test admin -- --ignored`.

use std::process::Command;
use taffrail_tests::agent::Agent;
use taffrail_tests::listeners::{Door, address};
use taffrail_tests::node::Node;
use taffrail_tests::{seconds, verify};

/// The page's markup after so many milliseconds of the browser's own time.
fn markup(node: &Node, hash: &str, millis: u32) -> String {
    let output = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
        .arg(format!("--user-data-dir={}", node.path().join("browser").display()))
        .arg(format!("--virtual-time-budget={millis}"))
        .arg(format!("http://{}/{hash}", address(node, Door::Page)))
        .output()
        .expect("chromium (Debian: chromium)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("a page of text")
}

#[test]
#[ignore = "needs chromium"]
fn the_page_shows_pods_and_a_line_full_of_markup_stays_text() {
    let node = Node::new();
    let mut web = node.pod("web").namespace("shop").container("app");
    web.writes(100);
    let _agent = Agent::start(&node.to_file(), &node);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    let page = markup(&node, "", 5_000);
    for part in ["node n1", "<button>shop/web</button>", ">local</td>", "1 of 1", "none since the start"] {
        assert!(page.contains(part), "{part} in\n{page}");
    }
    let evil =
        "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>\u{1b}[2J";
    let writer = std::thread::spawn(move || {
        for _ in 0..100 {
            web.writes_line(evil);
            taffrail_tests::let_pass(std::time::Duration::from_millis(100));
        }
        web
    });
    let page = markup(&node, "#shop/web/app@local", 8_000);
    let web = writer.join().expect("the writer");
    assert!(page.contains("&lt;img src=x onerror="), "the tail shows it as text:\n{page}");
    assert!(!page.contains("<img") && page.contains("<title>Taffrail</title>"), "{page}");
    drop(web);
}

#[test]
#[ignore = "needs chromium"]
fn a_thousand_containers_are_shown() {
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
    let page = markup(&node, "", 6_000);
    assert!(
        page.contains("1000 of 1000") && page.contains("<button>many/pod-999</button>"),
        "{}",
        &page[..2_000]
    );
}
