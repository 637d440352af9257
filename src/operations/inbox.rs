//! Folders in the inbox become jobs, or are told why not.

use crate::{
    access::Entry,
    store::{Dropped, StoreError},
};

use super::{Asked, OperationError, Operations};

impl Operations {
    /// Looks at every unanswered folder in the inbox and answers it. What cannot be accepted for
    /// now (a full queue or disk) stays and is looked at again.
    pub fn take_inbox(&self) {
        let names = match self.catalog.store().dropped_names() {
            Ok(names) => names,
            Err(error) => {
                tracing::warn!(%error, "the inbox cannot be read");
                return;
            }
        };
        // One after the other, so that the input of one is in memory at a time.
        for name in names {
            let dropped = self.catalog.store().dropped(name, self.defaults.stdin_bytes_max);
            if let Some(Err(error)) = dropped.map(|folder| self.take(folder)) {
                tracing::warn!(%error, "a folder in the inbox cannot be answered");
            }
        }
    }

    fn take(&self, folder: Dropped) -> Result<(), StoreError> {
        match folder {
            Dropped::Submission { name, draft, uid } => {
                let owner = format!("uid:{uid}");
                let asked = Asked { owner, request_id: Some(name.clone()) };
                let holds_secrets = !draft.secret_env.is_empty();
                let submitted = self.submit(*draft, &asked);
                self.record(&asked, &submitted);
                self.answer(&name, submitted, holds_secrets)
            }
            Dropped::Broken { name, why } => {
                tracing::warn!(folder = ?name, why, "a folder in the inbox is rejected");
                self.catalog.store().answer_rejected(&name, &why)
            }
            Dropped::Unfinished => Ok(()),
        }
    }

    fn record(&self, asked: &Asked, submitted: &Result<super::Submitted, OperationError>) {
        let name = asked.request_id.as_deref().unwrap_or_default();
        let (job, outcome) = match submitted {
            // It was accepted, and recorded, before.
            Ok(submitted) if submitted.deduplicated => return,
            Ok(submitted) => (submitted.job.id().to_string(), "ok"),
            Err(OperationError::Invalid(_)) => (String::new(), "INVALID_SPEC"),
            Err(OperationError::RequestIdReused(_)) => (String::new(), "REQUEST_ID_REUSED"),
            // It is tried again.
            Err(_) => return,
        };
        let entry = Entry::local(&asked.owner, "inbox", "Exec", &job, outcome);
        self.audit.record(entry.with_detail(name));
    }

    fn answer(
        &self,
        name: &str,
        submitted: Result<super::Submitted, OperationError>,
        holds_secrets: bool,
    ) -> Result<(), StoreError> {
        let store = self.catalog.store();
        match submitted {
            Ok(submitted) => {
                store.answer_accepted(name, submitted.job.id())?;
                if holds_secrets { store.forget_dropped_secrets(name) } else { Ok(()) }
            }
            Err(OperationError::Invalid(violations)) => {
                let lines = violations
                    .iter()
                    .map(|violation| format!("{}: {}", violation.field, violation.description));
                store.answer_rejected(name, &lines.collect::<Vec<_>>().join("\n"))
            }
            Err(error @ OperationError::RequestIdReused(_)) => {
                store.answer_rejected(name, &error.to_string())
            }
            // Not its fault: it stays where it is and is tried again.
            Err(error) => {
                tracing::debug!(folder = ?name, %error, "a folder in the inbox has to wait");
                Ok(())
            }
        }
    }
}
