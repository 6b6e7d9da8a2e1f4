//! The file itself: is it still the one we opened, and is it on a filesystem that can hold a shared store.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Tells one file from another that took its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

/// The file that is at the path now.
pub(crate) fn identity(path: &Path) -> io::Result<Identity> {
    let found = std::fs::metadata(path)?;
    if !found.is_file() {
        return Err(io::Error::other("is not a regular file"));
    }
    Ok(Identity {
        device: found.dev(),
        inode: found.ino(),
    })
}

/// Name of the network filesystem that the path is on, if it is on one. SQLite's shared memory and locks do not
/// hold between machines, and FUSE and 9p promise neither.
pub(crate) fn network_filesystem(path: &Path) -> io::Result<Option<&'static str>> {
    let found = nix::sys::statfs::statfs(path).map_err(io::Error::from)?;
    // Some magics have bit 31 set, which a 32-bit or signed field extends.
    #[allow(
        clippy::unnecessary_cast,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the type of the field differs between architectures"
    )]
    let magic = found.filesystem_type().0 as u32;
    Ok(network_magic(magic))
}

/// Magics of `linux/magic.h` and of the filesystems' own headers.
fn network_magic(magic: u32) -> Option<&'static str> {
    Some(match magic {
        0x6969 => "NFS",
        0x517b => "SMB",
        0xff53_4d42 | 0xfe53_4d42 => "CIFS",
        0x0102_1997 => "9p",
        0x6573_5546 => "FUSE",
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x7375_7245 => "Coda",
        0x564c => "NCP",
        0x00c3_6400 => "Ceph",
        0x0bd0_0bd0 => "Lustre",
        0x0116_1970 => "GFS2",
        0x7461_636f => "OCFS2",
        0x786f_4256 => "VirtualBox shared folder",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filesystems() {
        let check = |magic, expected| assert_eq!(network_magic(magic), expected, "{magic:#x}");
        check(0x6969, Some("NFS"));
        check(0xff53_4d42, Some("CIFS"));
        check(0x6573_5546, Some("FUSE"));
        check(0x0102_1994, None); // tmpfs
        check(0xef53, None); // ext4
        check(0x794c_7630, None); // overlayfs
    }
}
