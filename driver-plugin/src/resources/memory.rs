//! What a group holds in memory, from the files of either version, or of a single process.

use std::path::Path;

use super::files::{keyed, number, read};
use super::usage::Memory;

const KIB: u64 = 1024;

/// None when the memory controller is not on.
pub(super) fn of_v2(scope: &Path) -> Option<Memory> {
    let stat = read(&scope.join("memory.stat")).ok()?;
    let part = |key| keyed(&stat, key);
    // Before Linux 5.18 the whole is not told, only its greatest parts.
    let parts = || Some(part("slab")?.saturating_add(part("kernel_stack")?));
    Some(Memory {
        rss: part("anon"),
        cache: part("file"),
        usage: number(&scope.join("memory.current")),
        // Since Linux 5.19.
        max_usage: number(&scope.join("memory.peak")),
        swap: number(&scope.join("memory.swap.current")),
        kernel: part("kernel").or_else(parts),
        kernel_max: None,
    })
}

/// None when there is no such group.
pub(super) fn of_v1(group: &Path) -> Option<Memory> {
    let stat = read(&group.join("memory.stat")).ok()?;
    // The totals are those with the groups inside.
    let part = |total, own| keyed(&stat, total).or_else(|| keyed(&stat, own));
    Some(Memory {
        rss: part("total_rss", "rss"),
        cache: part("total_cache", "cache"),
        usage: number(&group.join("memory.usage_in_bytes")),
        max_usage: number(&group.join("memory.max_usage_in_bytes")),
        // Missing where the kernel does not account for swap.
        swap: part("total_swap", "swap"),
        kernel: number(&group.join("memory.kmem.usage_in_bytes")),
        kernel_max: number(&group.join("memory.kmem.max_usage_in_bytes")),
    })
}

/// From the text of /proc/<pid>/status. The kernel writes "kB" and means KiB.
pub(super) fn of_process(status: &str) -> Memory {
    let bytes = |key| keyed(status, key).map(|kib| kib.saturating_mul(KIB));
    Memory {
        rss: bytes("VmRSS:"),
        max_usage: bytes("VmHWM:"),
        swap: bytes("VmSwap:"),
        cache: None,
        usage: None,
        kernel: None,
        kernel_max: None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn recorded(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("src/resources/testdata").join(name)
    }

    #[test]
    fn of_version_2_everything_is_told_by_a_new_kernel() {
        let expected = Memory {
            rss: Some(20_815_872),
            cache: Some(12_288),
            usage: Some(21_532_672),
            max_usage: Some(29_970_432),
            swap: Some(8192),
            kernel: Some(675_840),
            kernel_max: None,
        };
        assert_eq!(of_v2(&recorded("v2-linux-6.1")), Some(expected));
    }

    #[test]
    fn of_version_2_an_old_kernel_tells_no_peak_and_the_kernels_share_in_parts() {
        let memory = of_v2(&recorded("v2-linux-5.10")).unwrap();
        assert_eq!(memory.max_usage, None);
        assert_eq!(memory.kernel, Some(17_208 + 16_384));
        assert_eq!(memory.swap, None);
        assert_eq!(memory.rss, Some(20_815_872));
    }

    #[test]
    fn of_version_2_without_the_controller_nothing_is_told() {
        assert_eq!(of_v2(&recorded("v2-without-controllers")), None);
    }

    #[test]
    fn of_version_1_the_totals_count() {
        let memory = of_v1(&recorded("v1-memory")).unwrap();
        assert_eq!((memory.rss, memory.cache), (Some(406_122_496), Some(2_867_888_128)));
        assert_eq!((memory.swap, memory.usage), (Some(4096), Some(3_300_000_000)));
        assert_eq!((memory.kernel, memory.kernel_max), (None, None), "no kernel files were recorded");
    }

    #[test]
    fn of_a_process_kib_become_bytes() {
        let status =
            "Name:\tx\nVmPeak:\t 9000 kB\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nVmSwap:\t       4 kB\n";
        let memory = of_process(status);
        let told = (memory.rss, memory.max_usage, memory.swap, memory.usage);
        assert_eq!(told, (Some(1_048_576), Some(2_097_152), Some(4096), None));
    }
}
