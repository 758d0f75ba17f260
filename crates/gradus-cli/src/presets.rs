//! Settings that work, by name: TOML files inside the binary.
//!
//! A preset holds what it changes and nothing else; the first line is a comment that says what it is
//! for.

use gradus_core::names::did_you_mean;

/// A named layer of configuration.
#[derive(Debug)]
pub(crate) struct Preset {
    /// What `--preset` takes.
    pub(crate) name: &'static str,
    /// The TOML text.
    pub(crate) text: &'static str,
}

macro_rules! presets {
    ($($name:literal),* $(,)?) => {
        /// Every preset.
        pub(crate) const PRESETS: &[Preset] = &[$(Preset {
            name: $name,
            text: include_str!(concat!("../presets/", $name, ".toml")),
        }),*];
    };
}
presets!(
    "quick",
    "shapes-cnn",
    "shapes-linear",
    "cifar10-cnn",
    "cifar10-resnet20",
    "cifar10-airnet",
    "cifar10-cpu",
    "airbench94",
    "airbench96",
);

impl Preset {
    /// What it is for, in one line.
    pub(crate) fn about(&self) -> &'static str {
        self.text
            .lines()
            .next()
            .unwrap_or_default()
            .trim_start_matches('#')
            .trim()
    }
}

/// The preset called `name`.
///
/// # Errors
/// With the nearest names.
pub(crate) fn find(name: &str) -> Result<&'static Preset, String> {
    PRESETS
        .iter()
        .find(|preset| preset.name == name)
        .ok_or_else(|| {
            let known: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
            let hint = did_you_mean(name, known.iter().copied());
            format!(
                "there is no such preset. {hint} Known: {}",
                known.join(", ")
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use gradus_train::Layers;

    #[test]
    fn every_preset_is_a_valid_configuration_and_says_what_it_is() {
        for preset in PRESETS {
            let layers =
                Layers::on_recipe(|layers| layers.text(preset.text, preset.name).map(drop));
            layers
                .unwrap()
                .finish()
                .unwrap_or_else(|error| panic!("{}: {error}", preset.name));
            assert!(preset.text.starts_with("# "), "{}", preset.name);
            assert!(
                (20..95).contains(&preset.about().chars().count()),
                "{}",
                preset.about()
            );
        }
    }

    #[test]
    fn an_unknown_preset_is_answered_with_the_nearest() {
        let error = find("cifar10-resnet").unwrap_err();
        assert!(error.contains("did you mean cifar10-resnet20"), "{error}");
    }
}
