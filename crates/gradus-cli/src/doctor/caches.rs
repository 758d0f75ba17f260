//! The caches of the processor, as the operating system reports them for its first core.

use std::fs;
use std::path::Path;

use serde::Serialize;

/// Sizes in bytes; none where the system does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Caches {
    /// First level, of data.
    pub(super) l1_data_bytes: Option<u64>,
    /// Second level.
    pub(super) l2_bytes: Option<u64>,
    /// Third level; it may be shared by several cores.
    pub(super) l3_bytes: Option<u64>,
}

impl Caches {
    pub(super) fn find() -> Self {
        Self::linux(Path::new("/sys/devices/system/cpu/cpu0/cache"))
            .or_else(Self::macos)
            .unwrap_or_default()
    }

    /// `index*/{level,type,size}` of Linux.
    fn linux(folder: &Path) -> Option<Self> {
        let mut caches = Self::default();
        for entry in fs::read_dir(folder).ok()?.flatten() {
            let read = |name: &str| fs::read_to_string(entry.path().join(name)).ok();
            let (Some(level), Some(kind), Some(size)) = (read("level"), read("type"), read("size"))
            else {
                continue;
            };
            match (level.trim(), kind.trim()) {
                ("1", "Data" | "Unified") => caches.l1_data_bytes = size_in_bytes(&size),
                ("2", "Data" | "Unified") => caches.l2_bytes = size_in_bytes(&size),
                ("3", "Data" | "Unified") => caches.l3_bytes = size_in_bytes(&size),
                _ => {}
            }
        }
        Some(caches)
    }

    /// `sysctl` of macOS.
    fn macos() -> Option<Self> {
        if !cfg!(target_os = "macos") {
            return None;
        }
        let ask = |name: &str| {
            let output = std::process::Command::new("sysctl")
                .args(["-n", name])
                .output()
                .ok()?;
            let number = String::from_utf8(output.stdout).ok()?.trim().parse().ok()?;
            (number > 0).then_some(number)
        };
        Some(Self {
            l1_data_bytes: ask("hw.l1dcachesize"),
            l2_bytes: ask("hw.l2cachesize"),
            l3_bytes: ask("hw.l3cachesize"),
        })
    }

    /// In words, for people.
    pub(super) fn text(&self) -> String {
        let levels = [
            ("L1", self.l1_data_bytes),
            ("L2", self.l2_bytes),
            ("L3", self.l3_bytes),
        ];
        let known: Vec<String> = levels
            .into_iter()
            .filter_map(|(name, size)| Some(format!("{name} {}", binary(size?))))
            .collect();
        if known.is_empty() {
            "unknown".to_owned()
        } else {
            known.join(", ")
        }
    }
}

/// `32 KiB`: caches come in powers of two.
fn binary(size: u64) -> String {
    match size {
        mebi if mebi >= 1 << 20 && mebi % (1 << 20) == 0 => format!("{} MiB", mebi >> 20),
        kibi => format!("{} KiB", kibi >> 10),
    }
}

/// `32K`, `1024K`, `32M` or plain bytes.
fn size_in_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_the_kernel_writes_them() {
        assert_eq!(size_in_bytes("32K\n"), Some(32 << 10));
        assert_eq!(size_in_bytes("32M"), Some(32 << 20));
        assert_eq!(size_in_bytes("512"), Some(512));
        for bad in ["", "K", "3X", "-1K", "99999999999999999999G"] {
            assert_eq!(size_in_bytes(bad), None, "{bad}");
        }
    }

    #[test]
    fn levels_and_kinds_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        for (index, [level, kind, size]) in [
            ["1", "Data", "48K"],
            ["1", "Instruction", "32K"],
            ["2", "Unified", "2048K"],
        ]
        .iter()
        .enumerate()
        {
            let dir = folder.path().join(format!("index{index}"));
            fs::create_dir(&dir).unwrap();
            for (name, value) in [("level", level), ("type", kind), ("size", size)] {
                fs::write(dir.join(name), format!("{value}\n")).unwrap();
            }
        }
        let found = Caches::linux(folder.path()).unwrap();
        let expected = Caches {
            l1_data_bytes: Some(48 << 10),
            l2_bytes: Some(2 << 20),
            l3_bytes: None,
        };
        assert_eq!(found, expected);
        assert_eq!(Caches::linux(&folder.path().join("none")), None);
        assert_eq!(found.text(), "L1 48 KiB, L2 2 MiB");
        assert_eq!(Caches::default().text(), "unknown");
    }
}
