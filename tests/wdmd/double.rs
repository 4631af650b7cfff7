//! A double of wdmd: takes down what it is sent, and answers as it is told to.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// A message, field by field as wdmd's header has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) command: u32,
    pub(crate) fire_timeout: u32,
    pub(crate) renewal_time: u64,
    pub(crate) expire_time: u64,
    pub(crate) name: String,
}

impl Message {
    fn of(bytes: &[u8; 176]) -> Self {
        let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        let long = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
        // What no command uses is zero.
        for unused in [0, 8, 12, 16] {
            assert_eq!(word(unused), 0, "at {unused}");
        }
        assert_eq!(long(24), 0);
        let name = &bytes[48..];
        let end = name.iter().position(|&byte| byte == 0).expect("an end");
        assert!(name[end..].iter().all(|&byte| byte == 0));
        Self {
            command: word(4),
            fire_timeout: word(20),
            renewal_time: long(32),
            expire_time: long(40),
            name: String::from_utf8(name[..end].to_vec()).unwrap(),
        }
    }
}

/// What it does with a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// As wdmd does.
    Well,
    /// Not at all, and takes nothing more.
    Hang,
    /// Not at all.
    Silence,
    /// Half of it, and closes.
    Half,
    /// A byte in 100 ms.
    Trickle,
    /// With another command.
    Nonsense(u32),
}

/// How it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// Whether it knows `OPEN_WATCHDOG`, and the fire timeout that it then has.
    pub(crate) opens: Option<u32>,
    pub(crate) test_interval: u32,
    pub(crate) fire_timeout: u32,
    pub(crate) answer: Answer,
}

/// wdmd of sanlock 3.8.5.
pub(crate) const OLD: Kind = Kind {
    opens: None,
    test_interval: 10,
    fire_timeout: 60,
    answer: Answer::Well,
};

/// A later one, that was asked for `fire_timeout`.
pub(crate) const fn new(fire_timeout: u32, test_interval: u32) -> Kind {
    Kind {
        opens: Some(fire_timeout),
        test_interval,
        fire_timeout,
        answer: Answer::Well,
    }
}

#[derive(Debug)]
enum Heard {
    Connected,
    Message(Message),
    Closed,
}

struct State {
    kind: Kind,
    heard: Vec<(Instant, Heard)>,
    connections: Vec<UnixStream>,
}

/// It listens until it is dropped; then its connections are cut.
pub(crate) struct Double {
    path: PathBuf,
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Double {
    pub(crate) fn start(path: &Path, kind: Kind) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let state = Arc::new((
            Mutex::new(State {
                kind,
                heard: Vec::new(),
                connections: Vec::new(),
            }),
            Condvar::new(),
        ));
        let for_thread = Arc::clone(&state);
        let own = path.to_owned();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // The one that wakes it at the end.
                if !own.exists() {
                    break;
                }
                let state = Arc::clone(&for_thread);
                let copy = stream.try_clone().unwrap();
                state.0.lock().unwrap().connections.push(copy);
                thread::spawn(move || serve(stream, &state));
            }
        });
        Self {
            path: path.to_owned(),
            state,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn answer(&self, answer: Answer) {
        self.state.0.lock().unwrap().kind.answer = answer;
        self.state.1.notify_all();
    }

    /// Waits for so many messages, and gives them all, with "connected" and "closed" between them.
    pub(crate) fn heard(&self, closings: usize) -> Vec<String> {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let state = self.state.0.lock().unwrap();
            let closed = |heard: &&(Instant, Heard)| matches!(heard.1, Heard::Closed);
            if state.heard.iter().filter(closed).count() >= closings {
                return state.heard.iter().map(|(_, heard)| show(heard)).collect();
            }
            assert!(Instant::now() < end, "{:?}", state.heard);
            drop(state);
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// All messages so far.
    pub(crate) fn messages(&self) -> Vec<Message> {
        let state = self.state.0.lock().unwrap();
        let messages = state.heard.iter().filter_map(|(_, heard)| match heard {
            Heard::Message(message) => Some(message.clone()),
            _ => None,
        });
        messages.collect()
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        std::fs::rename(&self.path, self.path.with_extension("gone")).unwrap();
        drop(UnixStream::connect(self.path.with_extension("gone")));
        std::fs::remove_file(self.path.with_extension("gone")).unwrap();
        let mut state = self.state.0.lock().unwrap();
        for connection in state.connections.drain(..) {
            let _ = connection.shutdown(std::net::Shutdown::Both);
        }
        state.kind.answer = Answer::Silence;
        self.state.1.notify_all();
    }
}

fn show(heard: &Heard) -> String {
    match heard {
        Heard::Connected => "connected".to_owned(),
        Heard::Closed => "closed".to_owned(),
        Heard::Message(message) => match message.command {
            1 => format!("register {}", message.name),
            2 => "refcount set".to_owned(),
            3 => "refcount clear".to_owned(),
            4 if message.expire_time == 0 && message.renewal_time == 0 => "stood down".to_owned(),
            4 => "live".to_owned(),
            5 => "status?".to_owned(),
            7 => format!("open {}?", message.fire_timeout),
            other => panic!("command {other}"),
        },
    }
}

fn serve(mut stream: UnixStream, state: &(Mutex<State>, Condvar)) {
    let note = |heard| {
        let mut state = state.0.lock().unwrap();
        state.heard.push((Instant::now(), heard));
    };
    note(Heard::Connected);
    let mut bytes = [0; 176];
    loop {
        {
            let mut state_now = state.0.lock().unwrap();
            while state_now.kind.answer == Answer::Hang {
                state_now = state.1.wait(state_now).unwrap();
            }
        }
        if stream.read_exact(&mut bytes).is_err() {
            break;
        }
        let kind = state.0.lock().unwrap().kind;
        let message = Message::of(&bytes);
        let command = message.command;
        note(Heard::Message(message));
        let fire_timeout = match (command, kind.opens) {
            (5, _) => kind.fire_timeout,
            (7, Some(fire_timeout)) => fire_timeout,
            _ => continue,
        };
        bytes[16..20].copy_from_slice(&kind.test_interval.to_ne_bytes());
        bytes[20..24].copy_from_slice(&fire_timeout.to_ne_bytes());
        bytes[24..32].copy_from_slice(&123_456_u64.to_ne_bytes());
        match kind.answer {
            Answer::Well | Answer::Hang => {
                if stream.write_all(&bytes).is_err() {
                    break;
                }
            }
            Answer::Silence => {}
            Answer::Half => {
                stream.write_all(&bytes[..88]).unwrap();
                let _ = stream.shutdown(std::net::Shutdown::Both);
                break;
            }
            Answer::Trickle => {
                for byte in bytes {
                    if stream.write_all(&[byte]).is_err() {
                        break;
                    }
                    thread::sleep(Duration::from_millis(100));
                }
            }
            Answer::Nonsense(command) => {
                bytes[4..8].copy_from_slice(&command.to_ne_bytes());
                let _ = stream.write_all(&bytes);
            }
        }
    }
    note(Heard::Closed);
}
