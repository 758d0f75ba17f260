//! One step of all sides from the same state, operation by operation.
//!
//! ```text
//! f64     y = op(x) in f64 on numbers of f32;  every result is noted with its terms, then rounded to f32
//! device  y = op(x) in f32 on the same numbers; noted, then replaced by the f64 run's rounded result
//! ```
//! So every operation of every side gets the same inputs to the last bit, nothing grows from one to the
//! next, and a result that is out is the fault of the operation that computed it. Operations of Burn's own
//! (reshape, add, what there is no kernel for) are not heard; what they pass on is compared and replaced
//! when an operation of ours is given it, as `before_conv2d`, say.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use gradus_kernels::trace::{Listener, Seen, listening};
use gradus_nn::Summary;
use gradus_train::weights::{NamedTensors, collect_trainable};

use super::moves::{fate, moves};
use super::names::{Calls, names, tensor};
use super::report::{BEFORE, Kind, Place, Plant};
use super::side::{Feed, Side, State};
use super::tensors::{each, rounded, wide};
use super::yardstick::{Yardstick, nudged};
use crate::BenchError;

/// Sums of Burn's own operations: as many terms as a small image batch has positions.
const LONG: usize = 4096;

/// A result among those of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    /// 0 for the step's own forward and backward pass, then those at other weights.
    pass: u32,
    call: u64,
    operation: &'static str,
    entering: bool,
    output: &'static str,
}

impl Key {
    fn of(pass: u32, seen: &Seen) -> Self {
        Self {
            pass,
            call: seen.call,
            operation: seen.operation,
            entering: seen.entering,
            output: seen.output,
        }
    }

    /// What the operation is called: what it is given is the work of Burn's operations before it.
    fn operation(&self) -> String {
        match self.entering {
            true => format!("{BEFORE}{}", self.operation),
            false => self.operation.to_owned(),
        }
    }
}

/// What the f64 run found in a step.
pub(super) struct Expected {
    pub(super) places: Vec<Place>,
    pub(super) yardsticks: Vec<Yardstick>,
    by_key: HashMap<Key, usize>,
    by_place: HashMap<Place, usize>,
    /// Gradients as all sides step with them.
    gradients: NamedTensors,
    /// The mean loss.
    pub(super) loss: f64,
    /// Where all sides begin the next step.
    pub(super) next: State,
}

/// Notes what the f64 run computes.
#[derive(Default)]
struct Recorder {
    pass: u32,
    found: Vec<(Key, Yardstick)>,
}

impl Listener for Recorder {
    fn wants_terms(&self) -> bool {
        true
    }

    fn hear(&mut self, seen: Seen) -> Option<Vec<f64>> {
        let key = Key::of(self.pass, &seen);
        let yardstick = match &seen.terms {
            Some(terms) => Yardstick::of_terms(seen.values, terms),
            None => {
                let sizes = seen.values.iter().map(|x| x.abs()).collect();
                Yardstick::of_sizes(seen.values, sizes, LONG)
            }
        };
        let rounded = yardstick.rounded();
        self.found.push((key, yardstick));
        Some(rounded)
    }
}

/// The names of the results of a step.
fn places(found: &[(Key, Yardstick)], summary: &Summary) -> Vec<Place> {
    let mut passes: BTreeMap<u32, (Calls, u64)> = BTreeMap::new();
    for (key, _) in found {
        let (calls, last) = passes.entry(key.pass).or_default();
        *last = (*last).max(key.call);
        if !key.entering && Kind::of(key.operation) == Kind::Activation {
            calls.entry(key.call).or_insert(key.operation);
        }
    }
    let named: BTreeMap<u32, BTreeMap<u64, String>> = (passes.into_iter())
        .map(|(pass, (calls, last))| (pass, names(&calls, last, summary)))
        .collect();
    (found.iter())
        .map(|(key, _)| {
            let layer = named.get(&key.pass).and_then(|pass| pass.get(&key.call));
            let mut tensor = tensor(layer.map_or("", String::as_str), key.output);
            if key.pass > 0 {
                tensor.push_str(&format!(" (pass {})", key.pass + 1));
            }
            Place::new(&key.operation(), tensor)
        })
        .collect()
}

