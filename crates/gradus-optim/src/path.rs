//! The name of the place where a walk through a module stands.

use crate::Kind;

/// A module path that grows and shrinks without allocating: `conv1`, `conv1.weight`, …
#[derive(Debug, Default)]
pub(crate) struct Path {
    text: String,
    /// Where the text ended before each entry.
    ends: Vec<usize>,
    /// The containers that were named, one after another, and where each begins.
    containers: String,
    starts: Vec<usize>,
}

impl Path {
    pub(crate) fn enter(&mut self, name: &str) {
        self.ends.push(self.text.len());
        if !self.text.is_empty() {
            self.text.push('.');
        }
        self.text.push_str(name);
    }

    /// [`enter`](Self::enter), for a walk that asks for [`kind`](Self::kind).
    pub(crate) fn enter_layer(&mut self, name: &str, container: &str) {
        self.enter(name);
        self.starts.push(self.containers.len());
        self.containers.push_str(container);
    }

    pub(crate) fn exit(&mut self) {
        if let Some(start) = self.starts.pop() {
            self.containers.truncate(start);
        }
        if let Some(end) = self.ends.pop() {
            self.text.truncate(end);
        }
    }

    /// What the parameter here is for.
    pub(crate) fn kind(&self) -> Kind {
        match (self.starts.last(), self.ends.last()) {
            (Some(&start), Some(&end)) => {
                let name = self.text[end..].trim_start_matches('.');
                Kind::of(&self.containers[start..], name)
            }
            _ => Kind::Other,
        }
    }

    /// The name: the entries joined by `.`.
    pub(crate) fn name(&self) -> &str {
        &self.text
    }
}
