//! Giving up what a process may do.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Becomes a user, by name or number, with its own group and no other: user and group of the whole
/// process.
///
/// # Errors
/// When there is no such user, or the system refuses.
pub fn become_user(user: &str) -> io::Result<()> {
    let (uid, gid) = find(user)?;
    // SAFETY: calls with numbers; no groups are read from the null pointer, since there are none.
    unsafe {
        checked(libc::setgroups(0, std::ptr::null()))?;
        checked(libc::setresgid(gid, gid, gid))?;
        checked(libc::setresuid(uid, uid, uid))
    }
}

/// Forbids this thread, and those that it starts, to gain privileges by programs that have them.
///
/// # Errors
/// When the system refuses.
pub fn gain_no_privileges() -> io::Result<()> {
    // SAFETY: a call with numbers.
    checked(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })
}

/// Whether this process, as the user that it is now, may make and rename files in a directory.
///
/// # Errors
/// When it may not, or there is no such directory.
pub fn may_write(directory: &Path) -> io::Result<()> {
    let name = CString::new(directory.as_os_str().as_bytes())?;
    // SAFETY: the name ends in 0 and lives for the call.
    checked(unsafe {
        let how = libc::W_OK | libc::X_OK;
        libc::faccessat(libc::AT_FDCWD, name.as_ptr(), how, libc::AT_EACCESS)
    })
}

/// Has this thread keep the capabilities that it may have when the process becomes another user;
/// they are then no more in force, and can be put in force again.
///
/// # Errors
/// When the system refuses.
#[cfg(target_os = "linux")]
pub fn keep_capabilities() -> io::Result<()> {
    // SAFETY: a call with numbers.
    checked(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) })
}

fn checked(answer: libc::c_int) -> io::Result<()> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The numbers of a user and its group, by name or number.
///
/// # Errors
/// When there is no such user, or the system does not say.
pub fn find(user: &str) -> io::Result<(libc::uid_t, libc::gid_t)> {
    let missing = || {
        io::Error::new(
            io::ErrorKind::NotFound,
            "expected a user of this system, found none so named",
        )
    };
    match user.parse() {
        // To the system this number means: as it is.
        Ok(libc::uid_t::MAX) => return Err(missing()),
        Ok(number) => return Ok((number, number)),
        Err(_) => {}
    }
    let name = CString::new(user).map_err(|_| missing())?;
    let mut text = vec![0; 1 << 16];
    // SAFETY: a structure of numbers and pointers, for which zeros are values.
    let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
    let mut found = std::ptr::null_mut();
    // SAFETY: the name ends in 0, and the texts of the entry go into a buffer of the length that is
    // told.
    let answer = unsafe {
        libc::getpwnam_r(
            name.as_ptr(),
            &raw mut entry,
            text.as_mut_ptr(),
            text.len(),
            &raw mut found,
        )
    };
    if answer != 0 {
        return Err(io::Error::from_raw_os_error(answer));
    }
    if found.is_null() { Err(missing()) } else { Ok((entry.pw_uid, entry.pw_gid)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_number() {
        assert_eq!(find("root").unwrap(), (0, 0));
        assert_eq!(find("1234").unwrap(), (1234, 1234));
        for none in ["4294967295", "4294967296", "-1"] {
            assert_eq!(find(none).unwrap_err().kind(), io::ErrorKind::NotFound);
        }
        assert_eq!(find("no such user").unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
