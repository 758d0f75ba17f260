//! How a configuration is put together: recipe < preset < file < flags.
//!
//! Each layer is a TOML table that overrides what lies below it, key by key. The last layer is
//! `--set a.b=c`. The whole is checked once, at the end.

use std::path::Path;

use gradus_core::names::did_you_mean;
use gradus_data::DataSpec;
use gradus_nn::Loss;
use gradus_optim::{MethodConfig, OptimizerConfig, ScheduleConfig};
use toml::{Table, Value};

use crate::{RunConfig, TrainError, batch_size, recipe};

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

    /// Starts from the [`recipe()`](crate::recipe()) for the model and the data set that `lay` names
    /// (`cnn` and `shapes` where it names none), and puts `lay` on top of it.
    ///
    /// `lay` runs twice: what the names are is known only when every layer has had its say.
    ///
    /// # Errors
    /// Those of `lay`, and the recipe's for an unknown model or data set.
    pub fn on_recipe(
        lay: impl Fn(&mut Self) -> Result<(), TrainError>,
    ) -> Result<Self, TrainError> {
        let mut named = Self::over(&recipe("cnn", &DataSpec::Shapes)?)?;
        lay(&mut named)?;
        let model = named.name("model", "name");
        let data: DataSpec = named.name("data", "spec").parse()?;
        let mut base = recipe(&model, &data)?;
        if let Ok(MethodConfig::Solver(solver)) = named.method() {
            // A solver finds its steps itself, and wants to see all images in each.
            base.optimizer = solver.into();
            base.schedule = ScheduleConfig::default();
            base.batch_size = batch_size::ALL;
            base.epochs = 30;
        }
        let mut layers = Self::over(&base)?;
        lay(&mut layers)?;
        Ok(layers)
    }

    /// The text of a key in a section; empty if it is none.
    fn name(&self, section: &str, key: &str) -> String {
        let value = self.table.get(section).and_then(|section| section.get(key));
        value.and_then(Value::as_str).unwrap_or_default().to_owned()
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
        if ["model.seed", "model.input", "model.classes"].contains(&key) {
            return Err(TrainError::config(
                key,
                "this follows from the data set and from `seed`; set `seed` instead",
            ));
        }
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
            let entry = table
                .entry((*part).to_owned())
                .or_insert_with(|| Value::Table(Table::new()));
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

    /// The optimizer that the layers so far name.
    fn method(&self) -> Result<MethodConfig, TrainError> {
        let text = self.table.get("optimizer").and_then(Value::as_str);
        Ok(text.unwrap_or_default().parse()?)
    }

    /// Sets the learning rate of the optimizer that the layers so far name.
    ///
    /// # Errors
    /// [`TrainError::Optim`] when what they name is no optimizer, or a solver without one.
    pub fn lr(&mut self, lr: f64) -> Result<&mut Self, TrainError> {
        let changed = self.method()?.with_lr(lr)?.to_string();
        self.put("optimizer", changed)
    }

    /// Changes the update rule that the layers so far name: its clipping, its decay.
    ///
    /// # Errors
    /// [`TrainError::Optim`] when what they name is no optimizer, [`TrainError::Config`] when it is a
    /// solver.
    pub fn optimizer(
        &mut self,
        change: impl FnOnce(OptimizerConfig) -> OptimizerConfig,
    ) -> Result<&mut Self, TrainError> {
        match self.method()? {
            MethodConfig::Rule(rule) => self.put("optimizer", change(rule).to_string()),
            MethodConfig::Solver(solver) => {
                let problem = format!(
                    "expected an update rule, found {solver}: a solver chooses its steps itself, \
                     gradients are not clipped or decayed"
                );
                Err(TrainError::config("optimizer", problem))
            }
        }
    }

    /// Sets the label smoothing ε of the loss that the layers so far name.
    ///
    /// # Errors
    /// [`TrainError::Config`] when that loss has none, [`TrainError::Model`] when it is no loss.
    pub fn label_smoothing(&mut self, epsilon: f64) -> Result<&mut Self, TrainError> {
        let text = self
            .table
            .get("loss")
            .and_then(Value::as_str)
            .unwrap_or("cross-entropy");
        let Loss::CrossEntropy { class_weights, .. } = text.parse()? else {
            let problem = format!("label smoothing belongs to cross-entropy; this loss is {text}");
            return Err(TrainError::config("loss", problem));
        };
        let loss = Loss::CrossEntropy {
            label_smoothing: epsilon,
            class_weights,
        };
        self.put("loss", loss.to_string())
    }

    /// Makes the batch that the layers so far state one for each of `ranks`.
    ///
    /// # Errors
    /// [`TrainError::ConfigFile`] if what they state is no size of a batch.
    pub fn batch_for(&mut self, ranks: usize) -> Result<&mut Self, TrainError> {
        let each = self.finish()?.batch_size;
        self.put(
            "batch_size",
            batch_size::value(batch_size::of_ranks(each, ranks)),
        )
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
                origin: "what the settings amount to".to_owned(),
                problem: format!("{message}{place}{}", suggestion(message)),
            }
        })?;
        config.validate()?;
        Ok(config)
    }
}

