//! What the process used of the machine, as Linux tells it. Elsewhere nothing is told.

/// Ticks of the kernel's accounting per second; Linux fixes them for programs (`USER_HZ`).
const TICKS_PER_S: f64 = 100.0;

/// CPU time of all threads of this process so far, seconds, to within 10 ms.
#[must_use]
pub fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    cpu_of(&stat)
}

/// CPU time of the calling thread so far, nanoseconds, to within a tick of the kernel (1 to 10 ms).
#[must_use]
pub fn thread_cpu_ns() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    stat.split_whitespace().next()?.parse().ok()
}

/// User and system time of a line of `/proc/PID/stat`.
fn cpu_of(stat: &str) -> Option<f64> {
    // The second field is the program's name in parentheses, which may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks = |field: usize| fields.split_whitespace().nth(field - 3)?.parse::<f64>().ok();
    Some((ticks(14)? + ticks(15)?) / TICKS_PER_S)
}

/// Most memory that this process held at once since the last [`forget_peak`], megabytes (10^6).
#[must_use]
pub fn peak_rss_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    peak_of(&status)
}

fn peak_of(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0 / 1e6)
}

/// Lets the peak start anew from what is held now. Where the system does not, the peak is that of
/// the whole process, which is an upper bound.
pub fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Cores that this process may use.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The processor's name, where the system tells it.
#[must_use]
pub fn processor() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("model name"))?;
    Some(line.trim_start_matches([' ', '\t', ':']).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_are_read() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194304 1 0 0 0 250 50 0 0 20 0 1 0 99 1 1";
        assert_eq!(cpu_of(stat), Some(3.0));
        assert_eq!(cpu_of("7 (short) S 1"), None);
        assert_eq!(peak_of("Name:\tx\nVmHWM:\t    2000 kB\nVmRSS: 1 kB\n"), Some(2.048));
        assert_eq!(peak_of("Name:\tx\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_uses_something() {
        assert!(
            thread_cpu_ns().is_some()
                && cpu_seconds().is_some()
                && peak_rss_mb().is_some_and(|mb| mb > 0.1)
        );
    }
}
