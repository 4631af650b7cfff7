//! Log messages on stderr, written by a thread of their own.
//!
//! The library logs from the thread that renews. A stderr that is not read, as of a terminal that was
//! stopped, must not keep it from renewing: what does not fit into the queue then is dropped.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Builder;
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Messages that wait to be written, at most.
const QUEUE: usize = 1024;

/// How long the end of the process waits for messages to be written.
const PATIENCE: Duration = Duration::from_millis(500);

static QUEUE_IN: OnceLock<SyncSender<Said>> = OnceLock::new();

enum Said {
    Message(Vec<u8>),
    /// All that was said before is written.
    Settle(SyncSender<()>),
}

/// Logs from now on.
pub(crate) fn start() {
    let filter = ["DISKLEASE_LOG", "RUST_LOG"]
        .into_iter()
        .find_map(|name| EnvFilter::try_from_env(name).ok())
        .unwrap_or_else(|| EnvFilter::new("warn"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()));
    let (queue, queued) = sync_channel(QUEUE);
    let written = Builder::new()
        .name("dl-log".to_owned())
        .spawn(move || write_all(&queued));
    // Without a thread there is only the way that may block.
    if written.is_ok() && QUEUE_IN.set(queue).is_ok() {
        subscriber.with_writer(Queue).init();
    } else {
        subscriber.with_writer(io::stderr).init();
    }
}

/// Has this text written to stderr, in its turn. Never waits, where there is a thread for it.
pub(crate) fn say(text: String) {
    match QUEUE_IN.get() {
        // Full: whoever reads stderr does not.
        Some(queue) => drop(queue.try_send(Said::Message(text.into_bytes()))),
        // Nobody can be told when that fails.
        None => drop(io::stderr().lock().write_all(text.as_bytes())),
    }
}

/// Waits a moment until what was logged is written.
pub(crate) fn settle() {
    let (done, is_done) = sync_channel(1);
    if let Some(queue) = QUEUE_IN.get()
        && queue.try_send(Said::Settle(done)).is_ok()
    {
        let _ = is_done.recv_timeout(PATIENCE);
    }
}

fn write_all(queued: &Receiver<Said>) {
    for said in queued {
        match said {
            // Nobody can be told when that fails.
            Said::Message(text) => drop(io::stderr().lock().write_all(&text)),
            Said::Settle(done) => drop(done.send(())),
        }
    }
}

/// Makes a message that goes into the queue when it is complete.
struct Queue;

struct Message(Vec<u8>);

impl MakeWriter<'_> for Queue {
    type Writer = Message;

    fn make_writer(&self) -> Message {
        Message(Vec::new())
    }
}

impl Write for Message {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        let text = std::mem::take(&mut self.0);
        if let Some(queue) = QUEUE_IN.get()
            && !text.is_empty()
        {
            // Full: whoever reads stderr does not.
            let _ = queue.try_send(Said::Message(text));
        }
    }
}
