//! The name of the place where a walk through a module stands.

/// A module path that grows and shrinks without allocating: `conv1`, `conv1.weight`, …
#[derive(Debug, Default)]
pub(crate) struct Path {
    text: String,
    /// Where the text ended before each entry.
    ends: Vec<usize>,
}

impl Path {
    pub(crate) fn enter(&mut self, name: &str) {
        self.ends.push(self.text.len());
        if !self.text.is_empty() {
            self.text.push('.');
        }
        self.text.push_str(name);
    }

    pub(crate) fn exit(&mut self) {
        if let Some(end) = self.ends.pop() {
            self.text.truncate(end);
        }
    }

    /// The name: the entries joined by `.`.
    pub(crate) fn name(&self) -> &str {
        &self.text
    }
}