impl RunConfig {
    /// What may change when a run is continued: how long, where, how fast, and what is kept.
    const FREE: [&str; 8] = [
        "epochs",
        "device",
        "read_every",
        "data.workers",
        "data.on",
        "data.dir",
        "checkpoint",
        "stop",
    ];

    /// The keys in which `other` would take this run elsewhere, such as
    /// `batch_size: 128, now 64`. Empty if the one can go on as the other.
    ///
    /// # Errors
    /// [`TrainError::ConfigFile`] if one of them cannot be written as TOML.
    pub fn differences(&self, other: &Self) -> Result<Vec<String>, TrainError> {
        let (mine, theirs) = (Layers::over(self)?.table, Layers::over(other)?.table);
        let mut found = Vec::new();
        compare("", &Value::Table(mine), &Value::Table(theirs), &mut found);
        Ok(found)
    }
}

/// Collects the leaves in which two tables differ.
fn compare(key: &str, a: &Value, b: &Value, found: &mut Vec<String>) {
    if a == b || RunConfig::FREE.contains(&key) {
        return;
    }
    let (Value::Table(a), Value::Table(b)) = (a, b) else {
        found.push(format!("{key}: {a}, now {b}"));
        return;
    };
    let mut names: Vec<&String> = a.keys().chain(b.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let key = if key.is_empty() {
            name.clone()
        } else {
            format!("{key}.{name}")
        };
        match (a.get(name), b.get(name)) {
            (Some(a), Some(b)) => compare(&key, a, b, found),
            _ if RunConfig::FREE.contains(&key.as_str()) => {}
            (Some(a), None) => found.push(format!("{key}: {a}, now unset")),
            (None, Some(b)) => found.push(format!("{key}: unset, now {b}")),
            (None, None) => {}
        }
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
        (true, Some(name)) => match did_you_mean(name, quoted).as_str() {
            "" => String::new(),
            phrase => format!("; {phrase}"),
        },
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
        layers
            .text("epochs = 3\n[data]\nworkers = 2\n", "a file")
            .unwrap();
        layers.set("epochs", "7").unwrap();
        layers.set("optimizer", "sgd(lr=0.3)").unwrap();
        layers.lr(0.5).unwrap();
        let config = layers.finish().unwrap();
        assert_eq!((config.epochs, config.data.workers), (7, 2));
        assert_eq!(config.optimizer, "sgd(lr=0.5)".parse().unwrap());
        assert_eq!(
            config.data.shapes_train, 10_000,
            "keys that nobody set keep their value"
        );
    }

    #[test]
    fn the_recipe_is_that_of_the_model_and_data_on_top() {
        let layers = Layers::on_recipe(|layers| {
            layers.text("[model]\nname = \"resnet20\"\n", "a file")?;
            layers.set("model.name", "linear")?;
            layers.set("data.spec", "cifar10")?;
            layers.lr(0.25)?;
            layers.label_smoothing(0.2)?;
            Ok(())
        });
        let config = layers.unwrap().finish().unwrap();
        let expected = recipe("linear", &"cifar10".parse().unwrap()).unwrap();
        assert_eq!(config.epochs, expected.epochs);
        assert_eq!(config.optimizer, expected.optimizer.with_lr(0.25).unwrap());
        assert_eq!(
            config.loss.to_string(),
            "cross-entropy(label_smoothing=0.2)"
        );
        let unknown = Layers::on_recipe(|layers| layers.set("model.name", "x").map(drop));
        assert!(unknown.is_err());
        let hinge =
            Layers::on_recipe(|layers| layers.set("loss", "hinge")?.label_smoothing(0.1).map(drop));
        assert!(hinge.unwrap_err().to_string().contains("hinge"));
    }

    #[test]
    fn a_solver_brings_a_constant_rate_and_the_whole_set() {
        let with = |lay: &dyn Fn(&mut Layers) -> Result<(), TrainError>| {
            Layers::on_recipe(|layers| {
                layers.set("model.name", "linear")?;
                layers.set("optimizer", "lbfgs")?;
                lay(layers)
            })
            .and_then(|layers| layers.finish())
        };
        let config = with(&|_| Ok(())).unwrap();
        assert_eq!(config.optimizer, "lbfgs".parse().unwrap());
        assert_eq!(config.schedule, ScheduleConfig::default());
        assert_eq!(config.batch_size, crate::batch_size::ALL);
        let again: RunConfig = toml::from_str(&config.to_toml().unwrap()).unwrap();
        assert_eq!(config, again);
        let config = with(&|layers| layers.set("batch_size", "500")?.lr(0.5).map(drop)).unwrap();
        assert_eq!(config.batch_size, 500);
        assert_eq!(config.optimizer, "lbfgs(lr=0.5)".parse().unwrap());

        let message = |lay: &dyn Fn(&mut Layers) -> Result<(), TrainError>| {
            with(lay).unwrap_err().to_string()
        };
        let error = message(&|layers| layers.set("schedule", "cosine").map(drop));
        assert!(
            error.contains("schedule") && error.contains("lbfgs"),
            "{error}"
        );
        let error = message(&|layers| layers.optimizer(|rule| rule).map(drop));
        assert!(
            error.contains("expected an update rule, found lbfgs"),
            "{error}"
        );
        let error = message(&|layers| layers.set("batch_size", "some").map(drop));
        assert!(error.contains("all") && error.contains("some"), "{error}");
        let error = message(&|layers| {
            layers.set("optimizer", "gauss_newton")?;
            layers.set("penalty", "l2(lambda=1e-4)").map(drop)
        });
        assert!(
            error.contains("penalty") && error.contains("damping"),
            "{error}"
        );
    }

    #[test]
    fn the_batch_of_several_ranks_has_one_for_each() {
        for (stated, ranks, whole) in [
            ("128", 1, 128),
            ("128", 3, 384),
            ("all", 4, batch_size::ALL),
        ] {
            let mut layers = base();
            layers.set("batch_size", stated).unwrap();
            let config = layers.batch_for(ranks).unwrap().finish().unwrap();
            assert_eq!(config.batch_size, whole);
        }
        // What nobody can have is refused by its number, not taken for all.
        let error = base().batch_for(usize::MAX).unwrap().finish().unwrap_err();
        assert!(error.to_string().contains("batch_size"), "{error}");
    }

    #[test]
    fn a_run_may_go_on_longer_and_elsewhere_but_not_otherwise() {
        let saved = base().finish().unwrap();
        let with = |changes: &[(&str, &str)]| {
            let mut layers = base();
            for (key, value) in changes {
                layers.set(key, value).unwrap();
            }
            saved.differences(&layers.finish().unwrap()).unwrap()
        };
        let free = [
            ("epochs", "50"),
            ("device", "ndarray"),
            ("data.workers", "4"),
            ("data.on", "device"),
            ("read_every", "8"),
            ("data.dir", "/elsewhere"),
            ("checkpoint.keep", "9"),
            ("stop.patience", "3"),
        ];
        assert!(with(&free).is_empty());
        assert_eq!(with(&[("batch_size", "64")]), ["batch_size: 128, now 64"]);
        assert_eq!(
            with(&[("data.image_size", "24")]),
            ["data.image_size: unset, now 24"]
        );
        assert_eq!(with(&[("seed", "7"), ("limit.overfit", "20")]).len(), 2);
    }

    #[test]
    fn an_unknown_key_is_answered_with_the_nearest() {
        let mut layers = base();
        layers.set("data.worker", "2").unwrap();
        let error = layers.finish().unwrap_err().to_string();
        assert!(
            error.contains("worker") && error.contains("did you mean workers"),
            "{error}"
        );
    }

    #[test]
    fn a_value_of_the_wrong_kind_or_range_is_named() {
        let mut layers = base();
        layers.set("epochs", "many").unwrap();
        assert!(layers.finish().unwrap_err().to_string().contains("many"));
        let mut layers = base();
        layers.set("data.validation_fraction", "1.5").unwrap();
        let error = layers.finish().unwrap_err().to_string();
        assert!(
            error.contains("data.validation_fraction") && error.contains("1.5"),
            "{error}"
        );
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
