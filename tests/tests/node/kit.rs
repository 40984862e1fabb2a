//! The one world of all scenarios, with a CloudWatch Logs beside OpenSearch.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use taffrail_tests::cloudwatch::{Action, CloudWatch, KEY};
use taffrail_tests::moto::Moto;
use taffrail_tests::real_node::RealNode;
use taffrail_tests::real_node::world::{Settings, World};

/// The log group of namespaces whose names begin with `cloud-`.
pub const GROUP: &str = "/node/tests";

/// The one world of all tests, to one at a time: they stop parts of it.
pub fn world() -> MutexGuard<'static, World> {
    static WORLD: OnceLock<Mutex<World>> = OnceLock::new();
    let world = WORLD.get_or_init(|| Mutex::new(World::new(|node, _| settings(node))));
    // A test that failed leaves it as the others find it.
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The CloudWatch Logs of all tests.
pub fn cloud() -> &'static CloudWatch {
    static CLOUD: OnceLock<CloudWatch> = OnceLock::new();
    CLOUD.get_or_init(|| CloudWatch::open(Some(Moto::shared().address()), |_| Action::Do))
}

fn settings(node: &RealNode) -> Settings {
    let cloud = node.reaches(cloud().address());
    let tables = format!(
        "[annotations.namespaces]\n\"annotated-*\" = [\"exclude\"]\n\
         [outputs.cloud]\ntype = \"cloudwatch\"\nregion = \"us-east-1\"\nendpoint = \"http://{cloud}\"\n\
         log_group = \"{GROUP}\"\nlog_stream = \"{{namespace}}/{{pod}}/{{container}}\"\nformat = \"raw\"\nlinger = \"200ms\"\n\
         [[routes]]\nmatch = {{ namespace = \"cloud-*\" }}\noutputs = [\"cloud\"]\n\
         [[routes]]\nmatch = {{ namespace = \"programs-*\", container = \"nginx\" }}\nparse = \"nginx\"\noutputs = [\"search\"]\n\
         [[routes]]\nmatch = {{ namespace = \"programs-*\", container = \"klog\" }}\nparse = \"klog\"\noutputs = [\"search\"]\n\
         [[routes]]\nmatch = {{ namespace = \"programs-*\" }}\nmultiline = \"auto\"\noutputs = [\"search\"]\n"
    );
    let environment = [("AWS_ACCESS_KEY_ID", KEY.0), ("AWS_SECRET_ACCESS_KEY", KEY.1)];
    let environment = environment.map(|(name, value)| (name, value.to_owned())).into();
    Settings { tables, environment, way: None }
}
