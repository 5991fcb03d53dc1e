//! How much memory the container may use: Envoy refuses requests before the kernel ends everything.

use std::fs;

/// Where the kernel says it, by the second and the first kind of control groups.
const LIMITS: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
/// A limit beyond this is none: the first kind says a number even then.
const NO_LIMIT: u64 = 1 << 50;

/// What Envoy's heap may have of the container's memory: four fifths, because stacks, the filter's VMs and this program need some.
pub(crate) fn heap_bytes_max() -> Option<u64> {
    LIMITS.iter().find_map(|file| heap_of(&fs::read_to_string(file).ok()?))
}

fn heap_of(limit: &str) -> Option<u64> {
    let bytes: u64 = limit.trim().parse().ok()?;
    (bytes < NO_LIMIT).then_some(bytes / 5 * 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heap_is_a_part_of_a_limit_that_is_one() {
        let table = [
            ("1073741824\n", Some(858_993_456)),
            ("max\n", None),
            ("9223372036854771712\n", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(heap_of(text), expected, "{text:?}");
        }
    }
}
