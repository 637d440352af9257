//! Random jobs, random readers, and a service that is killed again and again: what the resumed
//! streams brought together is what the folders tell, every transition and every byte once.
//!
//! A run is told by its seed. `JOBWARDEN_ROUNDS_SEED` and `JOBWARDEN_ROUNDS` choose another.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    time::Duration,
};

use jobwarden::{
    api::{
        CancelRequest, EventType, ExecRequest, JobEvent, JobSpec, LogStream, TailLogRequest,
        WatchEventsRequest, log_chunk::Content, tail_log_response, watch_events_response,
    },
    client::{Client, Endpoint},
};
use tokio::{sync::mpsc, task::JoinHandle};

use crate::harness::{Daemon, shell, within};

/// Seeds of runs that are always made: those that found something once, and others.
const SEEDS: [u64; 2] = [1, 20_261_121];
/// Kills of each run.
const ROUNDS: u64 = 100;

/// Numbers that look random and come again with the seed (splitmix64).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

fn random_spec(numbers: &mut Numbers) -> JobSpec {
    let code = numbers.below(4);
    let pause = numbers.below(12);
    let script = match numbers.below(6) {
        0 => format!("exit {code}"),
        1 => format!("echo one; echo two >&2; exit {code}"),
        2 => format!("for i in 1 2 3 4 5 6; do echo line $i; sleep 0.0{pause:02}; done"),
        3 => format!("head -c {} /dev/urandom; exit {code}", 1 + numbers.below(200_000)),
        4 => "printf 'no newline'; kill -9 $$".to_owned(),
        _ => "echo held; exec sleep 30".to_owned(),
    };
    shell(&script)
}

/// Everything that a watch brought.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) kinds: HashMap<String, Vec<EventType>>,
    bytes: HashMap<String, [Vec<u8>; 2]>,
    last_sequence: u64,
}

