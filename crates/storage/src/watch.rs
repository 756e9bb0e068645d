//! `tokio::sync::watch`, but for whom it wakes first.
//!
//! Tokio's deals its waiters out by chance, with a generator that nobody can seed, and so wakes them
//! in another order each time; a simulation could not be repeated. Here they wake in the order in which
//! they began to wait. Everything else is Tokio's.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::sync::watch as plain;

pub use tokio::sync::watch::Ref;
pub use tokio::sync::watch::error;

use error::{RecvError, SendError};

/// Rings for all who wait, also when its last sender goes.
#[derive(Debug)]
struct Bell(Arc<Notify>);

impl Drop for Bell {
    fn drop(&mut self) {
        self.0.notify_waiters();
    }
}

/// See [`plain::Sender`].
#[derive(Debug)]
pub struct Sender<T> {
    // Dropped before the bell rings.
    inner: plain::Sender<T>,
    bell: Bell,
}

/// See [`plain::Receiver`].
#[derive(Debug)]
pub struct Receiver<T> {
    inner: plain::Receiver<T>,
    bell: Arc<Notify>,
}

/// See [`plain::channel`].
#[must_use]
pub fn channel<T>(init: T) -> (Sender<T>, Receiver<T>) {
    let sender = Sender::new(init);
    let receiver = sender.subscribe();
    (sender, receiver)
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            bell: Bell(Arc::clone(&self.bell.0)),
        }
    }
}

impl<T: Default> Default for Sender<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> Sender<T> {
    /// See [`plain::Sender::new`].
    #[must_use]
    pub fn new(init: T) -> Self {
        Self {
            inner: plain::Sender::new(init),
            bell: Bell(Arc::default()),
        }
    }

    /// See [`plain::Sender::send`].
    ///
    /// # Errors
    /// Nobody receives.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        let sent = self.inner.send(value);
        self.bell.0.notify_waiters();
        sent
    }

    /// See [`plain::Sender::send_replace`].
    pub fn send_replace(&self, value: T) -> T {
        let replaced = self.inner.send_replace(value);
        self.bell.0.notify_waiters();
        replaced
    }

    /// See [`plain::Sender::send_modify`].
    pub fn send_modify(&self, modify: impl FnOnce(&mut T)) {
        self.inner.send_modify(modify);
        self.bell.0.notify_waiters();
    }

    /// See [`plain::Sender::send_if_modified`].
    pub fn send_if_modified(&self, modify: impl FnOnce(&mut T) -> bool) -> bool {
        let modified = self.inner.send_if_modified(modify);
        if modified {
            self.bell.0.notify_waiters();
        }
        modified
    }

    /// See [`plain::Sender::borrow`].
    pub fn borrow(&self) -> Ref<'_, T> {
        self.inner.borrow()
    }

    /// See [`plain::Sender::subscribe`].
    #[must_use]
    pub fn subscribe(&self) -> Receiver<T> {
        Receiver {
            inner: self.inner.subscribe(),
            bell: Arc::clone(&self.bell.0),
        }
    }

    /// See [`plain::Sender::receiver_count`].
    #[must_use]
    pub fn receiver_count(&self) -> usize {
        self.inner.receiver_count()
    }

    /// See [`plain::Sender::is_closed`].
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.inner.is_closed()
    }

    /// See [`plain::Sender::closed`].
    pub async fn closed(&self) {
        self.inner.closed().await;
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            bell: Arc::clone(&self.bell),
        }
    }
}

impl<T> Receiver<T> {
    /// See [`plain::Receiver::borrow`].
    pub fn borrow(&self) -> Ref<'_, T> {
        self.inner.borrow()
    }

    /// See [`plain::Receiver::borrow_and_update`].
    pub fn borrow_and_update(&mut self) -> Ref<'_, T> {
        self.inner.borrow_and_update()
    }

    /// See [`plain::Receiver::mark_changed`].
    pub fn mark_changed(&mut self) {
        self.inner.mark_changed();
    }

    /// See [`plain::Receiver::mark_unchanged`].
    pub fn mark_unchanged(&mut self) {
        self.inner.mark_unchanged();
    }

    /// See [`plain::Receiver::has_changed`].
    ///
    /// # Errors
    /// Nobody sends any more.
    pub fn has_changed(&self) -> Result<bool, RecvError> {
        self.inner.has_changed()
    }

    /// See [`plain::Receiver::changed`].
    ///
    /// # Errors
    /// Nobody sends any more, and the last value was seen.
    pub async fn changed(&mut self) -> Result<(), RecvError> {
        loop {
            let rung = self.bell.notified();
            tokio::pin!(rung);
            // From here on no ring is missed.
            rung.as_mut().enable();
            let open = self.inner.has_changed();
            if self.inner.borrow().has_changed() {
                self.inner.mark_unchanged();
                return Ok(());
            }
            open?;
            rung.await;
        }
    }

    /// See [`plain::Receiver::wait_for`]. By the time the value is looked at it may have moved on.
    ///
    /// # Errors
    /// Nobody sends any more, and the last value will not do.
    pub async fn wait_for(
        &mut self,
        mut wanted: impl FnMut(&T) -> bool,
    ) -> Result<Ref<'_, T>, RecvError> {
        loop {
            let found = wanted(&self.inner.borrow_and_update());
            if found {
                return Ok(self.inner.borrow());
            }
            self.changed().await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn waiters_wake_in_the_order_in_which_they_came() {
        let (sender, receiver) = channel(0);
        let woken = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..50 {
            let (mut receiver, woken) = (receiver.clone(), Arc::clone(&woken));
            tasks.spawn(async move {
                receiver.wait_for(|value| *value == 1).await.unwrap();
                woken.lock().unwrap().push(number);
            });
            tokio::task::yield_now().await;
        }
        sender.send_replace(1);
        while tasks.join_next().await.is_some() {}
        assert_eq!(*woken.lock().unwrap(), (0..50).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn the_last_value_is_seen_before_the_end() {
        let (sender, mut receiver) = channel(0);
        sender.send_replace(1);
        drop(sender);
        assert!(receiver.changed().await.is_ok());
        assert_eq!(*receiver.borrow(), 1);
        assert!(receiver.changed().await.is_err());
        assert!(receiver.wait_for(|value| *value == 2).await.is_err());
    }

    #[tokio::test]
    async fn the_end_wakes_who_waits() {
        let (sender, mut receiver) = channel(0);
        let waiting = tokio::spawn(async move { receiver.changed().await });
        tokio::task::yield_now().await;
        drop(sender);
        assert!(waiting.await.unwrap().is_err());
    }
}
