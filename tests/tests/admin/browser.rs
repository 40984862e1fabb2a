//! The page in a real browser: Debian's chromium, without a screen, looked at and clicked. Where there is none, or no driver of
//! it, that is said, and these are left out.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use taffrail_tests::agent::Agent;
use taffrail_tests::browser::Browser;
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

/// The pods of the table of containers, from top to bottom.
const PODS: &str = "#containers tbody td:first-child";

#[test]
fn a_reader_sorts_searches_and_tails_by_clicking() {
    let node = Node::new();
    let Some(browser) = Browser::open(node.path()) else { return };
    let mut pods = ["ledger", "storefront", "ingress"].map(|name| node.pod(name).container("app"));
    for (pod, lines) in pods.iter_mut().zip([20, 300, 100]) {
        pod.writes(lines);
    }
    let routes = "
        [[routes]]
        match = { pod = \"ledger\" }
        drop = { message = \"a secret\" }
        outputs = [\"local\"]
        [[routes]]
        outputs = [\"local\"]
    ";
    let _agent = Agent::start(&format!("{}{routes}", node.to_file()), &node);
    verify::exactly_once(seconds(40), || node.delivered(), &pods.each_ref());
    browser.goes_to(&format!("http://{}/", address(&node, Door::Page)));

    let sorts = |column: &str| browser.clicks(&format!("//table[@id='containers']//th/button[.='{column}']"));
    let stand = |pods: [&str; 3]| {
        let wanted = pods.map(|pod| format!("default/{pod}"));
        browser.shows(PODS, &format!("the order {pods:?}"), |shown| shown == wanted);
    };
    // Names from the first on, numbers from the largest on, and back.
    sorts("pod");
    stand(["ingress", "ledger", "storefront"]);
    sorts("pod");
    stand(["storefront", "ledger", "ingress"]);
    sorts("delivered");
    stand(["storefront", "ingress", "ledger"]);
    let sorted = browser.texts("#containers th[aria-sort=descending]");
    assert_eq!(sorted, ["delivered"], "the column's title says so");
    sorts("delivered");
    stand(["ledger", "ingress", "storefront"]);

    browser.types("//input[@id='search']", "ledg");
    browser.shows(PODS, "the pod that was searched for", |shown| shown == ["default/ledger"]);
    assert_eq!(browser.texts("#count"), ["1 of 3"]);

    assert!(browser.texts("#tail-section").is_empty(), "no tail is open");
    browser.clicks("//table[@id='containers']//td/button[.='default/ledger']");
    let open = |shown: &[String]| shown == ["what is sent from now on is shown"];
    browser.shows("#tail-state", "the tail to be open", open);
    assert_eq!(browser.texts("#tail-name"), ["default/ledger/app at local"]);
    let plan = &browser.texts("#tail-plan")[0];
    let target = node.path().join("out/default.ndjson");
    assert_eq!(*plan, format!("to {} by route 1 (pod ledger), which shapes it", target.display()));

    // Each is a line of the tail, whatever is in it, and the next one comes as well.
    let [ledger, ..] = &mut pods;
    for line in [
        "the first that is written while somebody looks",
        "<img src=x onerror=\"document.title='owned'\"></li></ol><script>document.title='owned'</script><!--",
        "\u{1b}[2J\u{1b}]0;owned\u{7} \u{9b}31m \u{202e}desrever\u{2066} \u{1}\u{8}\u{c}",
        "the last",
    ] {
        ledger.writes_line(line);
    }
    let ends = |shown: &[String]| shown.last().is_some_and(|line| line.contains("\"the last\""));
    let shown = browser.shows("#tail li", "the last line in the tail", ends);
    assert_eq!(shown.len(), 4, "{shown:?}");
    assert!(shown[0].contains("\"message\":\"the first that is written while somebody looks\""), "{shown:?}");
    assert!(shown[1].contains("<img src=x onerror=") && shown[1].contains("<!--\""), "{shown:?}");
    let written_out = r"\u001b[2J\u001b]0;owned\u0007 \u009b31m \u202edesrever\u2066 \u0001\b\f";
    assert!(shown[2].contains(written_out), "{shown:?}");
    assert_eq!(browser.evaluates("return document.title + document.images.length", &[]), "Taffrail0");

    browser.clicks("//button[@id='tail-close']");
    browser.shows("#tail-section", "the tail to be closed", |shown| shown.is_empty());
    assert!(browser.url().ends_with('#'), "{}", browser.url());
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

/// The width of a picture, and the colour of its first pixel, which stands for itself whatever the filter of its row.
fn look(png: &[u8]) -> (u32, [u8; 3]) {
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    let (mut packed, mut at) = (Vec::new(), 8);
    while at < png.len() {
        let length = number(at) as usize;
        if &png[at + 4..at + 8] == b"IDAT" {
            packed.extend_from_slice(&png[at + 8..at + 8 + length]);
        }
        at += length + 12;
    }
    let mut first = [0; 4];
    flate2::read::ZlibDecoder::new(&packed[..]).read_exact(&mut first).expect("a row");
    (number(16), [first[1], first[2], first[3]])
}

#[test]
fn it_is_light_or_dark_as_the_reader_likes_on_any_width_and_pictures_are_kept() {
    if !is_here() {
        return;
    }
    let node = Node::new();
    let mut containers: Vec<_> = ["storefront-7d9f", "ledger-0", "ingress-nginx-controller-6f7b"]
        .map(|name| node.pod(name).namespace("shop").container("app"))
        .into();
    containers.iter_mut().for_each(|container| {
        container.writes(100);
    });
    let away = "\n[outputs.search]\ntype = \"elasticsearch\"\nendpoints = [\"http://127.0.0.1:1\"]\nindex = \"logs-{date}\"\n";
    let _agent = Agent::start(&format!("{}{away}", node.to_file()), &node);
    verify::exactly_once(seconds(40), || node.delivered(), &containers.iter().collect::<Vec<_>>());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("page");
    std::fs::create_dir_all(&folder).unwrap();
    for (name, size, dark) in [
        ("wide", "1280,900", false),
        ("wide-dark", "1280,900", true),
        ("narrow", "400,1400", false),
        ("narrow-dark", "400,1400", true),
    ] {
        let picture = folder.join(format!("{name}.png"));
        let status = Command::new("timeout")
            .args(["60", "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
            .arg(format!("--user-data-dir={}", node.path().join(name).display()))
            .args(dark.then_some("--force-dark-mode"))
            .arg(format!("--window-size={size}"))
            .args(["--virtual-time-budget=6000", &format!("--screenshot={}", picture.display())])
            .arg(format!("http://{}/", address(&node, Door::Page)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(status.expect("chromium").success(), "{name}");
        let (width, corner) = look(&std::fs::read(&picture).expect("a picture"));
        let paper = if dark { [0x14, 0x18, 0x1d] } else { [0xff; 3] };
        assert_eq!((width, corner), (size.split(',').next().unwrap().parse().unwrap(), paper), "{name}");
        println!("{}", picture.display());
    }
}
