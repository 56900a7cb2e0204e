//! Filters in the words of tcpdump, by libpcap's compiler: see pcap-filter(7).
//!
//! The library is looked for when a filter is given, and needed for nothing else. It compiles for
//! the very interface, because the kernel takes the VLAN tag off a frame, and what a filter says of
//! tags must then be asked of the kernel.

#![allow(unsafe_code)]

use super::bpf::Instruction;
use super::fanout::FirstHeader;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt;
use std::ptr;
use std::sync::OnceLock;

/// Why there is no filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilterError {
    /// libpcap was not found, or lacks a function; the text is the system's.
    Library(String),
    /// libpcap cannot look at the interface.
    Interface(String),
    /// The text is no filter.
    Text {
        /// What was to be compiled.
        filter: String,
        /// What libpcap says of it.
        message: String,
    },
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Library(text) => write!(
                f,
                "a filter needs libpcap, which is not there (Debian: apt install libpcap0.8): \
                 {text}"
            ),
            Self::Interface(text) => write!(f, "libpcap cannot look at the interface: {text}"),
            Self::Text { filter, message } => {
                write!(f, "expected a filter as in pcap-filter(7), found `{filter}`: {message}")
            }
        }
    }
}

impl std::error::Error for FilterError {}

/// Compiles a filter for a live interface.
///
/// # Errors
/// When there is no libpcap, the interface cannot be opened, or the text is no filter.
pub fn compile(filter: &str, interface: &str) -> Result<Vec<Instruction>, FilterError> {
    let pcap = library()?;
    let name =
        CString::new(interface).map_err(|_| FilterError::Interface("0 in its name".into()))?;
    let mut error = [0 as c_char; ERROR_BYTES];
    // SAFETY: a name that ends in 0, and room for as long a message as libpcap writes.
    let handle = unsafe { (pcap.create)(name.as_ptr(), error.as_mut_ptr()) };
    if handle.is_null() {
        return Err(FilterError::Interface(text_of(error.as_ptr())));
    }
    let handle = Handle { pcap, handle };
    // SAFETY: the handle is open and not yet active.
    if unsafe { (pcap.activate)(handle.handle) } < 0 {
        return Err(FilterError::Interface(handle.error()));
    }
    handle.compile(filter)
}

/// Compiles a filter for frames that begin so, without an interface: to see whether the text is a
/// filter.
///
/// # Errors
/// When there is no libpcap, or the text is no filter.
pub fn check(filter: &str, first: FirstHeader) -> Result<Vec<Instruction>, FilterError> {
    let pcap = library()?;
    let link = if first == FirstHeader::Ethernet { 1 } else { 12 };
    // SAFETY: numbers go in.
    let handle = unsafe { (pcap.open_dead)(link, SNAP) };
    if handle.is_null() {
        return Err(FilterError::Interface("no memory".to_owned()));
    }
    Handle { pcap, handle }.compile(filter)
}

const ERROR_BYTES: usize = 256;
/// Answers of a program that keeps a frame; the ring sets its own.
const SNAP: c_int = 262_144;
/// The netmask that is not known (`PCAP_NETMASK_UNKNOWN`).
const NO_MASK: u32 = u32::MAX;

/// A compiled program, as libpcap hands it out.
#[repr(C)]
struct Program {
    len: u32,
    instructions: *mut Instruction4,
}

/// An instruction, as libpcap lays it out.
#[repr(C)]
#[derive(Clone, Copy)]
struct Instruction4 {
    code: u16,
    jt: u8,
    jf: u8,
    k: u32,
}

type Pcap = *mut c_void;

type OpenDead = unsafe extern "C" fn(c_int, c_int) -> Pcap;

/// The functions of libpcap that are used here.
struct Library {
    create: unsafe extern "C" fn(*const c_char, *mut c_char) -> Pcap,
    activate: unsafe extern "C" fn(Pcap) -> c_int,
    open_dead: OpenDead,
    compile: unsafe extern "C" fn(Pcap, *mut Program, *const c_char, c_int, u32) -> c_int,
    free: unsafe extern "C" fn(*mut Program),
    error: unsafe extern "C" fn(Pcap) -> *const c_char,
    close: unsafe extern "C" fn(Pcap),
}

