//! What to do about a device that cannot be had: which Cargo feature, which driver.

use super::BACKENDS;

/// What a backend asks of the machine.
fn needs(backend: &str) -> &'static str {
    match backend {
        "cuda" => {
            "an NVIDIA GPU with its driver (`nvidia-smi` must list it) and NVIDIA's run-time compiler \
             NVRTC with the headers of the CUDA toolkit (CUDA_PATH, if it is not in /usr/local/cuda)"
        }
        "rocm" => "an AMD GPU with ROCm (`rocminfo` must list it)",
        "metal" => "macOS on a machine with Metal",
        "vulkan" | "wgpu" if cfg!(target_os = "linux") => {
            "a Vulkan driver (`vulkaninfo --summary` must list a device): NVIDIA's comes with its \
             driver, those for AMD and Intel with `apt-get install mesa-vulkan-drivers`, which also \
             brings lavapipe, a slow one that computes on the CPU"
        }
        "vulkan" => "a Vulkan driver (`vulkaninfo --summary` must list a device)",
        "wgpu" if cfg!(target_os = "macos") => "Metal, which comes with macOS",
        "wgpu" => "a GPU with a driver for Vulkan or DirectX 12",
        _ => "nothing but a processor",
    }
}

pub(super) fn not_compiled(backend: &str) -> String {
    let elsewhere = if backend == "metal" && !cfg!(target_os = "macos") {
        "; there is none on this system: take wgpu or vulkan"
    } else {
        ""
    };
    format!(
        "this binary was built without the backend {backend}; build it with `cargo build --release \
         --features {backend}`. It needs {}{elsewhere}",
        needs(backend)
    )
}

pub(super) fn not_present(backend: &str) -> String {
    format!(
        "{backend} finds no device on this machine. It needs {}; `gradus doctor` lists what there is, \
         and `--device flex` computes on the CPU",
        needs(backend)
    )
}

pub(super) fn no_such_number(backend: &str, index: usize, found: usize) -> String {
    let (devices, numbers) = match found {
        1 => ("device", "number 0".to_owned()),
        _ => ("devices", format!("numbers 0 to {}", found - 1)),
    };
    format!(
        "{backend} has {found} {devices} on this machine, {numbers}, so there is no number {index}; \
         `gradus doctor` lists what there is"
    )
}

pub(super) fn does_not_open(asked: &str, backend: &str, reason: &str) -> String {
    let who = match asked {
        "auto" => format!("{backend}, which `auto` takes here,"),
        asked => asked.to_owned(),
    };
    format!(
        "{who} is there but does not work: {}. It needs {}; `gradus doctor` measures what there is, \
         and `--device flex` computes on the CPU",
        reason.trim().trim_end_matches('.'),
        needs(backend)
    )
}

pub(super) fn nothing_for_auto() -> String {
    format!(
        "this binary has no backend with a device that `auto` would take on this machine (a software \
         driver must be asked for by its name); `gradus doctor` lists what there is. Build it with \
         one of the features {}",
        BACKENDS.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_names_the_feature_and_the_driver() {
        for backend in BACKENDS {
            let text = not_compiled(backend);
            assert!(text.contains(&format!("--features {backend}")), "{text}");
            assert!(not_present(backend).contains("It needs"), "{backend}");
        }
        assert!(not_compiled("cuda").contains("nvidia-smi"));
        assert!(not_present("cuda").contains("NVRTC"));
        assert!(not_present("rocm").contains("rocminfo"));
        if cfg!(target_os = "linux") {
            assert!(not_present("wgpu").contains("mesa-vulkan-drivers"));
            assert!(not_compiled("metal").contains("take wgpu or vulkan"));
        }
    }

    #[test]
    fn numbers_are_counted_from_zero() {
        assert!(no_such_number("flex", 7, 1).contains("1 device on this machine, number 0,"));
        assert!(
            no_such_number("cuda", 4, 3).contains("3 devices on this machine, numbers 0 to 2,")
        );
    }

    #[test]
    fn a_device_that_fails_says_why_and_who_chose_it() {
        let text = does_not_open("auto", "cuda", "libnvrtc.so: not found.\n");
        assert!(text.starts_with("cuda, which `auto` takes here, is there but does not work: "));
        assert!(text.contains("libnvrtc.so: not found. It needs"), "{text}");
        assert!(does_not_open("wgpu:1", "wgpu", "x").starts_with("wgpu:1 is there"));
    }
}
