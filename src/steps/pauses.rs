//! Between two attempts at what may soon be possible.

use std::time::Duration;

use crate::kubernetes::Error;
use crate::step::Context;

/// The first pause; it doubles up to [`SLOWEST`].
const FIRST: Duration = Duration::from_millis(20);
const SLOWEST: Duration = Duration::from_secs(1);

/// The pauses between attempts.
pub(super) struct Pauses(Duration);

impl Pauses {
    pub(super) fn begin() -> Self {
        Self(FIRST)
    }

    /// Says why the last attempt failed, and waits for the next.
    pub(super) async fn after(&mut self, error: &Error, context: &Context) {
        context.progress(error.reason());
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(SLOWEST);
    }
}
