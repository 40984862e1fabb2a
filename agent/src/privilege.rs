//! The one capability that an agent which is not root may need: to read logs that are root's.
//!
//! In: what the process may take up (its permitted capabilities). Out: DAC_READ_SEARCH taken up, if it may be and was
//! not. Nothing else is ever taken up. The image's binary bears it as a file capability that is permitted only
//! (`=p`): with the effective flag (`=ep`) the kernel refuses to run the binary where a container has no capabilities, even
//! for uid 0, which needs none.

use rustix::io;
use rustix::thread::{CapabilitySet, capabilities, no_new_privs, set_capabilities};

/// What there was to take up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// DAC_READ_SEARCH is in force now, and was not before.
    Raised,
    /// It was in force already: root with its capabilities, or an ambient one.
    InForce,
    /// It is not permitted. For root, who owns the logs, it need not be.
    NotPermitted,
}

/// Takes up DAC_READ_SEARCH for this thread and those that it starts: to be called before there are any others.
///
/// # Errors
/// When the kernel does not tell or does not let, such as under a seccomp profile without `capset`.
pub fn take_up() -> io::Result<Taken> {
    let wanted = CapabilitySet::DAC_READ_SEARCH;
    let mut sets = capabilities(None)?;
    if sets.effective.contains(wanted) {
        return Ok(Taken::InForce);
    }
    if !sets.permitted.contains(wanted) {
        return Ok(Taken::NotPermitted);
    }
    sets.effective.insert(wanted);
    set_capabilities(None, sets)?;
    Ok(Taken::Raised)
}

/// Takes it up, and tells what an operator should know of that.
pub fn take_up_and_tell() {
    match take_up() {
        Ok(Taken::Raised) => {
            tracing::info!(capability = "DAC_READ_SEARCH", "took up the right to read every log")
        }
        Ok(Taken::NotPermitted) if !rustix::process::geteuid().is_root() => tracing::warn!(
            uid = rustix::process::geteuid().as_raw(),
            no_new_privs = no_new_privs().unwrap_or(false),
            "not root and without the capability DAC_READ_SEARCH: logs of mode 0640 cannot be read; \
             the container needs capabilities.add, and the binary the file capability cap_dac_read_search=p"
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "cannot take up the capability DAC_READ_SEARCH"),
    }
}
