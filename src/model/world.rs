//! The real thing: a store in a temporary folder and the parts of a service on it, without processes.
//!
//! The launcher is a queue of messages here and a supervisor is a lock with somebody who writes
//! what he is told to; both outlive the service that asked for them.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    os::fd::OwnedFd,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    access::{Audit, AuditLimits, AuditScope},
    catalog::Catalog,
    job::{Accepted, Confinement, Draft, DraftLimits, Durability, JobId, Policy, Span},
    launch::Launch,
    launch_message::{MESSAGE_BYTES_MAX, Notice, Request},
    operations::{Asked, Defaults, Operations},
    queue::{Queue, QueueLimits},
    recover::recover,
    server::take_notice,
    store::{JobDir, JobRecord, Journal, JournalLimits, Store, StoreError, Submission},
    sys::{clock, lock, socket},
    watcher::Watcher,
};

use super::{
    reference::{Model, Number},
    step::{Stop, Wish},
};

/// Small, so that history goes over several files.
const JOURNAL_BYTES_MAX: u64 = 256 * 1024;
/// A process that another test forks has the locks of this one until it runs its own program.
const FORK_LIMIT: Duration = Duration::from_secs(10);

/// One life of the service.
pub(super) struct Service {
    pub(super) catalog: Arc<Catalog>,
    pub(super) queue: Arc<Queue>,
    pub(super) watcher: Arc<Watcher>,
    pub(super) operations: Operations,
}

/// All that is real.
pub(super) struct World {
    root: tempfile::TempDir,
    service: Option<Service>,
    launch: Arc<Launch>,
    /// The other end of the socket to the launcher.
    launcher: OwnedFd,
    pub(super) ids: Vec<JobId>,
    pub(super) records: BTreeMap<Number, JobRecord>,
    /// Whose locks were given back since the last step.
    pub(super) given_back: Vec<Number>,
    pub(super) starts: VecDeque<(Number, u32)>,
    pub(super) burials: VecDeque<(Number, u32)>,
    pub(super) number_of_service: u32,
    /// The boot clock as the queue sees it.
    pub(super) now: Duration,
}

/// What went wrong where nothing may.
pub(super) fn fault(what: &str) -> impl Fn(StoreError) -> String {
    move |error| {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        format!("{what}: {error}: {source:?}")
    }
}

impl Service {
    fn start(root: &Path, launch: &Arc<Launch>, model: &Model) -> Result<Self, String> {
        let store = Arc::new(open(root)?);
        let limits =
            JournalLimits { bytes_max: JOURNAL_BYTES_MAX, events_max: 1 << 20, age_max: None };
        let journal = Journal::open(&store, limits).map_err(fault("open the journal"))?;
        let catalog = Catalog::new(store, journal, None).map_err(fault("make the catalog"))?;
        let catalog = Arc::new(catalog);
        let limits = QueueLimits::of_all(model.running_max, model.queued_max);
        let queue = Queue::new(Arc::clone(&catalog), Arc::clone(launch), limits);
        let queue = Arc::new(queue);
        let (by_notice, on_inbox) = (false, Box::new(|| {}));
        let watcher = Watcher::new(
            Arc::clone(&catalog),
            Arc::clone(&queue),
            Arc::clone(launch),
            by_notice,
            on_inbox,
        );
        let watcher = Arc::new(watcher);
        let defaults = Defaults {
            working_dir: "/".into(),
            confinement: Confinement::default(),
            timeout: None,
            durability: Durability::Process,
            policy: Policy::default(),
            per_minute_max: None,
            stdin_bytes_max: 0,
        };
        let unrecorded = AuditLimits { scope: AuditScope::Off, bytes_max: 1, files_max: 1 };
        let operations = Operations::new(
            Arc::clone(&catalog),
            Arc::clone(&queue),
            Arc::clone(&watcher),
            defaults,
            Arc::new(Audit::of(root, unrecorded)),
        );
        recover(&catalog, &watcher).map_err(fault("recover"))?;
        while catalog.load_next_day().map_err(fault("load a day"))? {}
        Ok(Self { catalog, queue, watcher, operations })
    }
}

/// Opens the store as soon as no copy of its lock is left.
fn open(root: &Path) -> Result<Store, String> {
    let begin = Instant::now();
    loop {
        match Store::open(root) {
            Err(StoreError::InUse { .. }) if begin.elapsed() < FORK_LIMIT => {
                std::thread::yield_now();
            }
            opened => return opened.map_err(fault("open the store")),
        }
    }
}

impl World {
    pub(super) fn new(model: &Model) -> Result<Self, String> {
        let root = tempfile::tempdir().map_err(|error| error.to_string())?;
        let (ours, launcher) = socket::message_pair().map_err(|error| error.to_string())?;
        let launch = Launch::over(ours, root.path()).map_err(|error| error.to_string())?;
        let launch = Arc::new(launch);
        let service = Some(Service::start(root.path(), &launch, model)?);
        Ok(Self {
            root,
            service,
            launch,
            launcher,
            ids: Vec::new(),
            records: BTreeMap::new(),
            given_back: Vec::new(),
            starts: VecDeque::new(),
            burials: VecDeque::new(),
            number_of_service: 0,
            now: clock::since_boot(),
        })
    }

