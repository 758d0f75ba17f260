//! What a comparison says, and how it is added up.

use std::fmt;
use std::rc::Rc;
use std::str::FromStr;

use serde::Serialize;

use super::drift::Free;
use super::lockstep::{Expected, Found};
use super::yardstick::Deviation;

/// What an operation is given is named by this and its name.
pub(super) const BEFORE: &str = "before_";

/// What a tensor is in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A result of the forward pass, and the loss.
    Activation,
    /// A result of the backward pass.
    Gradient,
    /// Weights, optimizer state and running statistics after the step.
    Update,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Activation, Self::Gradient, Self::Update];

    /// What an operation gives.
    pub(super) fn of(operation: &str) -> Self {
        let operation = operation.strip_prefix(BEFORE).unwrap_or(operation);
        match operation {
            "update" | "state" | "running_statistics" | "frozen" => Self::Update,
            "gradient" | "sum_positions" | "sum_of" => Self::Gradient,
            _ if operation.ends_with("_gradient") => Self::Gradient,
            _ => Self::Activation,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Activation => "activations",
            Self::Gradient => "gradients",
            Self::Update => "updates",
        })
    }
}

/// A tensor of a step and the operation that computes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// Such as `conv2d_weight_gradient`; `before_conv2d` for what operations of Burn's own give to it;
    /// `gradient` for what the optimizer is given, `update` for weights, `state` for its slots.
    pub operation: String,
    /// Such as `stages.0.1.conv`, `stages.0.1.conv.weight`, `head.weight/momentum`.
    pub tensor: String,
}

impl Place {
    pub(super) fn new(operation: &str, tensor: impl Into<String>) -> Self {
        Self {
            operation: operation.to_owned(),
            tensor: tensor.into(),
        }
    }

    /// What kind of tensor it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        Kind::of(&self.operation)
    }
}

/// A fault to put into one element of one result on one device, to see that it is found. As text:
/// `DEVICE:STEP:OPERATION:TENSOR:ELEMENT:RELATIVE`.
#[derive(Clone, Debug, PartialEq)]
pub struct Plant {
    /// The device.
    pub device: String,
    /// The step, from 1.
    pub step: usize,
    /// Where.
    pub place: Place,
    /// Which element; counted round.
    pub element: usize,
    /// What is added, as a multiple of the tensor's root mean square.
    pub relative: f64,
}

impl Plant {
    pub(super) fn is_at(&self, place: &Place) -> bool {
        self.place == *place
    }
}

impl FromStr for Plant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "expected DEVICE:STEP:OPERATION:TENSOR:ELEMENT:RELATIVE, such as \
                    ndarray:2:conv2d_weight_gradient:stages.0.1.conv.weight:17:0.1";
        let parts: Vec<&str> = text.split(':').collect();
        let [device, step, operation, tensor, element, relative] = parts[..] else {
            return Err(form.to_owned());
        };
        let (Ok(step), Ok(element), Ok(relative)) =
            (step.parse(), element.parse(), relative.parse())
        else {
            return Err(form.to_owned());
        };
        Ok(Self {
            device: device.to_owned(),
            step,
            place: Place::new(operation, tensor),
            element,
            relative,
        })
    }
}

/// Where a deviation comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Verdict {
    /// No order of adding up can be so far out.
    #[serde(rename = "fault")]
    Fault,
    /// More than is likely, but within what rounding can do.
    #[serde(rename = "rounding growth")]
    Rounding,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fault => "fault",
            Self::Rounding => "rounding growth",
        })
    }
}

/// The first tensor that is out.
#[derive(Clone, Debug, Serialize)]
pub struct Divergence {
    /// The device.
    pub device: String,
    /// The step, from 1.
    pub step: usize,
    /// The tensor.
    pub tensor: String,
    /// The operation that computed it.
    pub operation: String,
    /// The element that is farthest out.
    pub element: usize,
    /// Its distance from the f64 run; absent if it is no number or the tensor is missing.
    pub error: Option<f64>,
    /// What rounding is allowed there.
    pub tolerance: f64,
    /// What the f64 run has there.
    pub expected: Option<f64>,
    /// The error of every device at this element.
    pub errors: Vec<SideError>,
    /// Fault or rounding.
    pub verdict: Verdict,
}

