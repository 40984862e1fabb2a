//! What the tar says of itself, and what is in its layer.

use crate::Image;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::MetadataExt;
use taffrail_tests::agent;

/// Everything in the layer but the binary, packed: CA roots and the SBOM.
const BESIDE_THE_BINARY: u64 = 512 << 10;

fn read(image: &Image, name: &str) -> Value {
    serde_json::from_slice(&image.file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn blob(descriptor: &Value) -> String {
    format!("blobs/{}", descriptor["digest"].as_str().expect("a digest").replace(':', "/"))
}

#[test]
fn the_image_is_one_layer_with_the_agent_roots_of_trust_users_and_what_it_is_made_of() {
    let image = Image::copy();
    assert_eq!(read(&image, "oci-layout")["imageLayoutVersion"], "1.0.0");
    let index = read(&image, "index.json");
    let entry = &index["manifests"][0];
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        entry["annotations"]["io.containerd.image.name"],
        format!("registry.example/taffrail:{version}")
    );
    let architecture = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    assert_eq!(entry["platform"], json!({ "os": "linux", "architecture": architecture }));

    let manifest = read(&image, &blob(entry));
    let config = read(&image, &blob(&manifest["config"]));
    assert_eq!(config["config"]["Entrypoint"], json!(["/taffrail"]));
    assert_eq!(config["config"]["User"], "65532:65532", "who runs it without a word is not root");
    let labels = &config["config"]["Labels"];
    assert_eq!(labels["org.opencontainers.image.version"], version);
    assert_eq!(labels["org.opencontainers.image.licenses"], "Apache-2.0");
    assert_eq!(labels["org.opencontainers.image.revision"].as_str().map(str::len), Some(40));
    assert_eq!(config["rootfs"]["diff_ids"].as_array().map(Vec::len), Some(1));

    let layers = manifest["layers"].as_array().expect("layers");
    assert_eq!(layers.len(), 1);
    let binary = fs::metadata(agent::binary()).expect("the binary").len();
    let size = layers[0]["size"].as_u64().expect("a size");
    assert!(size < binary / 2 + BESIDE_THE_BINARY, "{size} bytes packed for a binary of {binary}");
    let layer = image.file(&blob(&layers[0]));
    assert_eq!(layer.len() as u64, size);
    let root = image.unpack(&layer);
    let text =
        |name: &str| fs::read_to_string(root.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(text("etc/passwd").contains("\ntaffrail:x:65532:65532:"));
    assert!(text("etc/group").contains("\ntaffrail:x:65532:"));
    let roots = text("etc/ssl/certs/ca-certificates.crt");
    assert!(roots.matches("BEGIN CERTIFICATE").count() > 50);
    // What this machine was told to trust besides is nobody else's business.
    for own in fs::read_dir("/usr/local/share/ca-certificates").into_iter().flatten().flatten() {
        let own = fs::read_to_string(own.path()).unwrap_or_default();
        assert!(own.trim().is_empty() || !roots.contains(own.trim()), "a root of this machine alone");
    }
    let bill: Value = serde_json::from_str(&text("usr/share/sbom/taffrail.cdx.json")).expect("JSON");
    let crates = bill["components"].as_array().expect("components");
    assert_eq!((&bill["bomFormat"], &bill["specVersion"]), (&json!("CycloneDX"), &json!("1.5")));
    assert!(crates.iter().any(|of| of["name"] == "rustls" && of["purl"].as_str().unwrap().starts_with("pkg:cargo/rustls@")));
    assert!(!crates.iter().any(|of| of["name"] == "proptest"), "what only tests use is not in the image");
    let agent = fs::metadata(root.join("taffrail")).expect("the agent");
    assert_eq!((agent.mode() & 0o7777, agent.mtime()), (0o755, 1_700_000_000));
    assert_eq!(fs::read(root.join("taffrail")).unwrap(), fs::read(agent::binary().as_path()).unwrap());
}

#[test]
fn the_same_checkout_gives_the_same_image_to_the_byte() {
    assert!(fs::read(Image::copy().tar()).unwrap() == fs::read(Image::build().tar()).unwrap());
}
