//! Every parameter that an optimizer has met, and what is known about it.

use crate::cohort::Cohorts;
use crate::execute::ParameterState;
use crate::fused_or_not::Home;
use crate::item::Info;
use crate::walk::Place;
use burn::module::ParamId;
use std::collections::HashMap;
use std::sync::Arc;

/// What is known about one parameter.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) info: Arc<Info>,
    /// The id when last seen: a shortcut to the entry, which is found by name.
    id: Option<ParamId>,
    /// The place of its rule among the cohorts.
    pub(crate) cohort: usize,
    pub(crate) state: ParameterState,
    /// Where its weight was left.
    pub(crate) home: Home,
}

/// Parameters in the order of the first walk, found by number, id or name.
#[derive(Clone, Default)]
pub(crate) struct Roster {
    pub(crate) entries: Vec<Entry>,
    by_name: HashMap<String, usize>,
}

impl Roster {
    /// A roster of these parameters, whose ids are not known yet.
    pub(crate) fn of(
        parameters: impl IntoIterator<Item = (Info, ParameterState)>,
        cohorts: &Cohorts,
    ) -> Self {
        let mut this = Self::default();
        for (info, state) in parameters {
            this.add(info, None, state, cohorts);
        }
        this
    }

    /// What is known of the parameter of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&Entry> {
        self.by_name.get(name).map(|&index| &self.entries[index])
    }

    /// The number of the parameter. The walk is the same each time, so the `next` entry is nearly always
    /// the one.
    pub(crate) fn find(
        &mut self,
        next: usize,
        id: ParamId,
        place: &Place<'_>,
        cohorts: &Cohorts,
    ) -> usize {
        let expected = self.entries.get(next);
        if expected.is_some_and(|entry| entry.id == Some(id)) {
            return next;
        }
        if let Some(&index) = self.by_name.get(place.name()) {
            self.entries[index].id = Some(id);
            return index;
        }
        self.add(place.info(), Some(id), ParameterState::default(), cohorts)
    }

    fn add(
        &mut self,
        info: Info,
        id: Option<ParamId>,
        state: ParameterState,
        cohorts: &Cohorts,
    ) -> usize {
        let index = self.entries.len();
        self.by_name.insert(info.name.clone(), index);
        self.entries.push(Entry {
            cohort: cohorts.place(&info),
            info: Arc::new(info),
            id,
            state,
            home: Home::default(),
        });
        index
    }
}
