//! How a configuration is put together: recipe < preset < file < flags.
//!
//! Each layer is a TOML table that overrides what lies below it, key by key. The last layer is
//! `--set a.b=c`. The whole is checked once, at the end.

use std::path::Path;

use gradus_optim::OptimizerConfig;
use toml::{Table, Value};

use crate::names::nearest;
use crate::{RunConfig, TrainError};

/// A configuration under construction.
#[derive(Clone, Debug)]
pub struct Layers {
    table: Table,
}

impl Layers {
    /// Starts from a complete configuration.
    ///
    /// # Errors
    /// [`TrainError::ConfigFile`] if it cannot be written as TOML.
    pub fn over(base: &RunConfig) -> Result<Self, TrainError> {
        let table = Table::try_from(base).map_err(|error| TrainError::ConfigFile {
            origin: "the recipe".to_owned(),
            problem: error.to_string(),
        })?;
        Ok(Self { table })
    }

    /// Lays the TOML `text` over what is there; `origin` names it in errors.
    ///
    /// # Errors
    /// [`TrainError::ConfigFile`] with line and column when it is not TOML.
    pub fn text(&mut self, text: &str, origin: &str) -> Result<&mut Self, TrainError> {
        let over: Table = toml::from_str(text).map_err(|error| TrainError::ConfigFile {
            origin: origin.to_owned(),
            problem: error.to_string(),
        })?;
        merge(&mut self.table, over);
        Ok(self)
    }

    /// Lays the TOML file at `path` over what is there.
    ///
    /// # Errors
    /// [`TrainError::Io`] when it cannot be read, else as [`text`](Self::text).
    pub fn file(&mut self, path: &Path) -> Result<&mut Self, TrainError> {
        let text = std::fs::read_to_string(path).map_err(TrainError::io("read", path))?;
        self.text(&text, &path.display().to_string())
    }

    /// Sets one key, such as `data.workers` to `4`. The value is read as TOML, and as a string if it
    /// is none: `--set model.activation=gelu` needs no quotes.
    ///
    /// # Errors
    /// [`TrainError::Config`] when the key is empty or leads through something that is no table.
    pub fn set(&mut self, key: &str, value: &str) -> Result<&mut Self, TrainError> {
        let parsed = toml::from_str::<Table>(&format!("value = {value}"))
            .ok()
            .and_then(|mut table| table.remove("value"))
            .unwrap_or_else(|| Value::String(value.to_owned()));
        self.put(key, parsed)
    }

    /// Sets one key to a TOML value.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn put(&mut self, key: &str, value: impl Into<Value>) -> Result<&mut Self, TrainError> {
        let mut path: Vec<&str> = key.split('.').map(str::trim).collect();
        let last = path.pop().unwrap_or_default();
        if last.is_empty() || path.iter().any(|part| part.is_empty()) {
            return Err(TrainError::config(
                key,
                "expected a dotted key such as data.workers, found an empty part",
            ));
        }
        let mut table = &mut self.table;
        for (depth, part) in path.iter().enumerate() {
            let entry =
                table.entry((*part).to_owned()).or_insert_with(|| Value::Table(Table::new()));
            table = match entry {
                Value::Table(inner) => inner,
                _ => {
                    return Err(TrainError::config(
                        key,
                        format!("{} is a value, not a section", path[..=depth].join(".")),
                    ));
                }
            };
        }
        table.insert(last.to_owned(), value.into());
        Ok(self)
    }

    /// Changes the optimizer that the layers so far name: its learning rate, its clipping.
    ///
    /// # Errors
    /// [`TrainError::Optim`] when what they name is no optimizer.
    pub fn optimizer(
        &mut self,
        change: impl FnOnce(OptimizerConfig) -> OptimizerConfig,
    ) -> Result<&mut Self, TrainError> {
        let text = self.table.get("optimizer").and_then(Value::as_str).unwrap_or_default();
        let changed = change(text.parse::<OptimizerConfig>()?).to_string();
        self.put("optimizer", changed)
    }

    /// The configuration that results; checked.
    ///
    /// # Errors
    /// [`TrainError::ConfigFile`] naming an unknown key (with the nearest known ones) or a value of
    /// the wrong kind; [`TrainError::Config`] for a value out of range.
    pub fn finish(&self) -> Result<RunConfig, TrainError> {
        // Through text, so that an error quotes the line it complains about.
        let text = toml::to_string_pretty(&self.table).unwrap_or_default();
        let config: RunConfig = toml::from_str(&text).map_err(|error| {
            let message = error.message();
            let quoted = error.span().and_then(|span| text.get(span)).map(str::trim);
            let place = match quoted {
                Some(line) if !message.contains(line) && line.len() < 100 => {
                    format!(" (at {line})")
                }
                _ => String::new(),
            };
            TrainError::ConfigFile {
                origin: "the configuration".to_owned(),
                problem: format!("{message}{place}{}", suggestion(message)),
            }
        })?;
        config.validate()?;
        Ok(config)
    }
}

/// Lays `over` on `base`, table by table.
fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => merge(below, above),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// For serde's "unknown field `a`, expected one of `b`, `c`": the nearest of the expected names.
fn suggestion(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    match (message.starts_with("unknown"), quoted.next()) {
        (true, Some(name)) => nearest(name, quoted),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe;

    fn base() -> Layers {
        Layers::over(&recipe("cnn", &"shapes".parse().unwrap()).unwrap()).unwrap()
    }

    #[test]
    fn later_layers_win_key_by_key() {
        let mut layers = base();
        layers.text("epochs = 3\n[data]\nworkers = 2\n", "a file").unwrap();
        layers.set("epochs", "7").unwrap();
        layers.set("optimizer", "sgd(lr=0.3)").unwrap();
        layers.optimizer(|optimizer| optimizer.with_lr(0.5)).unwrap();
        let config = layers.finish().unwrap();
        assert_eq!((config.epochs, config.data.workers), (7, 2));
        assert_eq!(config.optimizer, "sgd(lr=0.5)".parse().unwrap());
        assert_eq!(config.data.shapes_train, 10_000, "keys that nobody set keep their value");
    }

    #[test]
    fn an_unknown_key_is_answered_with_the_nearest() {
        let mut layers = base();
        layers.set("data.worker", "2").unwrap();
        let error = layers.finish().unwrap_err().to_string();
        assert!(error.contains("worker") && error.contains("did you mean workers"), "{error}");
    }

    #[test]
    fn a_value_of_the_wrong_kind_or_range_is_named() {
        let mut layers = base();
        layers.set("epochs", "many").unwrap();
        assert!(layers.finish().unwrap_err().to_string().contains("many"));
        let mut layers = base();
        layers.set("data.validation_fraction", "1.5").unwrap();
        let error = layers.finish().unwrap_err().to_string();
        assert!(error.contains("data.validation_fraction") && error.contains("1.5"), "{error}");
        assert!(base().set("epochs.x", "1").is_err());
        assert!(base().set("", "1").is_err());
    }

    #[test]
    fn the_written_configuration_reads_back_equal() {
        let config = base().finish().unwrap();
        let again: RunConfig = toml::from_str(&config.to_toml().unwrap()).unwrap();
        assert_eq!(config, again);
    }
}
