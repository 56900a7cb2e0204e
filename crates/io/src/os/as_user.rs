//! What another user of the system may do, by trying it on a thread that is that user.

#![allow(unsafe_code)]

use crate::os::privileges::find;
use std::ffi::CString;
use std::io;

/// Does something as another user, by name or number: on a thread that becomes that user, with its
/// own group and no other, and then ends. The process stays who it is.
///
/// # Errors
/// When there is no such user, the system refuses, or gives no thread.
pub fn as_user<T: Send>(user: &str, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let (uid, gid) = find(user)?;
    let become_and_work = || {
        become_on_thread(uid, gid)?;
        Ok(work())
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, become_and_work);
        let thread = thread.map_err(|error| {
            let why = format!("cannot start a thread to try it: {error}");
            io::Error::new(error.kind(), why)
        })?;
        let panicked = |_| Err(io::Error::other("what was tried as another user panicked"));
        thread.join().unwrap_or_else(panicked)
    })
}

/// Becomes a user, for the calling thread alone. The C library would have all threads do it; the
/// system's own calls are for one.
fn become_on_thread(uid: libc::uid_t, gid: libc::gid_t) -> io::Result<()> {
    // SAFETY: calls with numbers; no groups are read from the null pointer, since there are none.
    unsafe {
        if libc::geteuid() == uid && libc::getegid() == gid {
            return Ok(());
        }
        called(libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()))?;
        called(libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
        called(libc::syscall(libc::SYS_setresuid, uid, uid, uid))
    }
}

fn called(answer: libc::c_long) -> io::Result<()> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether this process is root.
#[must_use]
pub fn is_root() -> bool {
    // SAFETY: a call without arguments.
    unsafe { libc::geteuid() == 0 }
}

/// The number of a group, by name or number.
///
/// # Errors
/// When there is no such group, or the system does not say.
pub fn find_group(group: &str) -> io::Result<libc::gid_t> {
    let missing = || {
        let text = "expected a group of this system, found none so named";
        io::Error::new(io::ErrorKind::NotFound, text)
    };
    match group.parse() {
        // To the system this number means: as it is.
        Ok(libc::gid_t::MAX) => return Err(missing()),
        Ok(number) => return Ok(number),
        Err(_) => {}
    }
    let name = CString::new(group).map_err(|_| missing())?;
    let mut text = vec![0; 1 << 16];
    // SAFETY: a structure of numbers and pointers, for which zeros are values.
    let mut entry: libc::group = unsafe { std::mem::zeroed() };
    let mut found = std::ptr::null_mut();
    // SAFETY: the name ends in 0, and the texts of the entry go into a buffer of the length that is
    // told.
    let answer = unsafe {
        let (text, len) = (text.as_mut_ptr(), text.len());
        libc::getgrnam_r(name.as_ptr(), &raw mut entry, text, len, &raw mut found)
    };
    match answer {
        0 if found.is_null() => Err(missing()),
        0 => Ok(entry.gr_gid),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Limits of the system on this process, those that can be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SystemLimits {
    /// Bytes of address space (`ulimit -v`).
    pub address_space: Option<u64>,
    /// Descriptors (`ulimit -n`).
    pub descriptors: Option<u64>,
    /// Processes and threads of the user (`ulimit -u`), for whom it holds: not for root.
    pub threads: Option<u64>,
}

/// The number of a user, by name or number; without one, or where there is none so named, that of
/// this process.
#[must_use]
pub fn number_of(user: Option<&str>) -> u32 {
    let found = user.and_then(|user| find(user).ok());
    // SAFETY: a call without arguments.
    found.map_or_else(|| unsafe { libc::geteuid() }, |(uid, _)| uid)
}

/// The limits of the system on this process, once it is of the user of this number.
#[must_use]
pub fn system_limits(uid: u32) -> SystemLimits {
    let soft = |which| {
        let mut limit =
            libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: the system writes a structure of this size.
        let answer = unsafe { libc::getrlimit(which, &raw mut limit) };
        (answer == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
    };
    SystemLimits {
        address_space: soft(libc::RLIMIT_AS),
        descriptors: soft(libc::RLIMIT_NOFILE),
        threads: soft(libc::RLIMIT_NPROC).filter(|_| uid != 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_by_name_and_number() {
        assert_eq!(find_group("root").unwrap(), 0);
        assert_eq!(find_group("1234").unwrap(), 1234);
        for none in ["4294967295", "-1", "no such group", "a\0b"] {
            assert_eq!(find_group(none).unwrap_err().kind(), io::ErrorKind::NotFound, "{none}");
        }
    }

    /// The thread is the user, and the process stays who it is.
    #[test]
    fn a_thread_is_another_user_and_the_process_is_not() {
        // SAFETY: calls without arguments.
        let me = || unsafe { (libc::geteuid(), libc::getegid()) };
        let before = me();
        if before.0 == 0 {
            assert_eq!(as_user("1234", me).unwrap(), (1234, 1234));
        } else {
            let error = as_user("0", me).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        }
        assert_eq!(as_user(&before.0.to_string(), || 7).ok(), (before.0 == before.1).then_some(7));
        assert_eq!(me(), before);
    }
}