impl Told {
    fn take(&mut self, event: JobEvent) {
        let id = event.job.as_ref().expect("an event has the job").job_id.clone();
        let is_log = event.r#type() == EventType::Log;
        let least = if is_log { self.last_sequence } else { self.last_sequence + 1 };
        assert!(event.sequence >= least, "{} comes after {}", event.sequence, self.last_sequence);
        self.last_sequence = event.sequence;
        let Some(log) = event.log else {
            self.kinds.entry(id).or_default().push(event.r#type());
            return;
        };
        assert!(log.gaps.is_empty());
        let bytes = self.bytes.entry(id).or_default();
        for chunk in log.chunks {
            let own = &mut bytes[usize::from(chunk.stream() == LogStream::Stderr)];
            assert_eq!(chunk.offset, own.len() as u64, "each byte once, in order");
            let Some(Content::Data(data)) = chunk.content else { panic!("no bytes") };
            own.extend(data);
        }
    }

    fn has_ended(&self, id: &str) -> bool {
        self.kinds.get(id).is_some_and(|kinds| kinds.contains(&EventType::Ended))
    }
}

pub(crate) async fn watch(client: Client, mut all: mpsc::Receiver<Vec<String>>) -> Told {
    let types = [
        EventType::Created,
        EventType::Started,
        EventType::Updated,
        EventType::Ended,
        EventType::Deleted,
        EventType::Log,
    ];
    let mut watch = client.watch(WatchEventsRequest {
        event_types: types.map(i32::from).to_vec(),
        include_log_data: true,
        ..WatchEventsRequest::default()
    });
    let mut told = Told::default();
    let mut wanted: Option<Vec<String>> = None;
    loop {
        if let Some(ids) = &wanted
            && ids.iter().all(|id| told.has_ended(id))
        {
            return told;
        }
        tokio::select! {
            ids = all.recv(), if wanted.is_none() => wanted = ids,
            message = watch.next() => {
                let message = message.expect("the watch goes on");
                if let Some(watch_events_response::Kind::Event(event)) = message.kind {
                    told.take(event);
                }
            }
        }
    }
}

async fn follow(client: Client, id: String) -> (String, [Vec<u8>; 2]) {
    let request = TailLogRequest { job_id: id.clone(), follow: true, ..TailLogRequest::default() };
    let mut log = client.follow_log(request);
    let mut bytes = [Vec::new(), Vec::new()];
    while let Some(kind) = log.next().await.expect("the log goes on") {
        match kind {
            tail_log_response::Kind::Chunk(chunk) => {
                let own = &mut bytes[usize::from(chunk.stream() == LogStream::Stderr)];
                assert_eq!(chunk.offset, own.len() as u64, "each byte once, in order");
                let Some(Content::Data(data)) = chunk.content else { panic!("no bytes") };
                own.extend(data);
            }
            tail_log_response::Kind::Gap(gap) => panic!("a gap: {gap:?}"),
            tail_log_response::Kind::Header(_)
            | tail_log_response::Kind::Heartbeat(_)
            | tail_log_response::Kind::End(_) => {}
        }
    }
    (id, bytes)
}

type Followers = Vec<JoinHandle<(String, [Vec<u8>; 2])>>;

async fn run(seed: u64, rounds: u64) {
    let mut numbers = Numbers(seed);
    let mut daemon = Daemon::start().await;
    let endpoint = Endpoint::Unix(daemon.socket());
    let client = Client::connect(endpoint).await.unwrap();
    let (send_all, all) = mpsc::channel(1);
    let watcher = tokio::spawn(watch(client.clone(), all));
    // What comes before the watch is there is no part of what it tells.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let (mut ids, mut held) = (Vec::new(), Vec::new());
    let mut followers: Followers = Vec::new();
    for round in 0..rounds {
        let mut submissions = Vec::new();
        for number in 0..numbers.below(3) {
            let spec = random_spec(&mut numbers);
            let is_held = spec.shell.contains("sleep 30");
            let request_id = format!("{seed}-{round}-{number}");
            let request = ExecRequest { spec: Some(spec), request_id, ..ExecRequest::default() };
            let client = client.clone();
            let submit = async move {
                let accepted = client.exec(request).await;
                accepted.unwrap_or_else(|error| panic!("{error:?}")).job.unwrap().job_id
            };
            submissions.push((is_held, tokio::spawn(submit)));
        }
        // The kill meets submissions, starts, output and ends alike.
        tokio::time::sleep(Duration::from_micros(numbers.below(40_000))).await;
        daemon = daemon.kill_and_restart().await;
        for (is_held, submitted) in submissions {
            let id = submitted.await.unwrap();
            if numbers.below(3) == 0 {
                followers.push(tokio::spawn(follow(client.clone(), id.clone())));
            }
            if is_held {
                held.push(id.clone());
            }
            ids.push(id);
        }
        if let Some(job_id) = held.pop() {
            let request = CancelRequest { job_id, ..CancelRequest::default() };
            client.cancel(request).await.unwrap();
        }
    }
    for id in &ids {
        daemon.wait(id).await;
    }
    send_all.send(ids.clone()).await.unwrap();
    let told = within("every end is told", watcher).await.unwrap();
    check(&daemon, &ids, &told);
    for follower in followers {
        let (id, bytes) = within("the end of a log", follower).await.unwrap();
        assert_eq!(bytes, stored(&daemon, &id), "{id}");
    }
}

fn stored(daemon: &Daemon, id: &str) -> [Vec<u8>; 2] {
    let folder = daemon.folder(id);
    ["stdout.log", "stderr.log"].map(|name| fs::read(folder.join(name)).unwrap_or_default())
}

pub(crate) fn check(daemon: &Daemon, ids: &[String], told: &Told) {
    let known: BTreeSet<&String> = told.kinds.keys().collect();
    let expected: BTreeSet<&String> = ids.iter().collect();
    let strange: Vec<_> =
        known.symmetric_difference(&expected).map(|id| (id, told.kinds.get(*id))).collect();
    assert!(strange.is_empty(), "every job once, and no other: {strange:?}");
    assert_eq!(expected.len(), ids.len(), "no job was accepted twice");
    for id in ids {
        let mut kinds = told.kinds[id].clone();
        kinds.retain(|kind| *kind != EventType::Updated);
        let has_started = daemon.slots(id).iter().any(|slot| slot["kind"] == "started");
        let life: &[EventType] = if has_started {
            &[EventType::Created, EventType::Started, EventType::Ended]
        } else {
            &[EventType::Created, EventType::Ended]
        };
        assert_eq!(kinds, life, "{id}");
        let bytes = told.bytes.get(id).cloned().unwrap_or_default();
        assert_eq!(bytes, stored(daemon, id), "{id}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resumed_streams_together_tell_the_truth_of_the_folders() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let rounds = number("JOBWARDEN_ROUNDS").unwrap_or(ROUNDS);
    let seeds = number("JOBWARDEN_ROUNDS_SEED").map_or(SEEDS.to_vec(), |seed| vec![seed]);
    for seed in seeds {
        eprintln!("seed {seed}");
        run(seed, rounds).await;
    }
}
