//! How long each step between plugin, supervisor and proxy process may take.

use std::time::Duration;

/// A whole start, as the plugin sees it: from no process to a proxy that listens.
pub(crate) const START: Duration = Duration::from_secs(20);
/// The part of a start that the supervisor controls. It is shorter than [`START`], so that the plugin receives the
/// reason.
pub(crate) const READY: Duration = Duration::from_secs(18);
/// Until Nomad's log collector opens its end of a FIFO. It is part of [`READY`].
pub(crate) const LOG_READER: Duration = Duration::from_secs(8);
/// Until the supervisor has sent the proxy process its configuration, and later its sockets.
pub(crate) const PROXY_SETUP: Duration = Duration::from_secs(20);

/// Until a supervisor that was just started receives its task. The plugin sends it at once, unless it died.
pub(crate) const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// Until a client that has connected to a supervisor sends its request.
pub(crate) const REQUEST: Duration = Duration::from_secs(5);
/// A reply that does not wait for the task.
pub(crate) const REPLY: Duration = Duration::from_secs(5);
/// Until the plugin confirms that it received a started task.
pub(crate) const ACK: Duration = Duration::from_secs(5);
/// Until a supervisor that does not reply to the next plugin is killed.
pub(crate) const RECOVER: Duration = Duration::from_secs(10);
/// Everything that is done about earlier runs of a task before a start.
pub(crate) const CLEAN_UP: Duration = Duration::from_secs(20);
/// How often a supervisor looks whether its control socket is still in its directory. It is shorter than [`RECOVER`] and
/// [`REPLY`], so that a task is found again after its directory was removed.
pub(crate) const REACHABLE: Duration = Duration::from_secs(2);
/// Each message of a handover of sockets between two supervisors.
pub(crate) const HANDOVER: Duration = Duration::from_secs(2);

/// Beyond the kill timeout, before the supervisor kills the proxy process: terminating the last sessions takes time.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(2);
/// Beyond that, before the plugin takes the supervisor for stuck.
pub(crate) const STOP_REPLY: Duration = Duration::from_secs(5);
/// Until the proxy process notices that its supervisor is gone, or is gone itself after SIGKILL.
pub(crate) const ORPHAN: Duration = Duration::from_secs(5);
/// Until the proxy has terminated every session after its supervisor is gone. It is shorter than [`ORPHAN`].
pub(crate) const ABANDONED: Duration = Duration::from_secs(3);

/// Until the proxy process has exited after it reported a failure, and each report that it left unread.
pub(crate) const LAST_REPORTS: Duration = Duration::from_secs(1);
/// Until the other processes of a task that has exited are killed. They have two seconds to end.
pub(crate) const KILL_OTHERS: Duration = Duration::from_secs(3);
/// Until a file of the supervisor is written: the disk may hang.
pub(crate) const WRITE: Duration = Duration::from_secs(2);
/// Until the last connections to a supervisor that ends are closed.
pub(crate) const LAST_CONNECTIONS: Duration = Duration::from_secs(1);

// An inner step must end before the outer one, so that its reason is told.
const _: () = assert!(LOG_READER.as_millis() < READY.as_millis() && READY.as_millis() < START.as_millis());
const _: () = assert!(REACHABLE.as_millis() < REPLY.as_millis() && REPLY.as_millis() < RECOVER.as_millis());
const _: () = assert!(ABANDONED.as_millis() < ORPHAN.as_millis());
