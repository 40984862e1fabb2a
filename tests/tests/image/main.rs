//! The image and the Lambda function: what is in tar and zip, and how the agent gets on in the image's root file system with
//! the rights that the manifests give.

mod function;
mod layout;
mod rights;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use taffrail_tests::agent;
use tempfile::TempDir;

/// An image with the binary that the tests run, in a folder of its own: no release build for a test.
struct Image {
    folder: TempDir,
}

impl Image {
    fn build() -> Image {
        let folder =
            tempfile::Builder::new().prefix("taffrail-image-").tempdir().expect("a temporary folder");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/image/build");
        let output = Command::new("python3")
            .arg(&script)
            .args([
                Path::new("--binary"),
                &agent::binary(),
                Path::new("--output"),
                &folder.path().join("image.tar"),
            ])
            .env("SOURCE_DATE_EPOCH", "1700000000")
            .output()
            .expect("to run manifests/image/build (Debian: python3)");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Image { folder }
    }

    /// A copy of the one that all tests share, for it takes seconds to pack.
    fn copy() -> Image {
        static BUILT: OnceLock<Vec<u8>> = OnceLock::new();
        let tar = BUILT.get_or_init(|| fs::read(Image::build().tar()).expect("the image"));
        let folder =
            tempfile::Builder::new().prefix("taffrail-image-").tempdir().expect("a temporary folder");
        fs::write(folder.path().join("image.tar"), tar).expect("to write the image");
        Image { folder }
    }

    fn tar(&self) -> PathBuf {
        self.folder.path().join("image.tar")
    }

    /// A file of the layout.
    fn file(&self, name: &str) -> Vec<u8> {
        let output = Command::new("tar").arg("-xOf").arg(self.tar()).arg(name).output().expect("to run tar");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// The layer, unpacked as a runtime would: with owners, modes and capabilities, if we are root.
    fn unpack(&self, layer: &[u8]) -> PathBuf {
        let (packed, root) = (self.folder.path().join("layer.tar.gz"), self.folder.path().join("root"));
        fs::write(&packed, layer).expect("to write the layer");
        fs::create_dir(&root).expect("a folder for the root file system");
        let status = Command::new("tar")
            .args(["--xattrs", "--xattrs-include=security.capability", "-C"])
            .args([&root, Path::new("-xzf"), &packed])
            .status()
            .expect("to run tar");
        assert!(status.success());
        root
    }
}
