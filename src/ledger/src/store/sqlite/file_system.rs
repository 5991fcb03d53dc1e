//! Where a file is. Network file systems lose locks and reorder what was synced, so that two ledgers could have one file, or a ledger lose
//! what it acknowledged: books on them are not opened.

use std::io;
use std::path::Path;

/// Magic numbers that Linux gives file systems over a network: `linux/magic.h`, and of CIFS, Lustre and GPFS their own sources.
const NETWORK: [(u32, &str); 10] = [
    (0x6969, "NFS"),
    (0x517B, "SMB"),
    (0xFF53_4D42, "CIFS"),
    (0xFE53_4D42, "SMB2"),
    (0x00C3_6400, "Ceph"),
    (0x0102_1997, "9P"),
    (0x5346_414F, "AFS"),
    (0x6B41_4653, "AFS"),
    (0x0BD0_0BD0, "Lustre"),
    (0x4750_4653, "GPFS"),
];

/// The name of the network file system that a folder is on, if it is on one.
pub(super) fn network(folder: &Path) -> io::Result<Option<&'static str>> {
    Ok(magic(folder)?.and_then(name_of))
}

fn name_of(magic: u32) -> Option<&'static str> {
    NETWORK.iter().find(|(known, _)| *known == magic).map(|(_, name)| *name)
}

/// What the system says; `None` where it has no such numbers.
#[cfg(target_os = "linux")]
fn magic(folder: &Path) -> io::Result<Option<u32>> {
    let found = nix::sys::statfs::statfs(folder)?.filesystem_type().0;
    // The number has 32 bits, and a type whose size and sign depend on the machine.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the low 32 bits are meant")]
    Ok(Some(found as u32))
}

#[cfg(not(target_os = "linux"))]
fn magic(_: &Path) -> io::Result<Option<u32>> {
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_known_by_their_numbers_and_disks_are_none() {
        let table = [
            (0x6969, Some("NFS")),
            (0xFF53_4D42, Some("CIFS")),
            (0x00C3_6400, Some("Ceph")),
            // ext4, XFS, btrfs, tmpfs, overlayfs.
            (0xEF53, None),
            (0x5846_5342, None),
            (0x9123_683E, None),
            (0x0102_1994, None),
            (0x794C_7630, None),
        ];
        for (magic, name) in table {
            assert_eq!(name_of(magic), name, "{magic:#x}");
        }
    }

    #[test]
    fn the_folder_of_the_tests_is_none() {
        assert_eq!(network(&std::env::temp_dir()).unwrap(), None);
        assert!(network(Path::new("/there/is/no/such/folder")).is_err());
    }
}
