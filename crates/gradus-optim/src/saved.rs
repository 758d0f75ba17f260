//! Optimizer state as a safetensors file.

use crate::cohort::Cohorts;
use crate::execute::{ParameterState, shape_of};
use crate::item::{Info, flattened, shaped};
use crate::path::Path;
use crate::roster::Entry;
use crate::stages::{Stage, StageState};
use crate::{OptimError, SlotShape};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Device, Tensor, TensorData};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::{BTreeMap, HashMap};

/// The metadata key. One only: a map with several would be written in random order.
const KEY: &str = "gradus_optim";
/// The version of the layout.
const FORMAT: u64 = 1;

#[derive(serde::Serialize, serde::Deserialize)]
struct Header {
    format: u64,
    version: String,
    rule: String,
    optimizer: String,
    steps: u64,
    /// Parameters of another rule than `rule`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    rules: BTreeMap<String, String>,
    /// The stages that remember something, numbered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    stages: Vec<String>,
}

/// What the stages that remember something are called in a file: `0.accumulate`, `1.ema`.
fn labels<'a>(stages: impl Iterator<Item = &'a Stage>) -> Vec<String> {
    let remembering = stages.filter(|stage| stage.remembers()).enumerate();
    remembering
        .map(|(index, stage)| format!("{index}.{}", stage.name()))
        .collect()
}

/// A tensor of the file: name, type, shape, bytes.
type Stored = (String, Dtype, Vec<usize>, Vec<u8>);

/// Step, memory and slots of one parameter; `prefix` is `NAME/` or `NAME/STAGE.`.
fn write_state(
    prefix: &str,
    state: &ParameterState,
    shapes: Vec<SlotShape>,
    tensors: &mut Vec<Stored>,
) -> Result<(), OptimError> {
    // `u64` numbers as bytes: safetensors has the type, and every bit survives.
    let step = state.step.to_le_bytes().to_vec();
    tensors.push((format!("{prefix}step"), Dtype::U64, Vec::new(), step));
    if !state.memory.is_empty() {
        tensors.push(write_numbers(format!("{prefix}memory"), &state.memory));
    }
    for (SlotShape { name: slot, shape }, tensor) in shapes.into_iter().zip(state.tensors()) {
        let data = flattened(tensor, shape.len()).into_data();
        let (bytes, _, dtype) = data.into_parts();
        let dtype = match dtype {
            DType::F64 => Dtype::F64,
            DType::F32 => Dtype::F32,
            DType::F16 => Dtype::F16,
            DType::BF16 => Dtype::BF16,
            other => return Err(bad(format!("`{prefix}{slot}` has type {other:?}"))),
        };
        tensors.push((format!("{prefix}{slot}"), dtype, shape, bytes.to_vec()));
    }
    Ok(())
}

fn write_numbers(name: String, values: &[f64]) -> Stored {
    let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    (name, Dtype::F64, vec![values.len()], bytes)
}

pub(crate) fn write(
    text: &str,
    steps: u64,
    cohorts: &Cohorts,
    entries: &[Entry],
    stages: &[(Stage, StageState)],
) -> Result<Vec<u8>, OptimError> {
    let main = cohorts.main().configured.rule_name();
    let mut tensors = Vec::new();
    let mut rules = BTreeMap::new();
    for entry in entries {
        let Entry { info, state, .. } = entry;
        let name = &info.name;
        let rule = &cohorts.all[entry.cohort].configured;
        if rule.rule_name() != main {
            rules.insert(name.clone(), rule.rule_name().to_owned());
        }
        let shapes = rule.slot_shapes(&info.shape);
        write_state(&format!("{name}/"), state, shapes, &mut tensors)?;
    }
    let labels = labels(stages.iter().map(|(stage, _)| stage));
    let remembering = stages.iter().filter(|(stage, _)| stage.remembers());
    for (label, (stage, state)) in labels.iter().zip(remembering) {
        // Numbers of no single parameter: the name before the slash is empty.
        tensors.push(write_numbers(format!("/{label}.numbers"), &state.numbers));
        for (name, state) in &state.parameters {
            let slots = state.tensors();
            let shapes = stage.slot_names().iter().zip(&slots);
            let shapes = shapes.map(|(slot, tensor)| SlotShape::new(*slot, &shape_of(tensor)));
            let prefix = format!("{name}/{label}.");
            write_state(&prefix, state, shapes.collect(), &mut tensors)?;
        }
    }
    let header = Header {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        rule: main.to_owned(),
        optimizer: text.to_owned(),
        steps,
        rules,
        stages: labels,
    };
    let header = serde_json::to_string(&header).map_err(|error| bad(error.to_string()))?;
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| {
            Ok((
                name.as_str(),
                TensorView::new(*dtype, shape.clone(), bytes)?,
            ))
        })
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(|error| bad(error.to_string()))?;
    safetensors::serialize(views, Some(HashMap::from([(KEY.to_owned(), header)])))
        .map_err(|error| bad(error.to_string()))
}