    pub(super) fn service(&self) -> &Service {
        self.service.as_ref().expect("a service runs between steps")
    }

    pub(super) fn store(&self) -> &Store {
        self.service().catalog.store()
    }

    pub(super) fn dir(&self, number: Number) -> JobDir {
        self.store().job_dir(self.ids[number])
    }

    /// The place of a job in the order of acceptance.
    pub(super) fn number(&self, id: JobId) -> Result<Number, String> {
        self.ids.binary_search(&id).map_err(|_| format!("{id} is no job that was accepted"))
    }

    /// Ends the service and starts the next.
    pub(super) fn restart(
        &mut self,
        stop: Stop,
        keeps_starts: bool,
        model: &Model,
    ) -> Result<(), String> {
        if stop == Stop::Clean {
            self.service().catalog.close_events().map_err(fault("close the journal"))?;
        }
        let journal = self.store().layout().journal();
        self.service = None;
        if stop == Stop::InTheMiddleOfALine {
            tear(&journal).map_err(|error| format!("tear the journal: {error}"))?;
        }
        if !keeps_starts {
            self.starts.clear();
        }
        self.number_of_service += 1;
        self.service = Some(Service::start(self.root.path(), &self.launch, model)?);
        Ok(())
    }

    /// Takes what the service has asked of the launcher.
    pub(super) fn take_requests(&mut self) -> Result<(), String> {
        let mut buffer = [0; MESSAGE_BYTES_MAX];
        loop {
            let length = match socket::receive_message(&self.launcher, &mut buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.to_string()),
            };
            let text = str::from_utf8(&buffer[..length]).map_err(|error| error.to_string())?;
            let request = text.parse().map_err(|error| format!("{text:?}: {error}"))?;
            match request {
                Request::Launch(id) => {
                    self.starts.push_back((self.number(id)?, self.number_of_service));
                }
                // What a launcher holds is no part of the model.
                Request::Keep(_) => {}
                // This one finds nobody alive: the job is lost.
                Request::Adopt(id) => {
                    self.burials.push_back((self.number(id)?, self.number_of_service));
                }
            }
        }
    }

    /// A launcher tells its service, if that is still there.
    pub(super) fn tell(&self, service: u32, notice: Notice) {
        if service == self.number_of_service {
            take_notice(&self.service().watcher, &self.service().queue, notice);
        }
    }

    /// Waits until no copy is left of a lock that was given back.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        let begin = Instant::now();
        for number in std::mem::take(&mut self.given_back) {
            while lock::is_held(&self.dir(number).lock_path()).unwrap_or(false) {
                if begin.elapsed() > FORK_LIMIT {
                    return Err(format!("somebody has the lock of the job {number}"));
                }
                std::thread::yield_now();
            }
        }
        Ok(())
    }

    /// Makes the folder of a job, as far as a service gets that dies before it answers.
    pub(super) fn create_unanswered(
        &mut self,
        request: Option<u8>,
        wish: Wish,
        is_whole: bool,
    ) -> Result<(), String> {
        let store = self.store();
        let limits = DraftLimits { stdin_bytes_max: 0, can_keep_tail: false };
        let (spec, secrets, stdin) =
            draft(wish).check(&limits).map_err(|faults| format!("{faults:?}"))?;
        let (id, create_time) =
            self.service().catalog.next_id().map_err(|error| error.to_string())?;
        let Asked { owner, request_id } = asked(request);
        let accepted = Accepted {
            id,
            create_time,
            owner,
            request_id,
            digest: store.digest(&spec, &secrets, &stdin),
            working_dir: "/".to_owned(),
            timeout: None,
            durability: Durability::Process,
            confinement: Confinement::default(),
            spec,
        };
        let submission = Submission { accepted, secrets, stdin };
        let dir = store.create(&submission).map_err(fault("create"))?;
        if is_whole {
            self.ids.push(id);
            return Ok(());
        }
        std::fs::remove_file(dir.lock_path()).map_err(|error| error.to_string())
    }
}

/// Half an event behind the last one.
fn tear(journal: &Path) -> io::Result<()> {
    let mut files: Vec<_> = std::fs::read_dir(journal)?
        .map(|entry| entry.map(|it| it.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|path| path.extension().is_some_and(|end| end == "jsonl"));
    let newest = files.iter().max().ok_or(io::ErrorKind::NotFound)?;
    let mut file = std::fs::OpenOptions::new().append(true).open(newest)?;
    io::Write::write_all(&mut file, br#"{"seq":7,"kind":"upd"#)
}

/// Who asks, by a request id or without one.
pub(super) fn asked(request: Option<u8>) -> Asked {
    let request_id = request.map(|request| format!("request-{request}"));
    Asked { owner: "uid:0".to_owned(), request_id }
}

/// What is asked for.
pub(super) fn draft(wish: Wish) -> Draft {
    let Wish { variant, priority, is_short } = wish;
    Draft {
        shell: "true".to_owned(),
        display_name: format!("variant {variant}"),
        env_inheritance: Some(crate::job::EnvInheritance::Minimal),
        priority,
        queue_timeout: is_short.then_some(Span { seconds: 0, nanos: 1 }),
        ..Draft::default()
    }
}
