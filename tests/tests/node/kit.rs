//! The one world of all scenarios, with a CloudWatch Logs beside OpenSearch.

use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use taffrail_tests::cloudwatch::{Action, CloudWatch, KEY};
use taffrail_tests::moto::Moto;
use taffrail_tests::real_node::RealNode;
use taffrail_tests::real_node::world::{Settings, World};

/// The log group of namespaces whose names begin with `cloud-`.
pub const GROUP: &str = "/node/tests";

/// The one world of all tests, beside others: for those that stop nothing and replace no agent.
pub fn world() -> RwLockReadGuard<'static, World> {
    // A test that failed leaves it as the others find it.
    the_world().read().unwrap_or_else(PoisonError::into_inner)
}

/// The same for a test alone, which may stop and replace what it likes, and leaves all as it was.
pub fn alone() -> RwLockWriteGuard<'static, World> {
    the_world().write().unwrap_or_else(PoisonError::into_inner)
}

fn the_world() -> &'static RwLock<World> {
    static WORLD: OnceLock<RwLock<World>> = OnceLock::new();
    WORLD.get_or_init(|| RwLock::new(World::new(|node, _| settings(node))))
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