/// What a file holds.
pub(crate) struct Loaded {
    pub(crate) steps: u64,
    pub(crate) parameters: Vec<(Info, ParameterState)>,
    /// One for each stage, also for those that remember nothing.
    pub(crate) stages: Vec<StageState>,
}

/// The slots of one parameter in a file.
type Views<'a> = BTreeMap<String, TensorView<'a>>;

pub(crate) fn read<M: Module>(
    bytes: &[u8],
    cohorts: &Cohorts,
    stages: &[&Stage],
    model: &M,
) -> Result<Loaded, OptimError> {
    let (_, metadata) =
        SafeTensors::read_metadata(bytes).map_err(|error| bad(error.to_string()))?;
    let header = metadata
        .metadata()
        .as_ref()
        .and_then(|map| map.get(KEY))
        .ok_or_else(|| bad(format!("its metadata lack `{KEY}`")))?;
    let header: Header = serde_json::from_str(header).map_err(|error| bad(error.to_string()))?;
    if header.format != FORMAT {
        let Header {
            format, version, ..
        } = header;
        return Err(bad(format!(
            "layout {format} of gradus-optim {version}; this version reads layout {FORMAT}"
        )));
    }
    let main = cohorts.main().configured.rule_name();
    if header.rule != main {
        return Err(OptimError::OtherRule {
            expected: main.to_owned(),
            found: header.rule,
        });
    }
    let labels = labels(stages.iter().copied());
    if header.stages != labels {
        let list = |labels: &[String]| match labels {
            [] => "none".to_owned(),
            labels => labels.join(", "),
        };
        return Err(OptimError::OtherStages {
            expected: list(&labels),
            found: list(&header.stages),
        });
    }

    let file = SafeTensors::deserialize(bytes).map_err(|error| bad(error.to_string()))?;
    let mut stored: BTreeMap<String, Views<'_>> = BTreeMap::new();
    let mut staged: BTreeMap<&String, BTreeMap<String, Views<'_>>> = BTreeMap::new();
    for (name, view) in file.tensors() {
        let Some((parameter, slot)) = name.rsplit_once('/') else {
            return Err(bad(format!("entry `{name}` is not PARAMETER/SLOT")));
        };
        // A rule's slots have no dot; a stage's are LABEL.SLOT.
        let (states, slot) = match slot.rsplit_once('.') {
            None => (&mut stored, slot),
            Some((label, slot)) => {
                let Some(label) = labels.iter().find(|known| *known == label) else {
                    return Err(bad(format!("entry `{name}` belongs to no stage")));
                };
                (staged.entry(label).or_default(), slot)
            }
        };
        let slots = states.entry(parameter.to_owned()).or_default();
        slots.insert(slot.to_owned(), view);
    }

    let mut inventory = Inventory::default();
    model.visit(&mut inventory);
    let mut states = Vec::new();
    for (label, stage) in labels
        .iter()
        .zip(stages.iter().filter(|stage| stage.remembers()))
    {
        let staged = staged.remove(label).unwrap_or_default();
        states.push(read_stage(label, stage, staged, &inventory.parameters)?);
    }
    let mut states = states.into_iter();
    let states = stages.iter().map(|stage| match stage.remembers() {
        true => states.next().unwrap_or_default(),
        false => StageState::default(),
    });
    let mut loaded = Loaded {
        steps: header.steps,
        parameters: Vec::new(),
        stages: states.collect(),
    };
    // Before its first step an optimizer knows no parameters, and fits any model.
    if stored.is_empty() {
        return Ok(loaded);
    }
    for parameter in inventory.parameters {
        let slots =
            stored
                .remove(&parameter.info.name)
                .ok_or_else(|| OptimError::MissingParameter {
                    parameter: parameter.info.name.clone(),
                })?;
        let rule = &cohorts.all[cohorts.place(&parameter.info)].configured;
        let (expected, name) = (rule.rule_name(), &parameter.info.name);
        let found = header.rules.get(name).map_or(main, String::as_str);
        if found != expected {
            return Err(OptimError::OtherRuleFor {
                parameter: name.clone(),
                expected: expected.to_owned(),
                found: found.to_owned(),
            });
        }
        let expected = Expected {
            memory: rule.memory_names().len(),
            slots: rule.slot_shapes(&parameter.info.shape),
        };
        let state = read_parameter(&parameter, expected, slots)?;
        loaded.parameters.push((parameter.info, state));
    }
    match stored.into_keys().next() {
        Some(parameter) => Err(OptimError::UnknownParameter { parameter }),
        None => Ok(loaded),
    }
}

