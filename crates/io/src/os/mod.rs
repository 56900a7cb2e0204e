//! Calls to the operating system that are about the process, and not about packets.

#[cfg(target_os = "linux")]
pub mod as_user;
pub mod huge_pages;
#[cfg(target_os = "linux")]
pub mod privileges;
mod stdout;

pub use stdout::was_stdout_closed;
