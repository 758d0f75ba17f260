//! The drivers of GPUs that the system has, whether or not this binary was built to use them.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// What is installed; read from files, so nothing is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Drivers {
    /// Version of the NVIDIA driver.
    pub(super) nvidia: Option<String>,
    /// Version of the CUDA toolkit.
    pub(super) cuda_toolkit: Option<String>,
    /// Version of ROCm.
    pub(super) rocm: Option<String>,
    /// Names of the manifests of Vulkan drivers: `lvp_icd.x86_64` is lavapipe, which computes on the CPU.
    pub(super) vulkan: Vec<String>,
}

impl Drivers {
    pub(super) fn find() -> Self {
        Self::under(
            Path::new("/"),
            std::env::var_os("CUDA_PATH").map(Into::into),
        )
    }

    fn under(root: &Path, cuda: Option<PathBuf>) -> Self {
        let read = |path: PathBuf| fs::read_to_string(path).ok();
        let cuda = cuda.unwrap_or_else(|| root.join("usr/local/cuda"));
        Self {
            nvidia: read(root.join("sys/module/nvidia/version")).map(|text| text.trim().to_owned()),
            cuda_toolkit: read(cuda.join("version.json")).and_then(|text| {
                let versions: serde_json::Value = serde_json::from_str(&text).ok()?;
                Some(versions.pointer("/cuda/version")?.as_str()?.to_owned())
            }),
            rocm: read(root.join("opt/rocm/.info/version")).map(|text| text.trim().to_owned()),
            vulkan: vulkan(&[
                root.join("usr/share/vulkan/icd.d"),
                root.join("usr/local/share/vulkan/icd.d"),
                root.join("etc/vulkan/icd.d"),
            ]),
        }
    }

    /// In words, for people.
    pub(super) fn text(&self) -> String {
        let mut known = Vec::new();
        let named = [
            ("NVIDIA", &self.nvidia),
            ("CUDA toolkit", &self.cuda_toolkit),
            ("ROCm", &self.rocm),
        ];
        for (name, version) in named {
            known.extend(version.as_ref().map(|version| format!("{name} {version}")));
        }
        if !self.vulkan.is_empty() {
            known.push(format!("Vulkan: {}", self.vulkan.join(", ")));
        }
        known.join("; ")
    }
}

/// The names of the manifests in `folders`, without `.json`.
fn vulkan(folders: &[PathBuf]) -> Vec<String> {
    let mut names: Vec<String> = folders
        .iter()
        .flat_map(fs::read_dir)
        .flatten()
        .flatten()
        .filter_map(|entry| {
            Some(
                entry
                    .file_name()
                    .to_str()?
                    .strip_suffix(".json")?
                    .to_owned(),
            )
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_where_drivers_leave_them() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert_eq!(Drivers::under(root, None), Drivers::default());
        assert_eq!(Drivers::default().text(), "");
        for (path, text) in [
            ("sys/module/nvidia/version", "570.86.15\n"),
            (
                "usr/local/cuda/version.json",
                r#"{"cuda": {"name": "CUDA SDK", "version": "12.8.0"}}"#,
            ),
            ("usr/share/vulkan/icd.d/lvp_icd.x86_64.json", "{}"),
            ("etc/vulkan/icd.d/nvidia_icd.json", "{}"),
            ("etc/vulkan/icd.d/README", ""),
        ] {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let found = Drivers::under(root, None);
        assert_eq!(
            found.text(),
            "NVIDIA 570.86.15; CUDA toolkit 12.8.0; Vulkan: lvp_icd.x86_64, nvidia_icd"
        );
        let elsewhere = Drivers::under(root, Some(root.join("none")));
        assert_eq!(elsewhere.cuda_toolkit, None);
    }
}