/// What a stage remembers.
fn read_stage(
    label: &str,
    stage: &Stage,
    mut stored: BTreeMap<String, Views<'_>>,
    parameters: &[Parameter],
) -> Result<StageState, OptimError> {
    let numbers = stored
        .remove("")
        .and_then(|mut views| views.remove("numbers"))
        .ok_or_else(|| bad(format!("`/{label}.numbers` is missing")))?;
    let mut state = StageState {
        numbers: read_numbers(&numbers),
        ..StageState::default()
    };
    for parameter in parameters {
        let info = &parameter.info;
        if let Some(slots) = stored.remove(&info.name) {
            let names = stage.slot_names().iter();
            let expected = Expected {
                memory: 0,
                slots: names
                    .map(|slot| SlotShape::new(*slot, &info.shape))
                    .collect(),
            };
            let kept = read_parameter(parameter, expected, slots)?;
            state.parameters.insert(info.name.clone(), kept);
        }
    }
    match stored.into_keys().next() {
        Some(parameter) => Err(OptimError::UnknownParameter { parameter }),
        None => Ok(state),
    }
}

fn read_numbers(view: &TensorView<'_>) -> Vec<f64> {
    numbers(view.data(), f64::from_le_bytes)
}

/// What a parameter's state must hold.
struct Expected {
    /// Numbers of the memory.
    memory: usize,
    slots: Vec<SlotShape>,
}

fn read_parameter(
    parameter: &Parameter,
    expected: Expected,
    mut stored: Views<'_>,
) -> Result<ParameterState, OptimError> {
    let name = &parameter.info.name;
    let step = stored
        .remove("step")
        .and_then(|view| view.data().try_into().ok().map(u64::from_le_bytes))
        .ok_or_else(|| bad(format!("`{name}/step` is missing or not one u64")))?;
    if step == 0 {
        return Ok(ParameterState::default());
    }
    let memory = stored.remove("memory");
    let memory = memory.as_ref().map(read_numbers).unwrap_or_default();
    if expected.memory != memory.len() {
        return Err(bad(format!(
            "`{name}/memory` has {} numbers, expected {}",
            memory.len(),
            expected.memory
        )));
    }

    let expected = expected.slots;
    let names: Vec<_> = expected.iter().map(|slot| slot.name.as_str()).collect();
    if stored.len() != names.len() || names.iter().any(|slot| !stored.contains_key(*slot)) {
        let list = |names: Vec<&str>| match names.as_slice() {
            [] => "no slots".to_owned(),
            names => names.join(", "),
        };
        return Err(OptimError::OtherSlots {
            parameter: name.clone(),
            expected: list(names),
            found: list(stored.keys().map(String::as_str).collect()),
        });
    }
    let mut slots = Vec::with_capacity(expected.len());
    for SlotShape { name: slot, shape } in expected {
        let Some(view) = stored.remove(&slot) else {
            continue;
        };
        if view.shape() != shape {
            return Err(OptimError::OtherShape {
                parameter: name.clone(),
                slot,
                expected: shape,
                found: view.shape().to_vec(),
            });
        }
        let dtype = match view.dtype() {
            Dtype::F64 => DType::F64,
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            other => return Err(bad(format!("`{name}/{slot}` has type {other:?}"))),
        };
        if dtype != parameter.dtype {
            return Err(bad(format!(
                "`{name}/{slot}` has type {dtype:?}, the parameter {:?}",
                parameter.dtype
            )));
        }
        // Values rather than raw bytes where possible: the tensor's memory must be aligned.
        let length = [shape.iter().product::<usize>()];
        let data = match dtype {
            DType::F64 => TensorData::new(numbers(view.data(), f64::from_le_bytes), length),
            DType::F32 => TensorData::new(numbers(view.data(), f32::from_le_bytes), length),
            _ => TensorData::from_bytes_vec(view.data().to_vec(), length, dtype),
        };
        let flat = Tensor::<1>::from_data(data, (&parameter.device, dtype));
        slots.push(shaped(flat, &shape));
    }
    Ok(ParameterState {
        step,
        memory,
        slots,
        packed: None,
        part: None,
    })
}

fn numbers<T, const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes
        .chunks_exact(N)
        .filter_map(|chunk| chunk.try_into().ok())
        .map(read)
        .collect()
}

fn bad(problem: String) -> OptimError {
    OptimError::BadFile(problem)
}

/// The float parameters of a model, as the state must match them.
#[derive(Default)]
struct Inventory {
    path: Path,
    parameters: Vec<Parameter>,
}

struct Parameter {
    info: Info,
    dtype: DType,
    device: Device,
}

impl ModuleVisitor for Inventory {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter_layer(name, container);
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.base().inner();
        self.parameters.push(Parameter {
            info: Info {
                kind: self.path.kind(),
                name: self.path.name().to_owned(),
                shape: tensor.dims().to_vec(),
            },
            dtype: tensor.dtype(),
            device: tensor.device(),
        });
    }
}