/// The error of a device at an element.
#[derive(Clone, Debug, Serialize)]
pub struct SideError {
    /// The device.
    pub device: String,
    /// Its distance from the f64 run.
    pub error: Option<f64>,
}

/// The largest deviation of a kind of tensors, in tolerances.
#[derive(Clone, Debug, Serialize)]
pub struct Worst {
    /// The device, or two devices joined by a dash.
    pub device: String,
    /// Activations, gradients or updates.
    pub kind: Kind,
    /// Tensors compared.
    pub tensors: usize,
    /// error/tolerance of the element that is farthest out: above 1 is a divergence. Absent if it is no
    /// number.
    pub share: Option<f64>,
    /// The largest error of any tensor over that tensor's root mean square.
    pub relative: Option<f64>,
    /// The step of the largest share.
    pub step: usize,
    /// Its tensor.
    pub tensor: String,
    /// Its operation.
    pub operation: String,
    /// Its error.
    pub error: Option<f64>,
    /// Its tolerance.
    pub tolerance: f64,
}

pub(super) fn finite(x: f64) -> Option<f64> {
    x.is_finite().then_some(x)
}

impl Worst {
    pub(super) fn new(device: &str, kind: Kind) -> Self {
        Self {
            device: device.to_owned(),
            kind,
            tensors: 0,
            share: Some(0.0),
            relative: Some(0.0),
            step: 0,
            tensor: String::new(),
            operation: String::new(),
            error: Some(0.0),
            tolerance: 0.0,
        }
    }

    /// Counts a tensor.
    pub(super) fn add(&mut self, step: usize, place: &Place, out: &Deviation) {
        self.tensors += 1;
        self.relative = match (self.relative, finite(out.relative)) {
            (Some(a), Some(b)) => Some(a.max(b)),
            _ => None,
        };
        let most = self.share.unwrap_or(f64::INFINITY);
        if out.share > most || (self.tensors == 1 && out.share >= most) {
            self.share = finite(out.share);
            self.step = step;
            self.tensor.clone_from(&place.tensor);
            self.operation.clone_from(&place.operation);
            self.error = finite(out.error);
            self.tolerance = out.tolerance;
        }
    }
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The model's name.
    pub model: String,
    /// The optimizer, as text.
    pub optimizer: String,
    /// Images in a step.
    pub batch: usize,
    /// The devices.
    pub devices: Vec<String>,
    /// Steps taken.
    pub steps: usize,
    /// Whether every tensor of every device was within its tolerance, and rounding explains how far the
    /// losses of free runs drift.
    pub agree: bool,
    /// The first that was not.
    pub first_divergence: Option<Divergence>,
    /// The largest deviation of all, in tolerances.
    pub worst: Option<Worst>,
    /// Each device against the f64 run, by kind.
    pub against_f64: Vec<Worst>,
    /// Each pair of devices, by kind.
    pub pairs: Vec<Worst>,
    /// Runs that are left to themselves.
    pub free: Option<Free>,
    /// Every tensor of the first step.
    #[serde(skip)]
    pub places: Vec<Place>,
}

/// Adds up deviations, step by step.
pub(super) struct Tally {
    devices: Vec<String>,
    pub(super) against_f64: Vec<Worst>,
    pub(super) pairs: Vec<Worst>,
    pub(super) first: Option<Divergence>,
}

impl Tally {
    pub(super) fn new(devices: &[String]) -> Self {
        let of = |name: &str| Kind::ALL.map(|kind| Worst::new(name, kind));
        let pair = |a: usize| {
            let others = devices[a + 1..].iter();
            others.flat_map(move |b| of(&format!("{}–{b}", devices[a])))
        };
        Self {
            against_f64: devices.iter().flat_map(|name| of(name)).collect(),
            pairs: (0..devices.len()).flat_map(pair).collect(),
            devices: devices.to_vec(),
            first: None,
        }
    }

