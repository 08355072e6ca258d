//! What memory the process has, as Linux tells it.

/// Anonymous and shared memory that is resident now: what a lease is charged. Pages of mapped
/// files do not count.
pub fn resident_memory_bytes() -> Option<u64> {
    let status = status()?;
    Some(field(&status, "RssAnon:")? + field(&status, "RssShmem:")?)
}

/// The largest resident memory that the process had.
pub fn peak_memory_bytes() -> Option<u64> {
    field(&status()?, "VmHWM:")
}

fn status() -> Option<String> {
    std::fs::read_to_string("/proc/self/status").ok()
}

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_touched_is_seen() {
        let before = resident_memory_bytes().unwrap();
        let touched = vec![1u8; 64 << 20];
        let after = resident_memory_bytes().unwrap();
        assert!(after > before + (32 << 20), "{after} after {before}");
        assert!(peak_memory_bytes().unwrap() >= 64 << 20);
        std::hint::black_box(touched);
    }
}
