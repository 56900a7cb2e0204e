//! Privileges that are given up once everything is open.

use std::io;
use std::path::PathBuf;

/// What is given up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    /// The user to become.
    pub user: Option<String>,
    /// Whether all capabilities go, and writing to files, where the kernel can see to that.
    pub is_strict: bool,
    /// Directories that may still be written to.
    pub writable: Vec<PathBuf>,
    /// Whether connections may be made, as to remote models.
    pub connects: bool,
}

/// Gives up what is not needed any more: for the calling thread, and for those that it starts. So it comes
/// before any other thread. What was done, in words.
///
/// # Errors
/// When the system refuses; the text says what.
#[cfg(target_os = "linux")]
pub fn confine(to: &Confinement) -> io::Result<Vec<String>> {
    let failed = |what: &str, error: String| io::Error::other(format!("{what}: {error}"));
    let mut done = Vec::new();
    if let Some(user) = &to.user {
        serveflow_io::user::become_user(user)
            .map_err(|error| failed(&format!("service.user = {user}"), error.to_string()))?;
        done.push(format!("became user {user}"));
    }
    if !to.is_strict {
        return Ok(done);
    }
    for set in [
        caps::CapSet::Ambient,
        caps::CapSet::Effective,
        caps::CapSet::Permitted,
        caps::CapSet::Inheritable,
    ] {
        caps::clear(None, set)
            .map_err(|error| failed("cannot drop capabilities", error.to_string()))?;
    }
    done.push("dropped all capabilities".to_owned());
    serveflow_io::user::gain_no_privileges()
        .map_err(|error| failed("cannot forbid new privileges", error.to_string()))?;
    done.push("no new privileges".to_owned());
    done.push(
        lock_files(to)
            .map_err(|error| failed("cannot restrict the file system", error.to_string()))?,
    );
    Ok(done)
}

/// Leaves reading alone, and writing in a few places, as far as the kernel knows how (landlock(7)).
#[cfg(target_os = "linux")]
fn lock_files(to: &Confinement) -> Result<String, landlock::RulesetError> {
    use landlock::{
        ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr,
        RulesetCreatedAttr, RulesetStatus, path_beneath_rules,
    };
    let abi = ABI::V5;
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?;
    if !to.connects {
        ruleset = ruleset.handle_access(AccessNet::ConnectTcp)?;
    }
    let status = ruleset
        .create()?
        .add_rules(path_beneath_rules(["/"], AccessFs::from_read(abi)))?
        .add_rules(path_beneath_rules(&to.writable, AccessFs::from_all(abi)))?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => "files can only be read".to_owned(),
        RulesetStatus::PartiallyEnforced => {
            "files can only be read, as far as this kernel knows how".to_owned()
        }
        RulesetStatus::NotEnforced => "this kernel cannot restrict files".to_owned(),
    })
}

/// Elsewhere than on Linux nothing is given up.
///
/// # Errors
/// When a user is named.
#[cfg(not(target_os = "linux"))]
pub fn confine(to: &Confinement) -> io::Result<Vec<String>> {
    match &to.user {
        Some(user) => Err(io::Error::other(format!("service.user = {user}: expected Linux"))),
        None => Ok(Vec::new()),
    }
}