    /// Counts a step of all devices.
    pub(super) fn step(&mut self, step: usize, expected: &Rc<Expected>, found: &[Found]) {
        let kinds = Kind::ALL.len();
        for (device, of_device) in found.iter().enumerate() {
            let missing = (0..expected.places.len()).filter(|i| of_device.values[*i].is_none());
            for place in of_device.order.iter().copied().chain(missing) {
                let out = match &of_device.values[place] {
                    Some(values) => {
                        let wide: Vec<f64> = values.iter().map(|x| f64::from(*x)).collect();
                        expected.yardsticks[place].deviation(&wide)
                    }
                    None => expected.yardsticks[place].deviation(&[]),
                };
                let at = &expected.places[place];
                let kind = at.kind() as usize;
                self.against_f64[device * kinds + kind].add(step, at, &out);
                if out.share > 1.0 && self.first.is_none() {
                    self.first = Some(self.diverged(step, device, place, &out, expected, found));
                }
            }
            if let (Some(stranger), None) = (of_device.strangers.first(), &self.first) {
                self.first = Some(self.strange(step, device, stranger));
            }
        }
        let mut pair = 0;
        for a in 0..found.len() {
            for b in a + 1..found.len() {
                for (place, at) in expected.places.iter().enumerate() {
                    if let (Some(x), Some(y)) = (&found[a].values[place], &found[b].values[place]) {
                        let out = expected.yardsticks[place].distance(x, y);
                        self.pairs[pair * kinds + at.kind() as usize].add(step, at, &out);
                    }
                }
                pair += 1;
            }
        }
    }

    fn diverged(
        &self,
        step: usize,
        device: usize,
        place: usize,
        out: &Deviation,
        expected: &Rc<Expected>,
        found: &[Found],
    ) -> Divergence {
        let yardstick = &expected.yardsticks[place];
        let exact = yardstick.expected.get(out.element).copied();
        let errors = self.devices.iter().zip(found).map(|(device, found)| {
            let values = found.values[place].as_ref();
            let there = values.and_then(|values| values.get(out.element));
            let error = there.zip(exact).map(|(x, y)| (f64::from(*x) - y).abs());
            SideError {
                device: device.clone(),
                error: error.and_then(finite),
            }
        });
        Divergence {
            device: self.devices[device].clone(),
            step,
            tensor: expected.places[place].tensor.clone(),
            operation: expected.places[place].operation.clone(),
            element: out.element,
            error: finite(out.error),
            tolerance: out.tolerance,
            expected: exact.and_then(finite),
            errors: errors.collect(),
            verdict: match yardstick.may_be_rounding(out) {
                true => Verdict::Rounding,
                false => Verdict::Fault,
            },
        }
    }

    /// The device did something that the f64 run did not.
    fn strange(&self, step: usize, device: usize, place: &Place) -> Divergence {
        Divergence {
            device: self.devices[device].clone(),
            step,
            tensor: place.tensor.clone(),
            operation: place.operation.clone(),
            element: 0,
            error: None,
            tolerance: 0.0,
            expected: None,
            errors: Vec::new(),
            verdict: Verdict::Fault,
        }
    }

    /// The largest error over the root mean square of its tensor, of activations and of gradients, on any
    /// device.
    pub(super) fn relative(&self) -> [f64; 2] {
        [Kind::Activation, Kind::Gradient].map(|kind| {
            let of_kind = self.against_f64.iter().filter(|worst| worst.kind == kind);
            let errors = of_kind.filter_map(|worst| worst.relative);
            errors.fold(0.0, f64::max)
        })
    }

    /// The largest of all.
    pub(super) fn worst(&self) -> Option<Worst> {
        let size = |worst: &Worst| worst.share.unwrap_or(f64::INFINITY);
        let all = self.against_f64.iter();
        all.max_by(|a, b| size(a).total_cmp(&size(b))).cloned()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_plant_is_read_from_text() {
        let plant: Plant = "flex:3:update:head.weight:7:0.5".parse().unwrap();
        assert_eq!((plant.step, plant.element, plant.relative), (3, 7, 0.5));
        assert!(plant.is_at(&Place::new("update", "head.weight")));
        assert!("flex:3:update:head.weight:7".parse::<Plant>().is_err());
        assert!("flex:x:update:head.weight:7:1".parse::<Plant>().is_err());
    }
}
