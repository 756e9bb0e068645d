//! How much memory there is for this process.

use std::fs;
use std::path::{Path, PathBuf};

/// What is assumed where nothing can be found out.
const UNKNOWN: u64 = 2 << 30;

/// The limit of the process's control group, or the machine's memory if that is less, in bytes.
pub(super) fn memory() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.as_deref().and_then(total);
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = limit_files(&groups, Path::new("/sys/fs/cgroup"));
    let group = group
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok())
        .min();
    match (machine, group) {
        // Without a limit, version 1 tells a number beyond all memory.
        (Some(machine), Some(group)) => machine.min(group),
        (found, None) | (None, found) => found.unwrap_or(UNKNOWN),
    }
}

/// The machine's memory, as `/proc/meminfo` has it.
fn total(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The files that may hold a limit: those of the process's group and of all groups above it, for
/// both versions of control groups. In a container the group's own folder is often the root.
fn limit_files(groups: &str, root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let (root, name) = if controllers.is_empty() {
            (root.to_path_buf(), "memory.max")
        } else if controllers.split(',').any(|one| one == "memory") {
            (root.join("memory"), "memory.limit_in_bytes")
        } else {
            continue;
        };
        let group = root.join(path.trim_start_matches('/'));
        let above = group
            .ancestors()
            .take_while(|above| above.starts_with(&root));
        files.extend(above.map(|above| above.join(name)));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_tells_its_memory() {
        assert_eq!(total("MemFree: 1 kB\nMemTotal:   2048 kB\n"), Some(2 << 20));
        assert_eq!(total("nothing"), None);
        assert!(memory() > 64 << 20);
    }

    #[test]
    fn limits_of_all_groups_above_count() {
        let files = |groups| {
            let files = limit_files(groups, Path::new("/cg"));
            let files = files.iter().map(|file| file.display().to_string());
            files.collect::<Vec<_>>()
        };
        assert_eq!(
            files("0::/a/b\n"),
            ["/cg/a/b/memory.max", "/cg/a/memory.max", "/cg/memory.max"]
        );
        assert_eq!(
            files("5:cpu,cpuacct:/x\n4:memory:/a\n"),
            [
                "/cg/memory/a/memory.limit_in_bytes",
                "/cg/memory/memory.limit_in_bytes"
            ]
        );
        assert_eq!(files("garbage"), Vec::<String>::new());
    }
}
