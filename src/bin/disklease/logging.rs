//! What goes to stderr, written by a thread of its own: the library's log, and messages to the operator.
//!
//! The library logs from the thread that renews. A stderr that is not read, as of a terminal that was
//! stopped, must not keep that thread from renewing: a message that does not fit into the queue is dropped.

use std::fmt::Display;
use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Builder;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

/// Messages that wait to be written, at most.
const QUEUE: usize = 1024;

/// How long the end of the process waits for messages to be written.
const PATIENCE: Duration = Duration::from_millis(500);

static QUEUE_IN: OnceLock<SyncSender<Queued>> = OnceLock::new();

enum Queued {
    Message(Vec<u8>),
    /// To be answered when all messages that were queued before are written.
    Flush(SyncSender<()>),
}

/// Logs from now on.
pub(crate) fn start() {
    let filter = ["DISKLEASE_LOG", "RUST_LOG"]
        .into_iter()
        .find_map(|name| EnvFilter::try_from_env(name).ok())
        .unwrap_or_else(|| EnvFilter::new("warn"));
    let (queue, queued) = sync_channel(QUEUE);
    let writer = Builder::new().name("dl-log".to_owned());
    // Without a thread there is only the way that may block.
    if writer.spawn(move || write_all(&queued)).is_ok() {
        let _ = QUEUE_IN.set(queue);
    }
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
        .with_writer(|| Stderr)
        .init();
}

/// Tells the operator something, formatted as by `format!`.
macro_rules! complain {
    ($($message:tt)*) => { $crate::logging::complain_of(&format_args!($($message)*)) };
}
pub(crate) use complain;

/// One message to the operator, on stderr, in its turn.
pub(crate) fn complain_of(message: &dyn Display) {
    let _ = Stderr.write_all(format!("disklease: {message}\n").as_bytes());
}

/// Waits a moment until all messages so far are written.
pub(crate) fn flush() {
    let (done, is_done) = sync_channel(1);
    if let Some(queue) = QUEUE_IN.get()
        && queue.try_send(Queued::Flush(done)).is_ok()
    {
        let _ = is_done.recv_timeout(PATIENCE);
    }
}

fn write_all(queued: &Receiver<Queued>) {
    for next in queued {
        match next {
            // Nothing can be done about an error.
            Queued::Message(text) => drop(io::stderr().lock().write_all(&text)),
            Queued::Flush(done) => drop(done.send(())),
        }
    }
}

/// Takes whole messages. Never waits where there is a thread that writes them.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, message: &[u8]) -> io::Result<usize> {
        match QUEUE_IN.get() {
            // The queue is full where nothing reads stderr.
            Some(queue) => drop(queue.try_send(Queued::Message(message.to_vec()))),
            // Nothing can be done about an error.
            None => drop(io::stderr().lock().write_all(message)),
        }
        Ok(message.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
