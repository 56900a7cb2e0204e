//! Privileges that are given up once everything is open.

use std::io;
use std::path::PathBuf;

/// What is given up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sandbox {
    /// The user to become.
    pub user: Option<String>,
    /// Whether all capabilities go, and writing to files, where the kernel can see to that.
    pub is_strict: bool,
    /// Directories that may still be written to.
    pub writable: Vec<PathBuf>,
    /// Whether connections may be made, as to remote models.
    pub connects: bool,
}

/// Gives up what is not needed any more: for the calling thread, and for those that it starts. So
/// it comes before any other thread. What was done, in words.
///
/// # Errors
/// When the system refuses; the text says what.
#[cfg(target_os = "linux")]
pub fn confine(to: &Sandbox) -> io::Result<Vec<String>> {
    let mut done = Vec::new();
    if let Some(user) = &to.user {
        serveflow_io::os::privileges::become_user(user)
            .map_err(|error| failed(&format!("service.user = {user}"), error))?;
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
        caps::clear(None, set).map_err(|error| failed("cannot drop capabilities", error))?;
    }
    done.push("dropped all capabilities".to_owned());
    done.extend(lock(to)?);
    Ok(done)
}

#[cfg(target_os = "linux")]
fn failed(what: &str, error: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("{what}: {error}"))
}

/// Forbids to gain privileges, and to write files.
#[cfg(target_os = "linux")]
fn lock(to: &Sandbox) -> io::Result<[String; 2]> {
    serveflow_io::os::privileges::gain_no_privileges()
        .map_err(|error| failed("cannot forbid new privileges", error))?;
    let files = lock_files(to).map_err(|error| failed("cannot restrict the file system", error))?;
    Ok(["no new privileges".to_owned(), files])
}

/// Has the calling thread keep its capabilities when the process becomes another user.
///
/// # Errors
/// When the system refuses.
#[cfg(target_os = "linux")]
pub fn keep_capabilities() -> io::Result<()> {
    serveflow_io::os::privileges::keep_capabilities()
        .map_err(|error| failed("cannot keep the capabilities of a thread", error))
}

/// Confines the calling thread as the process is, but for the capability to capture, which it
/// keeps.
///
/// # Errors
/// When the system refuses.
#[cfg(target_os = "linux")]
pub fn confine_capturing(to: &Sandbox) -> io::Result<()> {
    use caps::{CapSet, Capability};
    let capture = [Capability::CAP_NET_RAW].into_iter().collect();
    let keep = |set| {
        caps::set(None, set, &capture).map_err(|error| failed("cannot keep CAP_NET_RAW", error))
    };
    // Another user has none in force, and keeps those that it may put in force.
    keep(CapSet::Effective)?;
    if !to.is_strict {
        return Ok(());
    }
    keep(CapSet::Permitted)?;
    for set in [CapSet::Ambient, CapSet::Inheritable] {
        caps::clear(None, set).map_err(|error| failed("cannot drop capabilities", error))?;
    }
    lock(to).map(drop)
}

/// Leaves reading alone, and writing in a few places, as far as the kernel knows how (landlock(7)).
#[cfg(target_os = "linux")]
fn lock_files(to: &Sandbox) -> Result<String, landlock::RulesetError> {
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

/// Whether the process, once it has given this up, may make and rename files in a directory: tried
/// on a thread, so that nothing is changed where it may not.
///
/// # Errors
/// When it may not, there is no such directory, or the process cannot become the user.
#[cfg(target_os = "linux")]
pub fn would_write(to: &Sandbox, directory: &std::path::Path) -> io::Result<()> {
    let look = || {
        if to.is_strict {
            // Root without capabilities is held to the permissions as others are.
            caps::clear(None, caps::CapSet::Effective)
                .map_err(|error| failed("cannot drop capabilities", error))?;
        }
        serveflow_io::os::privileges::may_write(directory)
    };
    if let Some(user) = &to.user {
        return serveflow_io::os::as_user::as_user(user, look)?;
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, look)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the look at it panicked")))
    })
}

/// Elsewhere than on Linux nothing is given up.
///
/// # Errors
/// When a user is named.
#[cfg(not(target_os = "linux"))]
pub fn confine(to: &Sandbox) -> io::Result<Vec<String>> {
    match &to.user {
        Some(user) => Err(io::Error::other(format!("service.user = {user}: expected Linux"))),
        None => Ok(Vec::new()),
    }
}

/// Elsewhere than on Linux there are none.
///
/// # Errors
/// Never.
#[cfg(not(target_os = "linux"))]
pub fn keep_capabilities() -> io::Result<()> {
    Ok(())
}

/// Elsewhere than on Linux nothing is given up.
///
/// # Errors
/// Never.
#[cfg(not(target_os = "linux"))]
pub fn confine_capturing(_to: &Sandbox) -> io::Result<()> {
    Ok(())
}

/// Elsewhere than on Linux nothing is given up, and this is not looked at.
///
/// # Errors
/// Never.
#[cfg(not(target_os = "linux"))]
pub fn would_write(_to: &Sandbox, _directory: &std::path::Path) -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_directory_of_others_is_found_out_without_giving_anything_up() {
        let name = format!("serveflow-would-write-{}", std::process::id());
        let own = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&own).unwrap();
        std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o755)).unwrap();
        let as_one = |user: Option<&str>, is_strict| Sandbox {
            user: user.map(str::to_owned),
            is_strict,
            ..Sandbox::default()
        };
        for is_strict in [false, true] {
            would_write(&as_one(None, is_strict), &own).unwrap();
            // Another user may not, or cannot be become.
            assert!(would_write(&as_one(Some("61234"), is_strict), &own).is_err());
            assert!(would_write(&as_one(None, is_strict), &own.join("missing")).is_err());
            serveflow_io::os::privileges::may_write(&own).unwrap();
        }
        std::fs::remove_dir(&own).unwrap();
    }
}
