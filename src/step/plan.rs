//! A plan: the steps of one command and what each waits for. Just a list; the runner does the rest.

use std::sync::Arc;

use super::Step;

/// Names a step of the plan it was added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handle(pub(super) usize);

pub(super) struct Planned {
    pub step: Arc<dyn Step>,
    pub after: Vec<Handle>,
}

/// The steps of one command, in an order in which they could be run one by one.
pub struct Plan {
    pub(super) name: String,
    pub(super) steps: Vec<Planned>,
}

impl Plan {
    /// An empty plan. `name` is the command it belongs to, for the journal.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), steps: Vec::new() }
    }

    /// Adds a step that waits for nothing.
    pub fn add(&mut self, step: impl Step + 'static) -> Handle {
        self.after(&[], step)
    }

    /// Adds a step that starts when `after` are satisfied.
    pub fn after(&mut self, after: &[Handle], step: impl Step + 'static) -> Handle {
        self.push(after, Arc::new(step))
    }

    /// As [`Plan::after`], for a step that somebody else also looks at.
    pub fn push(&mut self, after: &[Handle], step: Arc<dyn Step>) -> Handle {
        debug_assert!(after.iter().all(|handle| handle.0 < self.steps.len()), "a step waits only for earlier ones");
        self.steps.push(Planned { step, after: after.to_vec() });
        Handle(self.steps.len() - 1)
    }

    /// The command this plan belongs to.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The plan as a numbered list with what each step waits for.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for (index, planned) in self.steps.iter().enumerate() {
            text.push_str(&format!("{}. {}", index + 1, planned.step.title()));
            if !planned.after.is_empty() {
                let after: Vec<String> = planned.after.iter().map(|handle| (handle.0 + 1).to_string()).collect();
                text.push_str(&format!(" (after {})", after.join(", ")));
            }
            text.push('\n');
        }
        text
    }

    /// Whether `step` waits, directly or not, for one of `others`.
    pub(super) fn depends(&self, step: usize, others: &[bool]) -> bool {
        self.steps[step].after.iter().any(|handle| others[handle.0] || self.depends(handle.0, others))
    }
}
