//! Threads for what blocks: a principal takes so many at once, so that one who asks for more than they
//! can do keeps nobody else waiting. Its further calls wait their turn without a thread.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most threads of one principal at once, of the 512 that the runtime has.
const THREADS_PER_PRINCIPAL: usize = 64;
/// So many principals are remembered before those are forgotten who have nothing under way.
const REMEMBERED: usize = 1024;

tokio::task_local! {
    /// The turns of whoever made the call that this task answers.
    static OWN: Arc<Semaphore>;
}

/// The turns of every principal.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<HashMap<String, Arc<Semaphore>>>);

impl Turns {
    fn of(&self, principal: &str) -> Arc<Semaphore> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= REMEMBERED {
            all.retain(|_, turns| Arc::strong_count(turns) > 1);
        }
        let new = || Arc::new(Semaphore::new(THREADS_PER_PRINCIPAL));
        Arc::clone(all.entry(principal.to_owned()).or_insert_with(new))
    }

    /// Does the work of a call, whose threads are those of a principal.
    pub(super) async fn scope<T>(&self, principal: &str, work: impl Future<Output = T>) -> T {
        OWN.scope(self.of(principal), work).await
    }
}

/// A turn of the principal for whom this task works; none if it works for no call.
pub(super) async fn turn() -> Option<OwnedSemaphorePermit> {
    let own = OWN.try_with(Arc::clone).ok()?;
    // It is never closed.
    own.acquire_owned().await.ok()
}

/// The same work, for a task of its own that works for the same call.
pub(super) fn shared<T>(work: impl Future<Output = T>) -> impl Future<Output = T> {
    let own = OWN.try_with(Arc::clone).ok();
    async move {
        match own {
            Some(own) => OWN.scope(own, work).await,
            None => work.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_principal_waits_for_its_own_turns_alone() {
        let turns = Turns::default();
        let mut taken = Vec::new();
        for _ in 0..THREADS_PER_PRINCIPAL {
            taken.push(turns.scope("ada", turn()).await);
        }
        let next = turns.scope("ada", turn());
        tokio::pin!(next);
        assert!(futures_poll(&mut next).await.is_none());
        assert!(turns.scope("bob", turn()).await.is_some());
        taken.pop();
        assert!(next.await.is_some());
        assert!(turn().await.is_none(), "who works for no call has no turn to wait for");
    }

    #[tokio::test]
    async fn a_task_of_a_call_has_the_turns_of_its_caller() {
        let turns = Turns::default();
        let in_task = async { tokio::spawn(shared(turn())).await.unwrap() };
        let taken = turns.scope("ada", in_task).await;
        assert!(taken.is_some());
        assert_eq!(turns.of("ada").available_permits(), THREADS_PER_PRINCIPAL - 1);
        assert!(shared(turn()).await.is_none(), "a task of no call has none either");
    }

    /// What a future gives at once, if it does.
    async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        tokio::select! {
            biased;
            output = future => Some(output),
            () = std::future::ready(()) => None,
        }
    }

    #[tokio::test]
    async fn principals_with_nothing_under_way_are_forgotten() {
        let turns = Turns::default();
        for number in 0..3 * REMEMBERED {
            turns.scope(&number.to_string(), turn()).await;
        }
        assert!(turns.0.lock().unwrap().len() <= REMEMBERED);
    }
}
