//! Fuzz targets of the texts that the kernel offers.

use super::cgroup;

/// The own group lies where a hierarchy is mounted.
pub(crate) fn own_group(mounts: &[u8], own: &[u8]) {
    let (mounts, own) = (String::from_utf8_lossy(mounts), String::from_utf8_lossy(own));
    if let Some(path) = cgroup::own_group(&mounts, &own) {
        assert!(mounts.contains("cgroup2") && own.contains("0::/"));
        assert!(!path.as_os_str().is_empty() || own.contains("0::/\n") || own.ends_with("0::/"));
    }
}