/// One step of the f64 run from `state`.
pub(super) fn expect<'a>(
    mut side: Side<'a>,
    state: &State,
    feed: &Feed,
    summary: &Summary,
) -> Result<(Side<'a>, Expected), BenchError> {
    side.load(state)?;
    let recorder = Rc::new(RefCell::new(Recorder::default()));
    let (loss, gradients) = listening(recorder.clone(), || side.look(feed))?;
    let found = side.named(&gradients);
    let gradients = rounded(found.clone());
    let step_with = side.gradients(&gradients);
    side = side.update(feed, step_with, &mut |run| {
        recorder.borrow_mut().pass += 1;
        listening(recorder.clone(), run);
    });
    let after = side.state()?;
    let trained: BTreeSet<String> = collect_trainable(&side.model).into_keys().collect();

    // The same step from gradients and slots that are nudged against each other, both ways.
    let mut others = Vec::new();
    for way in [1.0, -1.0] {
        side.load(&state.nudged(-way))?;
        let gradients = side.gradients(&each(&gradients, |values| nudged(values, way)));
        side.way = way;
        side = side.update(feed, gradients, &mut |run| run());
        others.push(side.state()?);
    }
    side.way = 0.0;

    let mut known = Recorder::default();
    std::mem::swap(&mut known, &mut recorder.borrow_mut());
    let places = places(&known.found, summary);
    let by_key = (known.found.iter().enumerate())
        .map(|(place, (key, _))| (*key, place))
        .collect();
    let mut expected = Expected {
        places,
        yardsticks: known
            .found
            .into_iter()
            .map(|(_, yardstick)| yardstick)
            .collect(),
        by_key,
        by_place: HashMap::new(),
        gradients,
        loss,
        next: after.rounded(),
    };
    let yardstick = Yardstick::of_sizes(vec![loss], vec![loss.abs()], LONG);
    expected.add(Place::new("loss", "total"), yardstick);
    for (name, data) in found {
        let values = wide(&data);
        let sizes = values.iter().map(|x| x.abs()).collect();
        let yardstick = Yardstick::of_sizes(values, sizes, LONG);
        expected.add(Place::new("gradient", name), yardstick);
    }
    for (place, yardstick) in moves(state, &after, &others, &trained) {
        expected.add(place, yardstick);
    }
    Ok((side, expected))
}

impl Expected {
    fn add(&mut self, place: Place, yardstick: Yardstick) {
        self.by_place.insert(place.clone(), self.places.len());
        self.places.push(place);
        self.yardsticks.push(yardstick);
    }
}

/// What a device found in a step.
pub(super) struct Found {
    /// By place; none if the device never came there.
    pub(super) values: Vec<Option<Vec<f32>>>,
    /// The places in the order in which the device came to them.
    pub(super) order: Vec<usize>,
    /// Results that the f64 run has not.
    pub(super) strangers: Vec<Place>,
    /// Whether the plant was at one of the places.
    pub(super) planted: bool,
}

/// Notes what a device computes and puts the f64 run's result in its place.
struct Follower {
    expected: Rc<Expected>,
    plant: Option<Plant>,
    pass: u32,
    found: Found,
}

impl Follower {
    fn note(&mut self, place: usize, mut values: Vec<f64>) {
        if let Some(plant) = &self.plant
            && plant.is_at(&self.expected.places[place])
            && !values.is_empty()
        {
            let size = self.expected.yardsticks[place].size();
            let element = plant.element % values.len();
            values[element] += plant.relative * size;
            self.found.planted = true;
        }
        self.found.order.push(place);
        self.found.values[place] = Some(values.into_iter().map(|x| x as f32).collect());
    }

    fn note_at(&mut self, place: Place, values: Vec<f64>) {
        match self.expected.by_place.get(&place) {
            Some(&place) => self.note(place, values),
            None => self.found.strangers.push(place),
        }
    }
}

impl Listener for Follower {
    fn hear(&mut self, seen: Seen) -> Option<Vec<f64>> {
        let key = Key::of(self.pass, &seen);
        let Some(&place) = self.expected.by_key.get(&key) else {
            let tensor = format!("call {} {}", seen.call, seen.output);
            self.found
                .strangers
                .push(Place::new(seen.operation, tensor));
            return None;
        };
        self.note(place, seen.values);
        Some(self.expected.yardsticks[place].rounded())
    }
}

/// The step of the f64 run on a device.
pub(super) fn follow<'a>(
    mut side: Side<'a>,
    state: &State,
    feed: &Feed,
    expected: &Rc<Expected>,
    plant: Option<Plant>,
) -> Result<(Side<'a>, Found), BenchError> {
    side.load(state)?;
    let follower = Rc::new(RefCell::new(Follower {
        expected: Rc::clone(expected),
        plant,
        pass: 0,
        found: Found {
            values: vec![None; expected.places.len()],
            order: Vec::with_capacity(expected.places.len()),
            strangers: Vec::new(),
            planted: false,
        },
    }));
    let (loss, gradients) = listening(follower.clone(), || side.look(feed))?;
    let note = |operation: &'static str, name: &str, values: Vec<f64>| {
        follower
            .borrow_mut()
            .note_at(Place::new(operation, name), values);
    };
    note("loss", "total", vec![loss]);
    for (name, data) in side.named(&gradients) {
        note("gradient", &name, wide(&data));
    }
    let gradients = side.gradients(&expected.gradients);
    let side = side.update(feed, gradients, &mut |run| {
        follower.borrow_mut().pass += 1;
        listening(follower.clone(), run);
    });
    let trained: BTreeSet<String> = collect_trainable(&side.model).into_keys().collect();
    for (name, data) in side.weights() {
        note(fate(&name, &trained), &name, wide(&data));
    }
    for (name, values) in side.slots()?.values() {
        note("state", name, values.to_vec());
    }
    let mut follower = follower.borrow_mut();
    let empty = Found {
        values: Vec::new(),
        order: Vec::new(),
        strangers: Vec::new(),
        planted: false,
    };
    let found = std::mem::replace(&mut follower.found, empty);
    drop(follower);
    Ok((side, found))
}