/// The library, loaded once and kept.
fn library() -> Result<&'static Library, FilterError> {
    static LIBRARY: OnceLock<Result<Library, FilterError>> = OnceLock::new();
    LIBRARY.get_or_init(open_library).as_ref().map_err(Clone::clone)
}

fn open_library() -> Result<Library, FilterError> {
    let names = [c"libpcap.so.1", c"libpcap.so.0.8", c"libpcap.so"];
    // SAFETY: names that end in 0; what libpcap does when it is loaded is to be trusted as it is.
    let mut loaded =
        names.iter().map(|name| unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW) });
    let Some(library) = loaded.find(|library| !library.is_null()) else {
        return Err(FilterError::Library(last_error()));
    };
    let find = |name: &CStr| {
        // SAFETY: the library is open and is never closed, and the name ends in 0.
        let found = unsafe { libc::dlsym(library, name.as_ptr()) };
        if found.is_null() { Err(FilterError::Library(last_error())) } else { Ok(found) }
    };
    // SAFETY: the functions have had these signatures since version 1.0 of the library.
    unsafe {
        Ok(Library {
            create: std::mem::transmute::<
                *mut c_void,
                unsafe extern "C" fn(*const c_char, *mut c_char) -> Pcap,
            >(find(c"pcap_create")?),
            activate: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(Pcap) -> c_int>(
                find(c"pcap_activate")?,
            ),
            open_dead: std::mem::transmute::<*mut c_void, OpenDead>(find(c"pcap_open_dead")?),
            compile: std::mem::transmute::<
                *mut c_void,
                unsafe extern "C" fn(Pcap, *mut Program, *const c_char, c_int, u32) -> c_int,
            >(find(c"pcap_compile")?),
            free: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut Program)>(find(
                c"pcap_freecode",
            )?),
            error: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(Pcap) -> *const c_char>(
                find(c"pcap_geterr")?,
            ),
            close: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(Pcap)>(find(
                c"pcap_close",
            )?),
        })
    }
}

/// What the loader says last.
fn last_error() -> String {
    // SAFETY: the answer is null or a text that ends in 0, good until the next call of the loader.
    let text = unsafe { libc::dlerror() };
    if text.is_null() { "no reason is given".to_owned() } else { text_of(text) }
}

/// A text that ends in 0.
fn text_of(text: *const c_char) -> String {
    // SAFETY: those who call have it from a library that ends its texts in 0.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// What libpcap opened.
struct Handle {
    pcap: &'static Library,
    handle: Pcap,
}

impl Handle {
    fn error(&self) -> String {
        // SAFETY: the handle is open.
        text_of(unsafe { (self.pcap.error)(self.handle) })
    }

    fn compile(&self, filter: &str) -> Result<Vec<Instruction>, FilterError> {
        let wrong = |message: String| FilterError::Text { filter: filter.to_owned(), message };
        let text = CString::new(filter).map_err(|_| wrong("it holds a 0".to_owned()))?;
        let mut program = Program { len: 0, instructions: ptr::null_mut() };
        // SAFETY: the handle is open, and the text ends in 0.
        let answer = unsafe {
            (self.pcap.compile)(self.handle, &raw mut program, text.as_ptr(), 1, NO_MASK)
        };
        if answer < 0 {
            return Err(wrong(self.error()));
        }
        // SAFETY: the library has made so many instructions, and frees them below.
        let made =
            unsafe { std::slice::from_raw_parts(program.instructions, program.len as usize) };
        let one =
            |&Instruction4 { code, jt, jf, k }: &Instruction4| Instruction { code, jt, jf, k };
        let instructions = made.iter().map(one).collect();
        // SAFETY: the program is the library's, and nothing points to it any more.
        unsafe { (self.pcap.free)(&raw mut program) };
        Ok(instructions)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the handle is open, and nobody has it after this.
        unsafe { (self.pcap.close)(self.handle) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_compiled_or_refused_in_words() {
        match check("tcp port 443 and host 192.0.2.1", FirstHeader::Ethernet) {
            Ok(program) => {
                assert!(program.len() > 5, "{program:?}");
                let error = check("tcp porrt 443", FirstHeader::Ethernet).unwrap_err().to_string();
                assert!(
                    error.contains("`tcp porrt 443`") && error.contains("pcap-filter"),
                    "{error}"
                );
            }
            // Not every machine has the library: then this is what an operator reads.
            Err(error) => assert!(error.to_string().contains("libpcap"), "{error}"),
        }
    }
}
