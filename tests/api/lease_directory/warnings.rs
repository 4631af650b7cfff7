//! What is logged about a directory that others may write to.

use std::fmt::{Debug, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use disklease::LeaseDirectory;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use disklease_fixtures::host::{N, host_id, options, scratch};

/// Collects the text of warnings.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn a_directory_in_which_others_may_replace_files_is_warned_about() {
    for (mode, warned) in [
        (0o700, false),
        (0o755, false),
        (0o1777, false),
        (0o777, true),
        (0o770, true),
    ] {
        let dir = scratch();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(mode)).unwrap();
        let warnings = Warnings::default();
        tracing::subscriber::with_default(warnings.clone(), || {
            let leases = LeaseDirectory::new(dir.path()).single_host();
            leases.create_lockspace(N).unwrap();
        });
        let said = warnings.0.lock().unwrap();
        assert_eq!(!said.is_empty(), warned, "{mode:o}: {said:?}");
        for text in said.iter() {
            let path = dir.path().to_str().unwrap();
            assert!(
                text.contains(path) && text.contains(&format!("{mode:04o}")),
                "{text}"
            );
        }
    }
}

/// Whose locks would keep nobody else out.
#[test]
fn a_lockspace_on_a_file_system_of_this_host_alone_is_warned_about() {
    let dir = scratch();
    let local = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630];
    let is_local = local.contains(&rustix::fs::statfs(dir.path()).unwrap().f_type);
    for (single_host, warned) in [(false, is_local), (true, false)] {
        let warnings = Warnings::default();
        let leases = dir
            .path()
            .join(if single_host { "single" } else { "shared" });
        tracing::subscriber::with_default(warnings.clone(), || {
            let mut directory = LeaseDirectory::new(&leases);
            let mut options = options(dir.path(), "alpha");
            if single_host {
                directory = directory.single_host();
                options = options.single_host();
            }
            let path = directory.create_lockspace(N).unwrap();
            options.join(path, host_id(1)).unwrap().leave().unwrap();
        });
        let said = warnings.0.lock().unwrap();
        let times = said
            .iter()
            .filter(|text| text.contains("only this host sees"));
        assert_eq!(times.count(), if warned { 2 } else { 0 }, "{said:?}");
    }
}
